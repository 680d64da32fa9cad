//! Answers that may take long: a status of 200 first, then white space while the work goes on, then the document.
//!
//! Source: AWS, CompleteMultipartUpload: "While processing is in progress, Amazon S3 periodically sends white space
//! characters to keep the connection from timing out." An error then comes as a document with status 200.
//!
//! **Invariant:** no word of the outcome goes out before the work has ended, its entry in the access log included.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::net::BoxError;
use crate::telemetry::request_id::RequestId;

use super::respond::{self, ResponseBody};

/// How long the client waits for the first sign, and from one to the next.
const PATIENCE: Duration = Duration::from_secs(5);
/// How every document begins; white space may only come after it.
const DECLARATION: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

type Work = BoxFuture<'static, Response<ResponseBody>>;

/// Whether a request is one that S3 answers so: CompleteMultipartUpload.
pub(super) fn may_take_long<B>(request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method() == Method::POST && query.split('&').any(|pair| pair.starts_with("uploadId="))
}

/// The response of `work`, or one that is kept alive until it is there.
pub(super) async fn kept_alive(mut work: Work, id: RequestId) -> Response<ResponseBody> {
    if let Ok(response) = tokio::time::timeout(PATIENCE, &mut work).await {
        return response;
    }
    let mut pulse = interval_at(Instant::now() + PATIENCE, PATIENCE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let document = async move { Ok(work.await.into_body().collect().await?.to_bytes()) };
    let body = KeptAlive { work: Some(Mutex::new(document.boxed())), pulse, begun: false };
    let mut response = Response::new(body.boxed_unsync());
    respond::identify(response.headers_mut(), id);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

struct KeptAlive {
    /// None once the document went out. The mutex makes it shareable between threads; it is only ever reached exclusively.
    work: Option<Mutex<BoxFuture<'static, Result<Bytes, BoxError>>>>,
    pulse: Interval,
    /// The declaration went out.
    begun: bool,
}

impl Body for KeptAlive {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(work) = &mut this.work else { return Poll::Ready(None) };
        if !this.begun {
            this.begun = true;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(DECLARATION)))));
        }
        if let Poll::Ready(document) = work.get_mut().unwrap_or_else(PoisonError::into_inner).poll_unpin(context) {
            this.work = None;
            let document = document.map(|document| match document.strip_prefix(DECLARATION) {
                Some(rest) => document.slice_ref(rest),
                None => document,
            });
            return Poll::Ready(Some(document.map(Frame::data)));
        }
        ready!(this.pulse.poll_tick(context));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn request(method: Method, uri: &str) -> Request<()> {
        Request::builder().method(method).uri(uri).body(()).expect("a request")
    }

    fn work(pause: Duration, document: &'static str) -> Work {
        async move {
            tokio::time::sleep(pause).await;
            let mut response = Response::new(Full::from(document).map_err(|never| match never {}).boxed_unsync());
            *response.status_mut() = http::StatusCode::CONFLICT;
            response
        }
        .boxed()
    }

    #[test]
    fn only_completions_take_long() {
        assert!(may_take_long(&request(Method::POST, "/b/k?uploadId=x")));
        assert!(may_take_long(&request(Method::POST, "/b/k?a&uploadId=x")));
        for (method, uri) in [(Method::PUT, "/b/k?uploadId=x"), (Method::POST, "/b/k?uploads"), (Method::POST, "/b")] {
            assert!(!may_take_long(&request(method, uri)), "{uri}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn quick_answers_are_themselves() {
        let response = kept_alive(work(PATIENCE / 2, "<Error/>"), RequestId::random()).await;
        assert_eq!(response.status(), http::StatusCode::CONFLICT);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_ones_are_announced_by_white_space() {
        let document = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error/>";
        let id = RequestId::random();
        let response = kept_alive(work(PATIENCE * 4, document), id).await;
        assert_eq!(response.status(), http::StatusCode::OK);
        assert_eq!(response.headers()["x-amz-request-id"], id.as_str());
        let text = response.into_body().collect().await.expect("a document").to_bytes();
        let text = std::str::from_utf8(&text).expect("UTF-8");
        let rest = text.strip_prefix(std::str::from_utf8(DECLARATION).expect("ASCII")).expect("first of all");
        assert_eq!(rest.trim_start(), "<Error/>");
        assert!((2..=4).contains(&(rest.len() - rest.trim_start().len())), "{text:?}");
    }
}
