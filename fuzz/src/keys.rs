//! What the custodian reads.

use claviger::custodian::kek::{Ciphertext, fuzz_kek};
use claviger::custody::context::BranchContext;

/// What parses as a branch key's context is written back byte for byte.
pub fn context(bytes: &[u8]) {
    if let Ok(context) = BranchContext::parse(bytes) {
        assert_eq!(context.to_bytes(), bytes);
    }
}

/// What parses as a KEK is written back byte for byte.
pub fn kek(bytes: &[u8]) {
    fuzz_kek(bytes);
}

/// What parses as the text of a ciphertext is written back character for character.
pub fn ciphertext(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ciphertext) = Ciphertext::parse(text) {
        assert_eq!(ciphertext.to_text(), text);
    }
}
