//! What an operation gives back: status, headers and a body.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::custody::branch::Revoked;
use crate::custody::keys::BranchKeyError;
use crate::format::body::OpenError;
use crate::storage::StorageError;

/// A successful answer (or a 304), ready for the wire but for the request id.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers, Content-Length included where a HEAD tells it without a body.
    pub headers: HeaderMap,
    /// The body.
    pub body: AnswerBody,
}

/// An answer's body.
pub enum AnswerBody {
    /// None.
    Empty,
    /// All there.
    Full(Bytes),
    /// Verified plaintext as it comes. An error means that the answer must be cut off, so that nobody takes it for whole.
    Stream(UnsyncBoxBody<Bytes, ReadFailure>),
}

/// Why a body that was under way had to be cut off.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// What is stored is not what was written.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The storage server's body broke off.
    #[error("the storage server's answer broke off")]
    Storage(#[from] StorageError),
    /// The branch key was revoked while the body was under way.
    #[error(transparent)]
    Revoked(#[from] Revoked),
    /// The branch key's lease ended and was not renewed.
    #[error("the branch key's lease was not renewed")]
    Lease(#[from] BranchKeyError),
}

impl Answer {
    /// Without a body.
    pub(super) fn empty(status: StatusCode, headers: HeaderMap) -> Self {
        Self { status, headers, body: AnswerBody::Empty }
    }

    /// An XML document.
    pub(super) fn xml(status: StatusCode, mut headers: HeaderMap, document: impl Into<Bytes>) -> Self {
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/xml"));
        Self { status, headers, body: AnswerBody::Full(document.into()) }
    }
}

/// A time as S3's documents write it.
pub(super) fn moment(unix_ms: u64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    let format =
        format_description!(version = 2, "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    moment.ok().and_then(|moment| moment.format(&format).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_as_s3_writes_them() {
        assert_eq!(moment(1_289_422_113_007), "2010-11-10T20:48:33.007Z");
        assert_eq!(moment(u64::MAX), "");
    }
}
