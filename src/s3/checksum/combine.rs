//! The checksum of an object from those of its parts.
//!
//! Source: AWS, "Checking object integrity in Amazon S3", "Full object and composite checksum types for multipart
//! uploads".

use super::{Algorithm, Digest, Hasher};

/// The composite checksum: the same algorithm over the parts' digests, one after the other.
pub fn composite(algorithm: Algorithm, parts: impl IntoIterator<Item = Digest>) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    parts.into_iter().for_each(|part| hasher.update(part.as_bytes()));
    hasher.finish()
}

/// Whether the checksum of a whole can be had from those of its pieces: of CRCs only.
pub fn combines(algorithm: Algorithm) -> bool {
    crc(algorithm).is_some()
}

/// The checksum of all bytes, from the digests and lengths of the pieces that they come in; none for an algorithm
/// that does not combine, or for digests of another one.
pub fn full_object(algorithm: Algorithm, parts: impl IntoIterator<Item = (Digest, u64)>) -> Option<Digest> {
    let kind = crc(algorithm)?;
    let mut whole = value(algorithm, &Hasher::new(algorithm).finish())?;
    for (digest, length) in parts {
        let piece = value(algorithm, &digest)?;
        // The library takes a length of 0 for one of bits that are not there.
        if length > 0 {
            whole = crc_fast::checksum_combine(kind, whole, piece, length);
        }
    }
    let bytes = whole.to_be_bytes();
    Digest::from_slice(bytes.get(bytes.len() - algorithm.digest_len()..)?)
}

fn crc(algorithm: Algorithm) -> Option<crc_fast::CrcAlgorithm> {
    match algorithm {
        Algorithm::Crc32 => Some(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
        Algorithm::Crc32c => Some(crc_fast::CrcAlgorithm::Crc32Iscsi),
        Algorithm::Crc64Nvme => Some(crc_fast::CrcAlgorithm::Crc64Nvme),
        _ => None,
    }
}

fn value(algorithm: Algorithm, digest: &Digest) -> Option<u64> {
    let bytes = digest.as_bytes();
    let fits = bytes.len() == algorithm.digest_len() && bytes.len() <= 8;
    fits.then(|| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CRCS: [Algorithm; 3] = [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme];

    fn digest(algorithm: Algorithm, body: &[u8]) -> Digest {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(body);
        hasher.finish()
    }

    #[test]
    fn only_crcs_combine() {
        for algorithm in Algorithm::ALL {
            let part = (digest(algorithm, b"abc"), 3);
            assert_eq!(combines(algorithm), CRCS.contains(&algorithm));
            assert_eq!(full_object(algorithm, [part]).is_some(), CRCS.contains(&algorithm), "{algorithm:?}");
        }
        assert!(full_object(Algorithm::Crc32, [(digest(Algorithm::Crc64Nvme, b""), 0)]).is_none());
    }

    #[test]
    fn a_composite_is_the_digest_of_digests() {
        // What SDKs compare: sha256(sha256(a) ‖ sha256(b)).
        let parts = [b"a".as_slice(), b"b"].map(|part| digest(Algorithm::Sha256, part));
        let concatenated = [parts[0].as_bytes(), parts[1].as_bytes()].concat();
        assert_eq!(composite(Algorithm::Sha256, parts), digest(Algorithm::Sha256, &concatenated));
    }

    proptest! {
        #[test]
        fn the_whole_is_the_same_however_it_was_cut(parts in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..200), 0..8))
        {
            for algorithm in CRCS {
                let pieces = parts.iter().map(|part| (digest(algorithm, part), part.len().try_into().expect("short")));
                prop_assert_eq!(full_object(algorithm, pieces), Some(digest(algorithm, &parts.concat())));
            }
        }
    }
}
