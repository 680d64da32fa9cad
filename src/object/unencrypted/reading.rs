//! Reading what is not encrypted yet: the answers of the storage server, once the manifest was found to list what they are about.

use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode_str;

use crate::format::envelope;
use crate::format::layout::StoredOffset;
use crate::s3::conditions::source_conditions;
use crate::s3::copy_source::CopySource;
use crate::s3::operation::{Read, clean_response_headers};
use crate::s3::range::{self, Span};
use crate::s3::xml::{Listing, sized_entries};
use crate::storage::StorageResponse;

use super::super::answer::{Answer, AnswerBody, ReadFailure};
use super::super::bucket::Bucket;
use super::super::copy::CopyError;
use super::super::error::{Error, WrongAnswer};
use super::super::fetch::{Fetched, Piece, Stored, asks_whether_modified, parse_content_range, refusal};
use super::super::metadata;
use super::super::put::insert_etag;
use super::super::reading::{Reading, Wanted};
use super::super::source::PlainStream;
use super::super::{Call, Named, Objects};
use super::checked;
use super::known::plain;
use super::manifest::Entry;

/// The source of a copy that is not encrypted.
pub(in crate::object) struct Unencrypted {
    /// The storage server's headers.
    pub(in crate::object) headers: HeaderMap,
    /// Bytes of what is read.
    pub(in crate::object) length: u64,
    pub(in crate::object) body: PlainStream,
}

fn has_envelope(headers: &HeaderMap) -> bool {
    headers.contains_key(envelope::HEADER)
}

fn stream(stored: Stored) -> PlainStream {
    stored.body.map_err(ReadFailure::from).boxed_unsync()
}

/// What to fetch for the bytes of `span`, or all: also more, where it can be checked.
fn piece(entry: &Entry, span: Option<Span>) -> Piece {
    span.filter(|span| !checked::in_memory(entry) && span.count() < entry.size)
        .map_or(Piece::Whole, |span| Piece::Range(StoredOffset(span.first), StoredOffset(span.last.saturating_add(1))))
}

/// Bytes of the whole object that an answer is about, and which of them it gives.
fn place(headers: &HeaderMap, status: StatusCode) -> Result<(u64, Option<Span>), Error> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if status == StatusCode::PARTIAL_CONTENT || text(CONTENT_RANGE).is_some() {
        let range = text(CONTENT_RANGE).and_then(parse_content_range);
        let (first, last, size) = range.ok_or(WrongAnswer::Range)?;
        if first > last || last >= size {
            return Err(WrongAnswer::Range.into());
        }
        return Ok((size, Some(Span { first, last })));
    }
    let size = text(CONTENT_LENGTH).and_then(|text| text.parse().ok()).ok_or(WrongAnswer::Length)?;
    Ok((size, None))
}

impl Objects {
    /// Which entries of a listing, of those that have a size, are of objects that are not encrypted yet.
    pub(in crate::object) async fn unencrypted_in(
        &self,
        bucket: Bucket<'_>,
        page: &[u8],
        listing: Listing,
    ) -> Result<Vec<bool>, Error> {
        if !Self::migrates(bucket) {
            return Ok(Vec::new());
        }
        let entries = sized_entries(page, listing).map_err(WrongAnswer::Document)?;
        let mut listed = Vec::with_capacity(entries.len());
        for (key, etag, size) in entries {
            // Not every server says whether it encodes keys as the client asked for. ETag and size have to be right, too.
            let decoded = percent_decode_str(&key.replace('+', " ")).decode_utf8_lossy().into_owned();
            let mut is_listed = false;
            for key in [key, decoded] {
                let entry = self.listed(bucket, &key).await?;
                is_listed |= entry.is_some_and(|entry| entry.etag == plain(&etag) && entry.size == size);
            }
            listed.push(is_listed);
        }
        Ok(listed)
    }

