//! Objects' tags. <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>

use percent_encoding::percent_decode_str;
use s3s::dto::*;
use s3s::{S3Response, S3Result, s3_error};

use super::FolderStorage;
use super::index::internal;
use super::objects::refuse_version;
use super::rows::{bucket_id, json, object};

const TAGS_MAX: usize = 10;
const NAME_MAX: usize = 128;
const VALUE_MAX: usize = 256;

type Tags = Vec<(String, String)>;

/// The tags in an `x-amz-tagging` header, which is written like a query.
pub(super) fn parse_header(header: Option<&str>) -> S3Result<Tags> {
    let pairs = header.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let decoded = percent_decode_str(&text).decode_utf8().map(|text| text.into_owned());
        decoded.map_err(|_| s3_error!(InvalidArgument, "the tags are not UTF-8"))
    };
    let tags = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    });
    checked(tags.collect::<S3Result<_>>()?)
}

fn checked(tags: Tags) -> S3Result<Tags> {
    if tags.len() > TAGS_MAX {
        return Err(s3_error!(InvalidTag, "Object tags cannot be greater than 10"));
    }
    let long = |(name, value): &(String, String)| {
        name.is_empty() || name.chars().count() > NAME_MAX || value.chars().count() > VALUE_MAX
    };
    let twice = |(at, (name, _)): (usize, &(String, String))| tags[..at].iter().any(|(other, _)| other == name);
    if tags.iter().any(long) || tags.iter().enumerate().any(twice) {
        return Err(s3_error!(InvalidTag));
    }
    Ok(tags)
}

impl FolderStorage {
    pub(super) async fn tags(&self, input: GetObjectTaggingInput) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        refuse_version(input.version_id.as_deref())?;
        let row = self.look_up(&input.bucket, &input.key).await?;
        let tag = |(name, value)| Tag { key: Some(name), value: Some(value) };
        let tag_set = row.described.tags.into_iter().map(tag).collect();
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, ..GetObjectTaggingOutput::default() }))
    }

    pub(super) async fn put_tags(&self, input: PutObjectTaggingInput) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        refuse_version(input.version_id.as_deref())?;
        let tag = |tag: Tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        let tags = checked(input.tagging.tag_set.into_iter().map(tag).collect())?;
        self.set_tags(input.bucket, input.key, tags).await?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    pub(super) async fn remove_tags(
        &self,
        input: DeleteObjectTaggingInput,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        refuse_version(input.version_id.as_deref())?;
        self.set_tags(input.bucket, input.key, Tags::new()).await?;
        Ok(S3Response::with_status(DeleteObjectTaggingOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn set_tags(&self, bucket: String, key: String, tags: Tags) -> S3Result<()> {
        let change = self.change(None, move |change| {
            Box::pin(async move {
                let bucket = bucket_id(change.connection(), &bucket).await?;
                let row = object(change.connection(), bucket, &key).await?;
                let mut described = row.ok_or_else(|| s3_error!(NoSuchKey))?.described;
                described.tags = tags;
                let sql = "UPDATE objects SET headers = $3 WHERE bucket = $1 AND key = $2";
                let query = sqlx::query(sql).bind(bucket).bind(key.as_bytes()).bind(json(&described)?);
                query.execute(change.connection()).await.map_err(internal)?;
                Ok(())
            })
        });
        change.await
    }
}
