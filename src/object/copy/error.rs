//! Why a copy failed, where no other operation fails so.

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Onto itself, and nothing would change.
    #[error(
        "this copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes"
    )]
    Illegal,
    /// A directive that is neither COPY nor REPLACE.
    #[error("the header {0} must be COPY or REPLACE")]
    Directive(&'static str),
    /// No checksum algorithm of S3.
    #[error("x-amz-checksum-algorithm names no algorithm of S3")]
    Algorithm,
    /// More than S3 copies in one request.
    #[error(
        "the specified copy source is larger than the maximum allowable size for a copy source: {limit} (it has {length} bytes)"
    )]
    TooLarge {
        /// Plaintext bytes of the source.
        length: u64,
        /// Most plaintext bytes.
        limit: u64,
    },
    /// A version that says that the object was deleted.
    #[error("the source of a copy request may not specifically refer to a delete marker by version id")]
    DeleteMarker,
    /// A condition on the source does not hold.
    #[error("at least one of the pre-conditions on the source of the copy did not hold")]
    SourceCondition,
    /// The range is not one of the source's.
    #[error("range specified is not valid for source object of size: {length}")]
    Range {
        /// Plaintext bytes of the source.
        length: u64,
    },
    /// The storage server said that it copied, and something of others, or nothing, stands under the destination's name.
    #[error(
        "after the copy something else, or nothing, stood under the destination's name, several times in a row: others write there, or the storage server did not copy"
    )]
    Replaced,
    /// The storage server said that it copied, and something else stands under the destination's name.
    #[error(
        "the storage server's copy is not what it was asked to copy; what stands under the destination's name cannot be read"
    )]
    NotCopied,
}
