//! Part markers: what is known of a part, sealed into the name of an object that holds no more than who sent it.
//!
//! The name is the record, so that one listing tells all parts. It has to stay within the 255 bytes that file systems
//! below storage servers allow, hence the fixed-width form without lengths.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{UploadKey, prefixed};
use crate::crypto::{NotAuthentic, RandomFailed, SEAL_OVERHEAD};
use crate::format::checksum::{Algorithm, Checksum, Kind, MAX_VALUE};
use crate::format::layout::PartEntry;
use crate::format::segment::AttemptId;
use crate::format::size::{MAX_PART, MAX_PARTS};
use crate::names::Principal;

/// Most bytes of a sealed sender.
pub const MAX_SENDER: usize = 1024;
/// Most bytes of a storage server's ETag, quotes included.
pub const LONGEST_ETAG: usize = 64;
/// Bytes of a marker's plaintext before checksum and ETag.
const FIXED: usize = 1 + 16 + 8 + 8 + 1;
/// Most characters of a sealed marker.
pub const LONGEST_MARKER: usize = (4 * (SEAL_OVERHEAD + FIXED + MAX_VALUE + LONGEST_ETAG)).div_ceil(3);
const _: () = assert!(LONGEST_MARKER <= 255);

/// What is known of one attempt to upload a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRecord {
    /// The part as the part list will have it.
    pub entry: PartEntry,
    /// Whether its bytes lie in the state bucket, because it can only be the last part.
    pub held: bool,
    /// When it was stored, by the clock of the proxy that did it: milliseconds since 1970 (UTC).
    pub written_ms: u64,
    /// The storage server's ETag of the part, as it came; empty for a held part.
    pub etag: String,
    /// The checksum of its plaintext, by the upload's algorithm.
    pub checksum: Option<Checksum>,
}

/// A part of which no marker can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MarkerError {
    /// The ETag is longer than a marker holds, or not visible ASCII.
    #[error("the storage server's ETag of the part is not 1 to {LONGEST_ETAG} visible characters")]
    Etag,
    /// No random numbers.
    #[error("the random number generator failed")]
    Random,
}

impl From<RandomFailed> for MarkerError {
    fn from(_: RandomFailed) -> Self {
        Self::Random
    }
}

impl PartRecord {
    /// A part with its checksum, which is also noted in the entry as far as it fits there.
    pub fn new(number: u32, length: u64, attempt: AttemptId, checksum: Option<Checksum>) -> Self {
        let entry = PartEntry { number, length, attempt, checksum: kept(checksum.as_ref()) };
        Self { entry, held: false, written_ms: 0, etag: String::new(), checksum }
    }

    /// `flags u8 ‖ attempt 16 ‖ length u64 ‖ written u64 ‖ algorithm u8 (0: none) ‖ checksum ‖ ETag`; flag 1: held.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED + MAX_VALUE + LONGEST_ETAG);
        bytes.push(u8::from(self.held));
        bytes.extend_from_slice(self.entry.attempt.as_bytes());
        bytes.extend_from_slice(&self.entry.length.to_be_bytes());
        bytes.extend_from_slice(&self.written_ms.to_be_bytes());
        match &self.checksum {
            None => bytes.push(0),
            Some(checksum) => {
                bytes.push(checksum.algorithm().code());
                bytes.extend_from_slice(checksum.value());
            }
        }
        bytes.extend_from_slice(self.etag.as_bytes());
        bytes
    }

    /// The strict inverse, for the part `number`.
    fn parse(number: u32, bytes: &[u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first()?;
        let (attempt, rest) = rest.split_first_chunk::<16>()?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (written_ms, rest) = rest.split_first_chunk::<8>()?;
        let (code, rest) = rest.split_first()?;
        let (checksum, etag) = if *code == 0 {
            (None, rest)
        } else {
            let algorithm = Algorithm::from_code(*code)?;
            let (value, etag) = rest.split_at_checked(algorithm.value_len())?;
            (Some(Checksum::new(algorithm, Kind::FullObject, value)?), etag)
        };
        let record = Self {
            held: *flags == 1,
            written_ms: u64::from_be_bytes(*written_ms),
            etag: std::str::from_utf8(etag).ok()?.to_owned(),
            ..Self::new(number, u64::from_be_bytes(*length), AttemptId::from_bytes(*attempt), checksum)
        };
        let numbered = (1..=MAX_PARTS).contains(&u64::from(number)) && record.entry.length <= MAX_PART;
        (*flags <= 1 && numbered && record.has_etag()).then_some(record)
    }

    /// A part on the storage server needs its ETag for the end; a held one has none.
    fn has_etag(&self) -> bool {
        let visible = self.etag.bytes().all(|byte| byte.is_ascii_graphic());
        visible && self.etag.len() <= LONGEST_ETAG && self.etag.is_empty() == self.held
    }
}

