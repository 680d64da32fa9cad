//! Why a request is none of our operations.

use http::HeaderName;

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
            Self::Query(cause) => cause.code(),
        }
    }
}

/// What is not done here, in words that follow "does not support".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// uploads, uploadId, partNumber.
    #[error("multipart uploads (query parameter {0}); upload in one request")]
    Multipart(&'static str),
    /// x-amz-copy-source.
    #[error("server-side copies; read the object and write it again")]
    Copy,
    /// POST to a bucket.
    #[error("uploads by POST from a browser form; use PUT or a presigned URL")]
    PostForm,
    /// ?torrent
    #[error("BitTorrent")]
    Torrent,
    /// ?restore
    #[error("restoring archived objects")]
    Restore,
    /// ?select
    #[error("SelectObjectContent: the storage server cannot query ciphertext")]
    Select,
    /// ?attributes
    #[error("GetObjectAttributes; use HeadObject")]
    Attributes,
    /// ?versions
    #[error("listing object versions")]
    Versions,
    /// ?renameObject
    #[error("RenameObject: an object is encrypted for its key")]
    Rename,
    /// ?append, x-amz-write-offset-bytes
    #[error("appending to an object: ciphertext cannot be appended to")]
    Append,
    /// ?encryption
    #[error("changing the bucket's encryption: the proxy's configuration says which key a bucket has")]
    BucketEncryption,
    /// ?website, x-amz-website-redirect-location
    #[error("website hosting: it would serve ciphertext past the proxy")]
    Website,
    /// SSE-C
    #[error("encryption with a key from the client (SSE-C); use the keys of the custodian")]
    CustomerKey,
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
            "uploads" => Self::Multipart("uploads"),
            "uploadId" => Self::Multipart("uploadId"),
            "partNumber" => Self::Multipart("partNumber"),
            "torrent" => Self::Torrent,
            "restore" => Self::Restore,
            "select" | "select-type" => Self::Select,
            "attributes" => Self::Attributes,
            "versions" => Self::Versions,
            "renameObject" => Self::Rename,
            "append" => Self::Append,
            "encryption" => Self::BucketEncryption,
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
            name if name.starts_with("x-amz-copy-source") => Self::Copy,
            name if name.starts_with("x-amz-rename-") => Self::Rename,
            name if name.starts_with("x-amz-server-side-encryption-customer-") => Self::CustomerKey,
            _ => return None,
        })
    }
}
