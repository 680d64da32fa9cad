//! A storage server's answer.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty};

use super::error::{Refusal, StorageError};
use crate::net::body::collect_bounded;
use crate::net::client::ResponseBody;
use crate::s3::error::parse_error;

/// The body of an answer, which fails when the server hangs up or pauses for too long.
pub type ResponseStream = UnsyncBoxBody<Bytes, StorageError>;

/// A storage server's answer, of any status.
pub struct StorageResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: ResponseStream,
}

impl fmt::Debug for StorageResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageResponse").field("status", &self.status).finish_non_exhaustive()
    }
}

impl StorageResponse {
    /// Most bytes of an error document.
    pub const MAX_ERROR_BYTES: usize = 64 << 10;

    pub(super) fn new(response: Response<ResponseBody>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.map_err(StorageError::from_body).boxed_unsync();
        Self { status: parts.status, headers: parts.headers, body }
    }

    /// The whole body, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`StorageError::Garbage`] when it is larger, else [`StorageError::Broken`] or [`StorageError::Timeout`].
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, StorageError> {
        self.take_body(limit).await
    }

    /// The answer itself if its status is 2xx, else the error it reports.
    ///
    /// # Errors
    /// [`StorageError::Refused`], or what kept its error document from being read.
    pub async fn checked(self) -> Result<Self, StorageError> {
        if self.status.is_success() { Ok(self) } else { Err(self.error().await) }
    }

    /// The error that an answer of another status than 2xx reports: [`StorageError::Refused`], even if its
    /// document is missing or broken, as the status says enough.
    pub async fn error(mut self) -> StorageError {
        let status = self.status;
        let document = self.take_body(Self::MAX_ERROR_BYTES).await.ok();
        let reported = document.and_then(|document| parse_error(&document));
        let (code, message) = reported.map_or((None, String::new()), |error| (Some(error.code), error.message));
        let told = Refusal::told_by(&self.headers);
        StorageError::Refused(Refusal { status, code, message, told })
    }

    pub(super) async fn take_body(&mut self, limit: usize) -> Result<Bytes, StorageError> {
        let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let body = std::mem::replace(&mut self.body, empty);
        collect_bounded(body, limit).await.map_err(StorageError::from_body)
    }
}
