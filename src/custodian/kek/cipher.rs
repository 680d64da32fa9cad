//! The algorithms of KEKs and the key of one version.

use crate::crypto::{self, AeadKey, NotApproved};
use crate::secret::{InvalidSecret, Secret};

use super::KeyringError;

/// The algorithm of a KEK, by Transit's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// AES-256-GCM.
    #[default]
    Aes256Gcm96,
    /// AES-128-GCM.
    Aes128Gcm96,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl KeyType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aes256Gcm96, Self::Aes128Gcm96, Self::ChaCha20Poly1305];

    /// As Transit writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256Gcm96 => "aes256-gcm96",
            Self::Aes128Gcm96 => "aes128-gcm96",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    /// `None` for what is none of [`KeyType::ALL`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// The length of a data key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DataKeyLen {
    /// 16 bytes.
    Bits128,
    /// 32 bytes.
    #[default]
    Bits256,
    /// 64 bytes.
    Bits512,
}

impl DataKeyLen {
    /// `None` for what is not 128, 256 or 512.
    pub fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            128 => Some(Self::Bits128),
            256 => Some(Self::Bits256),
            512 => Some(Self::Bits512),
            _ => None,
        }
    }

    /// Its bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bits128 => 16,
            Self::Bits256 => 32,
            Self::Bits512 => 64,
        }
    }
}

/// A key, of the length and for the algorithm of its type.
pub(super) enum Material {
    Aes256Gcm96(Secret<32>),
    Aes128Gcm96(Secret<16>),
    ChaCha20Poly1305(Secret<32>),
}

impl Material {
    /// Refuses a type whose keys could not be used.
    pub(super) fn random(key_type: KeyType) -> Result<Self, KeyringError> {
        let key = match key_type {
            KeyType::Aes256Gcm96 => Self::Aes256Gcm96(crypto::random_secret()?),
            KeyType::Aes128Gcm96 => Self::Aes128Gcm96(crypto::random_secret()?),
            KeyType::ChaCha20Poly1305 => Self::ChaCha20Poly1305(crypto::random_secret()?),
        };
        key.aead()?;
        Ok(key)
    }

    pub(super) fn from_slice(key_type: KeyType, bytes: &[u8]) -> Result<Self, InvalidSecret> {
        Ok(match key_type {
            KeyType::Aes256Gcm96 => Self::Aes256Gcm96(Secret::from_slice(bytes)?),
            KeyType::Aes128Gcm96 => Self::Aes128Gcm96(Secret::from_slice(bytes)?),
            KeyType::ChaCha20Poly1305 => Self::ChaCha20Poly1305(Secret::from_slice(bytes)?),
        })
    }

    pub(super) fn expose(&self) -> &[u8] {
        match self {
            Self::Aes256Gcm96(key) | Self::ChaCha20Poly1305(key) => key.expose(),
            Self::Aes128Gcm96(key) => key.expose(),
        }
    }

    /// `HKDF-SHA256[no salt, context](key)`, of the same type.
    pub(super) fn derive(&self, context: &[u8]) -> Self {
        match self {
            Self::Aes256Gcm96(key) => Self::Aes256Gcm96(crypto::hkdf_sha256(b"", key.expose(), context)),
            Self::Aes128Gcm96(key) => Self::Aes128Gcm96(crypto::hkdf_sha256(b"", key.expose(), context)),
            Self::ChaCha20Poly1305(key) => Self::ChaCha20Poly1305(crypto::hkdf_sha256(b"", key.expose(), context)),
        }
    }

    pub(super) fn aead(&self) -> Result<AeadKey, NotApproved> {
        match self {
            Self::Aes256Gcm96(key) => Ok(AeadKey::new(key)),
            Self::Aes128Gcm96(key) => Ok(AeadKey::aes_128_gcm(key)),
            Self::ChaCha20Poly1305(key) => AeadKey::chacha20_poly1305(key),
        }
    }
}
