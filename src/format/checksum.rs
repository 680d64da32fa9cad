//! The plaintext checksum that is kept with an object, as the format codes it.

/// Most bytes of a checksum's value.
pub const MAX_VALUE: usize = 64;

/// Checksum algorithms by their code in the format. What computes them is none of the format's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// MD5.
    Md5,
    /// XXH64.
    XxHash64,
    /// XXH3 with 64 bits.
    XxHash3,
    /// XXH3 with 128 bits.
    XxHash128,
}

impl Algorithm {
    /// Every algorithm, with its code and the bytes of its value.
    const TABLE: [(Self, u8, usize); 10] = [
        (Self::Crc32, 1, 4),
        (Self::Crc32c, 2, 4),
        (Self::Crc64Nvme, 3, 8),
        (Self::Sha1, 4, 20),
        (Self::Sha256, 5, 32),
        (Self::Sha512, 6, 64),
        (Self::Md5, 7, 16),
        (Self::XxHash64, 8, 8),
        (Self::XxHash3, 9, 8),
        (Self::XxHash128, 10, 16),
    ];

    fn row(self) -> (Self, u8, usize) {
        let row = Self::TABLE.into_iter().find(|row| row.0 == self);
        row.expect("the table has every algorithm")
    }

    /// Whether nobody can make other bytes that have the checksum of given ones.
    pub fn is_collision_resistant(self) -> bool {
        matches!(self, Self::Sha256 | Self::Sha512)
    }

    /// Its code in the format.
    pub fn code(self) -> u8 {
        self.row().1
    }

    /// Bytes of its value.
    pub fn value_len(self) -> usize {
        self.row().2
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::TABLE.into_iter().find(|row| row.1 == code).map(|row| row.0)
    }
}

/// What a checksum is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// All plaintext bytes of the object.
    FullObject,
    /// The checksums of its parts, one after the other (S3's composite checksums).
    Composite,
}

impl Kind {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::FullObject => 0,
            Self::Composite => 1,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::FullObject, Self::Composite].into_iter().find(|kind| kind.code() == code)
    }
}

/// A plaintext checksum: algorithm, kind, value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    algorithm: Algorithm,
    kind: Kind,
    value: Vec<u8>,
}

impl Checksum {
    /// `None` unless `value` has the algorithm's length.
    pub fn new(algorithm: Algorithm, kind: Kind, value: &[u8]) -> Option<Self> {
        (value.len() == algorithm.value_len()).then(|| Self { algorithm, kind, value: value.to_vec() })
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What it is over.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its value, of the algorithm's length.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// `algorithm u8 ‖ kind u8 ‖ value`.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        [&[self.algorithm.code(), self.kind.code()], self.value.as_slice()].concat()
    }

    /// The strict inverse of [`Checksum::to_bytes`].
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[algorithm, kind], value) = bytes.split_first_chunk::<2>()?;
        Self::new(Algorithm::from_code(algorithm)?, Kind::from_code(kind)?, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_round_trip() {
        for (algorithm, code, length) in Algorithm::TABLE {
            assert_eq!(Algorithm::from_code(code), Some(algorithm));
            let checksum = Checksum::new(algorithm, Kind::Composite, &vec![7; length]).expect("right length");
            assert_eq!(Checksum::from_bytes(&checksum.to_bytes()), Some(checksum));
            assert_eq!(Checksum::new(algorithm, Kind::FullObject, &vec![7; length + 1]), None);
        }
        assert_eq!(Checksum::from_bytes(&[11, 0, 1, 2, 3, 4]), None);
        assert_eq!(Checksum::from_bytes(&[1, 2, 1, 2, 3, 4]), None);
        assert_eq!(Checksum::from_bytes(&[1]), None);
    }
}
