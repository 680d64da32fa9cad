//! The aws-chunked transfer encoding: takes a body apart into plaintext and trailers.
//!
//! ```text
//! body     = chunk* last trailers
//! chunk    = size [";chunk-signature=" 64 hex] CRLF data CRLF        size in hex, not 0
//! last     = "0"  [";chunk-signature=" 64 hex] CRLF
//! trailers = (name ":" value EOL)* ["x-amz-trailer-signature:" 64 hex EOL] CRLF
//! ```
//!
//! Source: AWS S3 API reference, "Transferring Payload in Multiple Chunks" and "Including Trailing Headers". Lines end
//! in CR LF and nothing else, except those of trailers: minio-go ends them in a bare LF, after the last of which comes a
//! CR LF more (as in AWS's own example), so one CR LF right after a bare LF belongs to it.
//!
//! Data is given out while it comes, before the signature of its chunk can be checked, because a chunk may be as long
//! as the body. Only the end of a chunk waits for its signature. So **whoever uses the data must be able to take it back
//! until [`Event::End`]**: the proxy withholds the end of the ciphertext, so that nothing is committed before.
//!
//! **Invariant:** [`Event::End`] comes only after every signature held, exactly the announced length of data came, and
//! exactly the announced trailers. After an error there is only that error.
//!
//! **Invariant:** memory is bounded by a line and [`MAX_TRAILERS_LEN`], whatever the chunks' sizes.

#![warn(clippy::indexing_slicing, clippy::as_conversions)]

mod error;
mod line;
#[cfg(test)]
mod tests;
mod trailers;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

pub use self::error::ChunkError;
use self::line::{LineBuffer, SizeLine};
use self::trailers::TrailerReader;
use crate::crypto::{Digest, DigestAlgorithm};
use crate::s3::sigv4::{ChunkSigner, Payload};

/// Most bytes of a line, its end included.
pub const MAX_LINE_LEN: usize = 1024;
/// Most trailers that may be announced.
pub const MAX_TRAILERS: usize = 8;
/// Most bytes of all trailers, line ends included.
pub const MAX_TRAILERS_LEN: usize = 4096;

