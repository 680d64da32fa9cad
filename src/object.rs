//! The S3 operations on encrypted objects.
//!
//! A [`Call`] is an authenticated client with the operation that it asks for; an [`Objects`] carries it out against
//! the storage server and gives an [`Answer`]. Who listens, and how errors look on the wire, is decided above.
//!
//! **Invariant:** every operation first asks whether the client may, then whether the bucket exists for it (a preflight
//! request, which is nobody's, asks the second only); nothing
//! is sent to the storage server, and no key is asked for, before that.

pub mod access;
pub mod answer;
pub mod attributes;
pub mod bucket;
mod bucket_encryption;
pub mod copy;
mod decrypting;
mod delete;
mod encrypting;
pub mod error;
mod fetch;
mod get;
mod head;
pub mod heeding;
mod late;
mod lease;
mod list;
mod metadata;
pub mod multipart;
mod opened;
mod pass_through;
pub mod plaintext;
mod preflight;
mod put;
pub mod read_back;
mod reading;
pub mod renewal;
mod sealed;
mod service;
mod source;
pub mod state;
pub mod stored;
mod tails;
pub mod unencrypted;

use http::{HeaderMap, HeaderName, Method};

use crate::custody::keys::BranchKeys;
use crate::names::LogicalBucket;
use crate::s3::customer_key::CustomerKeys;
use crate::s3::operation::{Access, BucketOperation, ObjectOperation, Operation, Read, forwardable_request_headers};
use crate::s3::target::ObjectKey;
use crate::storage::{Storage, StorageRequest, StorageResponse};

use access::Authenticated;
use answer::Answer;
use bucket::{Bucket, Buckets};
use copy::Heeding;
use error::Error;
use heeding::WriteHeeding;
use plaintext::Upload;
use state::StateBucket;
use tails::TailCache;
use unencrypted::Manifests;

/// Carries out operations on encrypted objects.
pub struct Objects {
    storage: Storage,
    keys: BranchKeys,
    buckets: Buckets,
    tails: TailCache,
    state: StateBucket,
    heeding: Heeding,
    write_heeding: WriteHeeding,
    manifests: Manifests,
}

/// An operation that an authenticated client asks for.
#[derive(Debug)]
pub struct Call {
    /// Who asks.
    pub who: Authenticated,
    /// What is asked.
    pub operation: Operation,
    /// The request's headers, without customer keys.
    pub headers: HeaderMap,
    /// The client's own keys (SSE-C).
    pub customer_keys: CustomerKeys,
}

impl Call {
    /// The same client's GET of an object, with these headers and no customer key.
    fn as_read(&self, bucket: &LogicalBucket, key: &ObjectKey, read: &Read, headers: HeaderMap) -> Self {
        let operation = Operation::Object(bucket.clone(), key.clone(), ObjectOperation::GetObject(read.clone()));
        Self { who: self.who.clone(), operation, headers, customer_keys: CustomerKeys::default() }
    }

    /// Those of its headers that any request about its bucket has.
    fn of_bucket(&self) -> HeaderMap {
        let names = ["x-amz-expected-bucket-owner", "x-amz-request-payer"].map(HeaderName::from_static);
        names.into_iter().filter_map(|name| Some((name.clone(), self.headers.get(name)?.clone()))).collect()
    }
}

/// An object as a request names it.
#[derive(Clone, Copy)]
struct Named<'a> {
    bucket: Bucket<'a>,
    key: &'a ObjectKey,
}

impl Objects {
    /// From its parts. `keys` publishes to `state`, the state bucket of the same storage server.
    pub fn new(storage: Storage, keys: BranchKeys, buckets: Buckets, state: StateBucket) -> Self {
        let (heeding, write_heeding) = (Heeding::default(), WriteHeeding::default());
        Self {
            storage,
            keys,
            buckets,
            tails: TailCache::default(),
            state,
            heeding,
            write_heeding,
            manifests: Manifests::default(),
        }
    }

    /// Carries out `call`. `upload` is the request's body; operations without one leave it unread.
    ///
    /// # Errors
    /// [`Error`]: nothing was committed, unless it says that the storage server's answer got lost.
    pub async fn perform(&self, call: &Call, upload: Upload) -> Result<Answer, Error> {
        self.permit(call)?;
        if let Some(source) = call.operation.source() {
            self.buckets.find(&source.bucket).ok_or(Error::NoSuchBucket)?;
        }
        match &call.operation {
            Operation::ListBuckets(list) => self.list_buckets(call, list).await,
            Operation::Bucket(name, operation) => {
                let bucket = self.buckets.find(name).ok_or(Error::NoSuchBucket)?;
                self.on_bucket(call, bucket, operation, upload).await
            }
            Operation::Object(name, key, operation) => {
                let bucket = self.buckets.find(name).ok_or(Error::NoSuchBucket)?;
                self.on_object(call, Named { bucket, key }, operation, upload).await
            }
        }
    }

