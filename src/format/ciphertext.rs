//! Bytes that may lie on a storage server.
//!
//! **Invariant:** a [`CipherBytes`] is made only by the encryptors of this module's siblings, or by the
//! one function whose name says what it takes on trust. Storage writes accept nothing else, so plaintext
//! cannot reach a storage server by way of a forgotten branch.

use bytes::{Buf, Bytes};

/// A piece of a body for a storage server.
#[derive(Debug, Clone, Default)]
pub struct CipherBytes(Bytes);

impl CipherBytes {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Takes bytes that carry no record data by the nature of the operation: the XML documents of
    /// sub-resources that pass through, and records that the caller has sealed itself.
    pub fn assume_ciphertext(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Several pieces as one.
    pub fn concat(pieces: &[Self]) -> Self {
        let mut all = Vec::with_capacity(pieces.iter().map(|piece| piece.0.len()).sum());
        pieces.iter().for_each(|piece| all.extend_from_slice(&piece.0));
        Self(all.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Buf for CipherBytes {
    fn remaining(&self) -> usize {
        self.0.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.0.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.0.advance(count);
    }
}
