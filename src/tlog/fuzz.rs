//! What the fuzz targets run: readers of bytes from outside, which must not panic and must print what they read.

use super::checkpoint::{Checkpoint, SignedCheckpoint};
use super::journal::{self, Next};
use super::merkle::{Frontier, Hash};
use super::note::{Note, Signature, Use, VerifierKey};
use super::proof::{verify_consistency, verify_inclusion};
use super::proof_file::InclusionProof;
use super::tile::{Tile, hashes_to_bytes, parse_entries, parse_hashes, push_entry};

fn key() -> VerifierKey {
    VerifierKey::new("fuzz", Use::Log, [7; 32]).expect("a name")
}

/// Notes, checkpoints, verifier keys, signature lines and proofs as text.
///
/// # Panics
/// When something is read that is not printed the same again, or a signature of no key is taken as good.
pub fn notes(bytes: &[u8]) {
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(Note::parse(note.to_string().as_bytes()).as_ref(), Ok(&note));
        assert!(key().verify(&note).is_err());
    }
    assert!(SignedCheckpoint::open(bytes, &key()).is_err());
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert_eq!(checkpoint.to_string(), text);
    }
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(signature) = Signature::parse(text) {
        assert_eq!(signature.to_string(), text);
    }
    if let Ok(proof) = InclusionProof::parse(bytes) {
        assert_eq!(proof.to_string(), text);
        assert!(proof.verify(b"", &key()).is_err());
    }
}

/// Tile paths, tiles, entry bundles and journal segments.
///
/// # Panics
/// When something is read that is not printed the same again, or an unsigned batch is taken as good.
pub fn tiles(bytes: &[u8]) {
    if let Some(tile) = std::str::from_utf8(bytes).ok().and_then(|path| Tile::parse(path).ok()) {
        assert_eq!(tile.to_string().as_bytes(), bytes);
    }
    let Some((first, rest)) = bytes.split_first() else { return };
    let width = u16::from(*first) + 1;
    if let Ok(entries) = parse_entries(rest, width) {
        let mut again = Vec::new();
        entries.iter().for_each(|entry| push_entry(&mut again, entry).expect("it was in a bundle"));
        assert_eq!(again, rest);
    }
    if let Ok(hashes) = parse_hashes(rest, width) {
        assert_eq!(hashes_to_bytes(&hashes), rest);
    }
    assert!(!matches!(journal::next(bytes, &Frontier::default(), &key()), Next::Batch { .. }));
}

/// Proofs: two sizes, then hashes.
///
/// # Panics
/// When a proof of something else holds.
pub fn proofs(bytes: &[u8]) {
    let Some((old, rest)) = bytes.split_first_chunk() else { return };
    let Some((new, rest)) = rest.split_first_chunk() else { return };
    let (old, new) = (u64::from_be_bytes(*old), u64::from_be_bytes(*new));
    let (hashes, _) = rest.as_chunks();
    let proof: Vec<Hash> = hashes.iter().copied().map(Hash).collect();
    let (leaf, root) = (Hash([1; 32]), Hash([2; 32]));
    assert!(verify_inclusion(&proof, &leaf, old, new, &root).is_err());
    assert!(verify_consistency(&proof, (old, &leaf), (new, &root)).is_err());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    const NOTE: &str = "example.com/audit\n1\niipcm3aIJ95alVLDigRMZpWcaPbS8htSYK9U0vh9uCc=\n\n\
         — example.com/audit J6mbg5GcIQBzpjIvyFMpppYWhm7sBRGtMkvaGiL1WvwWBI0SQoan3SbfnRabCxdfVHYTBN9bSA7N3vynzHqmrC9dNA8=\n";

    const PROOF: &str = "c2sp.org/tlog-proof@v1\nextra QUJD\nindex 0\niipcm3aIJ95alVLDigRMZpWcaPbS8htSYK9U0vh9uCc=\n\n\
         example.com/audit\n2\niipcm3aIJ95alVLDigRMZpWcaPbS8htSYK9U0vh9uCc=\n\n\
         — example.com/audit J6mbg5GcIQBzpjIvyFMpppYWhm7sBRGtMkvaGiL1WvwWBI0SQoan3SbfnRabCxdfVHYTBN9bSA7N3vynzHqmrC9dNA8=\n";

    fn run(bytes: &[u8]) {
        super::notes(bytes);
        super::tiles(bytes);
        super::proofs(bytes);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            run(&bytes);
        }

        #[test]
        fn near_misses_are_survived(
            seed in prop::sample::select(vec![
                NOTE,
                "example.com/audit\n1\niipcm3aIJ95alVLDigRMZpWcaPbS8htSYK9U0vh9uCc=\n",
                PROOF,
                "— example.com/audit J6mbg5GcIQBzpjIvyFMpppYWhm7sBRGtMkvaGiL1WvwWBI0SQoan3SbfnRabCxdfVHYTBN9bSA7N3vynzHqmrC9dNA8=",
                "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
                "tile/63/x001/x234/067.p/255",
                "clvtlog1\0\0\0\0\0\0\0\0\0\0\0\u{1}\0\0\0\u{3}\0\u{1}x",
                "\u{1}\0\u{1}a\0\u{1}b",
            ]),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = seed.as_bytes().to_vec();
            run(&bytes);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            run(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            run(&bytes);
        }
    }
}
