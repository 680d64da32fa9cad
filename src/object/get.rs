//! GetObject: whole objects and ranges.
//!
//! **Invariant:** ranges are planned from an authenticated length. Where a second request is needed, its answer must
//! carry the commitment of the first.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, IF_MATCH, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;

use crate::format::body::{RangeOpener, SingleOpener};
use crate::format::checksum::Checksum;
use crate::format::envelope::Layout;
use crate::format::layout::{PlainOffset, Plan};
use crate::format::size;
use crate::s3::conditions::{if_range_holds, storage_conditions};
use crate::s3::operation::{Read, clean_response_headers};
use crate::s3::range::{self, ByteRange, Span};
use crate::storage::StorageError;

use super::answer::{Answer, AnswerBody};
use super::decrypting::{DecryptingBody, Opener, open_in_memory, open_range_in_memory};
use super::error::{Error, WrongAnswer};
use super::fetch::{Fetched, Piece, Stored, known_from};
use super::metadata;
use super::opened::Opened;
use super::put::insert_etag;
use super::tails::Known;
use super::{Call, Named, Objects};

/// Stored objects up to this size are verified whole before the answer begins.
const IN_MEMORY: u64 = 128 << 10;
/// Stored bytes at the end that a first ranged read fetches: the footer of all but large multipart objects.
const END: u64 = 64 << 10;
/// How often a ranged read begins anew because the object was overwritten between two requests.
const MOST_OVERWRITES: usize = 3;

impl Objects {
    pub(super) async fn get(&self, call: &Call, object: Named<'_>, read: &Read) -> Result<Answer, Error> {
        let conditions = storage_conditions(&call.headers)?;
        let range = call.headers.get(RANGE).and_then(|range| range.to_str().ok()).and_then(range::parse);
        match range {
            None => self.get_whole(call, object, read, &conditions).await,
            Some(range) => self.get_range(call, object, read, &conditions, range).await,
        }
    }

    async fn get_whole(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        conditions: &HeaderMap,
    ) -> Result<Answer, Error> {
        let stored = match self.fetch(call, object, read, Piece::Whole, conditions).await? {
            Fetched::Found(stored) => stored,
            Fetched::NotModified(headers) => return Ok(not_modified(call, &headers)),
            Fetched::Unsatisfiable => return Err(WrongAnswer::Range.into()),
        };
        let opened = self.open(call, object, &stored.headers).await?;
        self.tails.check(object, read.version_id.as_deref(), stored.etag(), &opened.commitment)?;
        match opened.layout {
            Layout::Empty => self.whole_empty(call, read, &stored, &opened),
            Layout::Single if stored.size <= IN_MEMORY => {
                self.whole_in_memory(call, object, read, stored, opened).await
            }
            Layout::Single => self.whole_single(call, object, read, stored, opened),
            Layout::Multipart => self.whole_multipart(call, object, read, stored, opened).await,
        }
    }

    fn whole_empty(&self, call: &Call, read: &Read, stored: &Stored, opened: &Opened) -> Result<Answer, Error> {
        if stored.size != 0 {
            return Err(Error::NotAuthentic);
        }
        let about = About { length: 0, span: None, checksum: opened.metadata.empty_checksum.as_ref(), parts: 1 };
        Ok(Answer::empty(StatusCode::OK, headers_of(call, read, &stored.headers, opened, &about)))
    }

    async fn whole_in_memory(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        stored: Stored,
        opened: Opened,
    ) -> Result<Answer, Error> {
        let (headers, size, etag) = (stored.headers.clone(), stored.size, stored.etag().cloned());
        let opener = SingleOpener::new(Arc::clone(&opened.dek), size).ok_or(Error::NotAuthentic)?;
        let (_, bytes) = stored.collect(size).await?;
        let known = known_from(&opened, (size, etag), &bytes)?.ok_or(Error::NotAuthentic)?;
        let plaintext = open_in_memory(opener, bytes)?;
        let about = About::whole(&known);
        let headers = headers_of(call, read, &headers, &opened, &about);
        self.tails.put(object, read.version_id.as_deref(), known.clone());
        Ok(Answer { status: StatusCode::OK, headers, body: AnswerBody::Full(plaintext.into()) })
    }

