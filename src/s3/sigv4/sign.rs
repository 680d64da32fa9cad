//! Signs requests to storage servers.
//!
//! **Invariant:** what is signed is made from the path and query exactly as they go on the wire.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;

use super::canonical::{Canonical, join_names, string_to_sign};
use super::encoding::{MalformedUri, hex, uri_encode_query};
use super::key::{Scope, SecretKey};
use super::{ALGORITHM, MAX_EXPIRES_S, STREAMING_UNSIGNED_TRAILER, Timestamp, UNSIGNED_PAYLOAD};
use crate::crypto::sha256;
use crate::secret::SecretBytes;

/// Headers that are not signed: connections, proxies and HTTP libraries add or change them after signing.
const UNSIGNED_HEADERS: [&str; 17] = [
    "accept-encoding",
    "authorization",
    "baggage",
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amzn-trace-id",
];

/// What a storage server knows us by. Its `Debug` form shows no secret.
#[derive(Debug)]
pub struct Credentials {
    /// The access key id; not secret.
    pub access_key: String,
    /// The secret access key.
    pub secret: SecretKey,
    /// The session token of temporary credentials.
    pub session_token: Option<SecretBytes>,
}

/// What a request's signature says about its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadHash {
    /// The SHA-256 of the whole body.
    Sha256([u8; 32]),
    /// Nothing: the body is known only while it streams. Over TLS, or with a body that authenticates itself.
    Unsigned,
    /// Nothing, and the body is aws-chunked with a checksum in its trailer.
    StreamingUnsignedTrailer,
}

impl PayloadHash {
    /// The hash of `body`.
    pub fn of(body: &[u8]) -> Self {
        Self::Sha256(sha256(body))
    }

    fn wire(self) -> String {
        match self {
            Self::Sha256(hash) => hex(&hash),
            Self::Unsigned => UNSIGNED_PAYLOAD.to_owned(),
            Self::StreamingUnsignedTrailer => STREAMING_UNSIGNED_TRAILER.to_owned(),
        }
    }
}

/// What is being signed, beside its headers: exactly what goes on the wire.
#[derive(Debug, Clone, Copy)]
pub struct SigningTarget<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, as [`super::uri_encode_path`] makes it.
    pub raw_path: &'a str,
    /// The query, as [`super::uri_encode_query`] makes it.
    pub raw_query: Option<&'a str>,
}

/// A request cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// No `host` header: its caller knows it, and it has to be signed.
    #[error("the request has no host header")]
    HostMissing,
    /// The access key, region or session token has bytes that headers cannot carry.
    #[error("the credentials do not fit into a header")]
    Credentials(#[from] http::header::InvalidHeaderValue),
    /// The path or query is not percent-encoded.
    #[error("the path or query is malformed")]
    Uri(#[from] MalformedUri),
    /// A presigned request is valid for 1 s to 7 days.
    #[error("presigned requests are valid for 1 to {MAX_EXPIRES_S} seconds, not {0}")]
    Expires(u32),
}

/// Signs a request in its headers: adds `x-amz-date`, `x-amz-content-sha256`, `x-amz-security-token` and
/// `authorization`, in place of those that are there. All other headers are signed except those that travel
/// only one hop; `host` must be among them.
///
/// # Errors
/// [`SignError`].
pub fn sign(
    credentials: &Credentials,
    region: &str,
    now: OffsetDateTime,
    target: &SigningTarget<'_>,
    headers: &mut HeaderMap,
    payload: PayloadHash,
) -> Result<(), SignError> {
    let timestamp = Timestamp::new(now);
    let payload_hash = payload.wire();
    headers.remove("x-amz-security-token");
    if let Some(token) = &credentials.session_token {
        let mut token = HeaderValue::from_bytes(token.expose())?;
        token.set_sensitive(true);
        headers.insert("x-amz-security-token", token);
    }
    headers.insert("x-amz-date", HeaderValue::from_str(timestamp.as_str())?);
    headers.insert("x-amz-content-sha256", HeaderValue::from_str(&payload_hash)?);

    let signed_headers = headers_to_sign(headers)?;
    let scope = Scope::new(&timestamp, region);
    let canonical = canonical(target, headers, &signed_headers, &payload_hash);
    let signature = signature(credentials, &timestamp, &scope, &canonical.request()?);
    let value = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.access_key,
        join_names(&signed_headers),
    );
    let mut value = HeaderValue::from_str(&value)?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(())
}

/// Signs a request in its query, and returns the whole query. The body is not covered. `headers` are those that the
/// request will be sent with; `host` must be among them.
///
/// # Errors
/// [`SignError`].
pub fn presign(
    credentials: &Credentials,
    region: &str,
    now: OffsetDateTime,
    expires_s: u32,
    target: &SigningTarget<'_>,
    headers: &HeaderMap,
) -> Result<String, SignError> {
    if !(1..=MAX_EXPIRES_S).contains(&expires_s) {
        return Err(SignError::Expires(expires_s));
    }
    let timestamp = Timestamp::new(now);
    let scope = Scope::new(&timestamp, region);
    let signed_headers = headers_to_sign(headers)?;
    let (credential, expires) = (format!("{}/{scope}", credentials.access_key), expires_s.to_string());
    let names = join_names(&signed_headers);
    let mut parameters: Vec<(&str, &[u8])> = vec![
        ("X-Amz-Algorithm", ALGORITHM.as_bytes()),
        ("X-Amz-Credential", credential.as_bytes()),
        ("X-Amz-Date", timestamp.as_str().as_bytes()),
        ("X-Amz-Expires", expires.as_bytes()),
        ("X-Amz-SignedHeaders", names.as_bytes()),
    ];
    if let Some(token) = &credentials.session_token {
        parameters.push(("X-Amz-Security-Token", token.expose()));
    }
    let mut query =
        target.raw_query.filter(|query| !query.is_empty()).map_or_else(String::new, |query| format!("{query}&"));
    query.push_str(&uri_encode_query(parameters));

    let whole = SigningTarget { raw_query: Some(&query), ..*target };
    let canonical = canonical(&whole, headers, &signed_headers, UNSIGNED_PAYLOAD);
    let signature = signature(credentials, &timestamp, &scope, &canonical.request()?);
    Ok(format!("{query}&X-Amz-Signature={signature}"))
}

fn canonical<'a>(
    target: &SigningTarget<'a>,
    headers: &'a HeaderMap,
    signed_headers: &'a [HeaderName],
    payload_hash: &'a str,
) -> Canonical<'a> {
    let SigningTarget { method, raw_path, raw_query } = *target;
    Canonical { method, raw_path, raw_query, headers, signed_headers, payload_hash }
}

fn headers_to_sign(headers: &HeaderMap) -> Result<Vec<HeaderName>, SignError> {
    if !headers.contains_key("host") {
        return Err(SignError::HostMissing);
    }
    let signed = headers.keys().filter(|name| !UNSIGNED_HEADERS.contains(&name.as_str()));
    let mut names: Vec<HeaderName> = signed.cloned().collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(names)
}

fn signature(credentials: &Credentials, timestamp: &Timestamp, scope: &Scope, canonical_request: &[u8]) -> String {
    let string_to_sign = string_to_sign(timestamp, scope, canonical_request);
    hex(&credentials.secret.signing_key(scope).sign(string_to_sign.as_bytes()))
}
