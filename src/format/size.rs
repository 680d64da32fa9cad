//! Size arithmetic: how long the stored form of a record is, and back.
//!
//! **Invariant:** [`stored`] depends on the plaintext length alone, not on how the object was uploaded,
//! and is strictly increasing; so [`plaintext`] is its exact inverse and a listing needs no further request.

use crate::crypto::SEAL_OVERHEAD;

/// Plaintext bytes of a full segment.
pub const SEGMENT: u64 = 65_536;
/// Bytes that sealing adds to each segment: nonce and tag.
pub const SEGMENT_OVERHEAD: u64 = 28;
/// Bytes of a full segment as stored.
pub const SEALED_SEGMENT: u64 = SEGMENT + SEGMENT_OVERHEAD;
/// Bytes of the sealed tail, the very end of each stored object.
pub const TAIL: u64 = 200;
/// Bytes of one entry of the part list, before sealing.
pub const PART_ENTRY: u64 = 60;
/// Bytes that every non-empty object has beside its sealed segments: tail, one entry, and its seal.
pub const FIXED: u64 = TAIL + PART_ENTRY + SEGMENT_OVERHEAD;
/// Fewest plaintext bytes of a part that is not the last (S3's rule).
pub const MIN_PART: u64 = 5 << 20;
/// Highest part number (S3's rule).
pub const MAX_PARTS: u64 = 10_000;
/// Most *stored* bytes of one PUT or one part (S3's rule): 5 GiB.
pub const MAX_STORED_PUT: u64 = 5 << 30;
/// Most plaintext bytes of an object: no layout that S3 allows has more.
pub const MAX_OBJECT: u64 = MAX_PARTS * MAX_STORED_PUT;
/// Bytes that one further part may cost: a segment more that is not full, and an entry.
const FURTHER_PART: u64 = SEGMENT_OVERHEAD + PART_ENTRY;

const _: () = assert!(SEAL_OVERHEAD == 28 && FIXED == 288);

/// Bytes that `length` plaintext bytes of one part take as sealed segments. An empty part has one empty segment.
pub const fn sealed_part(length: u64) -> u64 {
    length + SEGMENT_OVERHEAD * segments(length)
}

/// Segments of a part of `length` plaintext bytes: at least one.
pub const fn segments(length: u64) -> u64 {
    let full = length.div_ceil(SEGMENT);
    if full == 0 { 1 } else { full }
}

/// C(L): stored bytes of an object of `length` plaintext bytes, at most [`MAX_OBJECT`].
///
/// C(0) = 0; C(L) = L + 28·⌈L/65536⌉ + 288 + 88·min(⌊L/5 MiB⌋, 9999).
pub const fn stored(length: u64) -> u64 {
    if length == 0 {
        return 0;
    }
    let most_further_parts = length / MIN_PART;
    let further_parts = if most_further_parts < MAX_PARTS { most_further_parts } else { MAX_PARTS - 1 };
    sealed_part(length) + FIXED + FURTHER_PART * further_parts
}

/// The plaintext length whose stored form has `stored` bytes; `None` when there is none, so the object is not ours.
pub const fn plaintext(stored_size: u64) -> Option<u64> {
    match largest_within(stored_size) {
        Some(length) if stored(length) == stored_size => Some(length),
        _ => None,
    }
}

/// The greatest plaintext length whose stored form has at most `stored_size` bytes; `None` over C([`MAX_OBJECT`]).
pub const fn largest_within(stored_size: u64) -> Option<u64> {
    if stored_size > stored(MAX_OBJECT) {
        return None;
    }
    // Invariant: stored(low) <= stored_size < stored(high).
    let (mut low, mut high) = (0, MAX_OBJECT + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if stored(middle) <= stored_size { low = middle } else { high = middle }
    }
    Some(low)
}

/// Most plaintext bytes of a single PUT: what keeps the stored form within 5 GiB.
pub const MAX_PUT: u64 = match largest_within(MAX_STORED_PUT) {
    Some(length) => length,
    None => unreachable!(),
};

