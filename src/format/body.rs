//! The body as a stream: plaintext in and stored bytes out, and back.
//!
//! The types here hold at most one segment (and one footer) at a time. They take and give bytes; who moves
//! them is not their business.
//!
//! **Invariant:** a sealer gives its last bytes only in `finish`, so a caller that verifies what the client
//! promised before calling it never completes a stored object from a bad upload. An opener of a whole object
//! gives its last bytes only after the footer agreed.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::checksum::Checksum;
use super::ciphertext::CipherBytes;
use super::envelope::Layout;
use super::footer::{self, FooterError, Tail};
use super::keys::Dek;
use super::layout::{PartEntry, PartMap, Plan};
use super::segment::{self, Place};
use super::size::{self, SEALED_SEGMENT, SEGMENT, SEGMENT_OVERHEAD, TAIL};
use super::{narrow, widen};
use crate::crypto::{AeadKey, NONCE_LEN, NotAuthentic, RandomFailed};

/// Why sealing stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The plaintext does not have the length that was announced.
    #[error("the body does not have the announced length")]
    Length,
    /// The parts do not fit the format.
    #[error(transparent)]
    Footer(#[from] FooterError),
    /// No random numbers.
    #[error("the random number generator failed")]
    Random,
}

impl From<RandomFailed> for SealError {
    fn from(_: RandomFailed) -> Self {
        Self::Random
    }
}

/// Why opening stopped. Both mean that what is stored is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Something did not verify.
    #[error("stored data is not authentic")]
    NotAuthentic,
    /// The stored bytes ended early or went on too long.
    #[error("stored data has the wrong length")]
    Length,
}

impl From<NotAuthentic> for OpenError {
    fn from(_: NotAuthentic) -> Self {
        Self::NotAuthentic
    }
}

/// Seals the plaintext of one part, of a length that is known beforehand.
pub struct PartSealer {
    key: AeadKey,
    entry: PartEntry,
    next: u64,
    taken: u64,
    buffer: BytesMut,
}

impl PartSealer {
    /// For the part that `entry` describes.
    pub fn new(dek: &Dek, entry: PartEntry) -> Self {
        Self { key: dek.content_key(), entry, next: 0, taken: 0, buffer: segment::buffer() }
    }

    /// Takes from the front of `plaintext` what the current segment has room for. Gives the segment when it is
    /// full and not the part's last. Call again until `plaintext` is empty.
    ///
    /// # Errors
    /// [`SealError::Length`] when there is more plaintext than announced.
    pub fn push(&mut self, plaintext: &mut Bytes) -> Result<Option<CipherBytes>, SealError> {
        if widen(plaintext.len()) > self.entry.length - self.taken {
            return Err(SealError::Length);
        }
        let room = narrow(SEGMENT) - (self.buffer.len() - NONCE_LEN);
        let piece = plaintext.split_to(room.min(plaintext.len()));
        self.taken += widen(piece.len());
        self.buffer.extend_from_slice(&piece);
        let full = self.buffer.len() - NONCE_LEN == narrow(SEGMENT);
        if full && self.taken < self.entry.length { self.seal(false).map(Some) } else { Ok(None) }
    }

    fn seal(&mut self, last: bool) -> Result<CipherBytes, SealError> {
        let place = Place { part: self.entry.number, attempt: self.entry.attempt, index: self.next, last };
        self.next += 1;
        let buffer = if last {
            std::mem::take(&mut self.buffer)
        } else {
            std::mem::replace(&mut self.buffer, segment::buffer())
        };
        Ok(segment::seal(&self.key, place, buffer)?)
    }

    /// The last segment, once all plaintext was taken in and what the client promised of it was verified.
    ///
    /// # Errors
    /// [`SealError::Length`] when there is less plaintext than announced.
    pub fn finish(mut self) -> Result<CipherBytes, SealError> {
        if self.taken != self.entry.length {
            return Err(SealError::Length);
        }
        self.seal(true)
    }
}

/// Seals the plaintext of a whole object that one PUT writes.
pub struct SingleSealer {
    part: PartSealer,
    dek: Arc<Dek>,
}

impl SingleSealer {
    /// For `length` > 0 plaintext bytes; an empty object has no body ([`Layout::Empty`]).
    pub fn new(dek: Arc<Dek>, length: u64) -> Self {
        Self { part: PartSealer::new(&dek, PartEntry::single(length)), dek }
    }

    /// As [`PartSealer::push`].
    ///
    /// # Errors
    /// [`SealError::Length`].
    pub fn push(&mut self, plaintext: &mut Bytes) -> Result<Option<CipherBytes>, SealError> {
        self.part.push(plaintext)
    }

    /// The last segment and the footer, once what the client promised of the plaintext was verified.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn finish(self, checksum: Option<&Checksum>) -> Result<[CipherBytes; 2], SealError> {
        let map = PartMap::single(self.part.entry.length);
        let last = self.part.finish()?;
        let footer = footer::seal(&self.dek, Layout::Single, &map, checksum)?;
        Ok([last, CipherBytes::new(footer.into())])
    }
}

/// Opens the stored bytes of a [`Plan`], whose map comes from an authenticated footer.
pub struct RangeOpener {
    key: AeadKey,
    map: Arc<PartMap>,
    part: usize,
    segment: u64,
    skip: u64,
    left: u64,
    buffer: BytesMut,
}

