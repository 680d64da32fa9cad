//! Why a request is none of our operations.

use http::HeaderName;

use crate::s3::copy_source::CopySourceError;
use crate::s3::error::Code;
use crate::s3::target::QueryError;

/// Why a request is refused before anything is done for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// S3 or some server may know it; here it is not done.
    #[error("this proxy does not support {0}")]
    NotImplemented(Unsupported),
    /// A header that S3 does not accept on this operation.
    #[error("the header {0} is not supported for this operation")]
    Header(HeaderName),
    /// User metadata by the name under which the proxy keeps its own.
    #[error("the user metadata name 'claviger' is reserved: choose another")]
    ReservedMetadata,
    /// A query parameter with a value that it cannot have.
    #[error("the query parameter {0} is missing or has a value that it cannot have")]
    Value(&'static str),
    /// A query parameter that holds a key or the beginning of one, and goes up past the bucket.
    #[error(
        "the query parameter {0}, read as a path, leads out of the bucket: leave out each '..' with nothing before it to go up from"
    )]
    OutOfBucket(&'static str),
    /// A POST to a bucket that is neither a form nor anything else.
    #[error("a POST to a bucket is a form, with the Content-Type multipart/form-data")]
    NotAForm,
    /// An upload id that cannot be one.
    #[error("there is no such multipart upload: it was completed or aborted, or never begun")]
    NoSuchUpload,
    /// The source of a copy cannot be read.
    #[error(transparent)]
    CopySource(#[from] CopySourceError),
    /// The headers in a presigned URL contradict the request's.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl OperationError {
    /// The S3 code that goes with it.
    pub fn code(&self) -> Code {
        match self {
            Self::NotImplemented(_) => Code::NotImplemented,
            Self::Header(_) | Self::ReservedMetadata | Self::Value(_) | Self::OutOfBucket(_) => Code::InvalidArgument,
            Self::NotAForm => Code::PreconditionFailed,
            Self::NoSuchUpload => Code::NoSuchUpload,
            Self::CopySource(cause) => cause.code(),
            Self::Query(cause) => cause.code(),
        }
    }
}

/// What is not done here, in words that follow "does not support".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// ?torrent
    #[error("BitTorrent")]
    Torrent,
    /// ?select
    #[error("SelectObjectContent: the storage server cannot query ciphertext")]
    Select,
    /// ?renameObject
    #[error("RenameObject: an object is encrypted for its key")]
    Rename,
    /// ?append, x-amz-write-offset-bytes
    #[error("appending to an object: ciphertext cannot be appended to")]
    Append,
    /// ?website, x-amz-website-redirect-location
    #[error("website hosting: it would serve ciphertext past the proxy")]
    Website,
    /// x-amz-if-match-size
    #[error("the condition x-amz-if-match-size; use If-Match")]
    SizeCondition,
    /// ListBuckets?bucket-region
    #[error("selecting buckets by region")]
    BucketRegion,
    /// A query parameter that is not known for the operation. Passing it on could turn this into another one.
    #[error("the query parameter {0:?} on this operation")]
    Parameter(String),
    /// Another method.
    #[error("the method {method} on {on}")]
    Method {
        /// The method.
        method: String,
        /// What it was used on.
        on: &'static str,
    },
}

impl Unsupported {
    /// What a known parameter asks for that is not done here, whatever else the request says.
    pub(super) fn by_parameter(name: &str) -> Option<Self> {
        Some(match name {
            "torrent" => Self::Torrent,
            "select" | "select-type" => Self::Select,
            "renameObject" => Self::Rename,
            "append" => Self::Append,
            "website" => Self::Website,
            "bucket-region" => Self::BucketRegion,
            _ => return None,
        })
    }

    /// An unknown parameter, cut to what a message can carry.
    pub(super) fn parameter(name: &str) -> Self {
        Self::Parameter(name.chars().take(64).collect())
    }

    /// What a header asks for that is not done here.
    pub(super) fn by_header(name: &str) -> Option<Self> {
        Some(match name {
            "x-amz-write-offset-bytes" => Self::Append,
            "x-amz-website-redirect-location" => Self::Website,
            "x-amz-if-match-size" => Self::SizeCondition,
            name if name.starts_with("x-amz-rename-") => Self::Rename,
            _ => return None,
        })
    }
}
