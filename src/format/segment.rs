//! One segment: at most 65,536 plaintext bytes, sealed as `nonce 12 ‖ ciphertext ‖ tag 16`.
//!
//! **Invariant:** the associated data says which segment of which attempt of which part it is, and whether
//! it is the part's last, so that segments cannot be moved, mixed, dropped or doubled unnoticed.

use bytes::{Bytes, BytesMut};

use super::ciphertext::CipherBytes;
use super::narrow;
use super::size::SEALED_SEGMENT;
use crate::crypto::{AeadKey, NONCE_LEN, NotAuthentic, RandomFailed, random_array};

/// Tells attempts to upload the same part apart: 16 random bytes, zeros in a single PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptId([u8; 16]);

impl AttemptId {
    /// The one attempt of a single PUT.
    pub const SINGLE: Self = Self([0; 16]);

    /// A fresh one, for each upload of a part.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn random() -> Result<Self, RandomFailed> {
        random_array().map(Self)
    }

    /// From its bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A segment's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The part's number: 1 to 10,000.
    pub(super) part: u32,
    /// The part's attempt.
    pub(super) attempt: AttemptId,
    /// The segment's number in its part, from 0.
    pub(super) index: u64,
    /// Whether it is the part's last.
    pub(super) last: bool,
}

impl Place {
    /// `part u32 ‖ attempt 16 ‖ index u64 ‖ last u8`, big-endian.
    fn aad(&self) -> Vec<u8> {
        let mut aad = Vec::with_capacity(29);
        aad.extend_from_slice(&self.part.to_be_bytes());
        aad.extend_from_slice(self.attempt.as_bytes());
        aad.extend_from_slice(&self.index.to_be_bytes());
        aad.push(u8::from(self.last));
        aad
    }
}

/// A buffer for one segment: room for the nonce, then what was taken in.
pub(super) fn buffer() -> BytesMut {
    let mut buffer = BytesMut::with_capacity(narrow(SEALED_SEGMENT));
    buffer.extend_from_slice(&[0; NONCE_LEN]);
    buffer
}

/// Seals the plaintext that follows the nonce's room in `buffer`, in place.
pub(super) fn seal(key: &AeadKey, place: Place, mut buffer: BytesMut) -> Result<CipherBytes, RandomFailed> {
    let (room, plaintext) = buffer.split_at_mut(NONCE_LEN);
    let (nonce, tag) = key.seal_in_place(&place.aad(), plaintext)?;
    room.copy_from_slice(&nonce);
    buffer.extend_from_slice(&tag);
    Ok(CipherBytes::new(buffer.freeze()))
}

/// Opens a sealed segment in place.
pub(super) fn open(key: &AeadKey, place: Place, mut sealed: BytesMut) -> Result<Bytes, NotAuthentic> {
    let (nonce, body) = sealed.split_first_chunk_mut::<NONCE_LEN>().ok_or(NotAuthentic)?;
    let length = key.open_in_place(*nonce, &place.aad(), body)?.len();
    let mut opened = sealed.split_off(NONCE_LEN);
    opened.truncate(length);
    Ok(opened.freeze())
}
