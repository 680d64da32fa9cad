//! ListParts, from the markers alone; the storage server is asked whether the upload still is there.

use std::ops::ControlFlow;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::format::upload::PartRecord;
use crate::s3::checksum::{Algorithm, Digest};
use crate::s3::operation::{ListParts, UploadId, clean_response_headers};
use crate::s3::sigv4::uri_encode_path;
use crate::s3::xml::{ListedPart, PartsListing, Who, expect_root};

use super::super::answer::{Answer, moment};
use super::super::error::{Error, WrongAnswer};
use super::super::metadata::of_format;
use super::super::service::MAX_DOCUMENT;
use super::super::{Call, Named, Objects};
use super::checksum_choice::kind_name;
use super::state::{OpenUpload, client_etag};

impl Objects {
    pub(in crate::object) async fn list_parts(
        &self,
        call: &Call,
        object: Named<'_>,
        asked: &ListParts,
    ) -> Result<Answer, Error> {
        let upload = self.open_upload(call, object, &asked.upload).await?;
        let (headers, document) = self.parts_there(call, object, &asked.upload).await?;
        let (parts, truncated) = self.newest_parts(&upload, asked.after, asked.max_parts).await?;
        let checksum = upload.settings.checksum;
        let key = object.key.as_str();
        let encoded = if asked.url_encoded { uri_encode_path(key.as_bytes()) } else { key.to_owned() };
        let mut listing = PartsListing {
            bucket: object.bucket.name,
            key: &encoded,
            url_encoded: asked.url_encoded,
            upload: &asked.upload,
            after: asked.after,
            max_parts: asked.max_parts,
            truncated,
            parts: parts.iter().map(listed).collect(),
            initiator: Who::default(),
            owner: Who::default(),
            storage_class: String::new(),
            checksum: (of_format(checksum.algorithm), kind_name(checksum.kind)),
        };
        listing.take_of_storage(&document).map_err(WrongAnswer::Document)?;
        Ok(Answer::xml(StatusCode::OK, clean_response_headers(&call.operation, &headers), listing.to_xml()))
    }

    /// Asks the storage server for its own list of the upload's parts: whether there is such an upload, and headers and
    /// document of the answer. What it says of parts counts for nothing.
    pub(super) async fn parts_there(
        &self,
        call: &Call,
        object: Named<'_>,
        id: &UploadId,
    ) -> Result<(HeaderMap, Bytes), Error> {
        let request = self.request(call, Method::GET, object.bucket, Some(object.key));
        let request = request.query("uploadId", id.as_str()).query("max-parts", "1");
        let response = self.send(call, request).await?.checked().await?;
        let headers = response.headers.clone();
        let document = response.collect(MAX_DOCUMENT).await?;
        expect_root(&document, "ListPartsResult").map_err(WrongAnswer::Document)?;
        Ok((headers, document))
    }

    /// The newest attempt at each part after number `after`, at most `most`, and whether there are more.
    async fn newest_parts(&self, upload: &OpenUpload, after: u32, most: u32) -> Result<(Vec<PartRecord>, bool), Error> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut parts: Vec<PartRecord> = Vec::new();
        let mut truncated = false;
        self.markers(upload, after, |part, _| {
            let full = parts.len() >= most;
            match parts.last_mut().filter(|last| last.entry.number == part.entry.number) {
                Some(last) if last.written_ms <= part.written_ms => *last = part,
                Some(_) => {}
                None if !full => parts.push(part),
                None => {
                    truncated = true;
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })
        .await?;
        Ok((parts, truncated))
    }
}

fn listed(part: &PartRecord) -> ListedPart {
    let digest = |value: &[u8]| Digest::from_slice(value);
    let checksum = part
        .checksum
        .as_ref()
        .and_then(|kept| -> Option<(Algorithm, Digest)> { Some((of_format(kept.algorithm()), digest(kept.value())?)) });
    ListedPart {
        number: part.entry.number,
        modified: moment(part.written_ms),
        etag: client_etag(part.entry.attempt),
        size: part.entry.length,
        checksum,
    }
}
