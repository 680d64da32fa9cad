//! The credential scope, the signing key derived for it, and the chain of chunk signatures.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderName;
use zeroize::Zeroizing;

use super::encoding::hex;
use super::{SERVICE, TERMINATOR, Timestamp};
use crate::crypto::{HmacKey, constant_time_eq, hmac_sha256_chain, sha256};
use crate::secret::SecretBytes;

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
}

/// A secret access key, and the signing key that was derived from it last: nearly all requests are of one day and region.
///
/// What is derived is kept no longer than what it is derived from, and opens less. Its `Debug` form shows neither.
pub struct SecretKey {
    secret: SecretBytes,
    last: Mutex<Option<(Scope, Arc<HmacKey>)>>,
}

impl SecretKey {
    /// The secret access key itself.
    pub fn expose(&self) -> &[u8] {
        self.secret.expose()
    }

    pub(super) fn signing_key(&self, scope: &Scope) -> Arc<HmacKey> {
        if let Some((of, key)) = &*self.last()
            && of == scope
        {
            return Arc::clone(key);
        }
        // Nobody waits for it: a form may name any day.
        let key = Arc::new(self.derive(scope));
        *self.last() = Some((scope.clone(), Arc::clone(&key)));
        key
    }

    /// What is in it is whole at each unlock.
    fn last(&self) -> MutexGuard<'_, Option<(Scope, Arc<HmacKey>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `HMAC(HMAC(HMAC(HMAC("AWS4" ‖ secret, date), region), "s3"), "aws4_request")`.
    fn derive(&self, scope: &Scope) -> HmacKey {
        let mut start = Zeroizing::new(Vec::with_capacity(4 + self.expose().len()));
        start.extend_from_slice(b"AWS4");
        start.extend_from_slice(self.expose());
        let further = [scope.region.as_bytes(), SERVICE.as_bytes(), TERMINATOR.as_bytes()];
        HmacKey::new(&hmac_sha256_chain(&start, scope.date.as_bytes(), &further))
    }
}

impl From<SecretBytes> for SecretKey {
    fn from(secret: SecretBytes) -> Self {
        Self { secret, last: Mutex::default() }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
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
    key: Arc<HmacKey>,
    timestamp: Timestamp,
    scope: Scope,
    previous: [u8; 32],
}

impl ChunkSigner {
    pub(super) fn new(key: Arc<HmacKey>, timestamp: Timestamp, scope: Scope, seed: [u8; 32]) -> Self {
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
        self.key.sign(string_to_sign.as_bytes())
    }
}

impl fmt::Debug for ChunkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkSigner").field("scope", &self.scope).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(date: &str, region: &str) -> Scope {
        Scope { date: date.to_owned(), region: region.to_owned() }
    }

    #[test]
    fn each_scope_has_the_key_that_is_derived_for_it_whatever_was_asked_for_before() {
        let secret = || SecretKey::from(SecretBytes::new(b"secret".to_vec()).expect("not empty"));
        let kept = secret();
        let scopes = [
            scope("20261130", "us-east-1"),
            scope("20261130", "us-east-1"),
            scope("20261201", "us-east-1"),
            scope("20261201", "ap-southeast-1"),
            scope("20261130", "us-east-1"),
        ];
        let signed = |secret: &SecretKey, scope| secret.signing_key(scope).sign(b"message");
        for scope in &scopes {
            assert_eq!(signed(&kept, scope), signed(&secret(), scope), "{scope}");
        }
        let different: std::collections::BTreeSet<_> = scopes.iter().map(|scope| signed(&kept, scope)).collect();
        assert_eq!(different.len(), 3);
        assert!(Arc::ptr_eq(&kept.signing_key(&scopes[0]), &kept.signing_key(&scopes[1])), "not derived again");
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = SecretKey::from(SecretBytes::new(b"hidden".to_vec()).expect("not empty"));
        let _ = secret.signing_key(&scope("20261130", "us-east-1"));
        assert_eq!(format!("{secret:?}"), "SecretKey");
    }
}
