//! A client's plaintext, encrypted as it streams to the storage server.
//!
//! **Invariant:** the last bytes are given only after the whole plaintext was verified and the right to write is still
//! good: that to the branch key of a single PUT, that to the upload record's branch key of a part. Otherwise the body fails, the storage connection is cut, and the storage server commits nothing.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};

use crate::custody::branch::{Revoked, WritingKey};
use crate::custody::keys::{BranchKeyError, BranchKeys};
use crate::format::body::{PartSealer, SealError, SingleSealer};
use crate::format::ciphertext::CipherBytes;
use crate::format::size;
use crate::net::BoxError;
use crate::s3::checksum::Verified;

use super::lease::Lease;
use super::metadata::stored_checksum;
use super::plaintext::{Plaintext, Step, UploadError};

/// What an upload turned out to be, for whoever waits for the storage server's answer.
#[derive(Clone, Default)]
pub(super) struct Outcome(Arc<Mutex<Option<Verified>>>);

impl Outcome {
    pub(super) fn set(&self, verified: Verified) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verified);
    }

    /// `None` when the body was not read to its end.
    pub(super) fn take(&self) -> Option<Verified> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What the plaintext becomes.
pub(super) enum Sealer {
    /// A whole object, footer included.
    Object(SingleSealer),
    /// A part of one.
    Part(PartSealer),
}

impl Sealer {
    fn push(&mut self, plaintext: &mut Bytes) -> Result<Option<CipherBytes>, SealError> {
        match self {
            Self::Object(sealer) => sealer.push(plaintext),
            Self::Part(sealer) => sealer.push(plaintext),
        }
    }

    fn finish(self, verified: &Verified) -> Result<Vec<CipherBytes>, SealError> {
        match self {
            Self::Object(sealer) => sealer.finish(Some(&stored_checksum(verified))).map(Vec::from),
            Self::Part(sealer) => Ok(vec![sealer.finish()?]),
        }
    }
}

/// The right to write to the end.
pub(super) enum Right {
    /// Of whoever wrapped a new DEK under this key.
    Wrapped(Wrapped),
    /// Of whoever opened the record of an upload.
    Opened(Lease),
}

/// The right to a key for writing, with what the custodian is asked by when its lease is over.
pub(super) struct Wrapped {
    key: WritingKey,
    keys: BranchKeys,
    /// The mutex makes it shareable between threads; it is only ever reached exclusively.
    renewal: Mutex<Option<Renewal>>,
}

type Renewal = BoxFuture<'static, Result<(), BranchKeyError>>;

impl Right {
    pub(super) fn wrapped(key: WritingKey, keys: BranchKeys) -> Self {
        Self::Wrapped(Wrapped { key, keys, renewal: Mutex::new(None) })
    }

    /// Waits until it is good, or found to be lost.
    pub(super) async fn good(&mut self) -> Result<(), UploadError> {
        std::future::poll_fn(|context| self.poll_good(context)).await
    }

    fn poll_good(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        match self {
            Self::Wrapped(right) => right.poll_good(context),
            Self::Opened(lease) => lease.poll_good(context).map_err(UploadError::from),
        }
    }
}

impl Wrapped {
    /// Ready once the last bytes may be given: where the lease was ended while the upload ran, or ran out, the custodian is asked
    /// again.
    fn poll_good(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        if !self.key.is_usable() && !self.key.is_revoked() {
            let slot = self.renewal.get_mut().unwrap_or_else(PoisonError::into_inner);
            let renewal = slot.get_or_insert_with(|| {
                let (keys, key) = (self.keys.clone(), self.key.clone());
                async move { keys.may_still_write(&key).await }.boxed()
            });
            let outcome = ready!(renewal.poll_unpin(context));
            *slot = None;
            outcome?;
        }
        // Also when that happened while the custodian was asked.
        Poll::Ready(if self.key.is_revoked() { Err(Revoked.into()) } else { Ok(()) })
    }
}

/// The stored form of an upload.
pub(super) struct EncryptingBody {
    plaintext: Plaintext,
    sealer: Option<Sealer>,
    right: Right,
    at_hand: Bytes,
    sealed: VecDeque<CipherBytes>,
    left: u64,
    outcome: Outcome,
    /// All plaintext is there and is what it should be.
    verified: Option<Verified>,
}

impl EncryptingBody {
    pub(super) fn new(plaintext: Plaintext, sealer: Sealer, right: Right, outcome: Outcome) -> Self {
        let left = match &sealer {
            Sealer::Object(_) => size::stored(plaintext.length()),
            Sealer::Part(_) => size::sealed_part(plaintext.length()),
        };
        let (at_hand, sealed, sealer) = (Bytes::new(), VecDeque::new(), Some(sealer));
        Self { plaintext, sealer, right, at_hand, sealed, left, outcome, verified: None }
    }

    fn poll_sealed(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<CipherBytes>, UploadError>> {
        loop {
            if let Some(sealed) = self.sealed.pop_front() {
                return Poll::Ready(Ok(Some(sealed)));
            }
            if self.verified.is_some() {
                ready!(self.right.poll_good(context))?;
            }
            if let Some(verified) = self.verified.take() {
                let sealer = self.sealer.take().expect("it is there until the end");
                self.sealed.extend(sealer.finish(&verified)?);
                self.outcome.set(verified);
                continue;
            }
            let Some(sealer) = &mut self.sealer else { return Poll::Ready(Ok(None)) };
            if !self.at_hand.is_empty() {
                self.sealed.extend(sealer.push(&mut self.at_hand)?);
                continue;
            }
            match ready!(self.plaintext.poll_step(context))? {
                Step::Data(data) => self.at_hand = data,
                Step::End(verified) => self.verified = Some(verified),
            }
        }
    }
}

impl Body for EncryptingBody {
    type Data = CipherBytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<CipherBytes>, BoxError>>> {
        match ready!(self.poll_sealed(context)) {
            Ok(Some(sealed)) => {
                self.left = self.left.saturating_sub(sealed.as_bytes().len() as u64);
                Poll::Ready(Some(Ok(Frame::data(sealed))))
            }
            Ok(None) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error.into()))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
