//! Any range of any layout, however the bytes arrive, is exactly that range of the plaintext.

use proptest::prelude::*;

use super::*;
use crate::format::layout::PlainOffset;
use crate::format::segment::AttemptId;
use crate::format::size::MIN_PART;

fn seal_part(dek: &Dek, entry: PartEntry, plaintext: &[u8], piece: usize) -> Vec<u8> {
    let mut sealer = PartSealer::new(dek, entry);
    let mut stored = Vec::new();
    for chunk in plaintext.chunks(piece.max(1)) {
        let mut input = Bytes::copy_from_slice(chunk);
        while !input.is_empty() {
            stored.extend(sealer.push(&mut input).expect("fits").iter().flat_map(|piece| piece.as_bytes().clone()));
        }
    }
    stored.extend_from_slice(sealer.finish().expect("complete").as_bytes());
    stored
}

fn plaintext(length: usize) -> Vec<u8> {
    (0u8..251).cycle().take(length).collect()
}

fn read(dek: &Dek, map: &Arc<PartMap>, body: &[u8], first: u64, last: u64, piece: usize) -> Vec<u8> {
    let plan = map.plan(PlainOffset(first), PlainOffset(last)).expect("inside");
    let stored = body.get(narrow(plan.stored.start.0)..narrow(plan.stored.end.0)).expect("the plan lies in the body");
    let mut opener = RangeOpener::new(dek, Arc::clone(map), &plan);
    let mut out = Vec::new();
    for chunk in stored.chunks(piece.max(1)) {
        let mut input = Bytes::copy_from_slice(chunk);
        while !input.is_empty() {
            out.extend_from_slice(&opener.push(&mut input).expect("authentic").unwrap_or_default());
        }
    }
    opener.finish().expect("complete");
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_range_of_a_single_object(
        length in prop_oneof![1u64..400_000, Just(65_536), Just(131_072), Just(65_537)],
        from in 0f64..1.0, span in 0f64..1.0, write_piece in 1usize..100_000, read_piece in 1usize..100_000,
    ) {
        let plaintext = plaintext(narrow(length));
        let dek = Dek::random().expect("random");
        let map = Arc::new(PartMap::single(length));
        let entry = map.entries().next().expect("one");
        let body = seal_part(&dek, entry, &plaintext, write_piece);
        prop_assert_eq!(widen(body.len()), map.sealed());
        let (first, last) = ends(length, from, span);
        let expected = plaintext.get(narrow(first)..=narrow(last)).expect("inside");
        prop_assert_eq!(read(&dek, &map, &body, first, last, read_piece), expected);
    }
}

#[allow(clippy::as_conversions, reason = "test positions need no precision")]
fn ends(length: u64, from: f64, span: f64) -> (u64, u64) {
    let first = ((length as f64 * from) as u64).min(length - 1);
    let last = (first + (length as f64 * span) as u64).min(length - 1);
    (first, last)
}

#[test]
fn ranges_across_parts() {
    let dek = Dek::random().expect("random");
    let lengths = [MIN_PART, MIN_PART + 1, 70_000, 0];
    let entries: Vec<_> = (1..)
        .zip(lengths)
        .map(|(number, length)| PartEntry {
            number,
            length,
            attempt: AttemptId::random().expect("random"),
            checksum: [0; 32],
        })
        .collect();
    let map = Arc::new(PartMap::new(&entries).expect("legal"));
    let plaintext = plaintext(narrow(map.length()));
    let mut body = Vec::new();
    let mut rest = plaintext.as_slice();
    for entry in &entries {
        let (own, others) = rest.split_at_checked(narrow(entry.length)).expect("long enough");
        body.extend(seal_part(&dek, *entry, own, 1 << 20));
        rest = others;
    }
    assert_eq!(widen(body.len()), map.sealed());
    let edges = [0, 1, MIN_PART - 1, MIN_PART, MIN_PART + 1, 2 * MIN_PART, 2 * MIN_PART + 1, map.length() - 1];
    for first in edges {
        for last in edges.into_iter().filter(|last| *last >= first) {
            let expected = plaintext.get(narrow(first)..=narrow(last)).expect("inside");
            assert_eq!(read(&dek, &map, &body, first, last, 300_000), expected, "{first} to {last}");
        }
    }
}

#[test]
fn a_sealer_keeps_to_the_announced_length() {
    let dek = Arc::new(Dek::random().expect("random"));
    let mut sealer = SingleSealer::new(Arc::clone(&dek), 10);
    assert_eq!(sealer.push(&mut Bytes::from_static(&[0; 11])).err(), Some(SealError::Length));
    assert!(sealer.push(&mut Bytes::from_static(&[0; 9])).expect("fits").is_none());
    assert_eq!(sealer.finish(None).err(), Some(SealError::Length));
}

#[test]
fn a_sealer_never_gives_the_last_segment_before_finish() {
    let dek = Arc::new(Dek::random().expect("random"));
    let mut sealer = SingleSealer::new(dek, 131_072);
    let mut input = Bytes::from(vec![1; 131_072]);
    assert!(sealer.push(&mut input).expect("fits").is_some());
    assert!(sealer.push(&mut input).expect("fits").is_none());
    assert!(input.is_empty());
    let stored: usize = sealer.finish(None).expect("complete").iter().map(|piece| piece.as_bytes().len()).sum();
    assert_eq!(widen(stored + narrow(SEALED_SEGMENT)), size::stored(131_072));
}

#[test]
fn no_two_objects_share_a_byte_of_ciphertext() {
    let plaintext = plaintext(100_000);
    let seal = || {
        let dek = Dek::random().expect("random");
        let entry = PartMap::single(100_000).entries().next().expect("one");
        seal_part(&dek, entry, &plaintext, 70_000)
    };
    let (one, two) = (seal(), seal());
    let same = one.chunks(16).zip(two.chunks(16)).filter(|(a, b)| a == b).count();
    assert_eq!(same, 0);
}
