//! The journal: batches of entries that were made durable together, before they are in tiles.
//!
//! ```text
//! journal/<first index, 20 digits>   segments, each a sequence of batches:
//! batch = "clvtlog1" ‖ first index u64 ‖ entries u32 ‖ length of records u32 ‖ records ‖ signature 64
//! record = length u16 ‖ entry                            (as in a C2SP entry bundle)
//! signature = Ed25519(log key, 0x00 ‖ "claviger tlog batch v1\n" ‖ origin ‖ "\n" ‖ size after it u64 ‖ root after it)
//! ```
//!
//! Numbers are big-endian. The signature is what tells a whole batch from a torn one. It also closes the gap between checkpoints: who can
//! write to the disk, but has no key, can cut whole batches off the end, but cannot alter, reorder or add one and have the log sign it later.

use super::merkle::{Frontier, leaf_hash};
use super::note::{Signer, VerifierKey};
use super::tile::{push_entry, split_entry};
use crate::crypto::{self, ED25519_SIGNATURE_LEN};

const MAGIC: &[u8; 8] = b"clvtlog1";
const HEADER_LEN: usize = 24;
/// Most entries of a batch.
pub(super) const MAX_BATCH_ENTRIES: usize = 1024;
/// A batch takes no further entry once its entries have this many bytes.
pub(super) const FULL_BATCH_LEN: usize = 1024 * 1024;
/// Most bytes of a batch: that, a last entry, and what is around them.
const MAX_BATCH_LEN: usize = FULL_BATCH_LEN + (2 + 0xffff) + 2 * MAX_BATCH_ENTRIES + HEADER_LEN + ED25519_SIGNATURE_LEN;

/// The file name of the segment whose first entry has `index`.
pub(super) fn segment_name(index: u64) -> String {
    format!("{index:020}")
}

/// The index of the first entry of the segment of that name.
pub(super) fn segment_index(name: &str) -> Option<u64> {
    name.parse().ok().filter(|index| segment_name(*index) == name)
}

/// A batch of `entries`, which come after those in `before`, with the edge of the tree after it.
pub(super) fn encode<'e>(
    before: &Frontier,
    after: &Frontier,
    entries: impl Iterator<Item = &'e [u8]>,
    signer: &Signer,
) -> Vec<u8> {
    let mut batch = vec![0; HEADER_LEN];
    for entry in entries {
        push_entry(&mut batch, entry).expect("the log refuses longer entries");
    }
    let count = u32::try_from(after.size() - before.size()).expect("at most 1,024 entries");
    let length = u32::try_from(batch.len() - HEADER_LEN).expect("at most some 1 MiB");
    let header = [&MAGIC[..], &before.size().to_be_bytes(), &count.to_be_bytes(), &length.to_be_bytes()].concat();
    batch[..HEADER_LEN].copy_from_slice(&header);
    batch.extend_from_slice(&signer.sign_bytes(&signed_message(signer.verifier().name(), after)));
    batch
}

fn signed_message(origin: &str, after: &Frontier) -> Vec<u8> {
    let size = after.size().to_be_bytes();
    [b"\0claviger tlog batch v1\n", origin.as_bytes(), b"\n", &size, &after.root().0].concat()
}

/// What a segment begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'s> {
    /// A whole batch: its entries, the edge after it, and what follows.
    Batch {
        /// The entries.
        entries: Vec<&'s [u8]>,
        /// The tree after them.
        after: Frontier,
        /// The rest of the segment.
        rest: &'s [u8],
    },
    /// Nothing, or room for more.
    End,
    /// The beginning of a batch, or one that did not reach the disk whole, with nothing after it: it was never acknowledged.
    Torn,
    /// A batch that is not what was written, and others after it. It was acknowledged.
    Corrupt,
}

/// Takes the batch off the beginning of `segment` that comes after the entries in `before`.
pub(super) fn next<'s>(segment: &'s [u8], before: &Frontier, key: &VerifierKey) -> Next<'s> {
    if is_room(segment) {
        return Next::End;
    }
    let whole = length(segment).and_then(|length| segment.split_at_checked(length));
    let sound = whole.and_then(|(batch, rest)| Some((checked(batch, before, key)?, rest)));
    if let Some(((entries, after), rest)) = sound {
        return Next::Batch { entries, after, rest };
    }
    // Of a batch that was not synced, any part may have reached the disk.
    let written = segment.len() - segment.iter().rev().take_while(|byte| **byte == 0).count();
    let torn = written <= MAX_BATCH_LEN && !has_later_batch(&segment[..written], before.size());
    if torn { Next::Torn } else { Next::Corrupt }
}

/// Whether nothing was written here: what is left of a segment is nothing, or zeros, which are room for batches to come.
pub(super) fn is_room(rest: &[u8]) -> bool {
    rest.iter().all(|byte| *byte == 0)
}

/// Whether a batch begins inside `segment`, whose own batch is not sound: then that one was acknowledged. What entries hold is text and
/// does not pass for the index of a batch, which is a number with zeros in front.
fn has_later_batch(segment: &[u8], index: u64) -> bool {
    (1..segment.len()).filter_map(|at| segment.get(at..at + HEADER_LEN)).any(|header| {
        let first = header[8..16].try_into().map(u64::from_be_bytes);
        let follows = |first: u64| first.checked_sub(index).is_some_and(|entries| (1..1 << 32).contains(&entries));
        header.starts_with(MAGIC) && first.is_ok_and(follows)
    })
}

/// The length of the batch from its header; `None` if there is no sound header.
fn length(segment: &[u8]) -> Option<usize> {
    let header = segment.get(..HEADER_LEN)?;
    let records = u32::from_be_bytes(header[20..].try_into().ok()?);
    let length = usize::try_from(records).ok()?.checked_add(HEADER_LEN + ED25519_SIGNATURE_LEN)?;
    (header.starts_with(MAGIC) && length <= MAX_BATCH_LEN).then_some(length)
}

