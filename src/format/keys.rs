//! The data-encryption key of an object and what is derived from it.

use crate::crypto::{AeadKey, RandomFailed, hkdf_sha256, random_secret};
use crate::secret::{InvalidSecret, Secret};

/// Bytes of a key commitment.
pub const COMMITMENT_LEN: usize = 32;

/// `HKDF-SHA256(DEK, "claviger/1 commitment")`: binds a stored object to exactly one DEK, which AES-GCM alone does not.
pub type Commitment = [u8; COMMITMENT_LEN];

/// A data-encryption key (DEK): 32 random bytes, one per object.
pub struct Dek(Secret<32>);

impl Dek {
    /// A fresh one.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn random() -> Result<Self, RandomFailed> {
        random_secret().map(Self)
    }

    pub(super) fn from_slice(bytes: &[u8]) -> Result<Self, InvalidSecret> {
        Secret::from_slice(bytes).map(Self)
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    fn derive(&self, label: &str) -> Secret<32> {
        hkdf_sha256(b"", self.0.expose(), label.as_bytes())
    }

    /// The key of the segments.
    pub(super) fn content_key(&self) -> AeadKey {
        AeadKey::new(&self.derive("claviger/1 content"))
    }

    /// The key of part list and tail.
    pub(super) fn footer_key(&self) -> AeadKey {
        AeadKey::new(&self.derive("claviger/1 footer"))
    }

    /// The key of what the state bucket holds of an upload under way.
    pub(super) fn upload_key(&self) -> AeadKey {
        AeadKey::new(&self.derive("claviger/1 upload"))
    }

    /// The commitment that stands in the envelope.
    pub fn commitment(&self) -> Commitment {
        *self.derive("claviger/1 commitment").expose()
    }
}
