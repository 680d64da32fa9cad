//! What a KEK encrypted, and its text form `vault:v<N>:` and base64, as Transit has it on the wire.
//!
//! **Invariant:** one text for each ciphertext: decimal version without sign or leading zeros, standard base64 with padding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::{NONCE_LEN, SEAL_OVERHEAD};
use crate::custody::wrapped::WrappedKey;
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
/// **Invariant:** [`NONCE_LEN`] to [`CIPHERTEXT_MAX`] bytes. What is too short for a tag is not authentic, like any other bad one.
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
    /// `invalid ciphertext length`: it has fewer bytes than a nonce, or more than [`CIPHERTEXT_MAX`].
    #[error("invalid ciphertext length")]
    Length,
}

impl Ciphertext {
    /// Takes the bytes and the version they are under.
    ///
    /// # Errors
    /// [`InvalidCiphertext::Length`].
    pub fn new(version: KekVersion, bytes: Vec<u8>) -> Result<Self, InvalidCiphertext> {
        if (NONCE_LEN..=CIPHERTEXT_MAX).contains(&bytes.len()) {
            Ok(Self { version, bytes })
        } else {
            Err(InvalidCiphertext::Length)
        }
    }

    /// A wrapped branch key as a KEK takes it. One too short for a nonce does not open, as it does not when padded.
    pub fn of(wrapped: &WrappedKey) -> Self {
        let mut bytes = wrapped.bytes().to_vec();
        bytes.resize(bytes.len().max(NONCE_LEN), 0);
        Self { version: wrapped.version(), bytes }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> InvalidCiphertext {
        Ciphertext::parse(text).expect_err(text)
    }

    #[test]
    fn each_fault_has_its_cause() {
        let good = STANDARD.encode([1; SEAL_OVERHEAD]);
        for prefix in ["", "vault", "vault:", "vault:1:", "bao:v1:", "VAULT:v1:", " vault:v1:", "vault:V1:"] {
            assert_eq!(parsed(&format!("{prefix}{good}")), InvalidCiphertext::NoPrefix, "{prefix:?}");
        }
        for text in ["vault:v", "vault:v1", "vault:v1;"] {
            assert_eq!(parsed(text), InvalidCiphertext::Fields, "{text:?}");
        }
        for version in ["", "0", "01", "+1", "-1", " 1", "1 ", "0x1", "1.0", "4294967296", "\u{661}"] {
            assert_eq!(parsed(&format!("vault:v{version}:{good}")), InvalidCiphertext::Version, "{version:?}");
        }
        let spoiled = [&good[1..], &format!("{good}\n"), &good.replace('=', ""), &good.replacen('A', "_", 1), "!!!!"];
        for encoded in spoiled {
            assert_eq!(parsed(&format!("vault:v1:{encoded}")), InvalidCiphertext::Base64, "{encoded:?}");
        }
        assert_eq!(parsed(&format!("vault:v1:1:{good}")), InvalidCiphertext::Base64);
        let lengths =
            [String::new(), STANDARD.encode([0; NONCE_LEN - 1]), STANDARD.encode(vec![0; CIPHERTEXT_MAX + 1])];
        for encoded in lengths.into_iter().chain(["A".repeat(10 * CIPHERTEXT_MAX)]) {
            assert_eq!(parsed(&format!("vault:v1:{encoded}")), InvalidCiphertext::Length);
        }
    }

    #[test]
    fn the_longest_text_has_its_length() {
        let version = KekVersion::new(u32::MAX).expect("not zero");
        let longest = Ciphertext::new(version, vec![7; CIPHERTEXT_MAX]).expect("fits");
        assert_eq!(longest.to_text().len(), CIPHERTEXT_TEXT_MAX);
        assert_eq!(Ciphertext::parse(&longest.to_text()), Ok(longest));
    }

    proptest! {
        #[test]
        fn texts_go_both_ways(version in 1u32.., bytes in proptest::collection::vec(any::<u8>(), NONCE_LEN..300)) {
            let ciphertext = Ciphertext::new(KekVersion::new(version).expect("not zero"), bytes).expect("fits");
            prop_assert_eq!(Ciphertext::parse(&ciphertext.to_text()), Ok(ciphertext));
        }

        #[test]
        fn what_parses_is_written_back(text in "(vault:v)?[0-9+ -]{0,11}:?[A-Za-z0-9+/_\n-]{0,60}={0,3}") {
            if let Ok(ciphertext) = Ciphertext::parse(&text) {
                prop_assert_eq!(ciphertext.to_text(), text);
            }
        }
    }
}
