//! The credential scope, the signing key derived for it, and the chain of chunk signatures.

use std::fmt;

use http::HeaderName;
use zeroize::Zeroizing;

use super::encoding::hex;
use super::{SERVICE, TERMINATOR, Timestamp};
use crate::crypto::{constant_time_eq, hmac_sha256, hmac_sha256_chain, sha256};
use crate::secret::{Secret, SecretBytes};

/// SHA-256 of nothing, in hex: a constant line of each chunk's string to sign.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// `YYYYMMDD/region/s3/aws4_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) date: String,
    pub(super) region: String,
}

impl Scope {
    pub(super) fn new(timestamp: &Timestamp, region: &str) -> Self {
        Self { date: timestamp.date().to_owned(), region: region.to_owned() }
    }

    /// `HMAC(HMAC(HMAC(HMAC("AWS4" ‖ secret, date), region), "s3"), "aws4_request")`.
    pub(super) fn signing_key(&self, secret: &SecretBytes) -> Secret<32> {
        let mut start = Zeroizing::new(Vec::with_capacity(4 + secret.expose().len()));
        start.extend_from_slice(b"AWS4");
        start.extend_from_slice(secret.expose());
        let further = [self.region.as_bytes(), SERVICE.as_bytes(), TERMINATOR.as_bytes()];
        hmac_sha256_chain(&start, self.date.as_bytes(), &further)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{SERVICE}/{TERMINATOR}", self.date, self.region)
    }
}

/// The chain of signatures in an aws-chunked body: each covers the one before it, the first that of the request.
///
/// Source: AWS, "Transferring Payload in Multiple Chunks" and "Including Trailing Headers".
pub struct ChunkSigner {
    key: Secret<32>,
    timestamp: Timestamp,
    scope: Scope,
    previous: [u8; 32],
}

impl ChunkSigner {
    pub(super) fn new(key: Secret<32>, timestamp: Timestamp, scope: Scope, seed: [u8; 32]) -> Self {
        Self { key, timestamp, scope, previous: seed }
    }

    /// The signature of the next chunk, whose data has the SHA-256 `data`.
    pub fn sign_chunk(&mut self, data: &[u8; 32]) -> [u8; 32] {
        let signature = self.signature("AWS4-HMAC-SHA256-PAYLOAD", &format!("{EMPTY_SHA256}\n{}", hex(data)));
        self.previous = signature;
        signature
    }

    /// The signature of the trailers, which come after the last chunk. They are signed in the order of their names,
    /// each as `name:value\n`.
    pub fn sign_trailers(&mut self, trailers: &[(HeaderName, String)]) -> [u8; 32] {
        let mut lines: Vec<String> = trailers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        lines.sort();
        let signature = self.signature("AWS4-HMAC-SHA256-TRAILER", &hex(&sha256(lines.concat().as_bytes())));
        self.previous = signature;
        signature
    }

    /// Whether `presented` is the signature of the next chunk.
    pub fn verify_chunk(&mut self, data: &[u8; 32], presented: &[u8; 32]) -> bool {
        constant_time_eq(&self.sign_chunk(data), presented)
    }

    /// Whether `presented` is the signature of the trailers.
    pub fn verify_trailers(&mut self, trailers: &[(HeaderName, String)], presented: &[u8; 32]) -> bool {
        constant_time_eq(&self.sign_trailers(trailers), presented)
    }

    fn signature(&self, algorithm: &str, hashes: &str) -> [u8; 32] {
        let (timestamp, scope, previous) = (self.timestamp.as_str(), &self.scope, hex(&self.previous));
        let string_to_sign = format!("{algorithm}\n{timestamp}\n{scope}\n{previous}\n{hashes}");
        hmac_sha256(self.key.expose(), string_to_sign.as_bytes())
    }
}

impl fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkSigner").field("scope", &self.scope).finish_non_exhaustive()
    }
}
