//! Responses: answers and errors as HTTP, and the log line of each request.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SERVER};
use http::{HeaderMap, Method, Response, StatusCode, request::Parts};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Span;

use crate::custody::caller::Caller;
use crate::names::LogicalBucket;
use crate::net::BoxError;
use crate::net::listener::ConnectionInfo;
use crate::object::access::Authenticated;
use crate::object::answer::{Answer, AnswerBody, ReadFailure};
use crate::s3::error::ErrorBody;
use crate::s3::operation::Operation;
use crate::s3::target::ObjectKey;
use crate::s3::xml::DeleteEntry;
use crate::telemetry::request_id::{RequestId, Work};
use crate::telemetry::traces::Span as TraceSpan;

use super::Company;
use super::access_log::{AccessLog, Copied, Ending, Entry, Record};
use super::fault::Fault;
use super::metrics::Exchange;
use super::traced;

/// A response's body.
pub(super) type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// What a request is about, for its response and its log line.
pub(super) struct About {
    pub(super) id: RequestId,
    method: Method,
    path: String,
    peer: SocketAddr,
    /// Whether the client's connection is encrypted.
    pub(super) tls: bool,
    operation: &'static str,
    bucket: Option<String>,
    key: Option<String>,
    version: Option<String>,
    copied: Option<Copied>,
    /// What a DeleteObjects names.
    pub(super) deletes: Vec<DeleteEntry>,
    caller: Option<Caller>,
    access_key: Option<String>,
}

impl About {
    pub(super) fn new(id: RequestId, parts: &Parts, info: &ConnectionInfo) -> Self {
        let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
        Self {
            id,
            method,
            path,
            peer: info.peer,
            tls: info.tls,
            operation: "-",
            bucket: None,
            key: None,
            version: None,
            copied: None,
            deletes: Vec::new(),
            caller: None,
            access_key: None,
        }
    }

    pub(super) fn client(&mut self, who: &Authenticated) {
        self.caller = Some(who.caller().clone());
        self.access_key = Some(who.access_key().to_owned());
    }

    /// What is asked, where that is none of the operations.
    pub(super) fn asks(&mut self, operation: &'static str, bucket: &LogicalBucket, key: Option<&ObjectKey>) {
        self.operation = operation;
        self.bucket = Some(bucket.as_str().to_owned());
        self.key = key.map(|key| key.as_str().to_owned());
    }

    pub(super) fn operation(&mut self, operation: &Operation) {
        self.operation = operation.name();
        self.bucket = operation.bucket().map(|bucket| bucket.as_str().to_owned());
        self.key = operation.key().map(|key| key.as_str().to_owned());
        self.version = operation.version().map(str::to_owned);
        self.copied = operation.source().map(|source| Copied {
            bucket: source.bucket.as_str().to_owned(),
            key: source.key.as_str().to_owned(),
            version: source.version_id.clone(),
        });
    }

    /// Where the request comes from.
    pub(super) fn address(&self) -> IpAddr {
        self.peer.ip()
    }

    /// Whether it is known who asks.
    pub(super) fn is_known(&self) -> bool {
        self.caller.is_some()
    }

    /// For the access log; `None` while it is not known who asks.
    pub(super) fn record(&self) -> Option<Record> {
        let (caller, access_key) = (self.caller.as_ref()?, self.access_key.as_ref()?);
        Some(Record {
            request_id: self.id.to_string(),
            principal: caller.principal.as_str().to_owned(),
            access_key: access_key.clone(),
            reason: caller.reason.as_str(),
            source: self.peer.ip().to_string(),
            operation: self.operation,
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            version: self.version.clone(),
            copied: self.copied.clone(),
        })
    }

    /// Tells the request's span what was asked, and what else may be told.
    pub(super) fn describe(&self, span: &TraceSpan) {
        if self.operation != "-" {
            span.rename(self.operation);
            span.set("claviger.operation", self.operation);
        }
        let reveal = span.may_reveal();
        let principal = self.caller.as_ref().map(|caller| caller.principal.as_str());
        for (key, value, revealed) in [
            ("aws.s3.bucket", self.bucket.as_deref(), reveal.bucket),
            ("aws.s3.key", self.key.as_deref(), reveal.key),
            ("enduser.id", principal, reveal.principal),
        ] {
            if let Some(value) = value.filter(|_| revealed) {
                span.set_text(key, value);
            }
        }
    }

    /// One line per request. The query is left out: presigned URLs have their signature there.
    pub(super) fn log(&self, status: StatusCode, elapsed: Duration) {
        let caller = self.caller.as_ref();
        tracing::info!(
            request_id = self.id.as_str(),
            peer = %self.peer,
            principal = caller.map_or("-", |caller| caller.principal.as_str()),
            reason = caller.map_or("-", |caller| caller.reason.as_str()),
            operation = self.operation,
            bucket = self.bucket.as_deref().unwrap_or("-"),
            key = ?self.key.as_deref().unwrap_or("-"),
            status = status.as_u16(),
            elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "request"
        );
    }
}

/// What the access log says of an answer before it goes out.
pub(super) fn entry_of(answer: &Answer, bytes_in: u64) -> Entry {
    let (event, bytes_out) = match &answer.body {
        AnswerBody::Empty => ("access", Some(0)),
        AnswerBody::Full(bytes) => ("access", Some(bytes.len() as u64)),
        AnswerBody::Stream(_) => ("begin", None),
    };
    let (status, bytes_in) = (answer.status.as_u16(), Some(bytes_in));
    Entry { event, status, bytes_in, bytes_out, ..Entry::default() }
}

