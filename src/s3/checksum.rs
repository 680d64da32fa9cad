//! Checksums that S3 clients ask for: their names on the wire, their digests, and what a client promised of a body.
//!
//! Source: AWS, "Checking object integrity in Amazon S3", and the `ChecksumAlgorithm` values of the S3 API.
//!
//! **Invariant:** a checksum here always speaks of *plaintext*; none is ever sent to or taken from a storage server.

#![warn(clippy::indexing_slicing, clippy::as_conversions)]

pub mod combine;
mod expectations;
mod hasher;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;

pub use expectations::{Expectations, InvalidPromise, Mismatch, Verified, announced_trailers};
pub use hasher::Hasher;

/// Bytes of the longest digest (SHA-512).
pub const MAX_DIGEST_LEN: usize = 64;

/// What all checksum headers start with, in lower case.
const HEADER_PREFIX: &str = "x-amz-checksum-";

/// A checksum algorithm of the S3 API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// CRC-32/ISO-HDLC, 4 bytes.
    Crc32,
    /// CRC-32C (Castagnoli, CRC-32/ISCSI), 4 bytes.
    Crc32c,
    /// CRC-64/NVME, 8 bytes: what S3 computes when the client chose nothing.
    Crc64Nvme,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
    /// MD5, 16 bytes.
    Md5,
    /// XXH64 with seed 0, 8 bytes.
    XxHash64,
    /// XXH3-64 with seed 0, 8 bytes.
    XxHash3,
    /// XXH3-128 with seed 0, 16 bytes.
    XxHash128,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 10] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
        Self::Md5,
        Self::XxHash64,
        Self::XxHash3,
        Self::XxHash128,
    ];

    /// The name in headers and XML, such as `CRC64NVME`.
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
            Self::Md5 => "MD5",
            Self::XxHash64 => "XXHASH64",
            Self::XxHash3 => "XXHASH3",
            Self::XxHash128 => "XXHASH128",
        }
    }

    /// The algorithm of that name, in any case (botocore sends lower case in places).
    pub fn from_wire_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.wire_name().eq_ignore_ascii_case(name))
    }

    /// The header, or trailer, that carries a value of this algorithm, such as `x-amz-checksum-crc32`.
    pub fn header_name(self) -> HeaderName {
        HeaderName::from_static(match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
            Self::Sha512 => "x-amz-checksum-sha512",
            Self::Md5 => "x-amz-checksum-md5",
            Self::XxHash64 => "x-amz-checksum-xxhash64",
            Self::XxHash3 => "x-amz-checksum-xxhash3",
            Self::XxHash128 => "x-amz-checksum-xxhash128",
        })
    }

    /// The algorithm whose values a header of that name carries; the inverse of [`Algorithm::header_name`].
    pub fn from_header_name(name: &HeaderName) -> Option<Self> {
        Self::from_wire_name(name.as_str().strip_prefix(HEADER_PREFIX)?)
    }

    /// Bytes of a digest.
    pub fn digest_len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme | Self::XxHash64 | Self::XxHash3 => 8,
            Self::Md5 | Self::XxHash128 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// Whether a header of that name speaks about checksums without carrying the value of one.
fn is_checksum_setting(name: &HeaderName) -> bool {
    matches!(name.as_str(), "x-amz-checksum-type" | "x-amz-checksum-mode" | "x-amz-checksum-algorithm")
}

/// A checksum value: 1 to 64 bytes, most significant first.
#[derive(Clone, Copy)]
pub struct Digest {
    bytes: [u8; MAX_DIGEST_LEN],
    len: usize,
}

impl Digest {
    /// Takes `bytes`; none when they are empty or more than 64.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut digest = Self { bytes: [0; MAX_DIGEST_LEN], len: bytes.len() };
        if bytes.is_empty() {
            return None;
        }
        digest.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(digest)
    }

    /// Reads the base64 (RFC 4648, padded) that headers carry; none when it is not that, or not a digest of `algorithm`.
    pub fn from_base64(algorithm: Algorithm, text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        if bytes.len() != algorithm.digest_len() {
            return None;
        }
        Self::from_slice(&bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// As headers and XML carry it.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.as_bytes())
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Digest {}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({})", self.to_base64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_wire_name(algorithm.wire_name()), Some(algorithm));
            assert_eq!(Algorithm::from_wire_name(&algorithm.wire_name().to_lowercase()), Some(algorithm));
            assert_eq!(Algorithm::from_header_name(&algorithm.header_name()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_wire_name("CRC16"), None);
        assert_eq!(Algorithm::from_header_name(&HeaderName::from_static("x-amz-checksum-type")), None);
        assert_eq!(Algorithm::from_header_name(&HeaderName::from_static("crc32")), None);
    }

    #[test]
    fn base64_of_the_wrong_length_or_alphabet_is_no_digest() {
        assert_eq!(Digest::from_base64(Algorithm::Crc32, "AAAAAA==").map(|d| d.as_bytes().to_vec()), Some(vec![0; 4]));
        for text in ["", "AAAAAA", "AAAAAAA=", "AAAA", "AAAAAB==", "AAAAAA==-3", " AAAAAA==", "__AAAA=="] {
            assert_eq!(Digest::from_base64(Algorithm::Crc32, text), None, "{text:?}");
        }
        assert_eq!(Digest::from_slice(&[]), None);
        assert_eq!(Digest::from_slice(&[1; 65]), None);
    }
}
