//! Copies that the storage server makes: the request, and the look at what came of it.

use http::header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::format::envelope;
use crate::format::footer::Tail;
use crate::format::size;
use crate::names::Purpose;
use crate::s3::operation::Read;
use crate::s3::sigv4::{uri_encode_path, uri_encode_query};
use crate::s3::xml::CopyResult;
use crate::storage::{StorageRequest, StorageResponse};

use super::super::error::{Error, WrongAnswer};
use super::super::fetch::{Fetched, Piece};
use super::super::late;
use super::super::put::now_ms;
use super::super::source::Source;
use super::super::{Call, Named, Objects};
use super::answer::Copied;
use super::directives::Wanted;

/// What came of a copy.
pub(super) enum Verdict {
    /// It is the object that it should be.
    Copied(Box<Copied>),
    /// Our envelope stands there, with something else than the source's body.
    Spoiled,
    /// Something else stands there, or nothing.
    Replaced,
}

/// What the storage server says that it made.
pub(super) struct Made {
    pub(super) headers: HeaderMap,
    pub(super) result: CopyResult,
}

impl Made {
    /// What came of it, where our envelope stands in the headers under which it was `found`.
    fn verdict(self, same: bool, found: HeaderMap) -> Verdict {
        let Self { headers, result } = self;
        if same { Verdict::Copied(Box::new(Copied { headers, result, found })) } else { Verdict::Spoiled }
    }
}

impl Objects {
    /// Has the storage server copy `source`, and looks at the outcome. Gives the ETag of what stands there, too.
    pub(super) async fn copy_there(
        &self,
        call: &Call,
        object: Named<'_>,
        wanted: &Wanted,
        source: &Source<'_>,
        conditions: &HeaderMap,
    ) -> Result<(Option<HeaderValue>, Verdict), Error> {
        let (bucket, caller) = (object.bucket.name, call.who.caller());
        let key = self.keys.for_writing(&wanted.kek, Purpose::Object, bucket, caller, source.length()).await?;
        let metadata = wanted.metadata(&source.opened.metadata, now_ms());
        let request = self.request(call, Method::PUT, object.bucket, Some(object.key));
        let opened = &source.opened;
        let request = self.with_envelope(call, request, (&opened.dek, opened.layout), &metadata, &key, object)?;
        let envelope = request.headers.get(envelope::HEADER).cloned();
        let made = if source.size > self.storage.settings().copy_limit_bytes {
            self.copy_in_pieces(call, object, wanted, source, (request, &key), conditions).await?
        } else {
            self.copy_at_once(call, object, wanted, source, request, conditions).await?
        };
        self.look_at(call, object, source, envelope, made).await
    }

    async fn copy_at_once(
        &self,
        call: &Call,
        object: Named<'_>,
        wanted: &Wanted,
        source: &Source<'_>,
        mut request: StorageRequest,
        conditions: &HeaderMap,
    ) -> Result<Made, Error> {
        if !conditions.is_empty() || source.is(object) {
            // A second attempt would fail on the first one's success: of the destination's condition or, onto itself, of
            // the source's.
            request = request.replay_unsafe();
        }
        request.headers.extend(of_source(call, source));
        request.headers.extend(conditions.clone());
        request.headers.insert("x-amz-metadata-directive", HeaderValue::from_static("REPLACE"));
        if wanted.replaces_tags {
            request.headers.insert("x-amz-tagging-directive", HeaderValue::from_static("REPLACE"));
        } else {
            request.headers.remove("x-amz-tagging");
        }
        let response = self.send(call, request).await?;
        made(response, "CopyObjectResult").await
    }

    /// Whether what now stands under the destination's name is what was to be made. The source's DEK decides.
    async fn look_at(
        &self,
        call: &Call,
        object: Named<'_>,
        source: &Source<'_>,
        envelope: Option<HeaderValue>,
        made: Made,
    ) -> Result<(Option<HeaderValue>, Verdict), Error> {
        let version = made.headers.get("x-amz-version-id").and_then(|version| version.to_str().ok());
        let version_id = version.filter(|version| *version != "null").map(str::to_owned);
        let read = Read { version_id, ..Read::default() };
        let reading = call.as_read(object.bucket.name, object.key, &read, call.of_bucket());
        let stored = match self.fetch(&reading, object, &read, Piece::Last(size::TAIL), &HeaderMap::new()).await {
            Ok(Fetched::Found(stored)) => stored,
            Ok(Fetched::Unsatisfiable | Fetched::NotModified(_)) => return Ok((None, Verdict::Replaced)),
            Err(error) if error.is_status(StatusCode::NOT_FOUND) => return Ok((None, Verdict::Replaced)),
            Err(error) if error.refusal_code() == Some("InvalidObjectState") => {
                return self.look_at_archived((&reading, &read), object, source, envelope, made).await;
            }
            Err(error) => return Err(error),
        };
        let (found, stored_size) = (stored.headers.clone(), stored.size);
        let etag = stored.etag().cloned();
        if found.get(envelope::HEADER) != envelope.as_ref() {
            return Ok((etag, Verdict::Replaced));
        }
        let (_, bytes) = stored.collect(size::TAIL).await?;
        let opened = &source.opened;
        let same = stored_size == source.size
            && Tail::open(&opened.dek, opened.layout, &bytes, stored_size).is_ok_and(|tail| source.ends_in(&tail));
        Ok((etag, made.verdict(same, found)))
    }

    /// What went into an archive cannot be read back. Its envelope and size can be seen; who reads it once it is restored
    /// will notice all else.
    async fn look_at_archived(
        &self,
        (reading, read): (&Call, &Read),
        object: Named<'_>,
        source: &Source<'_>,
        envelope: Option<HeaderValue>,
        made: Made,
    ) -> Result<(Option<HeaderValue>, Verdict), Error> {
        let mut request = self.request(reading, Method::HEAD, object.bucket, Some(object.key));
        if let Some(version) = &read.version_id {
            request = request.query("versionId", version);
        }
        let response = self.send(reading, request).await?.checked().await?;
        let (etag, found) = (response.headers.get(ETAG).cloned(), response.headers);
        let size = found.get(CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
        if found.get(envelope::HEADER) != envelope.as_ref() {
            return Ok((etag, Verdict::Replaced));
        }
        Ok((etag, made.verdict(size == Some(source.size), found)))
    }
}

/// The headers that name the source to the storage server: the very object that was opened.
pub(super) fn of_source(call: &Call, source: &Source<'_>) -> HeaderMap {
    let mut place = format!("{}/{}", source.named.bucket.physical, source.named.key.as_str());
    place = uri_encode_path(place.as_bytes());
    if let Some(version) = source.asked_version() {
        place = format!("{place}?{}", uri_encode_query([("versionId", version)]));
    }
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-copy-source", HeaderValue::try_from(place).expect("percent-encoding is legal in headers"));
    if let Some(etag) = source.etag() {
        headers.insert("x-amz-copy-source-if-match", etag.clone());
    }
    for name in ["x-amz-source-expected-bucket-owner", "x-amz-request-payer", "x-amz-expected-bucket-owner"] {
        headers.extend(call.headers.get(name).map(|value| (HeaderName::from_static(name), value.clone())));
    }
    headers
}

/// What an answer says was made.
pub(super) async fn made(response: StorageResponse, root: &'static str) -> Result<Made, Error> {
    let (headers, document) = late::success(response).await?;
    let result = CopyResult::parse(&document, root).map_err(WrongAnswer::Document)?;
    Ok(Made { headers, result })
}
