//! Makes the objects of the vectors: everything "random" in them comes from the seed.

use std::sync::Arc;

use bytes::Bytes;

use super::{Reader, Stored, Vector};
use crate::crypto::testing::with_seed;
use crate::crypto::{AeadKey, sha256};
use crate::format::body::{PartSealer, SingleSealer};
use crate::format::checksum::{Algorithm, Checksum, Kind};
use crate::format::envelope::{self, Branch, Layout};
use crate::format::keys::Dek;
use crate::format::layout::{PartEntry, PartMap};
use crate::format::metadata::Metadata;
use crate::format::segment::{self, AttemptId, Place};
use crate::format::{footer, narrow, size, widen};
use crate::names::{BranchId, KekName, KekVersion, WriterDomain};

/// The plaintext of `length` bytes that all vectors use: byte i is i mod 251.
fn pattern(length: u64) -> Vec<u8> {
    (0u8..251).cycle().take(narrow(length)).collect()
}

/// The parts of a vector: `single LENGTH`, `empty` or `multipart NUMBER=LENGTH …`.
fn parts(vector: &Vector) -> (Layout, Vec<(u32, u64)>) {
    let mut words = vector.one("object").split(' ');
    let number = |text: &str| text.parse::<u64>().expect("a number");
    match words.next() {
        Some("empty") => (Layout::Empty, Vec::new()),
        Some("single") => (Layout::Single, vec![(1, number(words.next().expect("a length")))]),
        _ => {
            let parts = words.map(|word| word.split_once('=').expect("NUMBER=LENGTH"));
            (Layout::Multipart, parts.map(|(part, length)| (part.parse().expect("a number"), number(length))).collect())
        }
    }
}

pub(super) fn plaintext(vector: &Vector) -> Vec<u8> {
    pattern(parts(vector).1.iter().map(|part| part.1).sum())
}

fn branch(vector: &Vector) -> Branch {
    let id = sha256(vector.or("branch-key", "branch key").as_bytes());
    Branch {
        kek: KekName::new("demo").expect("legal"),
        id: BranchId::from_bytes(*id.first_chunk().expect("32 bytes")),
        writer: WriterDomain::new("proxy/us").expect("legal"),
        version: KekVersion::FIRST,
        wrapped: sha256(b"as the custodian wrapped it").to_vec(),
    }
}

fn metadata(vector: &Vector) -> Metadata {
    let mut metadata = Metadata { content_type: Some(b"text/csv".to_vec()), ..Metadata::default() };
    metadata.user.insert("owner".into(), vector.or("user-metadata", "accounting").as_bytes().to_vec());
    metadata
}

/// Seals `plaintext` as the part `entry` and gives the stored bytes.
fn seal_part(dek: &Dek, entry: PartEntry, plaintext: &[u8]) -> Vec<u8> {
    let mut sealer = PartSealer::new(dek, entry);
    let mut input = Bytes::copy_from_slice(plaintext);
    let mut stored = Vec::new();
    while !input.is_empty() {
        stored.extend(sealer.push(&mut input).expect("fits").iter().flat_map(|piece| piece.as_bytes().clone()));
    }
    stored.extend_from_slice(sealer.finish().expect("complete").as_bytes());
    stored
}

fn seal_single(dek: Arc<Dek>, plaintext: &[u8], checksum: &Checksum) -> Vec<u8> {
    let mut sealer = SingleSealer::new(dek, widen(plaintext.len()));
    let mut input = Bytes::copy_from_slice(plaintext);
    let mut stored = Vec::new();
    while !input.is_empty() {
        stored.extend(sealer.push(&mut input).expect("fits").iter().flat_map(|piece| piece.as_bytes().clone()));
    }
    for piece in sealer.finish(Some(checksum)).expect("complete") {
        stored.extend_from_slice(piece.as_bytes());
    }
    stored
}