/// The variants of aws-chunked.
#[derive(Debug)]
pub enum Mode {
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`.
    Unsigned,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`: each chunk is signed, and there are no trailers.
    Signed(ChunkSigner),
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER`: each chunk is signed, and so are the trailers.
    SignedTrailer(ChunkSigner),
}

impl Mode {
    /// The mode that a verified signature demands; none when the body is not aws-chunked.
    pub fn of_payload(payload: Payload) -> Option<Self> {
        match payload {
            Payload::StreamingUnsignedTrailer => Some(Self::Unsigned),
            Payload::StreamingSigned { trailer: false, signer } => Some(Self::Signed(signer)),
            Payload::StreamingSigned { trailer: true, signer } => Some(Self::SignedTrailer(signer)),
            Payload::Signed(_) | Payload::Unsigned => None,
        }
    }

    fn signer(&mut self) -> Option<&mut ChunkSigner> {
        match self {
            Self::Unsigned => None,
            Self::Signed(signer) | Self::SignedTrailer(signer) => Some(signer),
        }
    }
}

/// What the next bytes gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Plaintext, not empty; shared with the input, not copied.
    Data(Bytes),
    /// The input is used up.
    NeedMore,
    /// The body is whole and everything in it held. These are its trailers, without their signature.
    End(Vec<(HeaderName, String)>),
}

/// Takes an aws-chunked body apart, in whatever pieces it comes.
pub struct Decoder {
    mode: Mode,
    state: State,
    line: LineBuffer,
    trailers: TrailerReader,
    /// Bytes of data that are still to come in later chunks.
    remaining: u64,
    /// What is to be verified at the end of the present chunk.
    signed: Option<Signed>,
}

#[derive(Clone, Copy)]
enum State {
    /// In the line before a chunk.
    Size,
    /// In the data of a chunk.
    Data {
        left: u64,
    },
    /// In the CR LF after it.
    DataEnd,
    Trailers,
    End,
    Failed(ChunkError),
}

/// The signature that a chunk presents, and the hash of its data so far.
struct Signed {
    presented: [u8; 32],
    digest: Digest,
}

impl Decoder {
    /// A decoder of a body of `decoded_length` plaintext bytes, with the trailers that `x-amz-trailer` announced.
    ///
    /// # Errors
    /// [`ChunkError::TooManyTrailers`].
    pub fn new(mode: Mode, decoded_length: u64, announced: Vec<HeaderName>) -> Result<Self, ChunkError> {
        if announced.len() > MAX_TRAILERS {
            return Err(ChunkError::TooManyTrailers);
        }
        let trailers = TrailerReader::new(announced, matches!(mode, Mode::SignedTrailer(_)));
        Ok(Self {
            mode,
            state: State::Size,
            line: LineBuffer::default(),
            trailers,
            remaining: decoded_length,
            signed: None,
        })
    }

    /// Takes bytes off the front of `input` until something comes of them. Call it again with the rest of `input` until
    /// it says [`Event::NeedMore`], with all input to the end of the body, also after [`Event::End`]: so that bytes after
    /// the end are noticed.
    ///
    /// # Errors
    /// [`ChunkError`], and the same again from then on.
    pub fn feed(&mut self, input: &mut Bytes) -> Result<Event, ChunkError> {
        let event = self.step(input);
        if let Err(error) = event {
            self.state = State::Failed(error);
        }
        event
    }

    /// Says that the body is over.
    ///
    /// # Errors
    /// [`ChunkError::Truncated`] when [`Event::End`] has not come, and the error that stopped the decoder.
    pub fn finish(&self) -> Result<(), ChunkError> {
        match self.state {
            State::End => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(ChunkError::Truncated),
        }
    }

    fn step(&mut self, input: &mut Bytes) -> Result<Event, ChunkError> {
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                _ if input.is_empty() => return Ok(Event::NeedMore),
                State::Size => {
                    let Some(line) = self.line.take(input)? else { continue };
                    let line = SizeLine::parse(&line, self.mode.signer().is_some())?;
                    self.start_chunk(line)?;
                }
                State::Data { left } => return self.data(left, input).map(Event::Data),
                State::DataEnd => {
                    let Some(line) = self.line.take(input)? else { continue };
                    if line.as_slice() != b"\r\n" {
                        return Err(ChunkError::ChunkEnd);
                    }
                    self.state = State::Size;
                }
                State::Trailers => {
                    let Some(line) = self.line.take(input)? else { continue };
                    if self.trailers.take(&line)? {
                        let trailers = self.trailers.finish(&mut self.mode)?;
                        self.state = State::End;
                        return Ok(Event::End(trailers));
                    }
                }
                State::End => return Err(ChunkError::AfterEnd),
            }
        }
    }

    fn start_chunk(&mut self, SizeLine { size, signature }: SizeLine) -> Result<(), ChunkError> {
        self.remaining = self.remaining.checked_sub(size).ok_or(ChunkError::TooLong)?;
        self.signed = signature.map(|presented| Signed { presented, digest: Digest::new(DigestAlgorithm::Sha256) });
        if size > 0 {
            self.state = State::Data { left: size };
            return Ok(());
        }
        if self.remaining > 0 {
            return Err(ChunkError::TooShort);
        }
        self.state = State::Trailers;
        self.verify_chunk()
    }

    /// The next data of a chunk that has `left` bytes to come; its last only if its signature holds.
    fn data(&mut self, left: u64, input: &mut Bytes) -> Result<Bytes, ChunkError> {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let piece = input.split_to(taken);
        if let Some(signed) = &mut self.signed {
            signed.digest.update(&piece);
        }
        let left = left - u64::try_from(taken).expect("lengths fit into 64 bits");
        self.state = State::Data { left };
        if left == 0 {
            self.state = State::DataEnd;
            self.verify_chunk()?;
        }
        Ok(piece)
    }

    fn verify_chunk(&mut self) -> Result<(), ChunkError> {
        match (self.mode.signer(), self.signed.take()) {
            (None, None) => Ok(()),
            (Some(signer), Some(Signed { presented, digest })) => {
                let hash: [u8; 32] = digest.finish().try_into().expect("SHA-256 gives 32 bytes");
                if signer.verify_chunk(&hash, &presented) { Ok(()) } else { Err(ChunkError::ChunkSignature) }
            }
            _ => Err(ChunkError::SizeLine),
        }
    }
}

/// The plaintext length that `x-amz-decoded-content-length` announces.
///
/// # Errors
/// [`ChunkError::DecodedLengthMissing`] and [`ChunkError::DecodedLengthInvalid`].
pub fn decoded_content_length(headers: &HeaderMap) -> Result<u64, ChunkError> {
    let mut values = headers.get_all("x-amz-decoded-content-length").iter();
    let value = values.next().ok_or(ChunkError::DecodedLengthMissing)?;
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(length), None) => Ok(length),
        _ => Err(ChunkError::DecodedLengthInvalid),
    }
}
