//! An object of parts, uploaded again part by part: the same numbers, borders and kinds of checksums, under another DEK.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, IF_MATCH};
use http_body_util::{BodyExt as _, Full};

use crate::format::layout::PartEntry;
use crate::format::metadata::Metadata;
use crate::format::upload::ChecksumChoice;
use crate::names::KekName;
use crate::s3::operation::{ObjectOperation, PartOf, UploadId};
use crate::s3::sigv4::Payload;
use crate::s3::xml::complete_upload_xml;

use super::super::answer::ReadFailure;
use super::super::error::Error;
use super::super::metadata::of_format;
use super::super::plaintext::{Plaintext, Upload};
use super::super::put::shown_etag;
use super::super::source::Source;
use super::super::tails::Known;
use super::super::{Call, Named, Objects, renewal};
use super::state::{OpenUpload, client_etag};

impl Objects {
    /// Uploads what `source` holds in place of `object`, if that still has the ETag `condition`. `begin` is the call with the
    /// headers that go to the storage server. Gives the headers of the answer. What fails leaves no upload.
    pub(in crate::object) async fn upload_again(
        &self,
        begin: &Call,
        object: Named<'_>,
        source: &Source<'_>,
        (kek, metadata): (&KekName, &Metadata),
        condition: Option<HeaderValue>,
    ) -> Result<HeaderMap, Error> {
        let known = self.layout_of(source).await?;
        let checksum = source.checksum().map_or(ChecksumChoice::DEFAULT, |kept| ChecksumChoice {
            algorithm: kept.algorithm(),
            kind: kept.kind(),
            by_client: false,
        });
        let (id, _) = self.begin_upload(begin, object, metadata, kek, checksum).await?;
        let outcome = self.parts_again(begin, object, (source, &known), &id, condition).await;
        if outcome.is_err() {
            self.abort_again(begin, object, &id).await;
        }
        outcome
    }

    pub(super) async fn abort_again(&self, begin: &Call, object: Named<'_>, id: &UploadId) {
        let abort = renewal::call(&begin.who, object, abort_of(id), HeaderMap::new());
        if let Err(error) = self.abort_upload(&abort, object, id).await {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(error, %id, "an upload that was given up could not be aborted; gc will");
        }
    }

    async fn parts_again(
        &self,
        begin: &Call,
        object: Named<'_>,
        (source, known): (&Source<'_>, &Known),
        id: &UploadId,
        condition: Option<HeaderValue>,
    ) -> Result<HeaderMap, Error> {
        let upload = self.open_upload(begin, object, id).await?;
        let mut parts: Vec<(u32, String)> = Vec::new();
        for part in known.map.entries() {
            let etag = self.part_again(begin, object, (source, known), &upload, part).await?;
            parts.push((part.number, etag));
        }
        self.complete_again(begin, object, id, &parts, condition).await
    }

    /// Completes the upload of `parts`, given their numbers and ETags, in place of an object with the ETag `condition`.
    pub(super) async fn complete_again(
        &self,
        begin: &Call,
        object: Named<'_>,
        id: &UploadId,
        parts: &[(u32, String)],
        condition: Option<HeaderValue>,
    ) -> Result<HeaderMap, Error> {
        let document = Bytes::from(complete_upload_xml(parts.iter().map(|(number, etag)| (*number, etag.as_str()))));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
        let shown = condition.as_ref().and_then(|etag| shown_etag(Some(etag)));
        if let Some(Ok(etag)) = shown.map(HeaderValue::try_from) {
            headers.insert(IF_MATCH, etag);
        }
        let complete = ObjectOperation::CompleteMultipartUpload { upload: id.clone() };
        let complete = renewal::call(&begin.who, object, complete, headers);
        let body = Full::new(document).map_err(|never| match never {}).boxed_unsync();
        let body = Upload { body, payload: Payload::Unsigned };
        let (answer, upload, _) = self.complete_opened(&complete, object, id, body).await?;
        // No client repeats this completion.
        self.forget_folder(&upload.folder).await;
        Ok(answer.headers)
    }

    /// Gives the ETag of the part.
    async fn part_again(
        &self,
        begin: &Call,
        object: Named<'_>,
        (source, known): (&Source<'_>, &Known),
        upload: &OpenUpload,
        part: PartEntry,
    ) -> Result<String, Error> {
        let range = known.map.range_of_part(part.number).ok_or(Error::NotAuthentic)?;
        let body = match range.end.0.checked_sub(1).filter(|last| range.start.0 <= *last) {
            Some(last) => self.plaintext_of(source, known, Some((range.start.0, last))).await?,
            None => Full::default().map_err(|never| -> ReadFailure { match never {} }).boxed_unsync(),
        };
        let algorithm = of_format(upload.settings.checksum.algorithm);
        let plaintext = Plaintext::of_copy(body, part.length, Some(algorithm));
        let of = ObjectOperation::UploadPart(PartOf { upload: upload.id.clone(), number: part.number });
        let call = renewal::call(&begin.who, object, of, HeaderMap::new());
        let stored = self.store_part(&call, object, upload, part.number, plaintext).await?;
        let entry = stored.record.entry;
        if part.checksum != [0; 32] && part.checksum != entry.checksum {
            return Err(Error::NotAuthentic);
        }
        Ok(client_etag(entry.attempt))
    }
}

fn abort_of(id: &UploadId) -> ObjectOperation {
    ObjectOperation::AbortMultipartUpload { upload: id.clone() }
}
