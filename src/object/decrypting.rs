//! Stored bytes, decrypted as they stream to the client.
//!
//! **Invariant:** what is given was verified, and the branch key's lease was good at that moment. Any failure ends the
//! body with an error, so that the client's connection is cut and nobody takes a part for the whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::format::body::{OpenError, RangeOpener, SingleOpener};
use crate::format::footer::Tail;
use crate::storage::ResponseStream;

use super::answer::ReadFailure;
use super::lease::Lease;

/// What turns stored bytes into plaintext.
pub(super) enum Opener {
    /// A whole object of layout single, footer included.
    Single(SingleOpener),
    /// Segments whose places are known.
    Range(RangeOpener),
    /// Nothing more is to come.
    Done,
}

/// The plaintext of stored bytes.
pub(super) struct DecryptingBody {
    source: ResponseStream,
    opener: Opener,
    at_hand: Bytes,
    /// Verified plaintext that waits for the lease.
    verified: Option<Bytes>,
    lease: Lease,
    left: u64,
}

impl DecryptingBody {
    /// `length` plaintext bytes that `opener` makes of `source`.
    pub(super) fn new(source: ResponseStream, opener: Opener, lease: Lease, length: u64) -> Self {
        Self { source, opener, at_hand: Bytes::new(), verified: None, lease, left: length }
    }

    fn poll_plaintext(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadFailure>> {
        loop {
            while !self.at_hand.is_empty() {
                let opened = match &mut self.opener {
                    Opener::Single(opener) => opener.push(&mut self.at_hand)?,
                    Opener::Range(opener) if !opener.is_done() => opener.push(&mut self.at_hand)?,
                    Opener::Range(_) | Opener::Done => return Poll::Ready(Ok(None)),
                };
                if let Some(plaintext) = opened.filter(|plaintext| !plaintext.is_empty()) {
                    return Poll::Ready(Ok(Some(plaintext)));
                }
            }
            if matches!(&self.opener, Opener::Range(opener) if opener.is_done()) {
                self.opener = Opener::Done;
            }
            if matches!(self.opener, Opener::Done) {
                return Poll::Ready(Ok(None));
            }
            match ready!(Pin::new(&mut self.source).poll_frame(context)) {
                Some(frame) => self.at_hand = frame?.into_data().unwrap_or_default(),
                None => return Poll::Ready(self.end()),
            }
        }
    }

    /// Verified plaintext that may be given out now.
    fn poll_released(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadFailure>> {
        if self.verified.is_none() {
            self.verified = ready!(self.poll_plaintext(context))?;
        }
        if self.verified.is_some() {
            ready!(self.lease.poll_good(context))?;
        }
        Poll::Ready(Ok(self.verified.take()))
    }

    fn end(&mut self) -> Result<Option<Bytes>, ReadFailure> {
        match std::mem::replace(&mut self.opener, Opener::Done) {
            Opener::Single(opener) => Ok(Some(opener.finish()?.0)),
            Opener::Range(opener) => opener.finish().map(|()| None).map_err(ReadFailure::from),
            Opener::Done => Ok(None),
        }
    }
}

impl Body for DecryptingBody {
    type Data = Bytes;
    type Error = ReadFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadFailure>>> {
        let this = &mut *self;
        let plaintext = match ready!(this.poll_released(context)) {
            Ok(Some(plaintext)) => plaintext,
            Ok(None) => return Poll::Ready(None),
            Err(failure) => {
                this.opener = Opener::Done;
                (this.at_hand, this.verified) = (Bytes::new(), None);
                return Poll::Ready(Some(Err(failure)));
            }
        };
        this.left = this.left.saturating_sub(plaintext.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(plaintext))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The plaintext of a whole stored object of layout single that is in memory, and its tail.
pub(super) fn open_in_memory(mut opener: SingleOpener, mut stored: Bytes) -> Result<(Vec<u8>, Tail), OpenError> {
    let mut plaintext = Vec::with_capacity(stored.len());
    while !stored.is_empty() {
        plaintext.extend_from_slice(&opener.push(&mut stored)?.unwrap_or_default());
    }
    let (last, tail) = opener.finish()?;
    plaintext.extend_from_slice(&last);
    Ok((plaintext, tail))
}

/// The plaintext of segments in memory.
pub(super) fn open_range_in_memory(mut opener: RangeOpener, mut stored: Bytes) -> Result<Vec<u8>, OpenError> {
    let mut plaintext = Vec::new();
    while !stored.is_empty() && !opener.is_done() {
        plaintext.extend_from_slice(&opener.push(&mut stored)?.unwrap_or_default());
    }
    opener.finish()?;
    Ok(plaintext)
}
