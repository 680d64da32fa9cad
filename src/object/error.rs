//! Why an operation on objects failed. Variants are causes; what a client is told is decided above.

use crate::crypto::{NotAuthentic, RandomFailed};
use crate::custody::branch::Revoked;
use crate::custody::keys::BranchKeyError;
use crate::format::body::{OpenError, SealError};
use crate::format::envelope::{EnvelopeError, Malformed};
use crate::names::KekName;
use crate::s3::checksum::InvalidPromise;
use crate::s3::conditions::ConditionError;
use crate::s3::xml::XmlError;
use crate::storage::StorageError;

use super::plaintext::UploadError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No grant of the client covers it.
    #[error("the client has no grant for this operation on this bucket")]
    Denied,
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
    /// The object was stored with a key of the client's own (SSE-C).
    #[error("the object was stored with a customer key (SSE-C), which is needed to read it")]
    CustomerKey,
    /// The object was overwritten each time between two requests that belong together.
    #[error("the object was overwritten while it was read, several times in a row")]
    Overwritten,
    /// The client chose a KEK that the bucket does not offer.
    #[error("the bucket does not offer the requested KMS key")]
    UnknownKek,
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
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomFailed),
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
    /// Status, headers or document of some other operation.
    #[error("it has the form of another operation's answer")]
    Kind,
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
            EnvelopeError::CustomerKey => Self::CustomerKey,
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