/// What the part list keeps of a checksum: all zeros for one of more than 32 bytes.
fn kept(checksum: Option<&Checksum>) -> [u8; 32] {
    let mut kept = [0; 32];
    if let Some(value) = checksum.map(Checksum::value)
        && let Some(room) = kept.get_mut(..value.len())
    {
        room.copy_from_slice(value);
    }
    kept
}

impl UploadKey {
    /// The marker of `part`: what its object is called below the part's number.
    ///
    /// # Errors
    /// [`MarkerError`].
    pub fn seal_marker(&self, upload_id: &str, part: &PartRecord) -> Result<String, MarkerError> {
        if !part.has_etag() {
            return Err(MarkerError::Etag);
        }
        let sealed = self.0.seal(&marker_aad(upload_id, part.entry.number), &part.to_bytes())?;
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens a marker that stood below the part `number` of the upload.
    ///
    /// # Errors
    /// [`NotAuthentic`].
    pub fn open_marker(&self, upload_id: &str, number: u32, marker: &str) -> Result<PartRecord, NotAuthentic> {
        if marker.len() > LONGEST_MARKER {
            return Err(NotAuthentic);
        }
        let sealed = URL_SAFE_NO_PAD.decode(marker).map_err(|_| NotAuthentic)?;
        let plaintext = self.0.open(&marker_aad(upload_id, number), &sealed)?;
        PartRecord::parse(number, &plaintext).ok_or(NotAuthentic)
    }
}

impl UploadKey {
    /// Who sent `part`, as it lies in the object that is called by the part's marker.
    ///
    /// # Errors
    /// [`RandomFailed`].
    pub fn seal_sender(&self, upload_id: &str, part: &PartEntry, sender: &Principal) -> Result<Vec<u8>, RandomFailed> {
        self.0.seal(&sender_aad(upload_id, part), sender.as_str().as_bytes())
    }

    /// The inverse.
    ///
    /// # Errors
    /// [`NotAuthentic`].
    pub fn open_sender(&self, upload_id: &str, part: &PartEntry, sealed: &[u8]) -> Result<Principal, NotAuthentic> {
        let name = self.0.open(&sender_aad(upload_id, part), sealed)?;
        std::str::from_utf8(&name).ok().and_then(|name| Principal::new(name).ok()).ok_or(NotAuthentic)
    }
}

fn sender_aad(upload_id: &str, part: &PartEntry) -> Vec<u8> {
    let (number, attempt) = (part.number.to_be_bytes(), part.attempt.as_bytes());
    prefixed("claviger/1 upload part sender", &[upload_id.as_bytes(), &number, attempt])
}

fn marker_aad(upload_id: &str, number: u32) -> Vec<u8> {
    prefixed("claviger/1 upload part", &[upload_id.as_bytes(), &number.to_be_bytes()])
}

/// For fuzzing.
pub(super) fn fuzz(bytes: &[u8]) {
    if let Some(record) = PartRecord::parse(1, bytes) {
        assert_eq!(record.to_bytes(), bytes);
    }
}
