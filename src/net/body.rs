//! Bodies with limits: on the time between two frames, and on what is collected in memory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Sleep};

use super::BoxError;

/// A body failed while it was read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Nothing came for the time allowed.
    #[error("the peer sent nothing for {} s", limit.as_secs())]
    Stalled {
        /// Time allowed between two frames.
        limit: Duration,
    },
    /// The connection broke, or what came was not a well-formed body.
    #[error("the connection broke in the middle of a body")]
    Broken(#[source] BoxError),
    /// More came than the caller takes.
    #[error("the body is larger than the {limit} bytes allowed")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
}

/// A body that fails when its sender pauses for too long.
///
/// The clock runs only while somebody waits for a frame, so a slow reader is not held against the sender,
/// and an `Expect: 100-continue` is still answered at the first poll and not before.
#[derive(Debug)]
pub struct TimedBody<B> {
    inner: B,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<B> TimedBody<B> {
    /// `inner`, which may pause for `limit` between two frames.
    pub fn new(inner: B, limit: Duration) -> Self {
        Self { inner, limit, timer: None, waiting: false }
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError::Broken(error.into()))));
        }
        let limit = this.limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !this.waiting {
            this.waiting = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        ready!(timer.as_mut().poll(context));
        this.waiting = false;
        Poll::Ready(Some(Err(BodyError::Stalled { limit })))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Reads `body` to its end into memory, at most `limit` bytes of it. Trailers are dropped.
///
/// # Errors
/// [`BodyError::TooLarge`] as soon as a declared or received length exceeds `limit`, else
/// [`BodyError::Broken`]. Put a [`TimedBody`] around a peer's body first.
pub async fn collect_bounded<B>(mut body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    let fits = |length: u64| usize::try_from(length).is_ok_and(|length| length <= limit);
    if !fits(body.size_hint().lower()) {
        return Err(BodyError::TooLarge { limit });
    }
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame.map_err(as_body_error)?.into_data() else { continue };
        if data.remaining() > limit - collected.len() {
            return Err(BodyError::TooLarge { limit });
        }
        collected.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(collected.freeze())
}

/// Keeps a [`BodyError`] what it is and takes everything else for a broken body.
fn as_body_error(error: impl Into<BoxError>) -> BodyError {
    error.into().downcast::<BodyError>().map_or_else(BodyError::Broken, |error| *error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::{self, StreamExt as _};
    use http_body_util::{Full, StreamBody};

    fn frames(sizes: &[usize]) -> impl Body<Data = Bytes, Error = BoxError> + Unpin + use<> {
        let frames: Vec<Result<_, BoxError>> =
            sizes.iter().map(|size| Ok(Frame::data(Bytes::from(vec![7; *size])))).collect();
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test]
    async fn a_pause_beyond_the_limit_is_an_error() {
        let one = stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"one")))]);
        let mut body = TimedBody::new(StreamBody::new(one.chain(stream::pending())), Duration::from_millis(50));
        assert!(body.frame().await.expect("first frame").is_ok());
        tokio::time::sleep(Duration::from_millis(100)).await;
        let asked = Instant::now();
        let error = body.frame().await.expect("not the end").expect_err("nothing more comes");
        assert!(matches!(error, BodyError::Stalled { .. }));
        assert!(asked.elapsed() >= Duration::from_millis(50), "the reader's own pause does not count");
    }

    #[tokio::test]
    async fn collecting_stops_at_the_limit() {
        assert_eq!(collect_bounded(frames(&[4, 6]), 10).await.expect("fits").len(), 10);
        assert!(matches!(collect_bounded(frames(&[4, 7]), 10).await, Err(BodyError::TooLarge { limit: 10 })));
        let declared = Full::new(Bytes::from_static(b"eleven byte"));
        assert!(matches!(collect_bounded(declared, 10).await, Err(BodyError::TooLarge { limit: 10 })));
    }

    #[tokio::test]
    async fn collecting_keeps_a_stall_what_it_is() {
        let silent = StreamBody::new(stream::pending::<Result<Frame<Bytes>, BoxError>>());
        let timed = TimedBody::new(silent, Duration::from_millis(20));
        assert!(matches!(collect_bounded(timed, 10).await, Err(BodyError::Stalled { .. })));
    }
}
