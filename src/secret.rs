//! Secrets in memory: zeroized on drop, never cloned, printed or serialized by accident.
//!
//! **Invariant:** a [`Secret`] is never all zeros. A key that "was never set" therefore cannot exist
//! as a value: every constructor takes the bytes from somewhere and refuses the zero pattern.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

/// The bytes offered as a secret were all zeros or of the wrong length.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidSecret {
    /// All bytes zero: almost surely a key that was never set.
    #[error("the key is all zeros")]
    Zero,
    /// Not the number of bytes that the key has.
    #[error("the key has {found} bytes, expected {expected}")]
    Length {
        /// Bytes that a key of this kind has.
        expected: usize,
        /// Bytes that were offered.
        found: usize,
    },
}

/// A key of `N` bytes on the heap, zeroized on drop.
///
/// It has no `Clone`, no `Debug` and no `Default`; the bytes are only reached through
/// [`Secret::expose`], which is easy to search for.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Builds a secret in place: `fill` writes the bytes, which are refused if all zero.
    ///
    /// # Errors
    /// Whatever `fill` returns, or [`InvalidSecret::Zero`] converted to it.
    pub fn try_fill<E: From<InvalidSecret>>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0)?;
        let folded = secret.0.iter().fold(0u8, |all, byte| all | byte);
        if folded == 0 {
            return Err(InvalidSecret::Zero.into());
        }
        Ok(secret)
    }

    /// Copies `bytes`, which the caller should zeroize.
    ///
    /// # Errors
    /// [`InvalidSecret`] when they are not `N` bytes or all zero.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidSecret> {
        Self::try_fill(|secret| {
            if bytes.len() != N {
                return Err(InvalidSecret::Length { expected: N, found: bytes.len() });
            }
            secret.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// The bytes. Do not copy them out of a zeroizing container.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A secret of variable length, such as an S3 secret access key or a passphrase.
///
/// **Invariant:** not empty. Its `Debug` form is a constant, so that structs that hold one can be logged.
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over `bytes`; they are zeroized when the secret is dropped.
    ///
    /// # Errors
    /// [`InvalidSecret`] when they are empty or all zero.
    pub fn new(bytes: Vec<u8>) -> Result<Self, InvalidSecret> {
        let bytes = Zeroizing::new(bytes);
        if bytes.is_empty() {
            return Err(InvalidSecret::Length { expected: 1, found: 0 });
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(InvalidSecret::Zero);
        }
        Ok(Self(bytes))
    }

    /// As [`SecretBytes::new`], without the white space at both ends (files end in a line feed).
    ///
    /// # Errors
    /// [`InvalidSecret`] when nothing is left, or it is all zero.
    pub fn new_trimmed(bytes: Vec<u8>) -> Result<Self, InvalidSecret> {
        let bytes = Zeroizing::new(bytes);
        Self::new(bytes.trim_ascii().to_vec())
    }

    /// The bytes. Do not copy them out of a zeroizing container.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_wrong_length_are_refused() {
        assert_eq!(Secret::<32>::from_slice(&[0; 32]).err(), Some(InvalidSecret::Zero));
        assert_eq!(Secret::<32>::from_slice(&[1; 31]).err(), Some(InvalidSecret::Length { expected: 32, found: 31 }));
        assert!(SecretBytes::new(Vec::new()).is_err());
        assert!(SecretBytes::new_trimmed(b" \n".to_vec()).is_err());
        assert_eq!(SecretBytes::new_trimmed(b" key\n".to_vec()).map(|s| s.expose().to_vec()), Ok(b"key".to_vec()));
    }

    #[test]
    fn debug_shows_nothing() {
        let secret = SecretBytes::new(b"hunter2".to_vec()).expect("not empty");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