    /// The bytes of a copy's source that is listed as not encrypted: those from the first to the last of `range`, or all.
    pub(in crate::object) async fn unencrypted_source(
        &self,
        call: &Call,
        source: &CopySource,
        range: Option<(u64, u64)>,
    ) -> Result<Unencrypted, Error> {
        if call.customer_keys.source.is_some() {
            return Err(Error::NeedlessCustomerKey);
        }
        let named = Named { bucket: self.source_bucket(call, source)?, key: &source.key };
        let read = Read { version_id: source.version_id.clone(), ..Read::default() };
        let conditions = source_conditions(&call.headers)?;
        let entry = self.listed(named.bucket, source.key.as_str()).await?.ok_or(Error::NotEncrypted)?;
        if range.is_some_and(|(first, last)| first > last || last >= entry.size) {
            return Err(CopyError::Range { length: entry.size }.into());
        }
        let span = range.map(|(first, last)| Span { first, last });
        let piece = piece(&entry, span);
        let as_read = call.as_read(&source.bucket, &source.key, &read, HeaderMap::new());
        let stored = match self.fetch(&as_read, named, &read, piece, &conditions).await? {
            Fetched::Found(stored) => stored,
            Fetched::NotModified(_) => return Err(CopyError::SourceCondition.into()),
            Fetched::Unsatisfiable => return Err(Error::Overwritten),
        };
        if has_envelope(&stored.headers) {
            return Err(Error::Overwritten);
        }
        if self.lists(named, stored.etag(), stored.size).await? != entry {
            return Err(Error::Overwritten);
        }
        let (headers, length) = (stored.headers.clone(), span.map_or(stored.size, |span| span.count()));
        let body = match piece {
            Piece::Whole => checked::source(stored, &entry, span).await?,
            _ => stream(stored),
        };
        Ok(Unencrypted { headers, length, body })
    }
}

