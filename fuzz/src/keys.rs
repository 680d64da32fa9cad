//! What the custodian reads.

use claviger::custodian::{keyring as keyrings, seal as seals};
use claviger::custody::context::BranchContext;

/// What parses as a branch key's context is written back byte for byte.
pub fn context(bytes: &[u8]) {
    if let Ok(context) = BranchContext::parse(bytes) {
        assert_eq!(context.to_bytes(), bytes);
    }
}

/// What parses as a keyring is written back byte for byte.
pub fn keyring(bytes: &[u8]) {
    keyrings::fuzz_keyring(bytes);
}

/// A sealed file that opens is made of the keyring that it gives and nothing else.
pub fn seal(bytes: &[u8]) {
    seals::fuzz_seal(bytes);
}
