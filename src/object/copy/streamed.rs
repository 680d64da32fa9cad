//! Copies through the proxy: decrypted and encrypted anew, as a PUT whose body is the source.

use http::header::{HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::format::envelope;
use crate::format::metadata::Metadata;
use crate::format::size;
use crate::names::{KekName, Purpose};
use crate::s3::checksum::{Algorithm, Verified};
use crate::s3::sigv4::uri_encode_query;
use crate::s3::xml;
use crate::storage::{StorageError, StorageRequest, StorageResponse};

use super::super::answer::Answer;
use super::super::error::{Error, WrongAnswer};
use super::super::metadata;
use super::super::plaintext::Plaintext;
use super::super::put::now_ms;
use super::super::service::MAX_DOCUMENT;
use super::super::source::Source;
use super::super::{Call, Named, Objects};
use super::answer;
use super::directives::Wanted;

pub(in crate::object) const TAGGING: HeaderName = HeaderName::from_static("x-amz-tagging");

impl Objects {
    pub(super) async fn copy_streamed(
        &self,
        call: &Call,
        object: Named<'_>,
        wanted: &Wanted,
        source: Source<'_>,
    ) -> Result<Answer, Error> {
        let tags = if wanted.replaces_tags { None } else { self.tags_of(&source).await? };
        let request = self.copying(call, object, wanted, tags);
        let algorithm = wanted.algorithm;
        let metadata = wanted.metadata(&source.opened.metadata, now_ms());
        let version = source.version_id().cloned();
        let stored = self.store_source(call, object, request, (&wanted.kek, metadata), (source, algorithm)).await?;
        Ok(answer::of_stream(call, wanted, &stored, version.as_ref()))
    }

    /// The PUT of a copy: with the source's `tags`, unless others take their place, and under the destination's conditions.
    pub(super) fn copying(
        &self,
        call: &Call,
        object: Named<'_>,
        wanted: &Wanted,
        tags: Option<HeaderValue>,
    ) -> StorageRequest {
        let mut request = self.request(call, Method::PUT, object.bucket, Some(object.key));
        if !wanted.replaces_tags {
            request.headers.remove(TAGGING);
            request.headers.extend(tags.map(|tags| (TAGGING, tags)));
        }
        if !wanted.conditions.is_empty() {
            request = request.replay_unsafe();
            request.headers.extend(wanted.conditions.clone());
        }
        request
    }

    /// Stores by `request` what `source` holds, encrypted anew under `kek`, with a checksum by `algorithm` or by that of the
    /// source.
    pub(in crate::object) async fn store_source(
        &self,
        call: &Call,
        object: Named<'_>,
        request: StorageRequest,
        (kek, metadata): (&KekName, Metadata),
        (source, algorithm): (Source<'_>, Option<Algorithm>),
    ) -> Result<(StorageResponse, Verified), Error> {
        let length = source.length();
        if length > size::MAX_PUT {
            return Err(Error::TooLarge { length, limit: size::MAX_PUT });
        }
        let (bucket, caller) = (object.bucket.name, call.who.caller());
        let key = self.keys.for_writing(kek, Purpose::Object, bucket, caller, length).await?;
        let kept = source.checksum().map(|kept| metadata::of_format(kept.algorithm()));
        let read = source.at.stream_source(source, None).await?;
        let plaintext = Plaintext::of_copy(read.body, length, algorithm.or(kept));
        self.store(call, object, metadata, plaintext, key, request).await
    }

    /// The source's tags as a header has them; none where it has none, or the storage server does not know tags.
    pub(in crate::object) async fn tags_of(&self, source: &Source<'_>) -> Result<Option<HeaderValue>, Error> {
        source.at.tags_at(source.call(), source.named, source.asked_version()).await
    }

    /// The same of an object, or version of it, that nobody opened.
    pub(in crate::object) async fn tags_at(
        &self,
        call: &Call,
        object: Named<'_>,
        version: Option<&str>,
    ) -> Result<Option<HeaderValue>, Error> {
        let mut request =
            StorageRequest::object(Method::GET, object.bucket.physical, object.key.as_str()).flag("tagging");
        if let Some(version) = version {
            request = request.query("versionId", version);
        }
        let response = match self.send(call, request).await?.checked().await {
            // A server that does not know of tags may give the object itself.
            Ok(response) if is_object(&response.headers) => return Ok(None),
            Ok(response) => response,
            Err(StorageError::Refused(refusal))
                if refusal.status == StatusCode::NOT_IMPLEMENTED
                    || matches!(refusal.code.as_deref(), Some("NotImplemented" | "NoSuchTagSet")) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let document = response.collect(MAX_DOCUMENT).await?;
        if document.is_empty() {
            // Ceph 16, of tags that were given with an upload in parts: nobody can read them there.
            return Ok(None);
        }
        let tags = xml::tags(&document).map_err(WrongAnswer::Document)?;
        if tags.is_empty() {
            return Ok(None);
        }
        HeaderValue::try_from(uri_encode_query(tags)).map(Some).map_err(|_| WrongAnswer::Kind.into())
    }
}

/// Whether an answer gives an object, rather than a document about one.
pub(in crate::object) fn is_object(headers: &http::HeaderMap) -> bool {
    headers.contains_key(envelope::HEADER) || headers.contains_key(http::header::ETAG)
}
