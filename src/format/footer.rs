//! The footer: the sealed part list with its padding, then the sealed tail of fixed size.
//!
//! **Invariant:** a [`Tail`] that could be opened states the plaintext length on the writer's word, and the stored
//! size agrees with it.

use super::checksum::{Checksum, Kind, MAX_VALUE};
use super::envelope::Layout;
use super::keys::Dek;
use super::layout::{PartEntry, PartMap};
use super::segment::AttemptId;
use super::size::{MAX_OBJECT, MAX_PARTS, PART_ENTRY, SEGMENT_OVERHEAD, TAIL, stored};
use super::{narrow, widen};
use crate::crypto::{AeadKey, NotAuthentic, RandomFailed, constant_time_eq, sha256};

const MAGIC: [u8; 4] = *b"CLV1";
/// Bytes of the tail's plaintext: what [`TAIL`] leaves without nonce and tag.
const PLAINTEXT: usize = 172;
/// Zeros at the end of the tail's plaintext.
const RESERVED: usize = PLAINTEXT - 4 - 8 - 4 - 4 - 32 - 1 - 2 - MAX_VALUE;

/// What the end of every stored object says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    length: u64,
    parts: u32,
    list_len: u32,
    list_hash: [u8; 32],
    checksum: Option<Checksum>,
}

fn aad(what: &str, layout: Layout) -> Vec<u8> {
    [what.as_bytes(), &[layout.code()]].concat()
}

fn list_bytes(map: &PartMap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(narrow(PART_ENTRY) * map.entries().len());
    for entry in map.entries() {
        bytes.extend_from_slice(&entry.number.to_be_bytes());
        bytes.extend_from_slice(&entry.length.to_be_bytes());
        bytes.extend_from_slice(entry.attempt.as_bytes());
        bytes.extend_from_slice(&entry.checksum);
    }
    bytes
}

/// Sealed bytes of the part list of `map`, with the padding that brings the object to C(L).
/// `None` for layouts that do not fit: some part but the last is shorter than 5 MiB.
fn list_len(map: &PartMap) -> Option<u64> {
    let length = stored(map.length()).checked_sub(map.sealed() + TAIL)?;
    let needed = SEGMENT_OVERHEAD + PART_ENTRY * widen(map.entries().len());
    (length >= needed).then_some(length)
}

/// The parts do not fit the format: one that is not the last is shorter than 5 MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FooterError {
    /// Some part but the last is too short, so that the object would be longer than C(L).
    #[error("a part that is not the last is shorter than 5 MiB")]
    PartTooShort,
    /// No random numbers.
    #[error("the random number generator failed")]
    Random,
}

impl From<RandomFailed> for FooterError {
    fn from(_: RandomFailed) -> Self {
        Self::Random
    }
}

/// The footer of an object with the parts of `map`: what follows its segments.
///
/// # Errors
/// [`FooterError`].
pub fn seal(dek: &Dek, layout: Layout, map: &PartMap, checksum: Option<&Checksum>) -> Result<Vec<u8>, FooterError> {
    let key = dek.footer_key();
    let list_len = list_len(map).ok_or(FooterError::PartTooShort)?;
    let mut list = list_bytes(map);
    let tail = Tail {
        length: map.length(),
        parts: u32::try_from(map.entries().len()).map_err(|_| FooterError::PartTooShort)?,
        list_len: u32::try_from(list_len).map_err(|_| FooterError::PartTooShort)?,
        list_hash: sha256(&list),
        checksum: checksum.cloned(),
    };
    list.resize(narrow(list_len - SEGMENT_OVERHEAD), 0);
    let mut footer = key.seal(&aad("claviger/1 part list", layout), &list)?;
    footer.extend_from_slice(&key.seal(&aad("claviger/1 tail", layout), &tail.to_bytes())?);
    Ok(footer)
}

/// Opens the last bytes of a stored object of `stored_size` bytes, at least [`TAIL`] of them: the tail, and the part
/// list if they reach so far, or if the tail alone determines it.
///
/// # Errors
/// [`NotAuthentic`], also when the stored size is not the one that the tail's length asks for.
pub fn open(dek: &Dek, layout: Layout, end: &[u8], stored_size: u64) -> Result<(Tail, Option<PartMap>), NotAuthentic> {
    let key = dek.footer_key();
    let before = end.len().checked_sub(narrow(TAIL)).ok_or(NotAuthentic)?;
    let (before, tail) = end.split_at_checked(before).ok_or(NotAuthentic)?;
    let tail = Tail::open_under(&key, layout, tail, stored_size)?;
    let single = if layout == Layout::Single { Some(tail.single_map()?) } else { None };
    let start = before.len().checked_sub(narrow(u64::from(tail.list_len)));
    let Some(list) = start.and_then(|start| before.get(start..)) else { return Ok((tail, single)) };
    let map = tail.open_list_under(&key, layout, list)?;
    if single.is_some_and(|single| single != map) { Err(NotAuthentic) } else { Ok((tail, Some(map))) }
}

