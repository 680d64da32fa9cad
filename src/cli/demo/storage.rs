//! What the demo's storage server stores, in a folder: an index, and files with the bytes.
//!
//! **Invariant:** whatever the index tells of is whole and on disk; what it does not tell of is removed, at the latest when the
//! folder is opened again.

mod buckets;
mod conditions;
mod copy;
mod described;
mod files;
mod index;
mod list_objects;
mod list_uploads;
mod listing;
mod multipart;
mod objects;
mod reading;
mod receive;
mod rows;
mod tagging;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use self::files::{Files, INCOMING, Kept, STORED};
use self::index::{Change, Index, internal};

/// No bucket can have this name, nor those of the other files and folders.
const INDEX: &str = "index_v1.sqlite";

/// The storage in a folder. Clones are the same storage.
#[derive(Clone)]
pub(super) struct FolderStorage {
    index: Arc<Index>,
    files: Files,
}

impl FolderStorage {
    /// Of what lies, and will lie, in `root`, which exists and nobody else uses.
    pub(super) async fn open(root: &Path) -> Result<Self> {
        refuse_others(root)?;
        let failed = || format!("cannot use {} as storage", root.display());
        let files = Files::open(root).with_context(failed)?;
        let index = Index::open(&root.join(INDEX)).await.with_context(failed)?;
        files.remove_orphans(&index).await.with_context(failed)?;
        Ok(Self { index: Arc::new(index), files })
    }

    pub(super) async fn close(&self) {
        self.index.close().await;
    }

    /// Runs `work` as one change of the index, to its end even if nobody waits for it any more. `kept` is a file that it
    /// adds; without success, it goes.
    async fn change<T, W>(&self, kept: Option<Kept>, work: W) -> S3Result<T>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut Change) -> BoxFuture<'c, S3Result<T>> + Send + 'static,
    {
        let storage = self.clone();
        let task = tokio::spawn(async move {
            let mut change = storage.index.begin().await?;
            let value = match work(&mut change).await {
                Ok(value) => value,
                Err(error) => {
                    change.roll_back().await;
                    return Err(error);
                }
            };
            // From here on, it is what the index says that counts.
            let added = kept.map(Kept::settle);
            match change.commit().await {
                Ok(dropped) => {
                    storage.files.remove(dropped).await;
                    Ok(value)
                }
                Err(error) => {
                    storage.discard(added).await;
                    Err(error)
                }
            }
        });
        task.await.map_err(internal)?
    }

    /// Removes a file after a commit failed, if it is certain that the index does not tell of it.
    async fn discard(&self, added: Option<String>) {
        let Some(name) = added else { return };
        if let Ok(false) = self.index.has_file(&name).await {
            self.files.remove(vec![name]).await;
        }
    }
}

/// Earlier versions of the demo kept objects as files that had the names of their keys.
fn refuse_others(root: &Path) -> Result<()> {
    for entry in std::fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))? {
        let name = entry?.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(INDEX) || [STORED, INCOMING].contains(&name));
        if !ours {
            bail!(
                "{root} holds {name:?}, which is not of this demo's storage; an earlier version kept objects so. Read them with \
                 that version, or remove {root} if you do not need them, or give --dir another folder",
                root = root.display(),
            );
        }
    }
    Ok(())
}

#[async_trait]
impl S3 for FolderStorage {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.make_bucket(req).await
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.remove_bucket(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.head_one_bucket(&req.input.bucket).await?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.all_buckets().await
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.head_one_bucket(&req.input.bucket).await?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        self.list_v1(req.input).await
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.list_v2(req.input).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.head(req).await
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.get(req).await
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        self.put(req).await
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        self.copy(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.delete(req).await
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.delete_many(req).await
    }

    async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        self.tags(req.input).await
    }

    async fn put_object_tagging(
        &self,
        req: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        self.put_tags(req.input).await
    }

    async fn delete_object_tagging(
        &self,
        req: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        self.remove_tags(req.input).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.create_upload(req).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.receive_part(req).await
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        self.copy_part(req).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.parts(req).await
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.list_uploads(req.input).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.complete(req).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.abort(req).await
    }
}

#[cfg(test)]
mod tests;
