//! What the custodian reads.

use claviger::custodian::backup::fuzz_backup;
use claviger::custodian::destruction::fuzz_destruction;
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

/// What parses as a stored destruction is written back byte for byte.
pub fn destruction(bytes: &[u8]) {
    fuzz_destruction(bytes);
}

/// What parses as a backup of KEKs has something to keep about it, which is written back byte for byte.
pub fn backup(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    fuzz_backup(text);
}

/// What parses as the text of a ciphertext is written back character for character.
pub fn ciphertext(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ciphertext) = Ciphertext::parse(text) {
        assert_eq!(ciphertext.to_text(), text);
    }
}
