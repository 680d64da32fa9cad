//! The stored format, version 1, no I/O. docs/FORMAT.md is normative.

pub mod ciphertext;