/// One segment whose flag denies that it is the last, and a good footer.
fn seal_without_last_flag(dek: &Dek, plaintext: &[u8]) -> Vec<u8> {
    let mut buffer = segment::buffer();
    buffer.extend_from_slice(plaintext);
    let key: AeadKey = dek.content_key();
    let place = Place { part: 1, attempt: AttemptId::SINGLE, index: 0, last: false };
    let mut stored = segment::seal(&key, place, buffer).expect("random").as_bytes().to_vec();
    let map = PartMap::single(widen(plaintext.len()));
    stored.extend(footer::seal(dek, Layout::Single, &map, None).expect("fits"));
    stored
}

/// The stored object that the vector describes, before its mutations. Draws, in order: DEK; attempt ids; header key,
/// nonce of the EDEK, nonce of the header; then the nonces of the body from front to end.
pub(super) fn make(vector: &Vector) -> Stored {
    let (layout, parts) = parts(vector);
    let reader = Reader::of(vector, "");
    with_seed(vector.or("seed", "claviger"), || {
        let dek = Arc::new(Dek::random().expect("random"));
        let entries: Vec<PartEntry> = parts
            .iter()
            .map(|(number, length)| PartEntry {
                number: *number,
                length: *length,
                attempt: if layout == Layout::Multipart {
                    AttemptId::random().expect("random")
                } else {
                    AttemptId::SINGLE
                },
                checksum: if layout == Layout::Multipart { sha256(&number.to_be_bytes()) } else { [0; 32] },
            })
            .collect();
        let variant = vector.or("variant", "");
        let (wrapping, binding) = (reader.wrapping(), reader.binding());
        let envelope = if variant == "uncommitted" {
            envelope::testing::wrap_uncommitted(&dek, layout, branch(vector), wrapping, binding)
        } else {
            envelope::wrap(&dek, layout, &metadata(vector), branch(vector), wrapping, binding).expect("random")
        };
        let plaintext = plaintext(vector);
        let checksum = Checksum::new(Algorithm::Sha256, Kind::FullObject, &sha256(&plaintext)).expect("32 bytes");
        let body = match (layout, variant) {
            (Layout::Empty, _) => Vec::new(),
            (Layout::Single, "no-last-flag") => seal_without_last_flag(&dek, &plaintext),
            (Layout::Single, "tail-lies") => {
                let honest = seal_single(Arc::clone(&dek), &plaintext, &checksum);
                let sealed = narrow(size::sealed_part(widen(plaintext.len())));
                // The footer of an object that is one byte longer, cut to keep the stored size.
                let map = PartMap::single(widen(plaintext.len()) + 1);
                let lie = footer::seal(&dek, Layout::Single, &map, Some(&checksum)).expect("fits");
                [honest.get(..sealed).expect("segments"), &lie].concat()
            }
            (Layout::Single, _) => seal_single(Arc::clone(&dek), &plaintext, &checksum),
            (Layout::Multipart, _) => multipart(&dek, &entries, &plaintext, &checksum, variant),
        };
        Stored { envelope, body }
    })
}

fn multipart(dek: &Dek, entries: &[PartEntry], plaintext: &[u8], checksum: &Checksum, variant: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let mut rest = plaintext;
    for (index, entry) in entries.iter().enumerate() {
        let (own, others) = rest.split_at_checked(narrow(entry.length)).expect("enough plaintext");
        rest = others;
        let mut sealed = seal_part(dek, *entry, own);
        // What an operator could keep from an earlier upload of the first part.
        let earlier = PartEntry { attempt: AttemptId::from_bytes([9; 16]), ..*entry };
        if index == 0 && variant == "earlier-attempt" {
            sealed = seal_part(dek, earlier, own);
        } else if index == 0 && variant == "mixed-attempts" {
            let other = seal_part(dek, earlier, own);
            let cut = narrow(size::SEALED_SEGMENT);
            sealed = [sealed.get(..cut).expect("long"), other.get(cut..).expect("long")].concat();
        }
        body.extend(sealed);
    }
    let map = PartMap::new(entries).expect("legal parts");
    body.extend(footer::seal(dek, Layout::Multipart, &map, Some(checksum)).expect("fits"));
    body
}