    fn whole_single(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        stored: Stored,
        opened: Opened,
    ) -> Result<Answer, Error> {
        let opener = SingleOpener::new(Arc::clone(&opened.dek), stored.size).ok_or(Error::NotAuthentic)?;
        let length = opener.expected_length();
        // The checksum stands at the end of the body: it can only be told if it was seen before.
        let known = self.tails.get(object, read.version_id.as_deref());
        let known = known.filter(|known| stored.belongs_to(&known.commitment, known.map.length()));
        let checksum = known.as_ref().and_then(|known| known.checksum.as_ref());
        let headers =
            headers_of(call, read, &stored.headers, &opened, &About { length, span: None, checksum, parts: 1 });
        Ok(streamed(StatusCode::OK, headers, stored, Opener::Single(opener), opened, length))
    }

    async fn whole_multipart(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        stored: Stored,
        opened: Opened,
    ) -> Result<Answer, Error> {
        let version = read.version_id.as_deref();
        let known = self.tails.get(object, version);
        let known = match known.filter(|known| stored.belongs_to(&known.commitment, known.map.length())) {
            Some(known) => known,
            None => {
                let place = (stored.size, stored.etag().cloned());
                let known = self.read_footer(call, object, read, &opened, place).await?;
                self.tails.put(object, version, known.clone());
                known
            }
        };
        let about = About::whole(&known);
        let headers = headers_of(call, read, &stored.headers, &opened, &about);
        let opener = RangeOpener::new(&opened.dek, Arc::clone(&known.map), &known.map.plan_all());
        Ok(streamed(StatusCode::OK, headers, stored, Opener::Range(opener), opened, about.length))
    }

    async fn get_range(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        conditions: &HeaderMap,
        range: ByteRange,
    ) -> Result<Answer, Error> {
        if !call.headers.contains_key(IF_RANGE)
            && let Some(answer) = self.range_of_known(call, object, read, conditions, range).await?
        {
            return Ok(answer);
        }
        for _ in 0..MOST_OVERWRITES {
            if let Some(answer) = self.range_from_end(call, object, read, conditions, range).await? {
                return Ok(answer);
            }
        }
        Err(Error::Overwritten)
    }