/// What it says of an error.
pub(super) fn entry_of_fault(fault: &Fault, bytes_in: u64) -> Entry {
    let (status, code, bytes_in) = (fault.status.as_u16(), Some(fault.code.clone().into_owned()), Some(bytes_in));
    Entry { event: "access", status, code, bytes_in, ..Entry::default() }
}

/// A place among the requests at a time, and what the request needs.
pub(super) type Held = (OwnedSemaphorePermit, Company);

/// `held` is kept until the body has been sent.
pub(super) fn success(
    answer: Answer,
    about: &About,
    held: Held,
    log: Option<&Arc<AccessLog>>,
    mut exchange: Exchange,
) -> Response<ResponseBody> {
    let Answer { status, headers, body } = answer;
    exchange.answered(about.operation, status);
    traced::answered(exchange.span(), about, status, None);
    let body = match body {
        AnswerBody::Empty => empty(),
        AnswerBody::Full(bytes) => {
            exchange.sends(bytes.len());
            Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
        }
        AnswerBody::Stream(body) => {
            let farewell = log.and_then(|log| Some((Arc::clone(log), about.record()?)));
            let work = Work::new(about.id, exchange.span().trace());
            let (id, left, span) = (about.id, body.size_hint().exact(), Span::current());
            exchange.begins_body(&work);
            Watched { body, id, work, span, status, sent: 0, left, failure: None, farewell, exchange, _held: held }
                .boxed_unsync()
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    finish(response, about)
}

pub(super) fn failure(fault: &Fault, about: &About, mut exchange: Exchange) -> Response<ResponseBody> {
    exchange.failed(about.operation, fault);
    traced::answered(exchange.span(), about, fault.status, Some(fault));
    let document = ErrorBody {
        code: &fault.code,
        message: fault.message.clone(),
        resource: &about.path,
        request_id: about.id.as_str(),
        extra: &fault.extra,
    };
    let document = document.to_xml();
    let bodiless = about.method == Method::HEAD || fault.status == StatusCode::NOT_MODIFIED;
    let mut response = Response::new(if bodiless {
        empty()
    } else {
        exchange.sends(document.len());
        Full::new(Bytes::from(document)).map_err(|never| match never {}).boxed_unsync()
    });
    *response.status_mut() = fault.status;
    let headers = response.headers_mut();
    headers.extend((*fault.headers).clone());
    if !bodiless {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    }
    if let Some(seconds) = fault.retry_after_s {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    finish(response, about)
}

fn empty() -> ResponseBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn finish(mut response: Response<ResponseBody>, about: &About) -> Response<ResponseBody> {
    let bodiless = response.status() == StatusCode::NOT_MODIFIED || response.status() == StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if bodiless {
        headers.remove(CONTENT_LENGTH);
    }
    identify(headers, about.id);
    response
}

/// Which request it was, and who answers.
pub(super) fn identify(headers: &mut HeaderMap, id: RequestId) {
    headers.insert("x-amz-request-id", id.to_header());
    headers.insert("x-amz-id-2", id.to_header());
    headers.insert(SERVER, HeaderValue::from_static("Claviger"));
}

/// Tells the log why a body had to be cut off: the client only sees the connection end. And the access log, how it ended.
struct Watched {
    body: UnsyncBoxBody<Bytes, ReadFailure>,
    id: RequestId,
    work: Work,
    span: Span,
    status: StatusCode,
    sent: u64,
    /// Bytes that are still to come.
    left: Option<u64>,
    failure: Option<Ending>,
    farewell: Option<(Arc<AccessLog>, Record)>,
    exchange: Exchange,
    _held: Held,
}

impl Watched {
    fn passes(&mut self, frame: Result<Frame<Bytes>, ReadFailure>) -> Result<Frame<Bytes>, BoxError> {
        match frame {
            Ok(frame) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.sent += length;
                self.exchange.sends(length as usize);
                self.left = self.left.map(|left| left.saturating_sub(length));
                Ok(frame)
            }
            Err(failure) => {
                self.failure = Some(Ending::from(&failure));
                Err(cut(failure, self.id))
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let ending = self.failure.unwrap_or(if self.left == Some(0) { Ending::Complete } else { Ending::ClientGone });
        self.exchange.ended(ending);
        let Some((log, record)) = self.farewell.take() else { return };
        let (status, bytes_out, ending) = (self.status.as_u16(), Some(self.sent), Some(ending));
        log.write_later(&record, Entry { event: "end", status, bytes_out, ending, ..Entry::default() });
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { work, span, body, .. } = &mut *self;
        // What is asked of servers for the rest of the body is part of the same request.
        let polled = span.in_scope(|| work.sync_scope(|| Pin::new(body).poll_frame(context)));
        if matches!(polled, Poll::Ready(None)) {
            self.left = Some(0);
        }
        polled.map(|frame| frame.map(|frame| self.passes(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn cut(failure: ReadFailure, id: RequestId) -> BoxError {
    let error: &(dyn std::error::Error + 'static) = &failure;
    let request_id = id.as_str();
    match failure {
        ReadFailure::Open(_) => {
            tracing::error!(request_id, error, "ALARM: stored data is not what was written; answer cut off")
        }
        ReadFailure::Storage(_) | ReadFailure::Revoked(_) | ReadFailure::Lease(_) => {
            tracing::warn!(request_id, error, "answer cut off")
        }
    }
    failure.into()
}
