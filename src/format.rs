//! The stored format, version 1, no I/O: what a record looks like on a storage server.
//!
//! docs/FORMAT.md is normative and has the byte tables; `tests/vectors/` pins them. In one breath: an
//! *envelope* (one metadata header) carries the object's key, wrapped; the *body* is parts of sealed
//! segments, followed by a footer that authenticates length, parts and checksum; and the stored size is
//! a function of the plaintext size alone, so that listings can be inverted by arithmetic.
//!
//! **Invariant:** nothing here releases a byte of plaintext that was not authenticated, and nothing can
//! be decrypted before the envelope's commitment and binding were checked ([`envelope::Unverified`] →
//! [`envelope::Opened`]).
#![warn(clippy::indexing_slicing, clippy::as_conversions)]

pub mod body;
pub mod checksum;
pub mod ciphertext;
pub mod envelope;
pub mod footer;
pub mod keys;
pub mod layout;
pub mod metadata;
pub mod segment;
pub mod size;
pub mod upload;

#[cfg(test)]
mod vectors;

/// A length in memory as a 64-bit number.
pub(crate) fn widen(length: usize) -> u64 {
    u64::try_from(length).expect("no platform has lengths over 64 bits")
}

/// A 64-bit number that the caller has bounded by a few MiB, as a length in memory.
pub(crate) fn narrow(length: u64) -> usize {
    usize::try_from(length).expect("bounded by the caller to what fits in memory")
}
