//! The S3 operations on encrypted objects.
//!
//! A [`Call`] is an authenticated client with the operation that it asks for; an [`Objects`] carries it out against
//! the storage server and gives an [`Answer`]; [`sites::Sites`] knows which of several servers its bucket lies on. Who listens, and how errors look on the wire, is decided above.
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
pub mod sites;
mod source;
pub mod state;
pub mod stored;
mod tails;
pub mod unencrypted;

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, Method};

use crate::custody::keys::BranchKeys;
use crate::names::LogicalBucket;
use crate::s3::customer_key::CustomerKeys;
use crate::s3::operation::{Access, BucketOperation, ObjectOperation, Operation, Read, forwardable_request_headers};
use crate::s3::target::ObjectKey;
use crate::s3::xml::DeleteEntry;
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

#[doc(hidden)]
pub use fetch::fuzz_place;

/// Carries out operations on the encrypted objects of one storage server.
pub struct Objects {
    storage: Storage,
    keys: BranchKeys,
    buckets: Buckets,
    tails: Arc<TailCache>,
    state: StateBucket,
    heeding: Heeding,
    write_heeding: WriteHeeding,
    manifests: Arc<Manifests>,
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
    /// What a DeleteObjects names, once that was read.
    pub deletes: OnceLock<Vec<DeleteEntry>>,
}

impl Call {
    /// What `who` asks for, without keys of its own.
    pub fn new(who: Authenticated, operation: Operation, headers: HeaderMap) -> Self {
        Self { who, operation, headers, customer_keys: CustomerKeys::default(), deletes: OnceLock::new() }
    }

    /// The same client's GET of an object, with these headers and no customer key.
    fn as_read(&self, bucket: &LogicalBucket, key: &ObjectKey, read: &Read, headers: HeaderMap) -> Self {
        let operation = Operation::Object(bucket.clone(), key.clone(), ObjectOperation::GetObject(read.clone()));
        Self::new(self.who.clone(), operation, headers)
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
        Self { storage, keys, buckets, tails: Arc::default(), state, heeding, write_heeding, manifests: Arc::default() }
    }

    /// The same, in the place of `former`: what that saw of objects and manifests is not forgotten, so that the storage server
    /// cannot go back behind it.
    #[must_use]
    pub fn in_place_of(self, former: &Self) -> Self {
        let (tails, manifests) = (Arc::clone(&former.tails), Arc::clone(&former.manifests));
        Self { tails, manifests, ..self }
    }

    /// Carries out `call`, which is about a bucket. `upload` is the request's body; operations without one leave it unread. What a copy
    /// reads lies at `sources`.
    async fn perform(&self, call: &Call, upload: Upload, sources: &Self) -> Result<Answer, Error> {
        self.permit(call)?;
        if let Some(source) = call.operation.source() {
            sources.buckets.find(&source.bucket).ok_or(Error::NoSuchBucket)?;
        }
        match &call.operation {
            // It is about all of them: see `sites`.
            Operation::ListBuckets(_) => Err(Error::NoSuchBucket),
            Operation::Bucket(name, operation) => {
                let bucket = self.buckets.find(name).ok_or(Error::NoSuchBucket)?;
                Box::pin(self.on_bucket(call, bucket, operation, upload)).await
            }
            Operation::Object(name, key, operation) => {
                let bucket = self.buckets.find(name).ok_or(Error::NoSuchBucket)?;
                let answer = self.on_object(call, Named { bucket, key }, operation, (upload, sources)).await?;
                self.note_settled(call);
                Ok(answer)
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
        (upload, sources): (Upload, &Self),
    ) -> Result<Answer, Error> {
        // Each in a place of its own: otherwise all would have the room of the largest, which is cleared when it is given back.
        match operation {
            ObjectOperation::PutObject { .. } => Box::pin(self.put(call, object, upload)).await,
            ObjectOperation::CopyObject { source, .. } => Box::pin(self.copy(call, object, (sources, source))).await,
            ObjectOperation::GetObjectAttributes(asked) => Box::pin(self.attributes(call, object, asked)).await,
            ObjectOperation::CreateMultipartUpload { .. } => Box::pin(self.create_upload(call, object)).await,
            ObjectOperation::UploadPart(part) => Box::pin(self.upload_part(call, object, part, upload)).await,
            ObjectOperation::UploadPartCopy { part, source } => {
                Box::pin(self.copy_part(call, object, part, (sources, source))).await
            }
            ObjectOperation::ListParts(asked) => Box::pin(self.list_parts(call, object, asked)).await,
            ObjectOperation::CompleteMultipartUpload { upload: id } => {
                Box::pin(self.complete_upload(call, object, id, upload)).await
            }
            ObjectOperation::AbortMultipartUpload { upload: id } => Box::pin(self.abort_upload(call, object, id)).await,
            ObjectOperation::GetObject(read) => Box::pin(self.get(call, object, read)).await,
            ObjectOperation::HeadObject(read) => Box::pin(self.head(call, object, read)).await,
            ObjectOperation::DeleteObject { version_id, .. } => {
                Box::pin(self.delete(call, object, version_id.as_deref())).await
            }
            ObjectOperation::PassThrough(pass) => {
                Box::pin(self.pass_through(call, object.bucket, Some(object.key), pass, upload)).await
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
