//! The stored format.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use claviger::format::body::{OpenError, RangeOpener, SingleOpener, SingleSealer};
use claviger::format::keys::Dek;
use claviger::format::layout::{PartMap, PlainOffset};
use claviger::format::{envelope as envelopes, footer, metadata as metadatas, size, upload};

use super::input::{Numbers, pieces};

/// What parses as an envelope is written back byte for byte. The bytes are taken as the header's text, and as the CBOR in it.
pub fn envelope(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        envelopes::fuzz_envelope(text);
    }
    envelopes::fuzz_envelope(&URL_SAFE_NO_PAD.encode(bytes));
}

/// What parses as a tail's plaintext is written back byte for byte.
pub fn tail(bytes: &[u8]) {
    footer::fuzz_tail(bytes);
}

/// What parses as metadata is written back byte for byte.
pub fn metadata(bytes: &[u8]) {
    metadatas::fuzz_metadata(bytes);
}

/// What parses as the record of an upload, or its settings, is written back byte for byte.
pub fn upload_record(bytes: &[u8]) {
    upload::fuzz_record(bytes);
}

/// What parses as a part marker's plaintext is written back byte for byte.
pub fn part_marker(bytes: &[u8]) {
    upload::fuzz_marker(bytes);
}

/// In whatever pieces a body is written and read, whole or as a range, the plaintext comes back; with a bit flipped it does not.
pub fn body(bytes: &[u8]) {
    let mut numbers = Numbers(bytes);
    let length = 1 + numbers.below(150_000);
    // Not so many pieces that one input takes long.
    let (written, read) = [(); 2].map(|()| (1 + numbers.below(70_000)).max(length / 256)).into();
    let first = numbers.below(length);
    let last = first + numbers.below(length - first);
    let flipped = numbers.below(1 << 24);
    let pattern = if numbers.0.is_empty() { b"0" } else { numbers.0 };
    let plaintext: Vec<u8> = pattern.iter().copied().cycle().take(length).collect();

    let dek = Arc::new(Dek::random().expect("random"));
    let mut stored = sealed(&dek, &plaintext, written);
    assert_eq!(stored.len() as u64, size::stored(length as u64));
    assert!(opened(&dek, &stored, read).is_ok_and(|opened| opened == plaintext));

    let map = Arc::new(PartMap::single(length as u64));
    let plan = map.plan(PlainOffset(first as u64), PlainOffset(last as u64)).expect("it lies within");
    let mut opener = RangeOpener::new(&dek, map, &plan);
    let mut range = Vec::new();
    for mut piece in pieces(&stored[plan.stored.start.0 as usize..plan.stored.end.0 as usize], read) {
        while !piece.is_empty() {
            range.extend_from_slice(&opener.push(&mut piece).expect("authentic").unwrap_or_default());
        }
    }
    opener.finish().expect("whole");
    assert_eq!(range, plaintext[first..=last]);

    let at = flipped % stored.len();
    stored[at] ^= 1;
    assert!(opened(&dek, &stored, read).is_err(), "byte {at} of {}", stored.len());
}

fn sealed(dek: &Arc<Dek>, plaintext: &[u8], size: usize) -> Vec<u8> {
    let mut sealer = SingleSealer::new(Arc::clone(dek), plaintext.len() as u64);
    let mut stored = Vec::new();
    for mut piece in pieces(plaintext, size) {
        while !piece.is_empty() {
            let segment = sealer.push(&mut piece).expect("as long as announced");
            segment.iter().for_each(|segment| stored.extend_from_slice(segment.as_bytes()));
        }
    }
    let end = sealer.finish(None).expect("whole");
    end.iter().for_each(|piece| stored.extend_from_slice(piece.as_bytes()));
    stored
}

fn opened(dek: &Arc<Dek>, stored: &[u8], size: usize) -> Result<Vec<u8>, OpenError> {
    let mut opener = SingleOpener::new(Arc::clone(dek), stored.len() as u64).expect("a size of ours");
    let mut plaintext = Vec::new();
    for mut piece in pieces(stored, size) {
        while !piece.is_empty() {
            plaintext.extend_from_slice(&opener.push(&mut piece)?.unwrap_or_else(Bytes::new));
        }
    }
    plaintext.extend_from_slice(&opener.finish()?.0);
    Ok(plaintext)
}
