//! A branch key as the custodian wrapped it.

use crate::crypto::{Digest, DigestAlgorithm};
use crate::names::KekVersion;

/// Most bytes of a wrapped branch key. Ours has 60; other custodians may add a header.
pub const WRAPPED_MAX: usize = 1024;

/// A branch key wrapped under one version of a KEK. It is ciphertext: it may be logged and stored anywhere.
///
/// **Invariant:** 1 to [`WRAPPED_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    version: KekVersion,
    bytes: Vec<u8>,
}

/// The wrapped key is empty or longer than [`WRAPPED_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a wrapped branch key has 1 to {WRAPPED_MAX} bytes")]
pub struct WrappedLength;

impl WrappedKey {
    /// Takes the custodian's bytes and the KEK version they are under.
    ///
    /// # Errors
    /// [`WrappedLength`].
    pub fn new(version: KekVersion, bytes: Vec<u8>) -> Result<Self, WrappedLength> {
        if bytes.is_empty() || bytes.len() > WRAPPED_MAX {
            return Err(WrappedLength);
        }
        Ok(Self { version, bytes })
    }

    /// The KEK version.
    pub fn version(&self) -> KekVersion {
        self.version
    }

    /// The custodian's bytes (not the text form `vault:v1:…`).
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Tells one copy from another in caches: SHA-256 over version and bytes.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        let mut digest = Digest::new(DigestAlgorithm::Sha256);
        digest.update(&self.version.number().to_be_bytes());
        digest.update(&self.bytes);
        digest.finish().try_into().expect("SHA-256 gives 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_bounded_and_copies_told_apart() {
        let wrapped = |version: u32, bytes| WrappedKey::new(KekVersion::new(version).expect("not zero"), bytes);
        assert_eq!(wrapped(1, Vec::new()), Err(WrappedLength));
        assert_eq!(wrapped(1, vec![0; WRAPPED_MAX + 1]), Err(WrappedLength));
        let one = wrapped(1, vec![0; WRAPPED_MAX]).expect("longest");
        let other = wrapped(2, vec![0; WRAPPED_MAX]).expect("longest");
        assert_ne!(one.fingerprint(), other.fingerprint());
    }
}