impl Reading<'_> {
    /// What the manifest lists of what this answer is about, if that has no envelope.
    ///
    /// # Errors
    /// [`Error::NotEncrypted`] when it might, and does not.
    pub(in crate::object) async fn is_listed(&self, storage: &HeaderMap, size: u64) -> Result<Option<Entry>, Error> {
        if !Objects::migrates(self.object.bucket) || has_envelope(storage) {
            return Ok(None);
        }
        self.check_customer_key()?;
        self.objects.lists(self.object, storage.get(ETAG), size).await.map(Some)
    }

    fn check_customer_key(&self) -> Result<(), Error> {
        if self.call.customer_keys.target.is_some() { Err(Error::NeedlessCustomerKey) } else { Ok(()) }
    }

    /// The answer to a GET of all of an object that is listed.
    pub(in crate::object) async fn unencrypted_whole(&self, stored: Stored, entry: &Entry) -> Result<Answer, Error> {
        let headers = self.unencrypted_headers(&stored.headers, (stored.size, None));
        Ok(Answer { status: StatusCode::OK, headers, body: checked::whole(stored, entry, None).await? })
    }

    /// The answer to a GET of an object without an envelope, if the manifest lists it.
    pub(in crate::object) async fn unencrypted(&self, wanted: Option<Wanted>) -> Result<Answer, Error> {
        self.check_customer_key()?;
        let key = self.object.key.as_str();
        let Some(entry) = self.objects.listed(self.object.bucket, key).await? else {
            return Err(self.not_listed().await);
        };
        let span = match wanted {
            None => None,
            Some(Wanted::Part(number)) => return self.unencrypted_part(Method::GET, number).await,
            Some(Wanted::Range(_)) if self.if_range().is_some() && !self.range_counts(&self.described().await?.0) => {
                None
            }
            Some(Wanted::Range(range)) => match range::resolve(Some(range), entry.size) {
                Ok(span) => span,
                Err(_) => {
                    return Err(self
                        .described()
                        .await
                        .map_or_else(|error| error, |(_, length)| Error::Range { length }));
                }
            },
        };
        let piece = piece(&entry, span);
        let stored = match self.fetch(piece).await {
            Ok(Fetched::Found(stored)) => stored,
            Ok(Fetched::NotModified(headers)) => return Ok(self.not_modified(&headers)),
            // It is another object by now: one that is encrypted, or one that is not listed.
            Ok(Fetched::Unsatisfiable) | Err(Error::WrongAnswer(_)) => {
                return self.described().await.and(Err(Error::Overwritten));
            }
            Err(error) => return Err(error),
        };
        if self.is_listed(&stored.headers, stored.size).await?.as_ref() != Some(&entry) {
            return Err(Error::Overwritten);
        }
        let Some(span) = span else { return self.unencrypted_whole(stored, &entry).await };
        let headers = self.unencrypted_headers(&stored.headers, (stored.size, Some(span)));
        let body = match piece {
            Piece::Whole => checked::whole(stored, &entry, Some(span)).await?,
            _ => AnswerBody::Stream(stream(stored)),
        };
        Ok(Answer { status: StatusCode::PARTIAL_CONTENT, headers, body })
    }

    /// Why what was found without an envelope is not served: unless it has one by now, and the manifest lists it no more.
    async fn not_listed(&self) -> Error {
        let now = self.ask(Method::HEAD, None).await;
        if now.is_ok_and(|now| has_envelope(&now.headers)) { Error::Overwritten } else { Error::NotEncrypted }
    }

    /// The answer to a HEAD of an object without an envelope, if the manifest lists it.
    pub(in crate::object) async fn unencrypted_head(&self, wanted: Option<Wanted>) -> Result<Answer, Error> {
        self.check_customer_key()?;
        if let Some(Wanted::Part(number)) = wanted {
            return self.unencrypted_part(Method::HEAD, number).await;
        }
        let response = self.ask(Method::HEAD, None).await?;
        if response.status == StatusCode::NOT_MODIFIED {
            return Ok(self.not_modified(&response.headers));
        }
        let (size, ..) = self.checked_place(&response.headers, response.status).await?;
        let span = match wanted {
            Some(Wanted::Range(range)) if self.range_counts(&response.headers) => {
                range::resolve(Some(range), size).map_err(|_| Error::Range { length: size })?
            }
            _ => None,
        };
        let status = if span.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        Ok(Answer::empty(status, self.unencrypted_headers(&response.headers, (size, span))))
    }

    /// The storage server's headers of an object that is listed, and its length.
    pub(in crate::object) async fn unencrypted_described(&self) -> Result<(HeaderMap, u64), Error> {
        self.check_customer_key()?;
        self.described().await
    }

    async fn described(&self) -> Result<(HeaderMap, u64), Error> {
        let response = self.ask(Method::HEAD, None).await?;
        if response.status == StatusCode::NOT_MODIFIED {
            return Err(WrongAnswer::Kind.into());
        }
        let (size, ..) = self.checked_place(&response.headers, response.status).await?;
        Ok((response.headers, size))
    }

    /// One part, as the storage server knows it. Many count an object that one PUT wrote as one part; one whose ETag is its MD5
    /// is one.
    async fn unencrypted_part(&self, method: Method, number: u32) -> Result<Answer, Error> {
        let is_head = method == Method::HEAD;
        let response = self.ask(method, Some(number)).await?;
        if response.status == StatusCode::NOT_MODIFIED {
            return Ok(self.not_modified(&response.headers));
        }
        let (size, span, entry) = self.checked_place(&response.headers, response.status).await?;
        if number != 1 && (span.is_none() || entry.digest().is_some()) {
            // It takes no notice of part numbers, and gave all; or it makes some up.
            return Err(Error::Part { number, parts: 1 });
        }
        let is_whole = span.is_none_or(|span| span.count() == size);
        if entry.digest().is_some() && !is_whole {
            return Err(WrongAnswer::Range.into());
        }
        let (status, mut headers) = (response.status, self.unencrypted_headers(&response.headers, (size, span)));
        if let Some(count) = response.headers.get("x-amz-mp-parts-count") {
            headers.insert("x-amz-mp-parts-count", count.clone());
        }
        let body = match is_head {
            true => AnswerBody::Empty,
            false if is_whole => checked::whole(Stored::whole(response, size), &entry, None).await?,
            false => AnswerBody::Stream(response.body.map_err(ReadFailure::from).boxed_unsync()),
        };
        Ok(Answer { status, headers, body })
    }

    async fn ask(&self, method: Method, part: Option<u32>) -> Result<StorageResponse, Error> {
        let mut request = self.objects.request(self.call, method, self.object.bucket, Some(self.object.key));
        if let Some(version) = self.version() {
            request = request.query("versionId", version);
        }
        if let Some(number) = part {
            request = request.query("partNumber", number.to_string());
        }
        request.headers.extend(self.conditions.clone());
        let response = self.objects.send(self.call, request).await?;
        match response.status {
            StatusCode::NOT_MODIFIED if asks_whether_modified(&self.conditions) => Ok(response),
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            _ => Err(refusal(response.error().await)),
        }
    }

    /// Where the bytes of an answer lie in the object, if that is listed.
    async fn checked_place(
        &self,
        storage: &HeaderMap,
        status: StatusCode,
    ) -> Result<(u64, Option<Span>, Entry), Error> {
        if has_envelope(storage) {
            return Err(Error::Overwritten);
        }
        let (size, span) = place(storage, status)?;
        let entry = self.objects.lists(self.object, storage.get(ETAG), size).await?;
        Ok((size, span, entry))
    }

    /// The headers of an answer: those that the client gave when it stored the object, and no others of the storage server's than
    /// for any object.
    fn unencrypted_headers(&self, storage: &HeaderMap, (size, span): (u64, Option<Span>)) -> HeaderMap {
        let mut headers = clean_response_headers(&self.call.operation, storage);
        insert_etag(&mut headers, storage);
        metadata::describe(&mut headers, &metadata::of_headers(storage));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(span.map_or(size, Span::count)));
        if let Some(span) = span {
            let range = HeaderValue::try_from(span.content_range(size)).expect("digits are legal in headers");
            headers.insert(CONTENT_RANGE, range);
        }
        if self.wants_checksum() && span.is_none() {
            let checksums = storage.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-checksum-"));
            headers.extend(checksums.map(|(name, value)| (name.clone(), value.clone())));
        }
        for (name, value) in &self.read.overrides {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }
}
