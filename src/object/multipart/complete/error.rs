//! Why an upload could not be completed, where no other operation fails so.

use crate::format::footer::FooterError;
use crate::s3::checksum::Algorithm;
use crate::s3::error::Code;

/// Why an upload could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    /// The list is not in ascending order.
    #[error("the list of parts was not in ascending order: part {0} must come later, and only once")]
    Order(u32),
    /// No such part, or it has another ETag or checksum by now.
    #[error(
        "part {0} could not be found: it may not have been uploaded, or the ETag or checksum in the list is not that of the part"
    )]
    Part(u32),
    /// A part that is not the last is too short.
    #[error("part {number} has {length} bytes; every part but the last needs {least}")]
    TooSmall {
        /// Its number.
        number: u32,
        /// Its plaintext bytes.
        length: u64,
        /// Plaintext bytes that it should have.
        least: u64,
    },
    /// All parts together are more than an object may have.
    #[error("all parts together are more than an object may have")]
    TooLarge,
    /// The upload has composite checksums, and the list lacks that of a part.
    #[error(
        "the upload was created using a {} checksum; the complete request must include the checksum for each part, and it was missing for part {number}",
        .algorithm.wire_name()
    )]
    ChecksumMissing {
        /// The part.
        number: u32,
        /// The upload's algorithm.
        algorithm: Algorithm,
    },
    /// A checksum that is none.
    #[error("a {} checksum in the request is not valid", .0.wire_name())]
    ChecksumValue(Algorithm),
    /// More than one checksum of the object.
    #[error("expecting a single x-amz-checksum- header")]
    MoreThanOne,
    /// A checksum of another algorithm, or type, than the upload was created with.
    #[error("checksum type mismatch: the upload was created with {} of type {kind}", .algorithm.wire_name())]
    OtherChecksum {
        /// The upload's algorithm.
        algorithm: Algorithm,
        /// The upload's type.
        kind: &'static str,
    },
    /// The object's checksum is another one.
    #[error("the {} you specified did not match the calculated checksum", .0.wire_name())]
    BadDigest(Algorithm),
    /// `x-amz-mp-object-size` is no number, or not the object's.
    #[error("x-amz-mp-object-size is not the size of the object: all parts have {length} bytes")]
    ObjectSize {
        /// Plaintext bytes of all parts.
        length: u64,
    },
    /// The footer could not be made.
    #[error(transparent)]
    Footer(#[from] FooterError),
}

impl CompleteError {
    /// The S3 code that goes with it.
    pub fn code(&self) -> Code {
        match self {
            Self::Order(_) => Code::InvalidPartOrder,
            Self::Part(_) => Code::InvalidPart,
            Self::TooSmall { .. } | Self::Footer(FooterError::PartTooShort) => Code::EntityTooSmall,
            Self::TooLarge => Code::EntityTooLarge,
            Self::ChecksumMissing { .. }
            | Self::ChecksumValue(_)
            | Self::MoreThanOne
            | Self::OtherChecksum { .. }
            | Self::ObjectSize { .. } => Code::InvalidRequest,
            Self::BadDigest(_) => Code::BadDigest,
            Self::Footer(FooterError::Random) => Code::InternalError,
        }
    }
}