    async fn on_bucket(
        &self,
        call: &Call,
        bucket: Bucket<'_>,
        operation: &BucketOperation,
        upload: Upload,
    ) -> Result<Answer, Error> {
        match operation {
            BucketOperation::CreateBucket { .. } => self.create_bucket(call, bucket, upload).await,
            BucketOperation::HeadBucket => self.plain_bucket_request(call, bucket, Method::HEAD).await,
            BucketOperation::DeleteBucket => self.plain_bucket_request(call, bucket, Method::DELETE).await,
            BucketOperation::GetBucketLocation => self.bucket_location(call, bucket).await,
            BucketOperation::ListObjectsV1(parameters) | BucketOperation::ListObjectsV2(parameters) => {
                self.list_objects(call, bucket, parameters).await
            }
            BucketOperation::ListObjectVersions(parameters) => self.list_versions(call, bucket, parameters).await,
            BucketOperation::ListMultipartUploads(parameters) => self.list_uploads(call, bucket, parameters).await,
            BucketOperation::DeleteObjects { .. } => self.delete_objects(call, bucket, upload).await,
            BucketOperation::Encryption(verb) => self.bucket_encryption(call, bucket, *verb, upload).await,
            BucketOperation::PassThrough(pass) => self.pass_through(call, bucket, None, pass, upload).await,
        }
    }

    async fn on_object(
        &self,
        call: &Call,
        object: Named<'_>,
        operation: &ObjectOperation,
        upload: Upload,
    ) -> Result<Answer, Error> {
        match operation {
            ObjectOperation::PutObject { .. } => self.put(call, object, upload).await,
            ObjectOperation::CopyObject { source, .. } => self.copy(call, object, source).await,
            ObjectOperation::GetObjectAttributes(asked) => self.attributes(call, object, asked).await,
            ObjectOperation::CreateMultipartUpload { .. } => self.create_upload(call, object).await,
            ObjectOperation::UploadPart(part) => self.upload_part(call, object, part, upload).await,
            ObjectOperation::UploadPartCopy { part, source } => self.copy_part(call, object, part, source).await,
            ObjectOperation::ListParts(asked) => self.list_parts(call, object, asked).await,
            ObjectOperation::CompleteMultipartUpload { upload: id } => {
                self.complete_upload(call, object, id, upload).await
            }
            ObjectOperation::AbortMultipartUpload { upload: id } => self.abort_upload(call, object, id).await,
            ObjectOperation::GetObject(read) => self.get(call, object, read).await,
            ObjectOperation::HeadObject(read) => self.head(call, object, read).await,
            ObjectOperation::DeleteObject { version_id, .. } => self.delete(call, object, version_id.as_deref()).await,
            ObjectOperation::PassThrough(pass) => {
                self.pass_through(call, object.bucket, Some(object.key), pass, upload).await
            }
        }
    }

    fn permit(&self, call: &Call) -> Result<(), Error> {
        let bucket = call.operation.bucket();
        let allowed = call.operation.needs().iter().all(|access| call.who.may(*access, bucket));
        let source = call.operation.source();
        let readable = source.is_none_or(|source| call.who.may(Access::Read, Some(&source.bucket)));
        // An upload has a record in the state bucket, which would be written by the proxy's rights. S3 has none of it
        // for those who do not sign, either.
        let signed_if_needed = !(call.who.is_anonymous() && call.operation.is_on_upload());
        if allowed && readable && signed_if_needed { Ok(()) } else { Err(Error::Denied) }
    }

    /// Whether the client may know that a bucket exists.
    fn may_see(&self, call: &Call, physical: &str) -> Option<String> {
        let name = self.buckets.logical_name(physical)?;
        call.who.may(Access::List, Some(&name)).then(|| name.as_str().to_owned())
    }

    /// A request to the storage server with those of the client's headers that may go there.
    fn request(&self, call: &Call, method: Method, bucket: Bucket<'_>, key: Option<&ObjectKey>) -> StorageRequest {
        let request = match key {
            Some(key) => StorageRequest::object(method, bucket.physical, key.as_str()),
            None => StorageRequest::bucket(method, bucket.physical),
        };
        request.headers(forwardable_request_headers(&call.operation, &call.headers))
    }

    async fn send(&self, call: &Call, request: StorageRequest) -> Result<StorageResponse, Error> {
        Ok(self.storage.send_as(request, call.who.signer()).await?)
    }
}
