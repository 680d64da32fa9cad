//! The entries: one JSON object each, of fields in a fixed order; what does not apply is left out.

use std::borrow::Cow;
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
use crate::s3::xml::DeleteEntry;
use crate::telemetry::metrics;

use super::KeyForm;

/// A version id is shown as it is up to so many bytes of visible ASCII. Servers' own have 32 or 36.
const VERSION_SHOWN: usize = 256;
/// Most bytes of an entry that say what is deleted. One name has less, and with what every entry has it keeps within the log's limit.
const OBJECTS_MAX: usize = 8 << 10;

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
    /// The version that is asked for.
    pub(in crate::proxy) version: Option<String>,
    pub(in crate::proxy) copied: Option<Copied>,
}

/// The object that is copied.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Copied {
    pub(in crate::proxy) bucket: String,
    pub(in crate::proxy) key: String,
    pub(in crate::proxy) version: Option<String>,
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
    #[serde(flatten)]
    object: Object<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    objects: Vec<Object<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_bucket: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_key_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_version: Option<Cow<'a, str>>,
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

/// A key, or its hash, and a version.
#[derive(Serialize)]
struct Object<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Cow<'a, str>>,
}

impl<'a> Object<'a> {
    fn new(key: Option<&'a str>, version: Option<&'a str>, keys: KeyForm) -> Self {
        Self {
            key: key.filter(|_| keys == KeyForm::Clear),
            key_sha256: key.filter(|_| keys == KeyForm::Hashed).map(hash),
            version: version.map(shown),
        }
    }
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
        self.with_objects(entry, Vec::new(), keys)
    }

    /// Entries about `deletes`, as many in each as fit.
    pub(super) fn deletes_to_json(&self, deletes: &[DeleteEntry], status: u16, keys: KeyForm) -> Vec<Vec<u8>> {
        let mut pieces: Vec<(usize, Vec<Object<'_>>)> = Vec::new();
        for one in deletes {
            let object = Object::new(Some(one.key.as_str()), one.version_id.as_deref(), keys);
            let length = serde_json::to_vec(&object).map_or(OBJECTS_MAX, |text| text.len() + 1);
            match pieces.last_mut() {
                Some((so_far, objects)) if *so_far + length <= OBJECTS_MAX => {
                    *so_far += length;
                    objects.push(object);
                }
                _ => pieces.push((length, vec![object])),
            }
        }
        let entry = || Entry { event: "deletes", status, ..Entry::default() };
        pieces.into_iter().map(|(_, objects)| self.with_objects(entry(), objects, keys)).collect()
    }

    fn with_objects(&self, entry: Entry, objects: Vec<Object<'_>>, keys: KeyForm) -> Vec<u8> {
        let Entry { event, status, code, bytes_in, bytes_out, ending } = entry;
        let copied = self.copied.as_ref();
        let copied_key = copied.map(|copied| copied.key.as_str());
        let copied_object = Object::new(copied_key, copied.and_then(|copied| copied.version.as_deref()), keys);
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
            object: Object::new(self.key.as_deref(), self.version.as_deref(), keys),
            objects,
            copied_bucket: copied.map(|copied| copied.bucket.as_str()),
            copied_key: copied_object.key,
            copied_key_sha256: copied_object.key_sha256,
            copied_version: copied_object.version,
            status,
            code,
            bytes_in,
            bytes_out,
            ending,
        };
        serde_json::to_vec(&line).expect("texts and numbers serialize")
    }
}

/// A version id as entries have it. What no server would give out goes by its hash, so that an entry has its bound.
fn shown(version: &str) -> Cow<'_, str> {
    match version.len() <= VERSION_SHOWN && version.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Cow::Borrowed(version),
        false => Cow::Owned(format!("sha256:{}", hash(version))),
    }
}

fn hash(key: &str) -> String {
    sha256(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Counts what is read of a body.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Counter {
    bytes: Arc<AtomicU64>,
    /// Of all bodies.
    total: metrics::Counter,
}

impl Counter {
    /// Which counts in `total`, too.
    pub(in crate::proxy) fn new(total: metrics::Counter) -> Self {
        Self { bytes: Arc::default(), total }
    }

    pub(in crate::proxy) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
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
            self.counter.bytes.fetch_add(length as u64, Ordering::Relaxed);
            self.counter.total.add(length as u64);
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
