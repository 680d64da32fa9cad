//! A storage server's answer before it goes out: what tampering rules get into their hands.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::sync::Semaphore;

/// The body of an answer.
pub(crate) type ReplyBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// How a body goes out.
#[derive(Clone, Default)]
pub(crate) enum Ending {
    /// As a whole.
    #[default]
    Whole,
    /// After that many bytes the connection closes.
    HangUpAfter(usize),
    /// After that many bytes the server waits so long.
    PauseAfter(usize, Duration),
    /// After that many bytes the server waits for a permit.
    WaitAfter(usize, Arc<Semaphore>),
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) ending: Ending,
    /// In place of `body`, where that would be too much to hold.
    pub(crate) stream: Option<ReplyBody>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Self {
        let status = StatusCode::from_u16(status).expect("a status");
        Self { status, headers: HeaderMap::new(), body: body.into(), ending: Ending::Whole, stream: None }
    }

    pub(crate) fn xml(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, body).header("content-type", "application/xml")
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        Self::xml(status, format!("<Error><Code>{code}</Code><Message>the store says {code}</Message></Error>"))
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"));
    }

    /// The answer on the wire.
    pub(crate) fn into_response(self, method: &Method) -> Response<ReplyBody> {
        let Self { status, mut headers, body, ending, stream } = self;
        let lies = headers.get(CONTENT_LENGTH).is_some_and(|length| length != body.len().to_string().as_str());
        let bodiless = method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
        let body = match (stream, &ending) {
            (Some(stream), _) => stream,
            _ if bodiless => Full::default().map_err(|never| match never {}).boxed_unsync(),
            (None, Ending::Whole) if !lies => Full::new(body).map_err(|never| match never {}).boxed_unsync(),
            (None, _) => {
                headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(body.len()));
                in_two(body, ending)
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// A body of unknown length, so that a Content-Length beside it may lie.
fn in_two(body: Bytes, ending: Ending) -> ReplyBody {
    let at = match ending {
        Ending::Whole => body.len(),
        Ending::HangUpAfter(at) | Ending::PauseAfter(at, _) | Ending::WaitAfter(at, _) => at.min(body.len()),
    };
    let (first, rest) = (body.slice(..at), body.slice(at..));
    let frames = stream::unfold((0, first, rest, ending), |(step, first, rest, ending)| async move {
        let frame = match step {
            0 => Ok(Frame::data(first.clone())),
            1 => match &ending {
                Ending::Whole => return None,
                Ending::HangUpAfter(_) => {
                    // What was sent before shall arrive before the connection ends.
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    Err(std::io::Error::other("hung up on purpose"))
                }
                Ending::PauseAfter(_, pause) => {
                    tokio::time::sleep(*pause).await;
                    Ok(Frame::data(rest.clone()))
                }
                Ending::WaitAfter(_, gate) => {
                    gate.acquire().await.expect("never closed").forget();
                    Ok(Frame::data(rest.clone()))
                }
            },
            _ => return None,
        };
        Some((frame, (step + 1, first, rest, ending)))
    });
    StreamBody::new(frames).boxed_unsync()
}
