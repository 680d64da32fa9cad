//! A folder as the demo's storage: `s3s-fs`, where it differs from S3, set right.
//!
//! **Invariant:** a reader sees an object's bytes and metadata of one PUT, never of two.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use tokio::sync::RwLock;

use super::conditions::Conditions;
use super::key_names::{key, stored, stored_prefix};
use super::places::Places;

/// The folder.
pub(super) struct Folder {
    files: FileSystem,
    places: Places,
    gate: Arc<RwLock<()>>,
}

/// An upload's body broke off.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off")]
struct BrokenOff(#[source] s3s::StdError);

impl Folder {
    /// Of what lies, and will lie, in `root`, which exists.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let files = FileSystem::new(root).map_err(s3s::S3Error::from);
        let files = files.with_context(|| format!("cannot use {} as storage", root.display()))?;
        Ok(Self { files, places: Places::new(root), gate: Arc::default() })
    }

    async fn head(&self, bucket: &str, name: &str) -> S3Result<HeadObjectOutput> {
        let input = HeadObjectInput::builder().bucket(bucket.to_owned()).key(name.to_owned()).build();
        let request = internal(input.map_err(|error| s3_error!(error, InternalError))?);
        Ok(self.files.head_object(request).await?.output)
    }

    /// What `s3s-fs` lists, with keys for names and with the ETags that it leaves out.
    async fn with_keys_and_etags(&self, bucket: &str, listed: Option<ObjectList>) -> S3Result<Option<ObjectList>> {
        let Some(mut objects) = listed else { return Ok(None) };
        for object in &mut objects {
            let Some(name) = object.key.take() else { continue };
            // It may be gone by now.
            object.e_tag = self.head(bucket, &name).await.ok().and_then(|head| head.e_tag);
            object.key = Some(key(&name));
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Some(objects))
    }
}

