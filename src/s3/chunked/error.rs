//! What is wrong with an aws-chunked body.

use super::{MAX_LINE_LEN, MAX_TRAILERS};

/// The body is not what aws-chunked, its signatures or its announced length say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// `x-amz-decoded-content-length` is missing (S3: `MissingContentLength`).
    #[error("aws-chunked bodies need x-amz-decoded-content-length")]
    DecodedLengthMissing,
    /// `x-amz-decoded-content-length` is no number, or stands there twice (S3: `InvalidArgument`).
    #[error("x-amz-decoded-content-length is not a number")]
    DecodedLengthInvalid,
    /// More than [`MAX_TRAILERS`] are announced (S3: `InvalidRequest`).
    #[error("more than {MAX_TRAILERS} trailers are announced")]
    TooManyTrailers,
    /// The line before a chunk is not a size in hex, with or without a signature as the body demands
    /// (S3: `InvalidRequest`).
    #[error("the line before a chunk is malformed")]
    SizeLine,
    /// A line is longer than [`MAX_LINE_LEN`] (S3: `InvalidRequest`).
    #[error("a line is longer than {MAX_LINE_LEN} bytes")]
    LineTooLong,
    /// No CR LF after the data of a chunk (S3: `InvalidRequest`).
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// The signature of a chunk is wrong (S3: `SignatureDoesNotMatch`).
    #[error("the signature of a chunk does not match")]
    ChunkSignature,
    /// More data than announced (S3: `IncompleteBody`).
    #[error("the body has more bytes than x-amz-decoded-content-length says")]
    TooLong,
    /// The last chunk came before all announced data (S3: `IncompleteBody`).
    #[error("the body has fewer bytes than x-amz-decoded-content-length says")]
    TooShort,
    /// A trailer is not `name:value`, or all together are longer than [`super::MAX_TRAILERS_LEN`]
    /// (S3: `MalformedTrailerError`).
    #[error("a trailer is malformed")]
    TrailerMalformed,
    /// A trailer was not announced, or came twice, or after the signature (S3: `MalformedTrailerError`).
    #[error("a trailer came that was not announced")]
    TrailerUnexpected,
    /// An announced trailer did not come (S3: `MalformedTrailerError`).
    #[error("an announced trailer is missing")]
    TrailerMissing,
    /// The signature of the trailers is missing or wrong (S3: `SignatureDoesNotMatch`).
    #[error("the signature of the trailers does not match")]
    TrailerSignature,
    /// The body goes on after its end (S3: `InvalidRequest`).
    #[error("the body goes on after its end")]
    AfterEnd,
    /// The body stops before its end (S3: `IncompleteBody`).
    #[error("the body stops before its end")]
    Truncated,
}
