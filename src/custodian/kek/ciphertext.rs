//! What a KEK encrypted, and its text form `vault:v<N>:` and base64, as Transit has it on the wire.
//!
//! **Invariant:** one text for each ciphertext: decimal version without sign or leading zeros, standard base64 with padding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::SEAL_OVERHEAD;
use crate::names::KekVersion;

use super::PLAINTEXT_MAX;

const PREFIX: &str = "vault:v";
/// Most bytes of a ciphertext.
pub const CIPHERTEXT_MAX: usize = PLAINTEXT_MAX + SEAL_OVERHEAD;
/// Most characters of its text: prefix, ten digits, a colon, base64.
pub const CIPHERTEXT_TEXT_MAX: usize = PREFIX.len() + 10 + 1 + BASE64_MAX;
const BASE64_MAX: usize = CIPHERTEXT_MAX.div_ceil(3) * 4;

/// `nonce ‖ ciphertext ‖ tag` and the version it is under. It may be logged and stored anywhere.
///
/// **Invariant:** [`SEAL_OVERHEAD`] to [`CIPHERTEXT_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ciphertext {
    version: KekVersion,
    bytes: Vec<u8>,
}

/// A text is not the text form of a ciphertext. Transit answers each with 400 and the text quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCiphertext {
    /// `invalid ciphertext: no prefix`: it does not begin with `vault:v`.
    #[error("invalid ciphertext: no prefix")]
    NoPrefix,
    /// `invalid ciphertext: wrong number of fields`: there is no colon after the version.
    #[error("invalid ciphertext: wrong number of fields")]
    Fields,
    /// `invalid ciphertext: version number could not be decoded`: what is before the colon is not a number from 1 to 2³² − 1.
    #[error("invalid ciphertext: version number could not be decoded")]
    Version,
    /// `invalid ciphertext: could not decode base64`: the rest is not standard base64 with padding.
    #[error("invalid ciphertext: could not decode base64")]
    Base64,
    /// `invalid ciphertext length`: it has fewer bytes than nonce and tag, or more than [`CIPHERTEXT_MAX`].
    #[error("invalid ciphertext length")]
    Length,
}

impl Ciphertext {
    /// Takes the bytes and the version they are under.
    ///
    /// # Errors
    /// [`InvalidCiphertext::Length`].
    pub fn new(version: KekVersion, bytes: Vec<u8>) -> Result<Self, InvalidCiphertext> {
        if (SEAL_OVERHEAD..=CIPHERTEXT_MAX).contains(&bytes.len()) {
            Ok(Self { version, bytes })
        } else {
            Err(InvalidCiphertext::Length)
        }
    }

    /// Reads `vault:v<N>:<base64>`.
    ///
    /// # Errors
    /// [`InvalidCiphertext`].
    pub fn parse(text: &str) -> Result<Self, InvalidCiphertext> {
        let rest = text.strip_prefix(PREFIX).ok_or(InvalidCiphertext::NoPrefix)?;
        let (version, encoded) = rest.split_once(':').ok_or(InvalidCiphertext::Fields)?;
        let version = version_number(version).ok_or(InvalidCiphertext::Version)?;
        if encoded.len() > BASE64_MAX {
            return Err(InvalidCiphertext::Length);
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidCiphertext::Base64)?;
        Self::new(version, bytes)
    }

    /// Writes `vault:v<N>:<base64>`.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}:{}", self.version.number(), STANDARD.encode(&self.bytes))
    }

    /// The version it is under.
    pub fn version(&self) -> KekVersion {
        self.version
    }

    /// `nonce ‖ ciphertext ‖ tag`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn version_number(text: &str) -> Option<KekVersion> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.starts_with('0') {
        return None;
    }
    KekVersion::new(text.parse().ok()?)
}
