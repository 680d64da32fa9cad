//! Copies that the storage server makes: the request, and the look at what came of it.

use http::header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::format::envelope;
use crate::format::footer::Tail;
use crate::format::size;
use crate::names::Purpose;
use crate::s3::error::parse_error;
use crate::s3::operation::{ObjectOperation, Operation, Read};
use crate::s3::sigv4::{uri_encode_path, uri_encode_query};
use crate::s3::xml::{CopyResult, XmlError};
use crate::storage::{Refusal, StorageError, StorageRequest, StorageResponse};

use super::super::error::{Error, WrongAnswer};
use super::super::fetch::{Fetched, Piece};
use super::super::put::now_ms;
use super::super::source::Source;
use super::super::{Call, Named, Objects};
use super::answer::Copied;
use super::directives::Wanted;

/// Most bytes of the documents about copies.
const MAX_RESULT: usize = 64 << 10;

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
        let reading = as_read(call, object, &read);
        let stored = match self.fetch(&reading, object, &read, Piece::Last(size::TAIL), &HeaderMap::new()).await {
            Ok(Fetched::Found(stored)) => stored,
            Ok(Fetched::Unsatisfiable | Fetched::NotModified(_)) => return Ok((None, Verdict::Replaced)),
            Err(Error::Storage(StorageError::Refused(refusal))) if refusal.status == StatusCode::NOT_FOUND => {
                return Ok((None, Verdict::Replaced));
            }
            Err(Error::Storage(StorageError::Refused(refusal)))
                if refusal.code.as_deref() == Some("InvalidObjectState") =>
            {
                return self.look_at_archived(&reading, object, source, envelope, made).await;
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
        let Made { headers, result } = made;
        let verdict =
            if same { Verdict::Copied(Box::new(Copied { headers, result, found })) } else { Verdict::Spoiled };
        Ok((etag, verdict))
    }

    /// What went into an archive cannot be read back. Its envelope and size can be seen; who reads it once it is restored
    /// will notice all else.
    async fn look_at_archived(
        &self,
        reading: &Call,
        object: Named<'_>,
        source: &Source<'_>,
        envelope: Option<HeaderValue>,
        made: Made,
    ) -> Result<(Option<HeaderValue>, Verdict), Error> {
        let mut request = self.request(reading, Method::HEAD, object.bucket, Some(object.key));
        if let Some(version) = made.headers.get("x-amz-version-id").and_then(|version| version.to_str().ok()) {
            request = request.query("versionId", version);
        }
        let response = self.send(reading, request).await?.checked().await?;
        let Made { headers, result } = made;
        let (etag, found) = (response.headers.get(ETAG).cloned(), response.headers);
        let size = found.get(CONTENT_LENGTH).and_then(|size| size.to_str().ok()?.parse().ok());
        if found.get(envelope::HEADER) != envelope.as_ref() {
            return Ok((etag, Verdict::Replaced));
        }
        let same = size == Some(source.size);
        Ok((etag, if same { Verdict::Copied(Box::new(Copied { headers, result, found })) } else { Verdict::Spoiled }))
    }
}

/// The call as a GET of what it wrote.
fn as_read(call: &Call, object: Named<'_>, read: &Read) -> Call {
    let mut headers = HeaderMap::new();
    for name in ["x-amz-expected-bucket-owner", "x-amz-request-payer"] {
        headers.extend(call.headers.get(name).map(|value| (HeaderName::from_static(name), value.clone())));
    }
    let operation = ObjectOperation::GetObject(read.clone());
    let operation = Operation::Object(object.bucket.name.clone(), object.key.clone(), operation);
    Call { who: call.who.clone(), operation, headers, customer_keys: Default::default() }
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

/// What an answer says was made. One of status 200 may still carry an error (AWS, CopyObject).
pub(super) async fn made(response: StorageResponse, root: &'static str) -> Result<Made, Error> {
    let response = response.checked().await?;
    if response.status != StatusCode::OK {
        return Err(WrongAnswer::Kind.into());
    }
    let headers = response.headers.clone();
    let document = document(response).await?;
    let result = CopyResult::parse(&document, root).map_err(WrongAnswer::Document)?;
    Ok(Made { headers, result })
}

/// The document of a successful answer, unless it is an error.
pub(super) async fn document(response: StorageResponse) -> Result<bytes::Bytes, Error> {
    let document = response.collect(MAX_RESULT).await?;
    if document.is_empty() {
        return Err(WrongAnswer::Document(XmlError::NotATree).into());
    }
    let Some(error) = parse_error(document.trim_ascii_start()) else { return Ok(document) };
    let status = match error.code.as_str() {
        "PreconditionFailed" => StatusCode::PRECONDITION_FAILED,
        "NotImplemented" => StatusCode::NOT_IMPLEMENTED,
        "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" | "NoSuchBucket" => StatusCode::NOT_FOUND,
        "AccessDenied" => StatusCode::FORBIDDEN,
        "SlowDown" | "ServiceUnavailable" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let (code, told) = (Some(error.code), Box::default());
    Err(StorageError::Refused(Refusal { status, code, message: error.message, told }).into())
}
