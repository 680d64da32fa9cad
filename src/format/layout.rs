//! Where each part and segment lies, and which stored bytes a range of plaintext needs.

use std::ops::Range;

use super::segment::AttemptId;
use super::size::{MAX_OBJECT, MAX_PARTS, SEALED_SEGMENT, SEGMENT, sealed_part, segments};

/// A position in the plaintext, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlainOffset(pub u64);

/// A position in the stored body, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredOffset(pub u64);

/// A part as the part list has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartEntry {
    /// Its number: 1 to 10,000.
    pub number: u32,
    /// Its plaintext bytes.
    pub length: u64,
    /// The attempt that counts.
    pub attempt: AttemptId,
    /// Its own checksum by the object's algorithm, filled with zeros; all zeros when none is kept.
    pub checksum: PartChecksum,
}

/// A part's checksum: what is longer than 32 bytes is not kept.
pub type PartChecksum = [u8; 32];

impl PartEntry {
    /// The one part of an object that a single PUT writes.
    pub const fn single(length: u64) -> Self {
        Self { number: 1, length, attempt: AttemptId::SINGLE, checksum: [0; 32] }
    }
}

/// A part and where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlacedPart {
    pub(super) entry: PartEntry,
    pub(super) plain_start: PlainOffset,
    pub(super) stored_start: StoredOffset,
}

/// The parts of an object in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartMap {
    parts: Vec<PlacedPart>,
    length: u64,
    sealed: u64,
}

/// Which stored bytes to fetch for a range, and how to cut the plaintext that they give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The stored bytes: whole segments.
    pub stored: Range<StoredOffset>,
    /// Index of the first segment's part in the map.
    pub(super) first_part: usize,
    /// The first segment's number in that part.
    pub(super) first_segment: u64,
    /// Plaintext bytes to drop from the front.
    pub(super) skip: u64,
    /// Plaintext bytes to give.
    pub(super) take: u64,
}

impl Plan {
    /// Plaintext bytes that the plan gives.
    pub fn length(&self) -> u64 {
        self.take
    }
}

impl PartMap {
    /// The map of an object that one PUT wrote.
    pub fn single(length: u64) -> Self {
        let entry = PartEntry::single(length);
        let placed = PlacedPart { entry, plain_start: PlainOffset(0), stored_start: StoredOffset(0) };
        Self { parts: vec![placed], length, sealed: sealed_part(length) }
    }

    /// The map of `entries`; `None` unless there are 1 to 10,000 with rising numbers and at most [`MAX_OBJECT`] bytes in all.
    pub fn new(entries: &[PartEntry]) -> Option<Self> {
        let mut map = Self { parts: Vec::with_capacity(entries.len()), length: 0, sealed: 0 };
        let mut before = 0;
        for entry in entries {
            if entry.number <= before || u64::from(entry.number) > MAX_PARTS || entry.length > MAX_OBJECT {
                return None;
            }
            before = entry.number;
            let (plain_start, stored_start) = (PlainOffset(map.length), StoredOffset(map.sealed));
            map.parts.push(PlacedPart { entry: *entry, plain_start, stored_start });
            map.length += entry.length;
            map.sealed += sealed_part(entry.length);
            if map.length > MAX_OBJECT {
                return None;
            }
        }
        (!map.parts.is_empty()).then_some(map)
    }

    /// Plaintext bytes in all.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of all sealed segments: where the footer begins.
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// The parts' entries in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = PartEntry> {
        self.parts.iter().map(|part| part.entry)
    }

    pub(super) fn part(&self, index: usize) -> Option<&PlacedPart> {
        self.parts.get(index)
    }

    /// The plaintext range of part `number`; `None` when there is no such part.
    pub fn range_of_part(&self, number: u32) -> Option<Range<PlainOffset>> {
        let index = self.parts.binary_search_by_key(&number, |part| part.entry.number).ok()?;
        let part = self.parts.get(index)?;
        Some(part.plain_start..PlainOffset(part.plain_start.0 + part.entry.length))
    }

    /// The plan for the whole plaintext.
    pub fn plan_all(&self) -> Plan {
        let stored = StoredOffset(0)..StoredOffset(self.sealed);
        Plan { stored, first_part: 0, first_segment: 0, skip: 0, take: self.length }
    }

    /// The plan for the bytes from `first` to `last` inclusive; `None` unless they lie within the plaintext.
    pub fn plan(&self, first: PlainOffset, last: PlainOffset) -> Option<Plan> {
        if first > last || last.0 >= self.length {
            return None;
        }
        let (first_part, start) = self.find(first)?;
        let (_, end) = self.find(last)?;
        let first_segment = (first.0 - start.plain_start.0) / SEGMENT;
        let last_segment = (last.0 - end.plain_start.0) / SEGMENT;
        let after_last = if last_segment + 1 == segments(end.entry.length) {
            sealed_part(end.entry.length)
        } else {
            (last_segment + 1) * SEALED_SEGMENT
        };
        Some(Plan {
            stored: StoredOffset(start.stored_start.0 + first_segment * SEALED_SEGMENT)
                ..StoredOffset(end.stored_start.0 + after_last),
            first_part,
            first_segment,
            skip: first.0 - start.plain_start.0 - first_segment * SEGMENT,
            take: last.0 - first.0 + 1,
        })
    }

    /// The part that has the byte at `offset` (the last that begins at or before it and is not empty).
    fn find(&self, offset: PlainOffset) -> Option<(usize, &PlacedPart)> {
        let after = self.parts.partition_point(|part| part.plain_start <= offset);
        let index = after.checked_sub(1)?;
        Some((index, self.parts.get(index)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32, length: u64) -> PartEntry {
        PartEntry { number, length, attempt: AttemptId::from_bytes([1; 16]), checksum: [2; 32] }
    }

    #[test]
    fn parts_are_bounded_and_rise() {
        assert!(PartMap::new(&[]).is_none());
        assert!(PartMap::new(&[entry(0, 1)]).is_none());
        assert!(PartMap::new(&[entry(2, 1), entry(2, 1)]).is_none());
        assert!(PartMap::new(&[entry(2, 1), entry(1, 1)]).is_none());
        assert!(PartMap::new(&[entry(10_001, 1)]).is_none());
        assert!(PartMap::new(&[entry(1, MAX_OBJECT), entry(2, 1)]).is_none());
        assert!(PartMap::new(&[entry(1, u64::MAX)]).is_none());
        let map = PartMap::new(&[entry(3, 70_000), entry(9_999, 0)]).expect("legal");
        assert_eq!(map.length(), 70_000);
        assert_eq!(map.range_of_part(3), Some(PlainOffset(0)..PlainOffset(70_000)));
        assert_eq!(map.range_of_part(9_999), Some(PlainOffset(70_000)..PlainOffset(70_000)));
        assert_eq!(map.range_of_part(4), None);
    }

    #[test]
    fn plans_cover_whole_segments() {
        let map = PartMap::single(200_000);
        let plan = map.plan(PlainOffset(65_536), PlainOffset(65_536)).expect("inside");
        assert_eq!(plan.stored, StoredOffset(SEALED_SEGMENT)..StoredOffset(2 * SEALED_SEGMENT));
        assert_eq!((plan.skip, plan.take), (0, 1));
        let plan = map.plan(PlainOffset(0), PlainOffset(199_999)).expect("inside");
        assert_eq!(plan.stored.end, StoredOffset(map.sealed()));
        assert_eq!(map.plan(PlainOffset(0), PlainOffset(200_000)), None);
        assert_eq!(map.plan(PlainOffset(2), PlainOffset(1)), None);
    }
}
