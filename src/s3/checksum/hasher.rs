//! One running checksum of any algorithm.

use std::hash::Hasher as _;

use md5::Digest as _;

use super::{Algorithm, Digest};
use crate::crypto::{self, DigestAlgorithm};

/// A running checksum.
pub struct Hasher(State);

/// The states differ in size up to a kilobyte (XXH3 buffers its input); a request has one or two, so large ones are boxed.
enum State {
    Crc32(crc_fast::Digest),
    Crc64(crc_fast::Digest),
    Sha(crypto::Digest),
    Md5(md5::Md5),
    XxHash64(twox_hash::XxHash64),
    XxHash3(Box<twox_hash::XxHash3_64>),
    XxHash128(Box<twox_hash::XxHash3_128>),
}

impl Hasher {
    /// Starts one.
    pub fn new(algorithm: Algorithm) -> Self {
        use crc_fast::CrcAlgorithm;
        Self(match algorithm {
            Algorithm::Crc32 => State::Crc32(crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc)),
            Algorithm::Crc32c => State::Crc32(crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
            Algorithm::Crc64Nvme => State::Crc64(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme)),
            Algorithm::Sha1 => State::Sha(crypto::Digest::new(DigestAlgorithm::Sha1)),
            Algorithm::Sha256 => State::Sha(crypto::Digest::new(DigestAlgorithm::Sha256)),
            Algorithm::Sha512 => State::Sha(crypto::Digest::new(DigestAlgorithm::Sha512)),
            Algorithm::Md5 => State::Md5(md5::Md5::new()),
            Algorithm::XxHash64 => State::XxHash64(twox_hash::XxHash64::with_seed(0)),
            Algorithm::XxHash3 => State::XxHash3(Box::new(twox_hash::XxHash3_64::with_seed(0))),
            Algorithm::XxHash128 => State::XxHash128(Box::new(twox_hash::XxHash3_128::with_seed(0))),
        })
    }

    /// Takes `bytes` in.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Crc32(digest) | State::Crc64(digest) => digest.update(bytes),
            State::Sha(digest) => digest.update(bytes),
            State::Md5(digest) => digest.update(bytes),
            State::XxHash64(digest) => digest.write(bytes),
            State::XxHash3(digest) => digest.write(bytes),
            State::XxHash128(digest) => digest.write(bytes),
        }
    }

    /// The digest, [`Algorithm::digest_len`] bytes.
    pub fn finish(self) -> Digest {
        let digest = match self.0 {
            State::Crc32(digest) => {
                let value = u32::try_from(digest.finalize()).expect("a CRC-32 has 32 bits");
                Digest::from_slice(&value.to_be_bytes())
            }
            State::Crc64(digest) => Digest::from_slice(&digest.finalize().to_be_bytes()),
            State::Sha(digest) => Digest::from_slice(&digest.finish()),
            State::Md5(digest) => Digest::from_slice(&digest.finalize()),
            State::XxHash64(digest) => Digest::from_slice(&digest.finish().to_be_bytes()),
            State::XxHash3(digest) => Digest::from_slice(&digest.finish().to_be_bytes()),
            State::XxHash128(digest) => Digest::from_slice(&digest.finish_128().to_be_bytes()),
        };
        digest.expect("every digest has 4 to 64 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex_of(algorithm: Algorithm, parts: &[&[u8]]) -> String {
        let mut hasher = Hasher::new(algorithm);
        parts.iter().for_each(|part| hasher.update(part));
        let digest = hasher.finish();
        assert_eq!(digest.as_bytes().len(), algorithm.digest_len());
        digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// CRC check values: the catalogue of parametrised CRC algorithms. SHA: FIPS 180 "abc". MD5: RFC 1321.
    /// XXH: xxhsum of the same bytes.
    #[test]
    fn published_check_values() {
        let nine: &[&[u8]] = &[b"1234", b"", b"56789"];
        assert_eq!(hex_of(Algorithm::Crc32, nine), "cbf43926");
        assert_eq!(hex_of(Algorithm::Crc32c, nine), "e3069283");
        assert_eq!(hex_of(Algorithm::Crc64Nvme, nine), "ae8b14860a799888");
        assert_eq!(hex_of(Algorithm::Sha1, &[b"abc"]), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex_of(Algorithm::Sha256, &[b"a", b"bc"]), sha256);
        assert!(hex_of(Algorithm::Sha512, &[b"abc"]).starts_with("ddaf35a193617abacc417349ae204131"));
        assert_eq!(hex_of(Algorithm::Md5, &[b"abc"]), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex_of(Algorithm::XxHash64, &[]), "ef46db3751d8e999");
        assert_eq!(hex_of(Algorithm::XxHash3, &[]), "2d06800538d394c2");
        assert_eq!(hex_of(Algorithm::XxHash128, &[]), "99aa06d3014798d86001c324468d497f");
    }

    #[test]
    fn pieces_do_not_matter() {
        let body: Vec<u8> = (0..5000u16).map(|i| u8::try_from(i % 251).expect("below 251")).collect();
        for algorithm in Algorithm::ALL {
            let pieces: Vec<&[u8]> = body.chunks(77).collect();
            assert_eq!(hex_of(algorithm, &pieces), hex_of(algorithm, &[&body]), "{algorithm:?}");
        }
    }
}
