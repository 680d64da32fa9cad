//! AWS Signature Version 4 for S3: verify what clients sign, sign what goes to storage servers.
//!
//! Source: AWS, "Authenticating Requests (AWS Signature Version 4)" in the S3 API reference; what the pages leave open
//! is settled as AWS answers and as botocore, the AWS SDKs and minio-go sign, and said where it is done.
//!
//! The way through: [`Presented::parse`] reads what a request claims, the caller looks up the secret of
//! [`Presented::access_key`], and [`Presented::verify`] turns both into a [`VerifiedSignature`].
//!
//! A browser form has its signature in its fields, over its policy: [`PresentedPolicy`].
//!
//! **Invariant:** a [`VerifiedSignature`] is made only by [`Presented::verify`] and [`PresentedPolicy::verify`], after the
//! signature was compared.
//!
//! **Invariant:** paths are never normalised: `//`, `.` and `..` are part of a key.

#![warn(clippy::indexing_slicing, clippy::as_conversions)]

mod canonical;
pub mod encoding;
mod error;
mod key;
mod policy;
mod presented;
mod sign;
mod timestamp;
mod verify;

#[cfg(test)]
mod tests;

use http::HeaderMap;
use http::request::Parts;

pub(crate) use encoding::hex;
pub use encoding::{uri_encode_path, uri_encode_query};
pub use error::{AuthError, Field, Malformed};
pub use key::{ChunkSigner, SecretKey};
pub use policy::PresentedPolicy;
pub use presented::Presented;
pub use sign::{Credentials, PayloadHash, SignError, SigningTarget, presign, sign};
pub use timestamp::Timestamp;
pub use verify::{Payload, VerifiedSignature, VerifySettings};

/// The service in every scope here.
const SERVICE: &str = "s3";
/// What ends every scope.
const TERMINATOR: &str = "aws4_request";
/// The one algorithm of signatures here.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The payload hash of a body that the signature does not cover.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// The payload hash of an aws-chunked body without chunk signatures.
const STREAMING_UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
/// The payload hash of an aws-chunked body with chunk signatures.
const STREAMING_SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
/// The same with a signed trailer.
const STREAMING_SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
/// The longest validity of a presigned request, in seconds: 7 days.
pub const MAX_EXPIRES_S: u32 = 604_800;

/// The parts of a request that a signature speaks of, as they came on the wire.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The method, such as `GET`.
    pub method: &'a str,
    /// The path, percent-encoded as it came and never normalised.
    pub raw_path: &'a str,
    /// What follows the `?`, percent-encoded as it came.
    pub raw_query: Option<&'a str>,
    /// All headers. HTTP/2 carries the host as `:authority`: the caller puts it in as `host`.
    pub headers: &'a HeaderMap,
}

impl<'a> RequestView<'a> {
    /// Those of a request as it came.
    pub fn of(parts: &'a Parts) -> Self {
        let (method, uri) = (parts.method.as_str(), &parts.uri);
        Self { method, raw_path: uri.path(), raw_query: uri.query(), headers: &parts.headers }
    }
}
