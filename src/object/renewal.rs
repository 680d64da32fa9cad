//! Objects that jobs write anew: encrypted under a new DEK, or bound to another name.
//!
//! An object that is written anew keeps its bytes, the client's headers, its checksum, the numbers and borders of its parts, its
//! tags, storage class, retention and legal hold, and its ACL where the storage server tells it. Its ETag, Last-Modified and, in
//! buckets with versions, its version become others, and it belongs to the account that the proxy signs as.
//!
//! **Invariant:** what is encrypted anew was authenticated to its last byte before the storage server has all of it, and takes the
//! place only of what was read: whoever writes meanwhile wins. That hangs on [`Manner::conditional`].
//!
//! **Invariant:** what is written anew is wrapped under a branch key that this process generated, so never under one that stood in
//! an envelope before the job began.

mod carried;
mod choice;
mod in_parts;
mod re_encrypt;
mod rebind;

use http::header::{HeaderMap, HeaderValue, IF_MATCH};
use http::{Method, StatusCode};

use crate::format::envelope::Layout;
use crate::format::metadata::Metadata;
use crate::names::{KekName, LogicalBucket, WriterDomain};
use crate::s3::copy_source::CopySource;
use crate::s3::operation::{ObjectOperation, Operation};
use crate::s3::target::ObjectKey;

use super::access::Authenticated;
use super::bucket::KeyRule;
use super::error::{Error, WrongAnswer};
use super::put::now_ms;
use super::source::Source;
use super::{Call, Named, Objects};

use carried::Carried;

pub use choice::Choice;

/// How objects are written anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Nothing is written.
    pub dry_run: bool,
    /// Each is replaced on the condition that it is what was read. Without it, nobody else may write meanwhile.
    pub conditional: bool,
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// It was written anew, or would be.
    Done(Done),
    /// It is not among those that were chosen, or is what it should be.
    NotChosen,
    /// It is under a customer key (SSE-C), which nobody here has.
    CustomerKey,
    /// Somebody else wrote or deleted it meanwhile.
    Overtaken,
}

/// An object that was written anew, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Bytes of plaintext.
    pub bytes: u64,
    /// The version that it replaced, which stays as it was, in a bucket with versions.
    pub remains: Option<String>,
    /// Until when that one is locked, by the storage server's word.
    pub locked_until: Option<String>,
    /// The storage server did not tell its ACL: the new object has that of one that says nothing.
    pub without_acl: bool,
}

/// Why an object was not written anew, or not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// S3 replaces no old version.
    #[error(
        "this old version is as it was: S3 cannot replace it{}. Delete it when it is no longer needed", until(.locked_until.as_deref())
    )]
    OldVersion {
        /// Until when it is locked.
        locked_until: Option<String>,
    },
    /// In a bucket with versions, what was replaced stays.
    #[error(
        "it was written anew as a new version; the version {version} is as it was{}. Delete it when it is no longer needed",
        until(.locked_until.as_deref())
    )]
    VersionRemains {
        /// The version that was replaced.
        version: String,
        /// Until when it is locked.
        locked_until: Option<String>,
    },
    /// What this job writes could not be read again.
    #[error("the bucket's accept_writers do not name {0}, which this job would write as")]
    NotAccepted(WriterDomain),
    /// It is bound to another name.
    #[error("it opens neither under its own name nor as {bucket}/{key}")]
    NeitherName {
        /// The bucket that was given.
        bucket: LogicalBucket,
        /// The key that goes with it.
        key: String,
    },
}

/// What a finding adds about a lock.
fn until(locked: Option<&str>) -> String {
    locked.map(|until| format!(", and it is locked until {until}")).unwrap_or_default()
}

