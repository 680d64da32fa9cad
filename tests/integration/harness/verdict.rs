//! The one promise against a tampering storage server: never a wrong byte.

use super::Answer;

/// What came of a read from a server that tampers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What was written, whole.
    Right,
    /// An error, before any byte.
    Refused,
    /// A beginning of what was written, then the connection was cut.
    Cut,
}

/// Judges a read of which `expected` would have been the right result.
#[track_caller]
pub(crate) fn judge(what: &str, answer: &Answer, expected: &[u8]) -> Verdict {
    match answer.status {
        200 | 206 if !answer.cut => {
            assert!(*answer.body == *expected, "{what}: a whole answer of {} wrong bytes", answer.body.len());
            Verdict::Right
        }
        200 | 206 => {
            assert!(expected.starts_with(&answer.body), "{what}: wrong bytes came before the cut");
            Verdict::Cut
        }
        // The connection was cut before the head went out.
        0 => Verdict::Cut,
        status => {
            assert!(status >= 400 && !answer.cut, "{what}: {answer:?}");
            let shown = expected.get(..16).is_some_and(|piece| super::contains(&answer.body, piece));
            assert!(!shown, "{what}: the error shows plaintext");
            Verdict::Refused
        }
    }
}
