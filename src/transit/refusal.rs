//! What a server means by an answer that is not 200.
//!
//! Transit has one status, 400, for a dozen causes that call for different acts, and tells them apart by English text
//! alone. So this is the one place where a decision hangs on texts; they are OpenBao's and Vault's own (`sdk/helper/keysutil`,
//! `builtin/logical/transit`, `builtin/credential/cert`), and our custodian answers with the same. Tests hold them against a
//! real server. A text that is not known decides nothing.

use http::StatusCode;

use crate::custody::CustodyError;

use super::error::TransitError;

/// A request to one address failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: CustodyError,
    /// Another address may do better.
    pub(super) elsewhere: bool,
}

impl Failed {
    pub(super) fn settled(error: CustodyError) -> Self {
        Self { error, elsewhere: false }
    }

    pub(super) fn elsewhere(error: CustodyError) -> Self {
        Self { error, elsewhere: true }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    UnknownKek,
    VersionTooOld,
    VersionUnknown,
    NotAuthentic,
    Disabled,
    Denied,
}

/// Parts of texts that come with 400 (and 403), the more specific before the more general.
const TEXTS: &[(&str, Meaning)] = &[
    ("encryption key not found", Meaning::UnknownKek),
    ("disallowed by policy (too old)", Meaning::VersionTooOld),
    ("invalid ciphertext: version is too new", Meaning::VersionUnknown),
    ("message authentication failed", Meaning::NotAuthentic),
    ("invalid ciphertext", Meaning::NotAuthentic),
    ("refusing to use soft-deleted key", Meaning::Disabled),
    ("encryption key is disabled", Meaning::Disabled),
    ("permission denied", Meaning::Denied),
    ("missing client token", Meaning::Denied),
    ("no client certificate", Meaning::Denied),
    ("invalid certificate", Meaning::Denied),
    ("failed to match all constraints for this login certificate", Meaning::Denied),
];

/// The meaning of `status` with the texts of its `errors`.
///
/// Statuses beyond RFC 9110 are those of `sys/health`: 429 standby (or too many requests), 472 disaster-recovery secondary,
/// 473 performance standby; 412 is a standby that has not yet seen what it is asked for.
pub(super) fn refusal(status: StatusCode, texts: &[String]) -> Failed {
    let unavailable = TransitError::Unavailable { status: status.as_u16() };
    match status.as_u16() {
        300..=399 => Failed::elsewhere(TransitError::Redirected { status: status.as_u16() }.unreachable()),
        400 | 403 => of_texts(status, texts),
        401 => Failed::settled(CustodyError::Denied),
        404 => Failed::settled(TransitError::NoRoute.malformed()),
        // Our custodian, to whom it has refused too much of late to write it down.
        429 if texts.iter().any(|text| text.contains("permission denied")) => Failed::settled(CustodyError::Denied),
        408 | 412 | 429 | 472 | 473 => Failed::elsewhere(unavailable.unreachable()),
        503 if texts.iter().any(|text| text.contains("sealed")) => Failed::elsewhere(CustodyError::Sealed),
        500..=599 => Failed::elsewhere(unavailable.unreachable()),
        _ => Failed::settled(TransitError::Unexpected { status: status.as_u16() }.malformed()),
    }
}

fn of_texts(status: StatusCode, texts: &[String]) -> Failed {
    let known = TEXTS.iter().find(|(part, _)| texts.iter().any(|text| text.contains(part)));
    match known.map(|(_, meaning)| *meaning) {
        Some(Meaning::UnknownKek) => Failed::settled(CustodyError::UnknownKek),
        Some(Meaning::VersionTooOld) => Failed::settled(CustodyError::VersionTooOld),
        // A standby may lag behind the server that rotated.
        Some(Meaning::VersionUnknown) => Failed::elsewhere(CustodyError::VersionUnknown),
        Some(Meaning::NotAuthentic) => Failed::settled(CustodyError::NotAuthentic),
        Some(Meaning::Disabled) => Failed::settled(CustodyError::Disabled),
        Some(Meaning::Denied) => Failed::settled(CustodyError::Denied),
        None if status == StatusCode::FORBIDDEN => Failed::settled(CustodyError::Denied),
        None => Failed::settled(TransitError::Unexpected { status: status.as_u16() }.malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, texts: &[&str]) -> (String, bool) {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        let failed = refusal(StatusCode::from_u16(status).expect("a status"), &texts);
        let name = format!("{:?}", failed.error);
        (name.split('(').next().unwrap_or_default().to_owned(), failed.elsewhere)
    }

    #[test]
    fn each_text_of_openbao_and_vault_has_its_meaning() {
        let known = [
            (400, "encryption key not found", "UnknownKek"),
            (400, "ciphertext or signature version is disallowed by policy (too old)", "VersionTooOld"),
            (400, "ciphertext version is disallowed by policy (too old)", "VersionTooOld"),
            (400, "cipher: message authentication failed", "NotAuthentic"),
            (400, "chacha20poly1305: message authentication failed", "NotAuthentic"),
            (400, "invalid ciphertext: no prefix", "NotAuthentic"),
            (400, "invalid ciphertext: wrong number of fields", "NotAuthentic"),
            (400, "invalid ciphertext: version number could not be decoded", "NotAuthentic"),
            (400, "invalid ciphertext: could not decode base64", "NotAuthentic"),
            (400, "invalid ciphertext length", "NotAuthentic"),
            (400, "refusing to use soft-deleted key", "Disabled"),
            (403, "encryption key is disabled", "Disabled"),
            (403, "permission denied", "Denied"),
            (403, "1 error occurred:\n\t* permission denied\n\n", "Denied"),
            (429, "permission denied too often", "Denied"),
            (403, "bad token", "Denied"),
            (403, "approval required", "Denied"),
            (400, "missing client token", "Denied"),
            (400, "no client certificate found", "Denied"),
            (400, "invalid certificate or no client certificate supplied", "Denied"),
            (400, "failed to match all constraints for this login certificate", "Denied"),
        ];
        for (status, text, expected) in known {
            assert_eq!(of(status, &[text]), (expected.to_owned(), false), "{text}");
        }
        assert_eq!(of(400, &["invalid ciphertext: version is too new"]), ("VersionUnknown".to_owned(), true));
    }

    #[test]
    fn statuses_without_a_known_text_decide_alone() {
        for status in [408, 412, 429, 472, 473, 500, 501, 502, 503, 504, 301, 307] {
            assert_eq!(of(status, &[]), ("Unreachable".to_owned(), true), "{status}");
        }
        assert_eq!(of(503, &["Vault is sealed"]), ("Sealed".to_owned(), true));
        assert_eq!(of(500, &["cipher: message authentication failed"]), ("Unreachable".to_owned(), true));
        for status in [400, 404, 405, 413, 415, 418, 201, 204] {
            assert_eq!(of(status, &["something else"]), ("Malformed".to_owned(), false), "{status}");
        }
        for status in [401, 403] {
            assert_eq!(of(status, &[]), ("Denied".to_owned(), false), "{status}");
        }
    }

    #[test]
    fn of_several_texts_the_most_specific_counts() {
        let texts = ["invalid ciphertext length", "ciphertext or signature version is disallowed by policy (too old)"];
        assert_eq!(of(400, &texts).0, "VersionTooOld");
    }

    #[test]
    fn the_servers_words_are_not_repeated() {
        let failed = refusal(StatusCode::BAD_REQUEST, &["s.token-in-a-text".to_owned()]);
        assert!(!format!("{failed:?} {}", failed.error).contains("s.token"));
    }
}
