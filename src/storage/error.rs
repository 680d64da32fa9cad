//! Why a storage server did not do what it was asked.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, InvalidHeaderValue};

use crate::net::BoxError;
use crate::net::body::BodyError;
use crate::net::client::ClientError;
use crate::s3::operation::cors_headers;
use crate::s3::sigv4::SignError;

/// What came of a request, when it is not what was asked for. The variants are causes.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The request cannot be put on the wire; nothing was sent.
    #[error("the request cannot be sent")]
    Request(#[from] RequestError),
    /// No connection to the server; it saw nothing of the request.
    #[error("the storage server cannot be reached")]
    Unreachable(#[source] ClientError),
    /// The server was silent for too long. It may have acted on the request.
    #[error("the storage server was silent for {} s", limit.as_secs_f32())]
    Timeout {
        /// The time it had.
        limit: Duration,
    },
    /// The server hung up in the middle. It may have acted on the request.
    #[error("the storage server hung up in the middle")]
    Broken(#[source] BoxError),
    /// The server answered something that is no answer to the request.
    #[error("the storage server's answer makes no sense")]
    Garbage(#[from] Garbage),
    /// The server answered with an error.
    #[error("the storage server refused: {0}")]
    Refused(Refusal),
    /// The body to be sent failed on our side; the server did not get all of it. Holds the body's own error.
    #[error("the upload was aborted on our side")]
    Aborted(#[source] BoxError),
}

/// A request that cannot be put on the wire.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A bucket or key with which no URI can be made.
    #[error("the bucket or key does not fit into a URI")]
    Uri(#[from] http::Error),
    /// A bucket name with which no host name can be made.
    #[error("the bucket does not fit into a host name")]
    Host(#[from] InvalidHeaderValue),
    /// A bucket name with other characters than letters, digits, `.`, `-` and `_`, or with nothing else than dots.
    #[error("{name:?} is not a bucket's name")]
    BucketName {
        /// The name.
        name: String,
    },
    /// An empty key would make it a request about the bucket.
    #[error("an object's key must not be empty")]
    EmptyKey,
    /// A key without a bucket.
    #[error("a key needs a bucket")]
    KeyWithoutBucket,
    /// It cannot be signed.
    #[error("the request cannot be signed")]
    Sign(#[from] SignError),
    /// The HTTP library does not take it.
    #[error("the request is not a valid HTTP request")]
    Http(#[source] ClientError),
    /// The body did not have the length announced.
    #[error("the body has {found} bytes or more, {announced} were announced")]
    Length {
        /// Bytes announced.
        announced: u64,
        /// Bytes that came, as far as they were looked at.
        found: u64,
    },
}

/// An answer that is none.
#[derive(Debug, thiserror::Error)]
pub enum Garbage {
    /// Not HTTP.
    #[error("the answer is not HTTP")]
    NotHttp(#[source] ClientError),
    /// Success before the upload was complete.
    #[error("the server reported success before it had the whole upload")]
    EarlySuccess,
    /// A body beyond every reasonable size.
    #[error("the answer has more than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
}

/// An error as a storage server reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The S3 error code, such as `NoSuchKey`. Answers to HEAD have none, and some proxies give none.
    pub code: Option<String>,
    /// The server's message, for people; empty without one.
    pub message: String,
    /// What its headers say all the same: of the object (`Refusal::TOLD`), and to browsers
    /// ([`cors_headers`](crate::s3::operation::cors_headers)).
    pub told: Box<HeaderMap>,
}

impl Refusal {
    /// The headers of an error answer that mean something to a client: that the object is a delete marker, which one,
    /// since when, and what else may be done with it.
    const TOLD: [HeaderName; 5] = [
        http::header::ALLOW,
        http::header::LAST_MODIFIED,
        HeaderName::from_static("x-amz-delete-marker"),
        HeaderName::from_static("x-amz-request-charged"),
        HeaderName::from_static("x-amz-version-id"),
    ];

    pub(super) fn told_by(headers: &HeaderMap) -> Box<HeaderMap> {
        let mut told = cors_headers(headers);
        told.extend(Self::TOLD.into_iter().filter_map(|name| headers.get(&name).cloned().map(|value| (name, value))));
        told.into()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.as_deref().unwrap_or("no code");
        write!(f, "{} ({code}) {:?}", self.status.as_u16(), self.message)
    }
}

impl StorageError {
    pub(super) fn from_client(error: ClientError) -> Self {
        match error {
            ClientError::Connect(_) | ClientError::Unsent(_) => Self::Unreachable(error),
            ClientError::Timeout { limit } => Self::Timeout { limit },
            ClientError::Garbage(_) => Garbage::NotHttp(error).into(),
            ClientError::Request(_) => RequestError::Http(error).into(),
            ClientError::Closed(_) => Self::Broken(error.into()),
        }
    }

    pub(super) fn from_body(error: BodyError) -> Self {
        match error {
            BodyError::Stalled { limit } => Self::Timeout { limit },
            BodyError::TooLarge { limit } => Garbage::TooLarge { limit }.into(),
            BodyError::Broken(source) => match source.downcast::<Self>() {
                Ok(error) => *error,
                Err(source) => Self::Broken(source),
            },
        }
    }
}
