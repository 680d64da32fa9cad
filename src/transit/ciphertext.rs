//! The text form of a wrapped key: `vault:v<N>:` and base64, as Transit has it on the wire.
//!
//! **Invariant:** one text for each key: decimal version without sign or leading zeros, standard base64 with padding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::custody::wrapped::{WRAPPED_MAX, WrappedKey};
use crate::names::KekVersion;

const PREFIX: &str = "vault:v";

/// A text is not the text form of a wrapped key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCiphertext {
    /// It does not begin with `vault:v<N>:`.
    #[error("it does not begin with `vault:v<N>:`, N from 1")]
    Prefix,
    /// The rest is not standard base64 with padding.
    #[error("it is not standard base64 with padding")]
    Base64,
    /// There are no bytes, or more than [`WRAPPED_MAX`].
    #[error("it does not have 1 to {WRAPPED_MAX} bytes")]
    Length,
}

/// Reads `vault:v<N>:<base64>`.
///
/// # Errors
/// [`InvalidCiphertext`].
pub fn from_text(text: &str) -> Result<WrappedKey, InvalidCiphertext> {
    let rest = text.strip_prefix(PREFIX).ok_or(InvalidCiphertext::Prefix)?;
    let (version, encoded) = rest.split_once(':').ok_or(InvalidCiphertext::Prefix)?;
    let version = version_number(version).ok_or(InvalidCiphertext::Prefix)?;
    if encoded.len() > WRAPPED_MAX.div_ceil(3) * 4 {
        return Err(InvalidCiphertext::Length);
    }
    let bytes = STANDARD.decode(encoded).map_err(|_| InvalidCiphertext::Base64)?;
    WrappedKey::new(version, bytes).map_err(|_| InvalidCiphertext::Length)
}

fn version_number(text: &str) -> Option<KekVersion> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.starts_with('0') {
        return None;
    }
    KekVersion::new(text.parse().ok()?)
}

/// Writes `vault:v<N>:<base64>`.
pub fn to_text(wrapped: &WrappedKey) -> String {
    format!("{PREFIX}{}:{}", wrapped.version().number(), to_base64(wrapped.bytes()))
}

pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_both_ways() {
        for (version, bytes) in [(1, vec![0]), (7, vec![0xff; 60]), (u32::MAX, vec![3; WRAPPED_MAX])] {
            let wrapped = WrappedKey::new(KekVersion::new(version).expect("not zero"), bytes).expect("fits");
            assert_eq!(from_text(&to_text(&wrapped)), Ok(wrapped));
        }
        let known = from_text("vault:v12:AAEC").expect("good");
        assert_eq!((known.version().number(), known.bytes()), (12, [0, 1, 2].as_slice()));
    }

    #[test]
    fn other_prefixes_and_versions_are_refused() {
        let bad = ["", "vault", "vault:v", "vault:v1", "vault:v:AAEC", "vault:1:AAEC", "bao:v1:AAEC", "VAULT:v1:AAEC"];
        let versions =
            ["vault:v0:AAEC", "vault:v01:AAEC", "vault:v+1:AAEC", "vault:v-1:AAEC", "vault:v4294967296:AAEC"];
        let spaces = [" vault:v1:AAEC", "vault:v1 :AAEC", "AAEC", "vault:v\u{661}:AAEC"];
        for text in bad.iter().chain(&versions).chain(&spaces) {
            assert_eq!(from_text(text), Err(InvalidCiphertext::Prefix), "{text:?}");
        }
    }

    #[test]
    fn only_the_one_base64_form_is_read() {
        for text in ["AAE", "AAEC\n", "AA_-", "AAE=C", "AAF=", "vault:v1:AAEC", "AAEC AAEC", "!!!!"] {
            assert_eq!(from_text(&format!("vault:v1:{text}")), Err(InvalidCiphertext::Base64), "{text:?}");
        }
        for text in [String::new(), "A".repeat(WRAPPED_MAX * 2), STANDARD.encode([0; WRAPPED_MAX + 1])] {
            assert_eq!(from_text(&format!("vault:v1:{text}")), Err(InvalidCiphertext::Length));
        }
    }
}