impl Objects {
    /// The object, in a bucket that opens what we write.
    fn renewable<'a>(&'a self, bucket: &'a LogicalBucket, key: &'a ObjectKey) -> Result<Named<'a>, Error> {
        let bucket = self.bucket_named(bucket)?;
        let writer = self.keys.writer();
        if !bucket.keys.accept_writers.contains(writer) {
            return Err(RenewalError::NotAccepted(writer.clone()).into());
        }
        Ok(Named { bucket, key })
    }

    /// Encrypts `source`, which lies under the name `object`, anew under `kek` and puts it in its own place. Gives the storage
    /// server's headers of the answer; `None` when somebody else was quicker.
    async fn write_anew(
        &self,
        who: &Authenticated,
        object: Named<'_>,
        source: Source<'_>,
        kek: &KekName,
        (carried, conditional): (&Carried, bool),
    ) -> Result<Option<HeaderMap>, Error> {
        let condition = if conditional { Some(etag_of(&source)?) } else { None };
        let metadata = Metadata { written_ms: now_ms(), ..source.opened.metadata.clone() };
        let parts = source.opened.layout == Layout::Multipart;
        let outcome = if parts && !self.fits_one_request(&source) {
            let call = call(who, object, uploading(), carried.headers.clone());
            self.upload_again(&call, object, &source, (kek, &metadata), condition).await
        } else {
            let call = call(who, object, at_once(), carried.headers.clone());
            let mut request = self.request(&call, Method::PUT, object.bucket, Some(object.key));
            if let Some(etag) = condition {
                // A second attempt would fail on the first one's success.
                request = request.replay_unsafe().header(IF_MATCH, etag);
            }
            if parts {
                self.put_parts_again(&call, object, request, (kek, &metadata), &source).await
            } else {
                let stored = self.store_source(&call, object, request, (kek, metadata), (source, None)).await;
                stored.map(|(response, _)| response.headers)
            }
        };
        self.tails.forget(object, None);
        match outcome {
            Ok(headers) => Ok(Some(headers)),
            Err(error) if is_overtaken(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What became of `source`, given the headers of the storage server's answer.
fn done(bytes: u64, replaced: Option<&HeaderValue>, carried: &Carried, headers: &HeaderMap) -> Done {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    // Where the new one has a version of its own, the old one is still there.
    let versioned = headers.get("x-amz-version-id").is_some_and(|version| version != "null");
    let remains = versioned.then(|| replaced.map_or_else(|| "null".to_owned(), text));
    let locked_until = remains.as_ref().and(carried.locked_until.clone());
    Done { bytes, remains, locked_until, without_acl: carried.without_acl }
}

/// The KEK of an object written anew: its own, unless the bucket no longer offers it.
fn kek_for<'a>(keys: &'a KeyRule, own: &'a KekName) -> &'a KekName {
    if keys.encrypts(own) { own } else { &keys.kek }
}

fn etag_of(source: &Source<'_>) -> Result<HeaderValue, Error> {
    source.etag().cloned().ok_or_else(|| WrongAnswer::Etag.into())
}

pub(super) fn uploading() -> ObjectOperation {
    ObjectOperation::CreateMultipartUpload { grants: false, locks: false }
}

pub(super) fn at_once() -> ObjectOperation {
    ObjectOperation::PutObject { grants: false, locks: false }
}

/// A request about `object` with these headers, as if a client made it.
pub(super) fn call(who: &Authenticated, object: Named<'_>, operation: ObjectOperation, headers: HeaderMap) -> Call {
    let operation = Operation::Object(object.bucket.name.clone(), object.key.clone(), operation);
    Call::new(who.clone(), operation, headers)
}

fn place(bucket: &LogicalBucket, key: &ObjectKey, version: Option<&str>) -> CopySource {
    CopySource { bucket: bucket.clone(), key: key.clone(), version_id: version.map(str::to_owned), range: None }
}

/// There is no such object, or version: deleted since it was listed.
pub(super) fn is_gone(error: &Error) -> bool {
    error.is_status(StatusCode::NOT_FOUND)
        && matches!(error.refusal_code(), None | Some("NoSuchKey" | "NoSuchVersion" | "NotFound"))
}

/// Another object, or none, stands where that one was read.
pub(super) fn is_overtaken(error: &Error) -> bool {
    let conflict = error.is_status(StatusCode::CONFLICT) && error.refusal_code() == Some("ConditionalRequestConflict");
    matches!(error, Error::Overwritten)
        || error.is_status(StatusCode::PRECONDITION_FAILED)
        || conflict
        || is_gone(error)
}