impl Tail {
    /// Opens the last [`TAIL`] bytes of a stored object of `stored_size` bytes.
    ///
    /// # Errors
    /// [`NotAuthentic`], also when the stored size is not the one that the tail's length asks for.
    pub fn open(dek: &Dek, layout: Layout, sealed: &[u8], stored_size: u64) -> Result<Self, NotAuthentic> {
        Self::open_under(&dek.footer_key(), layout, sealed, stored_size)
    }

    fn open_under(key: &AeadKey, layout: Layout, sealed: &[u8], stored_size: u64) -> Result<Self, NotAuthentic> {
        let plaintext = key.open(&aad("claviger/1 tail", layout), sealed)?;
        let tail = Self::parse(&plaintext).ok_or(NotAuthentic)?;
        let single = layout == Layout::Single;
        let consistent = layout != Layout::Empty && tail.length > 0 && stored(tail.length) == stored_size;
        let composite = tail.checksum.as_ref().is_some_and(|checksum| checksum.kind() == Kind::Composite);
        if !consistent || (single && (tail.parts != 1 || composite)) {
            return Err(NotAuthentic);
        }
        Ok(tail)
    }

    /// Plaintext bytes of the object.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Number of parts.
    pub fn parts(&self) -> u32 {
        self.parts
    }

    /// Bytes of the footer: the sealed part list and the tail.
    pub fn footer_len(&self) -> u64 {
        u64::from(self.list_len) + TAIL
    }

    /// The checksum that was kept.
    pub fn checksum(&self) -> Option<&Checksum> {
        self.checksum.as_ref()
    }

    /// The part map of a single layout, which the tail alone determines.
    ///
    /// # Errors
    /// [`NotAuthentic`] when the tail speaks of other parts.
    pub fn single_map(&self) -> Result<PartMap, NotAuthentic> {
        let map = PartMap::single(self.length);
        self.check_map(&map)?;
        Ok(map)
    }

    /// Opens the sealed part list: the bytes before the tail, [`Tail::footer_len`] − [`TAIL`] of them.
    ///
    /// # Errors
    /// [`NotAuthentic`] when it is not the list that the tail speaks of.
    pub fn open_list(&self, dek: &Dek, layout: Layout, sealed: &[u8]) -> Result<PartMap, NotAuthentic> {
        self.open_list_under(&dek.footer_key(), layout, sealed)
    }

    fn open_list_under(&self, key: &AeadKey, layout: Layout, sealed: &[u8]) -> Result<PartMap, NotAuthentic> {
        if widen(sealed.len()) != u64::from(self.list_len) {
            return Err(NotAuthentic);
        }
        let plaintext = key.open(&aad("claviger/1 part list", layout), sealed)?;
        let entries_len = narrow(u64::from(self.parts) * PART_ENTRY);
        let (entries, padding) = plaintext.split_at_checked(entries_len).ok_or(NotAuthentic)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(NotAuthentic);
        }
        let entries: Option<Vec<_>> = entries.chunks_exact(narrow(PART_ENTRY)).map(parse_entry).collect();
        let map = PartMap::new(&entries.ok_or(NotAuthentic)?).ok_or(NotAuthentic)?;
        self.check_map(&map)?;
        Ok(map)
    }

    fn check_map(&self, map: &PartMap) -> Result<(), NotAuthentic> {
        let same = map.length() == self.length
            && map.entries().len() == narrow(u64::from(self.parts))
            && list_len(map) == Some(u64::from(self.list_len))
            && constant_time_eq(&sha256(&list_bytes(map)), &self.list_hash);
        if same { Ok(()) } else { Err(NotAuthentic) }
    }

    /// `magic 4 ‖ length u64 ‖ parts u32 ‖ list length u32 ‖ list hash 32 ‖ checksum length u8 ‖ checksum (66, zero-filled) ‖ zeros`.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PLAINTEXT);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.length.to_be_bytes());
        bytes.extend_from_slice(&self.parts.to_be_bytes());
        bytes.extend_from_slice(&self.list_len.to_be_bytes());
        bytes.extend_from_slice(&self.list_hash);
        let checksum = self.checksum.as_ref().map(Checksum::to_bytes).unwrap_or_default();
        bytes.push(u8::try_from(checksum.len()).expect("at most 66 bytes"));
        bytes.extend_from_slice(&checksum);
        bytes.resize(PLAINTEXT, 0);
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != PLAINTEXT {
            return None;
        }
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (parts, rest) = rest.split_first_chunk::<4>()?;
        let (list_len, rest) = rest.split_first_chunk::<4>()?;
        let (list_hash, rest) = rest.split_first_chunk::<32>()?;
        let (checksum_len, rest) = rest.split_first()?;
        let (checksum, reserved) = rest.split_at_checked(rest.len() - RESERVED)?;
        let (checksum, unused) = checksum.split_at_checked(usize::from(*checksum_len))?;
        let tail = Self {
            length: u64::from_be_bytes(*length),
            parts: u32::from_be_bytes(*parts),
            list_len: u32::from_be_bytes(*list_len),
            list_hash: *list_hash,
            checksum: if checksum.is_empty() { None } else { Some(Checksum::from_bytes(checksum)?) },
        };
        let zeros = unused.iter().chain(reserved).all(|byte| *byte == 0);
        let bounded = tail.length <= MAX_OBJECT && (1..=MAX_PARTS).contains(&u64::from(tail.parts));
        (*magic == MAGIC && zeros && bounded).then_some(tail)
    }
}