fn checked<'s>(batch: &'s [u8], before: &Frontier, key: &VerifierKey) -> Option<(Vec<&'s [u8]>, Frontier)> {
    let (signed, signature) = batch.split_last_chunk::<ED25519_SIGNATURE_LEN>()?;
    let (header, mut records) = signed.split_at_checked(HEADER_LEN)?;
    let first = u64::from_be_bytes(header[8..16].try_into().ok()?);
    let count = u32::from_be_bytes(header[16..20].try_into().ok()?);
    if first != before.size() || usize::try_from(count).ok()? > MAX_BATCH_ENTRIES || count == 0 {
        return None;
    }
    let mut entries = Vec::new();
    let mut after = before.clone();
    for _ in 0..count {
        let (entry, rest) = split_entry(records)?;
        entries.push(entry);
        after.push(leaf_hash(entry));
        records = rest;
    }
    let message = signed_message(key.name(), &after);
    let sound = records.is_empty() && crypto::ed25519_verify(key.public(), &message, signature).is_ok();
    sound.then_some((entries, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;
    use crate::tlog::note::Use;

    fn signer() -> Signer {
        Signer::new("example.com/audit", Use::Log, SigningKey::generate().expect("random")).expect("a name")
    }

    fn batch(before: &Frontier, entries: &[&[u8]], signer: &Signer) -> (Vec<u8>, Frontier) {
        let mut after = before.clone();
        entries.iter().for_each(|entry| after.push(leaf_hash(entry)));
        (encode(before, &after, entries.iter().copied(), signer), after)
    }

    #[test]
    fn batches_are_read_back_in_order() {
        let signer = signer();
        let empty = Frontier::default();
        let (mut segment, middle) = batch(&empty, &[b"one", b""], &signer);
        let (second, end) = batch(&middle, &[b"three"], &signer);
        segment.extend_from_slice(&second);
        let Next::Batch { entries, after, rest } = next(&segment, &empty, signer.verifier()) else { panic!("a batch") };
        assert_eq!((entries, &after), (vec![&b"one"[..], b""], &middle));
        let Next::Batch { entries, after, rest } = next(rest, &after, signer.verifier()) else { panic!("a batch") };
        assert_eq!((entries, &after), (vec![&b"three"[..]], &end));
        assert_eq!(next(rest, &after, signer.verifier()), Next::End);
    }

    #[test]
    fn a_batch_that_is_cut_or_flipped_is_torn_at_the_end_and_corrupt_before_it() {
        let signer = signer();
        let empty = Frontier::default();
        let (first, middle) = batch(&empty, &[b"one", b"two"], &signer);
        let (second, _) = batch(&middle, &[b"three"], &signer);
        for cut in 1..first.len() {
            assert_eq!(next(&first[..cut], &empty, signer.verifier()), Next::Torn, "{cut}");
        }
        for at in 0..first.len() {
            let mut flipped = first.clone();
            flipped[at] ^= 1;
            assert_eq!(next(&flipped, &empty, signer.verifier()), Next::Torn, "{at}");
            flipped.extend_from_slice(&second);
            assert_eq!(next(&flipped, &empty, signer.verifier()), Next::Corrupt, "{at}");
        }
        assert_eq!(next(&[1; MAX_BATCH_LEN + 1], &empty, signer.verifier()), Next::Corrupt);
        assert_eq!(next(&second, &empty, signer.verifier()), Next::Torn);
        assert_eq!(next(&first, &empty, self::signer().verifier()), Next::Torn);
    }

    #[test]
    fn zeros_are_room_and_a_batch_before_them_may_be_torn() {
        let signer = signer();
        let empty = Frontier::default();
        let (first, middle) = batch(&empty, &[b"one", b"two"], &signer);
        let (second, _) = batch(&middle, &[b"three"], &signer);
        let room = vec![0; MAX_BATCH_LEN + 1];
        assert_eq!(next(&room, &empty, signer.verifier()), Next::End);
        let whole = [&first[..], &room].concat();
        let Next::Batch { rest, .. } = next(&whole, &empty, signer.verifier()) else { panic!("a batch") };
        assert_eq!(next(rest, &middle, signer.verifier()), Next::End);
        for written in 1..first.len() {
            // Of what was not synced, any part may be there.
            for (from, to) in [(0, written), (written, first.len())] {
                let mut torn = whole.clone();
                torn[from..to].fill(0);
                if torn != whole {
                    let expected = if is_room(&torn) { Next::End } else { Next::Torn };
                    assert_eq!(next(&torn, &empty, signer.verifier()), expected, "{from}..{to}");
                }
            }
        }
        // An entry that speaks like a batch does not make a torn batch look acknowledged.
        let (sly, _) = batch(&empty, &[b"clvtlog1zzzzzzzz and more than a header", b"two"], &signer);
        for cut in 1..sly.len() {
            assert_eq!(next(&sly[..cut], &empty, signer.verifier()), Next::Torn, "{cut}");
        }
        // What was acknowledged is not taken for room.
        let mut blanked = [&first[..], &second, &room].concat();
        blanked[..first.len()].fill(0);
        assert_eq!(next(&blanked, &empty, signer.verifier()), Next::Corrupt);
    }

    #[test]
    fn segment_names_have_one_spelling() {
        assert_eq!(segment_index(&segment_name(u64::MAX)), Some(u64::MAX));
        assert_eq!(segment_index("00000000000000000007"), Some(7));
        for name in ["", "7", "+0000000000000000007", "99999999999999999999", "0000000000000000000x"] {
            assert_eq!(segment_index(name), None, "{name}");
        }
    }
}
