//! The JSON of answers. Fields that are not named here are ignored, as servers add some with each version.
//!
//! **Invariant:** texts are borrowed from the answer's zeroized bytes; nothing secret is copied into a `String`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::secret::{InvalidSecret, Secret};

use super::error::TransitError;

/// Room for the base64 of a branch key: 44 characters give at most 33 bytes.
const KEY_ROOM: usize = 33;
/// Characters of a branch key in base64.
const KEY_TEXT: usize = 44;

#[derive(Deserialize)]
pub(super) struct Envelope<T> {
    pub(super) data: T,
}

#[derive(Deserialize)]
pub(super) struct DataKeyAnswer<'a> {
    pub(super) plaintext: &'a str,
    pub(super) ciphertext: &'a str,
}

#[derive(Deserialize)]
pub(super) struct PlaintextAnswer<'a> {
    pub(super) plaintext: &'a str,
}

#[derive(Deserialize)]
pub(super) struct CiphertextAnswer<'a> {
    pub(super) ciphertext: &'a str,
}

#[derive(Deserialize)]
pub(super) struct TokenAnswer<'a> {
    #[serde(borrow)]
    pub(super) auth: Auth<'a>,
}

#[derive(Deserialize)]
pub(super) struct Auth<'a> {
    pub(super) client_token: &'a str,
    /// Seconds; 0 for a token without end.
    pub(super) lease_duration: u64,
    pub(super) renewable: bool,
}

#[derive(Deserialize)]
pub(super) struct LookUpAnswer {
    /// Seconds that are left; 0 for a token without end.
    pub(super) ttl: u64,
    /// Root tokens do not have it.
    #[serde(default)]
    pub(super) renewable: bool,
}

#[derive(Deserialize)]
struct ErrorsAnswer {
    errors: Vec<String>,
}

/// Reads an answer of status 200.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, TransitError> {
    Ok(serde_json::from_slice(body)?)
}

/// What an answer of another status says, or nothing if it says nothing readable.
pub(super) fn error_texts(body: &[u8]) -> Vec<String> {
    serde_json::from_slice::<ErrorsAnswer>(body).map(|answer| answer.errors).unwrap_or_default()
}

/// Decodes a branch key without leaving a copy behind.
pub(super) fn branch_key(text: &str) -> Result<Secret<32>, TransitError> {
    if text.len() != KEY_TEXT {
        return Err(TransitError::KeyMaterial);
    }
    let mut decoded = Zeroizing::new([0; KEY_ROOM]);
    let length = STANDARD.decode_slice(text, decoded.as_mut_slice()).map_err(|_| TransitError::KeyMaterial)?;
    let bytes = decoded.get(..length).ok_or(TransitError::KeyMaterial)?;
    Secret::from_slice(bytes).map_err(|_: InvalidSecret| TransitError::KeyMaterial)
}

/// Whatever a custodian answers is read or refused; a key that is read has its 32 bytes.
#[doc(hidden)]
pub fn fuzz_answer(body: &[u8]) {
    if let Ok(Envelope { data }) = parse::<Envelope<DataKeyAnswer<'_>>>(body)
        && let Ok(key) = branch_key(data.plaintext)
    {
        assert_eq!(STANDARD.encode(key.expose()), data.plaintext);
        let _ = super::ciphertext::from_text(data.ciphertext);
    }
    if let Ok(Envelope { data }) = parse::<Envelope<PlaintextAnswer<'_>>>(body) {
        let _ = branch_key(data.plaintext);
    }
    if let Ok(Envelope { data }) = parse::<Envelope<CiphertextAnswer<'_>>>(body)
        && let Ok(wrapped) = super::ciphertext::from_text(data.ciphertext)
    {
        assert_eq!(super::ciphertext::to_text(&wrapped), data.ciphertext);
    }
    let _ = parse::<TokenAnswer<'_>>(body).map(|answer| answer.auth.lease_duration);
    let _ = parse::<Envelope<LookUpAnswer>>(body).map(|answer| answer.data.ttl);
    let _ = error_texts(body);
    super::branches::fuzz_answer(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_key_is_32_bytes_that_are_not_all_zero() {
        assert_eq!(branch_key(&STANDARD.encode([7; 32])).expect("a key").expose(), &[7; 32]);
        let wrong = [[7; 33].as_slice(), &[7; 31], &[7; 16], &[], &[0; 32]].map(|bytes| STANDARD.encode(bytes));
        let garbage =
            ["!".repeat(44), "A".repeat(43), format!("{}==", "B".repeat(42)), format!(" {}=", "B".repeat(42))];
        for text in wrong.iter().chain(&garbage) {
            assert!(matches!(branch_key(text), Err(TransitError::KeyMaterial)), "{text:?}");
        }
    }

    #[test]
    fn errors_of_the_parser_do_not_repeat_what_was_sent() {
        let secret = "c2VjcmV0";
        let bodies = [
            format!(r#"{{"data":{{"plaintext":"{secret}\u0041"}}}}"#),
            format!(r#"{{"data":{{"plaintext":["{secret}"]}}}}"#),
            format!(r#"{{"data":"{secret}"}}"#),
            format!(r#"{{"data":{{"plaintext":"{secret}"}}"#),
        ];
        for body in bodies {
            let parsed = parse::<Envelope<PlaintextAnswer<'_>>>(body.as_bytes());
            let error = parsed.err().expect("not an answer");
            assert!(!format!("{error:?} {error}").contains(secret), "{error:?}");
        }
    }

    #[test]
    fn texts_of_errors_are_read_if_there_are_any() {
        assert_eq!(error_texts(br#"{"errors":["a","b"],"data":null}"#), ["a", "b"]);
        for body in ["", "{}", "<html>", r#"{"errors":[]}"#, r#"{"errors":"a"}"#, &"[".repeat(10_000)] {
            assert!(error_texts(body.as_bytes()).is_empty(), "{body:.20}");
        }
    }
}