    /// A range of an object whose layout is remembered: one request. `None` when it turns out to be another object now.
    async fn range_of_known(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        conditions: &HeaderMap,
        range: ByteRange,
    ) -> Result<Option<Answer>, Error> {
        let version = read.version_id.as_deref();
        let Some(known) = self.tails.get(object, version) else { return Ok(None) };
        let Ok(Some(span)) = range::resolve(Some(range), known.map.length()) else { return Ok(None) };
        let plan = plan(&known, span)?;
        let piece = Piece::Range(plan.stored.start, plan.stored.end);
        let stored = match self.fetch(call, object, read, piece, conditions).await {
            Ok(Fetched::Found(stored)) => stored,
            Ok(Fetched::NotModified(headers)) => return Ok(Some(not_modified(call, &headers))),
            // The object may be shorter by now, so that the answer to the old range makes no sense.
            Ok(Fetched::Unsatisfiable) | Err(Error::WrongAnswer(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !stored.belongs_to(&known.commitment, known.map.length()) {
            // The cold read that follows opens it, and checks that it has another ETag.
            return Ok(None);
        }
        let opened = self.open(call, object, &stored.headers).await?;
        Ok(Some(partial(call, read, stored, opened, &known, span, &plan)))
    }

    /// A range of an object of which nothing is known: its end first, then the range unless it lies in there.
    /// `None` when the object was overwritten in between.
    async fn range_from_end(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        conditions: &HeaderMap,
        range: ByteRange,
    ) -> Result<Option<Answer>, Error> {
        let end = match self.fetch(call, object, read, Piece::Last(END), conditions).await? {
            Fetched::Found(end) => end,
            Fetched::NotModified(headers) => return Ok(Some(not_modified(call, &headers))),
            Fetched::Unsatisfiable => return self.range_of_empty(call, object, read, conditions).await.map(Some),
        };
        if !range_counts(call, &end.headers) {
            return self.get_whole(call, object, read, conditions).await.map(Some);
        }
        let opened = self.open(call, object, &end.headers).await?;
        self.tails.check(object, read.version_id.as_deref(), end.etag(), &opened.commitment)?;
        if opened.layout == Layout::Empty {
            return Err(if end.size == 0 { Error::Range { length: 0 } } else { Error::NotAuthentic });
        }
        let (headers, size, etag) = (end.headers.clone(), end.size, end.etag().cloned());
        let (first, bytes) = end.collect(END).await?;
        let known = match known_from(&opened, (size, etag.clone()), &bytes)? {
            Some(known) => known,
            None => match self.read_footer(call, object, read, &opened, (size, etag.clone())).await {
                Err(error) if was_overwritten(&error) => return Ok(None),
                known => known?,
            },
        };
        self.tails.put(object, read.version_id.as_deref(), known.clone());
        let length = known.map.length();
        let span = range::resolve(Some(range), length).map_err(|_| Error::Range { length })?;
        let span = span.ok_or(Error::Range { length })?;
        let plan = plan(&known, span)?;
        if plan.stored.start.0 >= first {
            let from = usize::try_from(plan.stored.start.0 - first).map_err(|_| Error::NotAuthentic)?;
            return partial_in_memory(call, read, &headers, &opened, &known, span, &plan, bytes.slice(from..))
                .map(Some);
        }
        self.rest_of_range(call, object, read, (opened, known, etag), span, &plan).await
    }

    async fn rest_of_range(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        (opened, known, etag): (Opened, Known, Option<HeaderValue>),
        span: Span,
        plan: &Plan,
    ) -> Result<Option<Answer>, Error> {
        let mut conditions = HeaderMap::new();
        conditions.extend(etag.clone().map(|etag| (IF_MATCH, etag)));
        let piece = Piece::Range(plan.stored.start, plan.stored.end);
        let stored = match self.fetch(call, object, read, piece, &conditions).await {
            Ok(Fetched::Found(stored)) => stored,
            Err(error) if was_overwritten(&error) => return Ok(None),
            Err(error) => return Err(error),
            Ok(_) => return Err(WrongAnswer::Range.into()),
        };
        if stored.belongs_to(&known.commitment, known.map.length()) {
            return Ok(Some(partial(call, read, stored, opened, &known, span, plan)));
        }
        if etag.is_some() && stored.etag() == etag.as_ref() {
            tracing::error!(bucket = %object.bucket.name, "ALARM: the storage server gave two objects under one ETag");
            return Err(Error::NotAuthentic);
        }
        Ok(None)
    }

    /// No range of an empty object can be given; whether it is one, its envelope says.
    async fn range_of_empty(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        conditions: &HeaderMap,
    ) -> Result<Answer, Error> {
        let Fetched::Found(stored) = self.fetch(call, object, read, Piece::Whole, conditions).await? else {
            return Err(WrongAnswer::Range.into());
        };
        let opened = self.open(call, object, &stored.headers).await?;
        if opened.layout != Layout::Empty || stored.size != 0 {
            return Err(Error::NotAuthentic);
        }
        if !range_counts(call, &stored.headers) {
            return self.whole_empty(call, read, &stored, &opened);
        }
        Err(Error::Range { length: 0 })
    }
}

fn was_overwritten(error: &Error) -> bool {
    matches!(error, Error::Storage(StorageError::Refused(refusal)) if refusal.status == StatusCode::PRECONDITION_FAILED)
}

/// Whether the request's If-Range, if it has one, lets its Range count.
fn range_counts(call: &Call, storage: &HeaderMap) -> bool {
    let Some(if_range) = call.headers.get(IF_RANGE) else { return true };
    let mut shown = HeaderMap::new();
    insert_etag(&mut shown, storage);
    let etag = shown.get(http::header::ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
    let modified = storage.get(LAST_MODIFIED).and_then(|date| date.to_str().ok());
    if_range.to_str().is_ok_and(|if_range| if_range_holds(if_range, etag, modified))
}

fn plan(known: &Known, span: Span) -> Result<Plan, Error> {
    let plan = known.map.plan(PlainOffset(span.first), PlainOffset(span.last));
    plan.ok_or(Error::Range { length: known.map.length() })
}

/// What an answer says about the plaintext.
pub(super) struct About<'a> {
    pub(super) length: u64,
    pub(super) span: Option<Span>,
    pub(super) checksum: Option<&'a Checksum>,
    pub(super) parts: u32,
}

impl<'a> About<'a> {
    pub(super) fn whole(known: &'a Known) -> Self {
        Self { length: known.map.length(), span: None, checksum: known.checksum.as_ref(), parts: known.parts() }
    }
}

/// The headers of an answer about an object.
pub(super) fn headers_of(
    call: &Call,
    read: &Read,
    storage: &HeaderMap,
    opened: &Opened,
    about: &About<'_>,
) -> HeaderMap {
    let mut headers = clean_response_headers(&call.operation, storage);
    insert_etag(&mut headers, storage);
    metadata::describe(&mut headers, &opened.metadata);
    metadata::describe_encryption(&mut headers, opened.metadata.asked, &opened.kek);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let length = about.span.map_or(about.length, Span::count);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(span) = about.span {
        let range = HeaderValue::try_from(span.content_range(about.length));
        headers.insert(CONTENT_RANGE, range.expect("digits are legal in headers"));
    }
    let asked =
        call.headers.get("x-amz-checksum-mode").is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"enabled"));
    if let (true, None, Some(checksum)) = (asked, about.span, about.checksum) {
        metadata::describe_checksum(&mut headers, checksum, about.parts);
    }
    for (name, value) in &read.overrides {
        headers.insert(name.clone(), value.clone());
    }
    headers
}

pub(super) fn not_modified(call: &Call, storage: &HeaderMap) -> Answer {
    let mut headers = clean_response_headers(&call.operation, storage);
    insert_etag(&mut headers, storage);
    Answer::empty(StatusCode::NOT_MODIFIED, headers)
}

fn streamed(
    status: StatusCode,
    headers: HeaderMap,
    stored: Stored,
    opener: Opener,
    opened: Opened,
    length: u64,
) -> Answer {
    let body = DecryptingBody::new(stored.body, opener, opened.lease, length);
    Answer { status, headers, body: AnswerBody::Stream(body.boxed_unsync()) }
}

fn partial(call: &Call, read: &Read, stored: Stored, opened: Opened, known: &Known, span: Span, plan: &Plan) -> Answer {
    let about = About { span: Some(span), ..About::whole(known) };
    let headers = headers_of(call, read, &stored.headers, &opened, &about);
    let opener = RangeOpener::new(&opened.dek, Arc::clone(&known.map), plan);
    streamed(StatusCode::PARTIAL_CONTENT, headers, stored, Opener::Range(opener), opened, plan.length())
}

#[expect(clippy::too_many_arguments, reason = "the pieces of one answer, each used once")]
fn partial_in_memory(
    call: &Call,
    read: &Read,
    storage: &HeaderMap,
    opened: &Opened,
    known: &Known,
    span: Span,
    plan: &Plan,
    stored: Bytes,
) -> Result<Answer, Error> {
    let about = About { span: Some(span), ..About::whole(known) };
    let headers = headers_of(call, read, storage, opened, &about);
    let opener = RangeOpener::new(&opened.dek, Arc::clone(&known.map), plan);
    let plaintext = open_range_in_memory(opener, stored)?;
    Ok(Answer { status: StatusCode::PARTIAL_CONTENT, headers, body: AnswerBody::Full(plaintext.into()) })
}

const _: () = assert!(END > size::TAIL && IN_MEMORY >= size::stored(size::SEGMENT));
