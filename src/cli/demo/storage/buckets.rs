//! Buckets.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::FolderStorage;
use super::described::{at_ms, owner};
use super::index::internal;
use super::rows::{bucket_id, now};

impl FolderStorage {
    pub(super) async fn make_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let input = req.input;
        if input.object_lock_enabled_for_bucket == Some(true) {
            return Err(s3_error!(NotImplemented, "the demo's storage does not lock objects"));
        }
        let location = Some(format!("/{}", input.bucket));
        let change = self.change(None, move |change| {
            Box::pin(async move {
                let sql = "INSERT INTO buckets (name, created) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                let query = sqlx::query(sql).bind(&input.bucket).bind(now());
                let made = query.execute(change.connection()).await.map_err(internal)?;
                if made.rows_affected() == 1 { Ok(()) } else { Err(s3_error!(BucketAlreadyOwnedByYou)) }
            })
        });
        change.await?;
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    pub(super) async fn remove_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let change = self.change(None, move |change| {
            Box::pin(async move {
                let bucket = bucket_id(change.connection(), &req.input.bucket).await?;
                let sql = "SELECT EXISTS (SELECT 1 FROM objects WHERE bucket = $1)";
                let query = sqlx::query_scalar(sql).bind(bucket);
                let has_objects: bool = query.fetch_one(change.connection()).await.map_err(internal)?;
                if has_objects {
                    return Err(s3_error!(BucketNotEmpty));
                }
                // Uploads that are under way end with it.
                let query = sqlx::query_scalar("DELETE FROM uploads WHERE bucket = $1 RETURNING id").bind(bucket);
                let uploads: Vec<String> = query.fetch_all(change.connection()).await.map_err(internal)?;
                for id in uploads {
                    change.drop_content(&id).await?;
                }
                let query = sqlx::query("DELETE FROM buckets WHERE id = $1").bind(bucket);
                query.execute(change.connection()).await.map_err(internal)?;
                Ok(())
            })
        });
        change.await?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), http::StatusCode::NO_CONTENT))
    }

    pub(super) async fn head_one_bucket(&self, bucket: &str) -> S3Result<()> {
        bucket_id(&mut *self.index.reader().await?, bucket).await.map(|_| ())
    }

    pub(super) async fn all_buckets(&self) -> S3Result<S3Response<ListBucketsOutput>> {
        let query = sqlx::query_as("SELECT name, created FROM buckets ORDER BY name");
        let rows: Vec<(String, i64)> = query.fetch_all(&mut *self.index.reader().await?).await.map_err(internal)?;
        let bucket =
            |(name, created)| Bucket { name: Some(name), creation_date: Some(at_ms(created)), ..Bucket::default() };
        let buckets = Some(rows.into_iter().map(bucket).collect());
        Ok(S3Response::new(ListBucketsOutput { buckets, owner: Some(owner()), ..ListBucketsOutput::default() }))
    }
}
