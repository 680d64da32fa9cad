//! The client's body as a stream of plaintext, checked against everything that the client promised of it.
//!
//! **Invariant:** the plaintext ends only after length, chunk signatures, trailers and every
//! checksum were found right; whoever commits an upload does so after that.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

use crate::custody::branch::Revoked;
use crate::custody::keys::BranchKeyError;
use crate::format::body::SealError;
use crate::net::body::BodyError;
use crate::s3::checksum::{Algorithm, Expectations, InvalidPromise, Mismatch, Verified, announced_trailers};
use crate::s3::chunked::{ChunkError, Decoder, Event, Mode, decoded_content_length};
use crate::s3::sigv4::Payload;

use super::answer::ReadFailure;
use super::error::Error;
use super::source::PlainStream;

/// The request's body as it comes from the client.
pub type ClientBody = UnsyncBoxBody<Bytes, BodyError>;

/// A request's body, with what the signature says about it.
pub struct Upload {
    /// The body.
    pub body: ClientBody,
    /// What the signature says about it.
    pub payload: Payload,
}

/// Why an upload was not committed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The client hung up, or was too slow.
    #[error(transparent)]
    Client(#[from] BodyError),
    /// The aws-chunked encoding is wrong, or a chunk's signature.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A trailer cannot be understood.
    #[error(transparent)]
    Promise(#[from] InvalidPromise),
    /// The body is not what was promised.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The body is shorter or longer than announced, or could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The branch key was revoked while the body was under way.
    #[error(transparent)]
    Revoked(#[from] Revoked),
    /// The lease on it was ended while the body was under way, and not renewed.
    #[error("the branch key's lease was not renewed")]
    Lease(#[from] BranchKeyError),
    /// The source of a copy could not be read to its end.
    #[error("the source of the copy could not be read to its end")]
    Source(#[source] ReadFailure),
    /// A document is longer than any of its kind.
    #[error("the document is longer than {limit} bytes")]
    DocumentTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
}

/// The next thing that a body gives.
pub(super) enum Step {
    /// Plaintext, not empty.
    Data(Bytes),
    /// Everything came and is right.
    End(Verified),
}

/// The plaintext of an upload.
pub(super) struct Plaintext {
    body: UnsyncBoxBody<Bytes, UploadError>,
    decoder: Option<Decoder>,
    expectations: Option<Expectations>,
    /// Those of aws-chunked, once they came.
    trailers: Vec<(HeaderName, String)>,
    length: u64,
    taken: u64,
    encoded: Bytes,
}

impl Plaintext {
    /// Reads the announced length and the promises.
    pub(super) fn new(upload: Upload, headers: &HeaderMap) -> Result<Self, Error> {
        Self::with(upload, headers, Expectations::from_headers)
    }

    /// The same for a document whose `x-amz-checksum-…` headers speak of something else than itself.
    pub(super) fn of_document(upload: Upload, headers: &HeaderMap) -> Result<Self, Error> {
        Self::with(upload, headers, Expectations::of_body_only)
    }

    fn with(
        upload: Upload,
        headers: &HeaderMap,
        expect: impl FnOnce(&HeaderMap, Option<[u8; 32]>) -> Result<Expectations, InvalidPromise>,
    ) -> Result<Self, Error> {
        let Upload { body, payload } = upload;
        let signed_sha256 = if let Payload::Signed(hash) = payload { Some(hash) } else { None };
        let mode = Mode::of_payload(payload);
        if mode.is_none() && names_aws_chunked(headers) {
            // The signature says that the body is as it comes: framing would be stored as data.
            return Err(Error::Header(CONTENT_ENCODING));
        }
        let length = match &mode {
            Some(_) => decoded_content_length(headers).map_err(UploadError::from)?,
            None => content_length(headers)?,
        };
        let expectations = Some(expect(headers, signed_sha256)?);
        let trailers = announced_trailers(headers)?;
        let decoder = mode.map(|mode| Decoder::new(mode, length, trailers)).transpose().map_err(UploadError::from)?;
        let body = body.map_err(UploadError::from).boxed_unsync();
        Ok(Self { body, decoder, expectations, trailers: Vec::new(), length, taken: 0, encoded: Bytes::new() })
    }

    /// `length` verified bytes of another object, with a checksum by `algorithm` (or S3's own choice) at the end.
    pub(super) fn of_copy(body: PlainStream, length: u64, algorithm: Option<Algorithm>) -> Self {
        let body = body.map_err(UploadError::Source).boxed_unsync();
        let expectations = Some(Expectations::none(algorithm));
        Self { body, decoder: None, expectations, trailers: Vec::new(), length, taken: 0, encoded: Bytes::new() }
    }

    /// `length` bytes of an object without an envelope, of which `promises` say what a client's headers say of an upload.
    pub(super) fn of_stored(body: PlainStream, length: u64, promises: &HeaderMap) -> Result<Self, Error> {
        let expectations = Some(Expectations::from_headers(promises, None)?);
        Ok(Self { expectations, ..Self::of_copy(body, length, None) })
    }

    /// The algorithm of the checksum that the client sends, if it sends one.
    pub(super) fn chosen(&self) -> Option<Algorithm> {
        self.expectations.as_ref().and_then(Expectations::chosen)
    }

    /// The same with a checksum by `algorithm` at the end, beside the one that the client sends.
    pub(super) fn storing(mut self, algorithm: Algorithm) -> Self {
        self.expectations = self.expectations.map(|expectations| expectations.storing(algorithm));
        self
    }

    /// Plaintext bytes announced.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The next step. Not to be called again after [`Step::End`] or an error.
    pub(super) fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Result<Step, UploadError>> {
        loop {
            if let Some(step) = self.decode()? {
                return Poll::Ready(Ok(step));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(frame) => {
                    // Trailers of HTTP itself mean nothing in S3.
                    self.encoded = frame?.into_data().unwrap_or_default();
                }
                None => return Poll::Ready(self.end()),
            }
        }
    }

    /// What the bytes at hand give; `None` when more are needed.
    fn decode(&mut self) -> Result<Option<Step>, UploadError> {
        while !self.encoded.is_empty() {
            let data = match &mut self.decoder {
                None => std::mem::take(&mut self.encoded),
                Some(decoder) => match decoder.feed(&mut self.encoded)? {
                    Event::Data(data) => data,
                    Event::NeedMore => return Ok(None),
                    Event::End(trailers) => {
                        self.trailers = trailers;
                        continue;
                    }
                },
            };
            if !data.is_empty() {
                self.taken += data.len() as u64;
                if self.taken > self.length {
                    return Err(SealError::Length.into());
                }
                if let Some(expectations) = &mut self.expectations {
                    expectations.update(&data);
                }
                return Ok(Some(Step::Data(data)));
            }
        }
        Ok(None)
    }

    fn end(&mut self) -> Result<Step, UploadError> {
        if let Some(decoder) = &self.decoder {
            decoder.finish()?;
        }
        if self.taken != self.length {
            return Err(SealError::Length.into());
        }
        let mut expectations = self.expectations.take().ok_or(SealError::Length)?;
        expectations.trailers(self.trailers.iter().map(|(name, value)| (name, value.as_str())))?;
        Ok(Step::End(expectations.finish()?))
    }

    /// All of it, which the caller knows to be short.
    pub(super) async fn collect(mut self, limit: usize) -> Result<(Vec<u8>, Verified), UploadError> {
        let mut collected = Vec::with_capacity(usize::try_from(self.length).unwrap_or(limit).min(limit));
        loop {
            match std::future::poll_fn(|context| self.poll_step(context)).await? {
                Step::Data(data) if collected.len() + data.len() > limit => {
                    return Err(UploadError::DocumentTooLarge { limit });
                }
                Step::Data(data) => collected.extend_from_slice(&data),
                Step::End(verified) => return Ok((collected, verified)),
            }
        }
    }
}

fn names_aws_chunked(headers: &HeaderMap) -> bool {
    let codings =
        headers.get_all(CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    codings.map(<[u8]>::trim_ascii).any(|coding| coding.eq_ignore_ascii_case(b"aws-chunked"))
}

/// Content-Length, in digits and once: with a sign, or twice, somebody else might read another number (RFC 9110, section
/// 8.6).
///
/// # Errors
/// [`Error::MissingLength`] and [`Error::Header`].
pub fn content_length(headers: &HeaderMap) -> Result<u64, Error> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let value = values.next().ok_or(Error::MissingLength)?;
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(length), None) => Ok(length),
        _ => Err(Error::Header(CONTENT_LENGTH)),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body_util::{BodyExt as _, Empty};

    use super::*;

    fn length(payload: Payload, name: &'static str, values: &[&'static str]) -> Result<u64, Error> {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|value| {
            headers.append(name, HeaderValue::from_static(value));
        });
        headers.insert("x-amz-trailer", HeaderValue::from_static("x-amz-checksum-crc32"));
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        Ok(Plaintext::new(Upload { body, payload }, &headers)?.length())
    }

    #[test]
    fn lengths_are_digits_and_given_once() {
        let plain = |values| length(Payload::Unsigned, "content-length", values);
        let chunked = |values| length(Payload::StreamingUnsignedTrailer, "x-amz-decoded-content-length", values);
        assert_eq!((plain(&["12"]).ok(), chunked(&["12"]).ok()), (Some(12), Some(12)));
        for wrong in
            [&["+12"][..], &["-1"], &[""], &["1 2"], &["0x1"], &["18446744073709551616"], &["12", "12"], &["1", "2"]]
        {
            assert!(matches!(plain(wrong), Err(Error::Header(CONTENT_LENGTH))), "{wrong:?}");
            let refused = chunked(wrong);
            let invalid = ChunkError::DecodedLengthInvalid;
            assert!(matches!(refused, Err(Error::Upload(UploadError::Chunk(error))) if error == invalid), "{wrong:?}");
        }
        assert!(matches!(plain(&[]), Err(Error::MissingLength)));
        let missing = ChunkError::DecodedLengthMissing;
        assert!(matches!(chunked(&[]), Err(Error::Upload(UploadError::Chunk(error))) if error == missing));
    }
}