fn parse_entry(bytes: &[u8]) -> Option<PartEntry> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (attempt, rest) = rest.split_first_chunk::<16>()?;
    let (attempt, checksum) = (AttemptId::from_bytes(*attempt), rest.try_into().ok()?);
    Some(PartEntry { number: u32::from_be_bytes(*number), length: u64::from_be_bytes(*length), attempt, checksum })
}

/// For fuzzing: whatever parses as a tail's plaintext is written back byte for byte.
#[doc(hidden)]
pub fn fuzz_tail(bytes: &[u8]) {
    if let Some(tail) = Tail::parse(bytes) {
        assert_eq!(tail.to_bytes(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_says_what_it_was_told_and_keeps_its_size() {
        let dek = Dek::random().expect("random");
        let map = PartMap::single(70_000);
        let footer = seal(&dek, Layout::Single, &map, None).expect("fits");
        assert_eq!(map.sealed() + widen(footer.len()), stored(70_000));
        let (list, sealed) = footer.split_at_checked(footer.len() - narrow(TAIL)).expect("long");
        let tail = Tail::open(&dek, Layout::Single, sealed, stored(70_000)).expect("authentic");
        assert_eq!((tail.length(), tail.parts(), tail.checksum()), (70_000, 1, None));
        assert_eq!(tail.footer_len(), widen(footer.len()));
        assert_eq!(tail.open_list(&dek, Layout::Single, list), Ok(map.clone()));
        for end in [sealed, footer.as_slice()] {
            assert_eq!(open(&dek, Layout::Single, end, stored(70_000)), Ok((tail.clone(), Some(map.clone()))));
        }
        assert!(open(&dek, Layout::Single, sealed.get(1..).expect("long"), stored(70_000)).is_err());
        let mut other_list = footer.clone();
        *other_list.first_mut().expect("long") ^= 1;
        assert!(open(&dek, Layout::Single, &other_list, stored(70_000)).is_err());
        for (layout, size) in [(Layout::Multipart, stored(70_000)), (Layout::Single, stored(70_001))] {
            assert!(Tail::open(&dek, layout, sealed, size).is_err());
        }
    }

    #[test]
    fn short_parts_do_not_fit() {
        let entry = |number, length| PartEntry { number, ..PartEntry::single(length) };
        let map = PartMap::new(&[entry(1, 100), entry(2, 100)]).expect("legal numbers");
        let dek = Dek::random().expect("random");
        assert_eq!(seal(&dek, Layout::Multipart, &map, None), Err(FooterError::PartTooShort));
    }

    #[test]
    fn reserved_bytes_and_lies_in_a_tail_are_refused() {
        let map = PartMap::single(5);
        let hash = sha256(&list_bytes(&map));
        let tail = Tail { length: 5, parts: 1, list_len: 88, list_hash: hash, checksum: None };
        let good = tail.to_bytes();
        assert_eq!(Tail::parse(&good), Some(tail));
        for at in [0, 52, 53, 119, 171] {
            let mut bad = good.clone();
            *bad.get_mut(at).expect("inside") ^= 1;
            assert_eq!(Tail::parse(&bad), None, "byte {at}");
        }
        assert_eq!(Tail::parse(&[good.as_slice(), &[0]].concat()), None);
    }
}