impl RangeOpener {
    /// For `plan`, which was made by `map`.
    pub fn new(dek: &Dek, map: Arc<PartMap>, plan: &Plan) -> Self {
        Self {
            key: dek.content_key(),
            map,
            part: plan.first_part,
            segment: plan.first_segment,
            skip: plan.skip,
            left: plan.take,
            buffer: BytesMut::new(),
        }
    }

    /// The current segment's place, plaintext bytes and whether it is its part's last; `None` after the last part.
    fn current(&self) -> Option<(Place, u64)> {
        let entry = self.map.part(self.part)?.entry;
        let last = self.segment + 1 == size::segments(entry.length);
        let length = if last { entry.length - self.segment * SEGMENT } else { SEGMENT };
        Some((Place { part: entry.number, attempt: entry.attempt, index: self.segment, last }, length))
    }

    /// Takes from the front of `stored` what the current segment lacks, and gives its plaintext once it is
    /// complete and verified. Call again until `stored` is empty.
    ///
    /// # Errors
    /// [`OpenError::Length`] for bytes beyond the last segment, [`OpenError::NotAuthentic`] for a bad one.
    pub fn push(&mut self, stored: &mut Bytes) -> Result<Option<Bytes>, OpenError> {
        let (place, length) = self.current().ok_or(OpenError::Length)?;
        let sealed_len = narrow(length + SEGMENT_OVERHEAD);
        if self.buffer.is_empty() {
            self.buffer.reserve(sealed_len);
        }
        let piece = stored.split_to((sealed_len - self.buffer.len()).min(stored.len()));
        self.buffer.extend_from_slice(&piece);
        if self.buffer.len() < sealed_len {
            return Ok(None);
        }
        let mut plaintext = segment::open(&self.key, place, std::mem::take(&mut self.buffer))?;
        if place.last {
            (self.part, self.segment) = (self.part + 1, 0);
        } else {
            self.segment += 1;
        }
        let skipped = self.skip.min(widen(plaintext.len()));
        self.skip -= skipped;
        bytes::Buf::advance(&mut plaintext, narrow(skipped));
        plaintext.truncate(narrow(self.left.min(widen(plaintext.len()))));
        self.left -= widen(plaintext.len());
        Ok(Some(plaintext))
    }

    /// Whether all plaintext of the plan was given. Stored bytes that follow are none of its business.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// To be called when the stored bytes ended.
    ///
    /// # Errors
    /// [`OpenError::Length`] when they ended early.
    pub fn finish(&self) -> Result<(), OpenError> {
        if self.is_done() && self.buffer.is_empty() { Ok(()) } else { Err(OpenError::Length) }
    }
}

/// Opens the whole stored body of a single layout, footer included, without knowing its length on the writer's
/// word beforehand: segments are given as they verify, the last one only when the footer agreed.
pub struct SingleOpener {
    segments: RangeOpener,
    dek: Arc<Dek>,
    stored_size: u64,
    /// Stored bytes of segments still to come.
    sealed_left: u64,
    withheld: Option<Bytes>,
    footer: BytesMut,
}

impl SingleOpener {
    /// For a stored object of `stored_size` bytes, on the storage server's word; `None` when no single layout has that size.
    pub fn new(dek: Arc<Dek>, stored_size: u64) -> Option<Self> {
        let length = size::plaintext(stored_size).filter(|length| *length > 0)?;
        let map = Arc::new(PartMap::single(length));
        let segments = RangeOpener::new(&dek, Arc::clone(&map), &map.plan_all());
        Some(Self { segments, dek, stored_size, sealed_left: map.sealed(), withheld: None, footer: BytesMut::new() })
    }

    /// Plaintext bytes to expect; not authenticated before [`SingleOpener::finish`].
    pub fn expected_length(&self) -> u64 {
        size::plaintext(self.stored_size).unwrap_or(0)
    }

    /// As [`RangeOpener::push`], over all stored bytes.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn push(&mut self, stored: &mut Bytes) -> Result<Option<Bytes>, OpenError> {
        if self.sealed_left == 0 {
            let footer_len = self.stored_size - self.segments.map.sealed();
            if widen(self.footer.len() + stored.len()) > footer_len {
                return Err(OpenError::Length);
            }
            self.footer.extend_from_slice(&std::mem::take(stored));
            return Ok(None);
        }
        let mut piece = stored.slice(..narrow(self.sealed_left.min(widen(stored.len()))));
        let offered = piece.len();
        let opened = self.segments.push(&mut piece)?;
        let taken = offered - piece.len();
        self.sealed_left -= widen(taken);
        bytes::Buf::advance(stored, taken);
        match opened {
            Some(last) if self.sealed_left == 0 => {
                self.withheld = Some(last);
                Ok(None)
            }
            opened => Ok(opened),
        }
    }

    /// The last plaintext and the tail, once all stored bytes were taken in.
    ///
    /// # Errors
    /// [`OpenError`]: nothing of the last segment may be released.
    pub fn finish(self) -> Result<(Bytes, Tail), OpenError> {
        let last = self.withheld.ok_or(OpenError::Length)?;
        let footer_len = widen(self.footer.len());
        if footer_len < TAIL {
            return Err(OpenError::Length);
        }
        let (tail, _) = footer::open(&self.dek, Layout::Single, &self.footer, self.stored_size)?;
        if tail.footer_len() != footer_len {
            return Err(OpenError::NotAuthentic);
        }
        Ok((last, tail))
    }
}

const _: () = assert!(SEALED_SEGMENT == SEGMENT + SEGMENT_OVERHEAD);

#[cfg(test)]
mod tests;
