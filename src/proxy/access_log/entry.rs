//! The entries: one JSON object each, of fields in a fixed order; what does not apply is left out.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::crypto::sha256;
use crate::object::answer::ReadFailure;

use super::KeyForm;

/// What a request is about, as all its entries have it.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Record {
    pub(in crate::proxy) request_id: String,
    pub(in crate::proxy) principal: String,
    /// The access key id.
    pub(in crate::proxy) access_key: String,
    pub(in crate::proxy) reason: &'static str,
    pub(in crate::proxy) source: String,
    pub(in crate::proxy) operation: &'static str,
    pub(in crate::proxy) bucket: Option<String>,
    pub(in crate::proxy) key: Option<String>,
    /// Bucket and key of the object that is copied.
    pub(in crate::proxy) copied: Option<(String, String)>,
}

/// What became of a request.
#[derive(Debug, Clone, Default)]
pub(in crate::proxy) struct Entry {
    pub(in crate::proxy) event: &'static str,
    pub(in crate::proxy) status: u16,
    /// S3's error code.
    pub(in crate::proxy) code: Option<String>,
    /// Bytes of the request's body that were read, as they came.
    pub(in crate::proxy) bytes_in: Option<u64>,
    /// Bytes of the answer's body that were handed to the connection.
    pub(in crate::proxy) bytes_out: Option<u64>,
    pub(in crate::proxy) ending: Option<Ending>,
}

/// How an answer that streamed came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::proxy) enum Ending {
    Complete,
    /// Nobody took the rest.
    ClientGone,
    NotAuthentic,
    StorageFailed,
    Revoked,
    LeaseEnded,
}

impl From<&ReadFailure> for Ending {
    fn from(failure: &ReadFailure) -> Self {
        match failure {
            ReadFailure::Open(_) => Self::NotAuthentic,
            ReadFailure::Storage(_) => Self::StorageFailed,
            ReadFailure::Revoked(_) => Self::Revoked,
            ReadFailure::Lease(_) => Self::LeaseEnded,
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event: &'static str,
    request_id: &'a str,
    principal: &'a str,
    access_key: &'a str,
    reason: &'static str,
    source: &'a str,
    operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_bucket: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_key_sha256: Option<String>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_in: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: Option<Ending>,
}

#[derive(Serialize)]
struct Probe {
    time: String,
    event: &'static str,
}

fn now() -> String {
    let form = format_description!(version = 2, "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::now_utc().format(form).unwrap_or_default()
}

impl Entry {
    /// An entry about no request: whether the log can be written.
    pub(super) fn probe() -> Vec<u8> {
        serde_json::to_vec(&Probe { time: now(), event: "probe" }).expect("texts serialize")
    }
}

impl Record {
    pub(super) fn to_json(&self, entry: Entry, keys: KeyForm) -> Vec<u8> {
        let Entry { event, status, code, bytes_in, bytes_out, ending } = entry;
        let key = self.key.as_deref();
        let copied_key = self.copied.as_ref().map(|(_, key)| key.as_str());
        let line = Line {
            time: now(),
            event,
            request_id: &self.request_id,
            principal: &self.principal,
            access_key: &self.access_key,
            reason: self.reason,
            source: &self.source,
            operation: self.operation,
            bucket: self.bucket.as_deref(),
            key: key.filter(|_| keys == KeyForm::Clear),
            key_sha256: key.filter(|_| keys == KeyForm::Hashed).map(hash),
            copied_bucket: self.copied.as_ref().map(|(bucket, _)| bucket.as_str()),
            copied_key: copied_key.filter(|_| keys == KeyForm::Clear),
            copied_key_sha256: copied_key.filter(|_| keys == KeyForm::Hashed).map(hash),
            status,
            code,
            bytes_in,
            bytes_out,
            ending,
        };
        serde_json::to_vec(&line).expect("texts and numbers serialize")
    }
}

fn hash(key: &str) -> String {
    sha256(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Counts what is read of a body.
#[derive(Debug, Clone, Default)]
pub(in crate::proxy) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(in crate::proxy) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// `body`, counted.
    pub(in crate::proxy) fn over<B>(&self, body: B) -> Counted<B> {
        Counted { body, counter: self.clone() }
    }
}

/// See [`Counter`].
pub(in crate::proxy) struct Counted<B> {
    body: B,
    counter: Counter,
}

impl<B: Body<Data = bytes::Bytes> + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, bytes::Bytes::len);
            self.counter.0.fetch_add(length as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
