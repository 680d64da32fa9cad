//! Why an operation on objects failed. Variants are causes; what a client is told is decided above.

mod transient;

use http::StatusCode;

use crate::crypto::{NotAuthentic, RandomFailed};
use crate::custody::branch::Revoked;
use crate::custody::keys::BranchKeyError;
use crate::format::body::{OpenError, SealError};
use crate::format::envelope::{EnvelopeError, Malformed};
use crate::format::upload::{MAX_HEADERS, MarkerError, RecordError};
use crate::names::KekName;
use crate::s3::checksum::{Algorithm, InvalidPromise};
use crate::s3::conditions::ConditionError;
use crate::s3::xml::XmlError;
use crate::storage::{Refusal, StorageError};

use super::attributes::AttributesError;
use super::copy::CopyError;
use super::multipart::{ChecksumChoiceError, CompleteError};
use super::plaintext::UploadError;
use super::renewal::RenewalError;
use super::state::StateError;
use super::unencrypted::MigrationError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No grant of the client covers it.
    #[error("the client has no grant for this operation on this bucket")]
    Denied,
    /// A preflight request that does not say from where, or for what.
    #[error("a preflight request says Origin and Access-Control-Request-Method")]
    Preflight,
    /// The bucket's CORS configuration, or its absence, does not allow it.
    #[error("the bucket's CORS configuration does not allow this to pages of this origin")]
    OtherOrigin,
    /// A bucket's setting that would have the storage server write where the proxies keep their state, or the client may not.
    #[error("the document names a bucket that does not exist, or that this client may not write to")]
    Destination,
    /// No such bucket for clients.
    #[error("there is no such bucket")]
    NoSuchBucket,
    /// The storage server refused with its own error, could not be reached, or answered garbage.
    #[error(transparent)]
    Storage(StorageError),
    /// The storage server's answer is not an answer to what was asked.
    #[error("the storage server's answer is not an answer to what was asked: {0}")]
    WrongAnswer(WrongAnswer),
    /// The branch key could not be had.
    #[error(transparent)]
    Key(#[from] BranchKeyError),
    /// The branch key was revoked, or its lease ended.
    #[error(transparent)]
    Revoked(#[from] Revoked),
    /// The stored object has no envelope: it was not written through this proxy, or somebody replaced it.
    #[error("the stored object has no envelope")]
    NotEncrypted,
    /// The envelope cannot be parsed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The envelope names a KEK that the bucket does not accept.
    #[error("the stored object is encrypted under the KEK {0}, which this bucket does not accept")]
    ForeignKek(KekName),
    /// The envelope names a writer domain that the bucket does not accept.
    #[error("the stored object was written by {0}, which this bucket does not accept")]
    ForeignWriter(crate::names::WriterDomain),
    /// What is stored is not what was written under this name.
    #[error("the stored object is not authentic")]
    NotAuthentic,
    /// The object was stored with a key of the client's own (SSE-C), and the request has none.
    #[error("the object was stored with a customer key (SSE-C), which is needed to read it")]
    MissingCustomerKey,
    /// The object was stored without a key of the client's own, and the request has one.
    #[error("the object was stored without a customer key (SSE-C): leave the headers about one out")]
    NeedlessCustomerKey,
    /// The object was stored with another key of the client's own.
    #[error("the customer key (SSE-C) is not the one with which the object was stored")]
    WrongCustomerKey,
    /// The object was overwritten each time between two requests that belong together.
    #[error("the object was overwritten while it was read, several times in a row")]
    Overwritten,
    /// The client chose a KEK that the bucket does not offer.
    #[error("the bucket does not offer the requested KMS key")]
    UnknownKek,
    /// The client would have the bucket encrypted under another KEK.
    #[error("the proxy's configuration says under which key this bucket is encrypted: give that one's id, or none")]
    OtherDefaultKek,
    /// The client's headers about encryption make no sense.
    #[error("x-amz-server-side-encryption must be 'aws:kms' or 'AES256', with a key id only for 'aws:kms'")]
    AskedEncryption,
    /// The client did not say how long the body is.
    #[error("the request says neither Content-Length nor x-amz-decoded-content-length")]
    MissingLength,
    /// The body is longer than one PUT may be.
    #[error("the body has {length} bytes, more than the {limit} of one PUT")]
    TooLarge {
        /// Plaintext bytes announced.
        length: u64,
        /// Plaintext bytes allowed.
        limit: u64,
    },
    /// The user metadata is more than S3 allows, or than the storage server holds once encrypted.
    #[error("the metadata takes {length} bytes, more than the {limit} that are possible")]
    MetadataTooLarge {
        /// Bytes needed.
        length: usize,
        /// Bytes possible.
        limit: usize,
    },
    /// A header that should be text is none.
    #[error("the header {0} is not readable")]
    Header(http::HeaderName),
    /// What the client promised about its body cannot be understood.
    #[error(transparent)]
    Promise(#[from] InvalidPromise),
    /// A conditional header cannot be understood.
    #[error(transparent)]
    Condition(#[from] ConditionError),
    /// The body did not arrive whole, or is not what its client promised.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// An XML document of the client's.
    #[error(transparent)]
    Xml(XmlError),
    /// The range lies outside the object.
    #[error("the range lies outside the object's {length} bytes")]
    Range {
        /// Plaintext bytes of the object.
        length: u64,
    },
    /// There is no such upload, or none of our own domain's.
    #[error("there is no such upload")]
    NoSuchUpload,
    /// The state bucket cannot be used.
    #[error(transparent)]
    State(StateError),
    /// The checksum that an upload is to have.
    #[error(transparent)]
    ChecksumChoice(#[from] ChecksumChoiceError),
    /// A part came with a checksum by another algorithm than the one chosen for its upload.
    #[error(
        "checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
        .expected.wire_name().to_lowercase(), .actual.wire_name().to_lowercase()
    )]
    PartChecksum {
        /// The upload's.
        expected: Algorithm,
        /// The part's.
        actual: Algorithm,
    },
    /// GetObjectAttributes.
    #[error(transparent)]
    Attributes(#[from] AttributesError),
    /// A copy.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A job could not write an object anew.
    #[error(transparent)]
    Renewal(#[from] RenewalError),
    /// A bucket that is being migrated.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// A range and a part at once.
    #[error("a Range header and the parameter partNumber exclude each other")]
    RangeAndPart,
    /// The object has no such part.
    #[error("the object has no part {number}: it has {parts}")]
    Part {
        /// The number that was asked for.
        number: u32,
        /// Parts of the object.
        parts: u32,
    },
    /// An upload could not be completed, as no other operation fails.
    #[error(transparent)]
    Complete(#[from] CompleteError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomFailed),
}

impl Error {
    /// The storage server's refusal, if it is one.
    fn refusal(&self) -> Option<&Refusal> {
        if let Self::Storage(StorageError::Refused(refusal)) = self { Some(refusal) } else { None }
    }

    /// Whether the storage server refused with this status.
    pub(super) fn is_status(&self, status: StatusCode) -> bool {
        self.refusal().is_some_and(|refusal| refusal.status == status)
    }

    /// The code of the storage server's refusal.
    pub(super) fn refusal_code(&self) -> Option<&str> {
        self.refusal()?.code.as_deref()
    }
}

/// In what an answer is wrong.
#[derive(Debug, thiserror::Error)]
pub enum WrongAnswer {
    /// No length, or no Content-Range in an answer to a range.
    #[error("it does not say how long the object is")]
    Length,
    /// The range is not the one that was asked for.
    #[error("it has another range than the one asked for")]
    Range,
    /// No ETag, or one that no server gives.
    #[error("it has no ETag, or one of more than 64 characters")]
    Etag,
    /// Status, headers or document of some other operation.
    #[error("it has the form of another operation's answer")]
    Kind,
    /// Keys of a listing do not rise.
    #[error(
        "it lists keys in another order than that of their bytes, in which a job cannot go on: begin anew, with --restart"
    )]
    Order,
    /// A listing that goes round.
    #[error("its listing comes to no end")]
    Endless,
    /// Not an XML document of the expected kind.
    #[error("its document is malformed")]
    Document(#[source] XmlError),
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        // An upload that was given up on our side says itself why.
        match error {
            StorageError::Aborted(cause) => match cause.downcast::<UploadError>() {
                Ok(cause) => Self::Upload(*cause),
                Err(cause) => Self::Storage(StorageError::Aborted(cause)),
            },
            error => Self::Storage(error),
        }
    }
}

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        match error {
            // Also here an upload that was given up on our side says itself why.
            StateError::Storage(aborted @ StorageError::Aborted(_)) => aborted.into(),
            error => Self::State(error),
        }
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::TooLarge { length } => Self::MetadataTooLarge { length, limit: MAX_HEADERS },
            RecordError::Random => Self::Random(RandomFailed),
        }
    }
}

impl From<MarkerError> for Error {
    fn from(error: MarkerError) -> Self {
        match error {
            MarkerError::Etag => WrongAnswer::Etag.into(),
            MarkerError::Random => Self::Random(RandomFailed),
        }
    }
}

impl From<WrongAnswer> for Error {
    fn from(cause: WrongAnswer) -> Self {
        Self::WrongAnswer(cause)
    }
}

impl From<NotAuthentic> for Error {
    fn from(_: NotAuthentic) -> Self {
        Self::NotAuthentic
    }
}

impl From<EnvelopeError> for Error {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::CustomerKey => Self::WrongCustomerKey,
            EnvelopeError::NotAuthentic => Self::NotAuthentic,
        }
    }
}

impl From<OpenError> for Error {
    fn from(_: OpenError) -> Self {
        Self::NotAuthentic
    }
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        Self::Upload(error.into())
    }
}
