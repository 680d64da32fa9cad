//! Strict deterministic CBOR (RFC 8949, section 4.2.1) for the small structures of format and custody.
//!
//! **Invariant:** whatever [`parse`] accepts, the writer would have written byte for byte: the parsers
//! of format and custody read with `minicbor` and then compare with the re-encoded form, so there is
//! exactly one encoding of each value and no room for two readers to disagree.

use minicbor::decode::{Decoder, Error};
use minicbor::encode::Encoder;

/// The bytes are not the one deterministic encoding of a value of the expected shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not in deterministic CBOR of the expected shape")]
pub struct NotCanonical;

impl From<Error> for NotCanonical {
    fn from(_: Error) -> Self {
        Self
    }
}

/// Encodes with `write` into fresh bytes.
pub fn encode(
    write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Result<(), minicbor::encode::Error<std::convert::Infallible>>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Encoder::new(&mut bytes)).expect("writing to memory does not fail");
    bytes
}

/// Reads one value with `read`, refuses bytes after it, and refuses it unless `write` gives the same bytes back.
///
/// # Errors
/// [`NotCanonical`].
pub fn parse<T>(
    bytes: &[u8],
    read: impl FnOnce(&mut Decoder<'_>) -> Result<T, NotCanonical>,
    write: impl FnOnce(&T) -> Vec<u8>,
) -> Result<T, NotCanonical> {
    let mut decoder = Decoder::new(bytes);
    let value = read(&mut decoder)?;
    if decoder.position() != bytes.len() || write(&value) != bytes {
        return Err(NotCanonical);
    }
    Ok(value)
}