/// A request that no client sent.
fn internal<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: http::Method::HEAD,
        uri: http::Uri::from_static("/"),
        headers: http::HeaderMap::new(),
        extensions: http::Extensions::new(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

#[async_trait]
impl S3 for Folder {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        if self.places.bucket_is_there(&req.input.bucket).is_ok() {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        self.files.create_bucket(req).await
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> S3Result<S3Response<DeleteBucketOutput>> {
        let input = ListObjectsV2Input::builder().bucket(req.input.bucket.clone()).max_keys(Some(1)).build();
        let list = internal(input.map_err(|error| s3_error!(error, InternalError))?);
        let _alone = self.gate.write().await;
        if self.files.list_objects_v2(list).await?.output.contents.is_some() {
            return Err(s3_error!(BucketNotEmpty));
        }
        self.files.delete_bucket(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.files.head_bucket(req).await
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        let mut response = self.files.list_buckets(req).await?;
        if let Some(buckets) = &mut response.output.buckets {
            buckets.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Ok(response)
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.files.get_bucket_location(req).await
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> S3Result<S3Response<ListObjectsOutput>> {
        let marker = req.input.marker.clone();
        let listed = self.list_objects_v2(req.map_input(Into::into)).await?;
        Ok(listed.map_output(|listed| ListObjectsOutput {
            name: listed.name,
            prefix: listed.prefix,
            marker,
            max_keys: listed.max_keys,
            is_truncated: listed.is_truncated,
            contents: listed.contents,
            common_prefixes: listed.common_prefixes,
            delimiter: listed.delimiter,
            next_marker: listed.next_continuation_token,
            ..ListObjectsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        mut req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let asked = req.input.clone();
        let input = &mut req.input;
        input.prefix = asked.prefix.as_deref().map(stored_prefix);
        input.start_after = asked.start_after.as_deref().map(stored);
        input.continuation_token = asked.continuation_token.as_deref().map(stored);
        // It would say that keys are encoded, and not do it.
        input.encoding_type = None;
        let _reading = self.gate.read().await;
        let mut response = self.files.list_objects_v2(req).await?;
        let output = &mut response.output;
        output.contents = self.with_keys_and_etags(&asked.bucket, output.contents.take()).await?;
        for common in output.common_prefixes.iter_mut().flatten() {
            common.prefix = common.prefix.as_deref().map(key);
        }
        output.next_continuation_token = output.next_continuation_token.as_deref().map(key);
        output.prefix = asked.prefix;
        output.start_after = asked.start_after;
        output.continuation_token = asked.continuation_token;
        Ok(response)
    }

    async fn head_object(&self, mut req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = &mut req.input;
        input.key = stored(&input.key);
        self.places.object_is_there(&input.bucket, &input.key)?;
        let conditions = Conditions {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
        };
        let _reading = self.gate.read().await;
        conditions.check(&self.head(&input.bucket, &input.key).await?)?;
        self.files.head_object(req).await
    }

    async fn get_object(&self, mut req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = &mut req.input;
        input.key = stored(&input.key);
        self.places.object_is_there(&input.bucket, &input.key)?;
        let conditions = Conditions {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
        };
        let _reading = self.gate.read().await;
        let head = self.head(&input.bucket, &input.key).await?;
        conditions.check(&head)?;
        // It would count below zero.
        if matches!(input.range, Some(Range::Suffix { .. })) && head.content_length == Some(0) {
            return Err(s3_error!(InvalidRange));
        }
        self.files.get_object(req).await
    }

    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (bucket, name) = (req.input.bucket.clone(), stored(&req.input.key));
        self.places.can_store(&bucket, &name)?;
        req.input.key = name.clone();
        // Bytes and metadata are two files: from the end of the body on, until both are there, nobody reads.
        let held = Arc::new(Mutex::new(None));
        let (gate, holder) = (Arc::clone(&self.gate), Arc::clone(&held));
        let last = stream::once(async move {
            let guard = gate.write_owned().await;
            *holder.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
            Ok(Bytes::new())
        });
        let body = req.input.body.take();
        req.input.body = body.map(|body| StreamingBlob::wrap(body.map_err(BrokenOff).chain(last)));
        let before = self.places.inode(&bucket, &name);
        let stored = self.files.put_object(req).await;
        let alone = held.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if stored.is_err() && alone && self.places.inode(&bucket, &name) != before {
            // It moves the bytes to their place before it checks and describes them.
            self.places.remove(&bucket, &name);
        }
        drop(held);
        stored
    }

    async fn copy_object(&self, mut req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        req.input.key = stored(&req.input.key);
        self.places.can_store(&req.input.bucket, &req.input.key)?;
        if let CopySource::Bucket { bucket, key, .. } = &mut req.input.copy_source {
            *key = stored(key).into();
            self.places.object_is_there(bucket, key)?;
        }
        let _alone = self.gate.write().await;
        self.files.copy_object(req).await
    }

    async fn delete_object(&self, mut req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.places.bucket_is_there(&req.input.bucket)?;
        req.input.key = stored(&req.input.key);
        let _alone = self.gate.write().await;
        let (bucket, name) = (req.input.bucket.clone(), req.input.key.clone());
        if !self.places.has(&bucket, &name) {
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        let deleted = self.files.delete_object(req).await;
        self.places.prune(&bucket, &name);
        deleted
    }

    async fn delete_objects(
        &self,
        mut req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = &mut req.input;
        self.places.bucket_is_there(&input.bucket)?;
        let asked = input.delete.objects.clone();
        let quiet = input.delete.quiet.unwrap_or_default();
        for object in &mut input.delete.objects {
            object.key = stored(&object.key);
        }
        let _alone = self.gate.write().await;
        // It fails at those that are not there, if a folder is.
        input.delete.objects.retain(|object| self.places.has(&input.bucket, &object.key));
        let bucket = input.bucket.clone();
        let names: Vec<String> = input.delete.objects.iter().map(|object| object.key.clone()).collect();
        let mut response = self.files.delete_objects(req).await?;
        names.iter().for_each(|name| self.places.prune(&bucket, name));
        let deleted = asked.into_iter().map(|object| DeletedObject {
            key: Some(object.key),
            version_id: object.version_id,
            ..DeletedObject::default()
        });
        response.output.deleted = (!quiet).then(|| deleted.collect());
        Ok(response)
    }

    async fn create_multipart_upload(
        &self,
        mut req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let asked = req.input.key.clone();
        req.input.key = stored(&asked);
        self.places.can_store(&req.input.bucket, &req.input.key)?;
        let mut response = self.files.create_multipart_upload(req).await?;
        response.output.key = Some(asked);
        Ok(response)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.files.upload_part(req).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.files.list_parts(req).await
    }

    async fn complete_multipart_upload(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        req.input.key = stored(&req.input.key);
        let _alone = self.gate.write().await;
        self.files.complete_multipart_upload(req).await
    }

    async fn abort_multipart_upload(
        &self,
        mut req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        req.input.key = stored(&req.input.key);
        self.files.abort_multipart_upload(req).await
    }
}

#[cfg(test)]
mod tests;