/// Most plaintext bytes of a part: the last one is stored together with the footer, which must fit into its 5 GiB too.
pub const MAX_PART: u64 = {
    let room = MAX_STORED_PUT - FIXED - FURTHER_PART * (MAX_PARTS - 1);
    room - SEGMENT_OVERHEAD * room.div_ceil(SEALED_SEGMENT)
};
const _: () = assert!(sealed_part(MAX_PART) + FIXED + FURTHER_PART * (MAX_PARTS - 1) <= MAX_STORED_PUT);

/// Most bytes that the footer (sealed part list and tail) of an object of `length` plaintext bytes can have,
/// however it was uploaded.
pub const fn largest_footer(length: u64) -> u64 {
    if length == 0 { 0 } else { stored(length) - sealed_part(length) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trips(length: u64) {
        assert_eq!(plaintext(stored(length)), Some(length), "length {length}");
        assert!(stored(length + 1) > stored(length), "length {length}");
    }

    #[test]
    fn every_small_length_round_trips() {
        // The inverse is a search, so every length is checked against its neighbour by the cheap direction,
        // and the inverse at each length near a step and at every 17th.
        for length in 0..(6 << 20) {
            assert!(stored(length + 1) > stored(length), "length {length}");
            let near_step = length % SEGMENT < 2 || length % SEGMENT > SEGMENT - 2 || length % MIN_PART < 2;
            if near_step || length % 17 == 0 || length < 4 * SEGMENT {
                assert_eq!(plaintext(stored(length)), Some(length), "length {length}");
            }
        }
    }

    #[test]
    fn every_boundary_round_trips() {
        let near = |middle: u64| (middle.saturating_sub(3)..=middle + 3).filter(|length| *length < MAX_OBJECT);
        for part in (0..=10_001).chain([20_000, 100_000, 1_000_000]) {
            near(part * MIN_PART).for_each(round_trips);
        }
        for power in 0..=45 {
            near(1 << power).for_each(round_trips);
        }
        near(MAX_PUT).for_each(round_trips);
        (MAX_OBJECT - 5..MAX_OBJECT).for_each(round_trips);
        assert_eq!(plaintext(stored(MAX_OBJECT)), Some(MAX_OBJECT));
        assert_eq!(plaintext(stored(MAX_OBJECT) + 1), None);
        assert_eq!(plaintext(u64::MAX), None);
    }

    #[test]
    fn sizes_between_are_not_ours() {
        assert_eq!(stored(0), 0);
        assert_eq!(stored(1), 317);
        assert!((1..317).all(|size| plaintext(size).is_none()));
        assert_eq!(plaintext(stored(SEGMENT) + 1), None);
    }

    #[test]
    fn a_single_put_stays_within_five_gib() {
        assert!(stored(MAX_PUT) <= MAX_STORED_PUT && stored(MAX_PUT + 1) > MAX_STORED_PUT);
        assert_eq!((MAX_PUT, MAX_PART), (5_366_326_056, 5_365_536_504), "docs/FORMAT.md states them");
    }

    /// The bytes that a multipart layout really needs, without padding.
    fn needed(parts: &[u64]) -> u64 {
        let sealed: u64 = parts.iter().map(|length| sealed_part(*length)).sum();
        sealed + SEGMENT_OVERHEAD + PART_ENTRY * u64::try_from(parts.len()).expect("small") + TAIL
    }

    #[test]
    fn the_worst_layouts_fit() {
        for last in [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, MIN_PART - 1] {
            for count in [1, 2, 3, 100, 9_999] {
                for odd in [0, 1, 17, SEGMENT - 1] {
                    let mut parts = vec![MIN_PART + odd; count];
                    parts.push(last);
                    assert!(needed(&parts) <= stored(parts.iter().sum()), "{count} × 5 MiB + {odd}, then {last}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_length_round_trips(length in 0..MAX_OBJECT) {
            round_trips(length);
        }

        #[test]
        fn any_legal_layout_fits(
            mut parts in prop::collection::vec(MIN_PART..=MAX_PART, 0..200),
            last in 0..=MAX_PART,
        ) {
            parts.push(last);
            let length: u64 = parts.iter().sum();
            prop_assume!(length > 0 && length <= MAX_OBJECT);
            prop_assert!(needed(&parts) <= stored(length));
        }

        #[test]
        fn any_size_inverts_or_is_not_ours(size in 0..stored(MAX_OBJECT)) {
            if let Some(length) = plaintext(size) {
                prop_assert_eq!(stored(length), size);
            }
        }
    }
}
