//! The seal: what the root key, which encrypts the custodian's store, is itself kept under.
//!
//! Each of one or two seals protects a wrapping key of its own, and any of them opens the root key:
//!
//! ```text
//! wrapped root = nonce ‖ AES-256-GCM[wrapping key](root key) ‖ tag, AAD = the seal without this field
//! wrapping key = random, split by Shamir into shares for people        (share.rs, unsealing.rs)
//!              | PBKDF2-HMAC-SHA256(passphrase, salt, iterations)      (demonstration)
//!              | random, encrypted by a key that never leaves a token  (pkcs11.rs)
//!              | random, wrapped by another OpenBao's Transit          (remote.rs)
//! ```
//!
//! The list of seals stands in the store in the clear ([`config`]), authenticated under the root key that it opens.
//!
//! **Invariant:** whoever lacks all wrapping keys learns nothing about the root key from the list of seals.
//! **Invariant:** neither a token nor another OpenBao ever sees the root key, only a wrapping key.

pub mod config;
mod error;
pub mod make;
pub mod pkcs11;
pub mod remote;
pub mod share;
pub mod unsealing;

use crate::crypto::{RandomFailed, random_secret};
use crate::secret::Secret;

pub use config::ITERATIONS_DEFAULT;
pub use error::UnsealError;

/// The key that everything in the store is encrypted under.
///
/// **Invariant:** made at random for a new store, or opened by a seal whose list it then authenticated.
pub struct RootKey(Secret<32>);

impl RootKey {
    /// For a new store.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn random() -> Result<Self, RandomFailed> {
        random_secret().map(Self)
    }

    /// Always the same, for tests in several processes.
    #[cfg(test)]
    pub(super) fn of(bytes: &[u8; 32]) -> Self {
        Self(Secret::from_slice(bytes).expect("not zeros"))
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}
