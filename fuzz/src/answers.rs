//! What servers answer, and what an operator writes.

use claviger::config::fuzz_config;
use claviger::transit::fuzz_answer;
use claviger::transit::watch::fuzz_line;

/// Whatever a custodian answers is read or refused; a key that is read has its 32 bytes.
pub fn transit_answer(bytes: &[u8]) {
    fuzz_answer(bytes);
}

/// A line of the watch that is not understood is taken for a change that may concern anything.
pub fn watch_line(bytes: &[u8]) {
    fuzz_line(bytes);
}

/// A configuration is taken, or refused for a reason that is told.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        fuzz_config(text);
    }
}
