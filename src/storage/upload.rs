//! A request's body on its way to a storage server.
//!
//! **Invariant:** the last bytes of a stream are held back until its source ended without an error and with
//! the length announced. A server that wants the announced length therefore never gets a body that failed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf as _;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

use super::error::{RequestError, StorageError};
use crate::format::ciphertext::CipherBytes;
use crate::net::BoxError;

/// What the HTTP library is told when the source failed; the real error stays in the [`Handle`].
#[derive(Debug, thiserror::Error)]
#[error("the upload was aborted")]
pub(super) struct UploadAborted;

enum Source {
    Ended,
    Bytes(CipherBytes),
    Stream(UnsyncBoxBody<CipherBytes, BoxError>),
}

struct State {
    source: Source,
    announced: u64,
    /// Bytes that the source has yet to give.
    missing: u64,
    /// The last frame, held back.
    last: Option<CipherBytes>,
    complete: bool,
    aborted: bool,
    failure: Option<BoxError>,
    waker: Option<Waker>,
}

/// The body, which the HTTP library owns.
pub(super) struct Upload(Arc<Mutex<State>>);

/// What the sender keeps of an [`Upload`].
pub(super) struct Handle(Arc<Mutex<State>>);

impl Upload {
    pub(super) fn empty() -> Self {
        Self::new(Source::Ended, 0)
    }

    pub(super) fn bytes(bytes: CipherBytes) -> Self {
        let length = u64::try_from(bytes.remaining()).unwrap_or(u64::MAX);
        if length == 0 { Self::empty() } else { Self::new(Source::Bytes(bytes), length) }
    }

    /// The HTTP library does not poll a body of no bytes, so whether such a source ends well is found out here.
    pub(super) async fn stream(
        length: u64,
        mut body: UnsyncBoxBody<CipherBytes, BoxError>,
    ) -> Result<Self, StorageError> {
        if length > 0 {
            return Ok(Self::new(Source::Stream(body), length));
        }
        while let Some(frame) = body.frame().await {
            let found = frame.map_err(StorageError::Aborted)?.into_data().map_or(0, |data| data.remaining());
            if found > 0 {
                let found = u64::try_from(found).unwrap_or(u64::MAX);
                return Err(RequestError::Length { announced: 0, found }.into());
            }
        }
        Ok(Self::empty())
    }

    fn new(source: Source, length: u64) -> Self {
        let state = State {
            source,
            announced: length,
            missing: length,
            last: None,
            complete: length == 0,
            aborted: false,
            failure: None,
            waker: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.0))
    }
}

impl Handle {
    /// Whether all of the body was given to the connection.
    pub(super) fn is_complete(&self) -> bool {
        lock(&self.0).complete
    }

    /// The same upload for another connection, if nothing of it was taken yet.
    pub(super) fn again(&self) -> Option<Upload> {
        let state = lock(&self.0);
        let untouched = state.missing == state.announced && state.last.is_none() && !state.aborted;
        (untouched && (state.complete || matches!(state.source, Source::Stream(_))))
            .then(|| Upload(Arc::clone(&self.0)))
    }

    /// Why the source failed, if it did.
    pub(super) fn take_failure(&self) -> Option<BoxError> {
        lock(&self.0).failure.take()
    }

    /// Ends an incomplete upload, and with it its connection. The source is dropped at once.
    pub(super) fn abort(&self) {
        let mut state = lock(&self.0);
        if state.complete {
            return;
        }
        state.aborted = true;
        let source = std::mem::replace(&mut state.source, Source::Ended);
        state.last = None;
        let waker = state.waker.take();
        drop(state);
        drop(source);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A panic of the source under the lock leaves an upload that can only be incomplete, which is safe.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<CipherBytes, UploadAborted>>> {
        loop {
            if self.complete {
                return Poll::Ready(None);
            }
            if self.aborted {
                return Poll::Ready(Some(Err(UploadAborted)));
            }
            let next = match &mut self.source {
                Source::Ended => None,
                Source::Bytes(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
                Source::Stream(body) => ready!(Pin::new(body).poll_frame(context)),
            };
            if matches!(self.source, Source::Bytes(_)) {
                self.source = Source::Ended;
            }
            match next {
                None => return Poll::Ready(Some(self.finish())),
                Some(Err(error)) => return Poll::Ready(Some(Err(self.fail(error)))),
                Some(Ok(frame)) => match self.accept(frame) {
                    Ok(None) => {}
                    Ok(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
            }
        }
    }

    /// Takes a frame of the source: the bytes that may go out now, if any.
    fn accept(&mut self, frame: Frame<CipherBytes>) -> Result<Option<CipherBytes>, UploadAborted> {
        let Ok(bytes) = frame.into_data() else { return Ok(None) };
        let length = u64::try_from(bytes.remaining()).unwrap_or(u64::MAX);
        if length == 0 {
            return Ok(None);
        }
        let Some(missing) = self.missing.checked_sub(length) else {
            let found = (self.announced - self.missing).saturating_add(length);
            return Err(self.fail(RequestError::Length { announced: self.announced, found }.into()));
        };
        self.missing = missing;
        if missing > 0 {
            return Ok(Some(bytes));
        }
        self.last = Some(bytes);
        Ok(None)
    }

    /// The source ended: lets the last frame go, if it is the one that was announced.
    fn finish(&mut self) -> Result<CipherBytes, UploadAborted> {
        self.source = Source::Ended;
        match self.last.take() {
            Some(bytes) => {
                self.complete = true;
                Ok(bytes)
            }
            None => {
                let found = self.announced - self.missing;
                Err(self.fail(RequestError::Length { announced: self.announced, found }.into()))
            }
        }
    }

    fn fail(&mut self, error: BoxError) -> UploadAborted {
        self.source = Source::Ended;
        self.last = None;
        self.aborted = true;
        self.failure = Some(error);
        UploadAborted
    }
}

impl Body for Upload {
    type Data = CipherBytes;
    type Error = UploadAborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<CipherBytes>, UploadAborted>>> {
        let mut state = lock(&self.0);
        let polled = state.poll(context);
        state.waker = polled.is_pending().then(|| context.waker().clone());
        polled.map(|frame| frame.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).complete
    }

    fn size_hint(&self) -> SizeHint {
        let state = lock(&self.0);
        let held = state.last.as_ref().map_or(0, |bytes| u64::try_from(bytes.remaining()).unwrap_or(u64::MAX));
        SizeHint::with_exact(state.missing.saturating_add(held))
    }
}
