//! What readers of an append-only log take from outside.

use claviger::tlog::fuzz;

/// Notes, checkpoints, verifier keys, cosignature lines and proofs are printed as they were read, and none is good without a key's signature.
pub fn tlog_note(bytes: &[u8]) {
    fuzz::notes(bytes);
}

/// Tile paths, tiles and entry bundles are written back byte for byte; an unsigned journal batch is none.
pub fn tlog_tile(bytes: &[u8]) {
    fuzz::tiles(bytes);
}

/// Two sizes and any hashes prove nothing.
pub fn tlog_proof(bytes: &[u8]) {
    fuzz::proofs(bytes);
}
