//! The end of an upload on the storage server: its CompleteMultipartUpload, and whether one happened before.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::format::checksum::Checksum;
use crate::format::ciphertext::CipherBytes;
use crate::format::envelope::Layout;
use crate::format::footer;
use crate::format::size;
use crate::names::KekName;
use crate::s3::operation::Read;
use crate::s3::xml::{complete_upload_xml, fields};
use crate::storage::StorageBody;

use super::super::super::error::{Error, WrongAnswer};
use super::super::super::fetch::{Fetched, Piece};
use super::super::super::late;
use super::super::super::opened::envelope_of;
use super::super::super::tails::Known;
use super::super::super::{Call, Named, Objects};
use super::super::state::OpenUpload;
use super::Asked;
use super::list::is_of;

/// The object that an upload became.
pub(super) struct Completed {
    /// The storage server's headers of the answer about it.
    pub(super) headers: HeaderMap,
    /// The storage server's ETag.
    pub(super) etag: String,
    pub(super) checksum: Option<Checksum>,
    pub(super) parts: usize,
    /// The KEK that it is under.
    pub(super) kek: KekName,
    /// Whether it has no byte.
    pub(super) empty: bool,
}

impl Objects {
    /// Has the storage server put the parts together.
    pub(super) async fn send_complete(
        &self,
        call: &Call,
        object: Named<'_>,
        upload: &OpenUpload,
        parts: &[(u32, String)],
        conditions: &HeaderMap,
    ) -> Result<(HeaderMap, String), Error> {
        let document = complete_upload_xml(parts.iter().map(|(number, etag)| (*number, etag.as_str())));
        let request = self.request(call, Method::POST, object.bucket, Some(object.key));
        let mut request = request.query("uploadId", upload.id.as_str()).replay_unsafe();
        request.headers.extend(conditions.clone());
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        // Numbers and ETags, which the storage server knows.
        let body = StorageBody::Replayable(CipherBytes::assume_ciphertext(Bytes::from(document)));
        let (headers, document) = late::success(self.send(call, request.body(body)).await?).await?;
        let [etag] = fields(&document, "CompleteMultipartUploadResult", ["ETag"]).map_err(WrongAnswer::Document)?;
        Ok((headers, etag.ok_or(WrongAnswer::Kind)?))
    }

    /// What the upload became, if it was completed before, of the parts that are wanted: what stands under its name has
    /// its DEK and that list of parts. An empty object has no list; `empty` says that of these parts one is made.
    pub(super) async fn completed_before(
        &self,
        call: &Call,
        object: Named<'_>,
        asked: Asked<'_>,
        empty: bool,
    ) -> Result<Option<Completed>, Error> {
        let (upload, read, none) = (asked.upload, Read::default(), HeaderMap::new());
        let reading = call.as_read(object.bucket.name, object.key, &read, call.of_bucket());
        let most = size::largest_footer(size::MAX_OBJECT);
        let fetched = match self.fetch(&reading, object, &read, Piece::Last(most), &none).await {
            Ok(Fetched::Unsatisfiable) => self.fetch(&reading, object, &read, Piece::Whole, &none).await,
            fetched => fetched,
        };
        let stored = match fetched {
            Ok(Fetched::Found(stored)) => stored,
            Ok(Fetched::Unsatisfiable | Fetched::NotModified(_)) => return Ok(None),
            // There is no object.
            Err(error) if error.is_status(StatusCode::NOT_FOUND) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(envelope) = envelope_of(&stored.headers) else { return Ok(None) };
        let commitment = upload.dek.commitment();
        if *envelope.commitment() != commitment || (envelope.layout() == Layout::Empty) != empty {
            return Ok(None);
        }
        let (headers, size, etag) = (stored.headers.clone(), stored.size, stored.etag().cloned());
        let shown = etag.as_ref().and_then(|etag| etag.to_str().ok()).ok_or(WrongAnswer::Kind)?.to_owned();
        let kek = envelope.branch().kek.clone();
        let mut length = 0;
        let completed = if empty {
            // Nothing but the envelope says so.
            let opened = self.open_with(&reading, object, &headers, call.customer_keys.target.as_ref()).await?;
            if size != 0 {
                return Err(Error::NotAuthentic);
            }
            let checksum = opened.metadata.empty_checksum;
            Completed { headers, etag: shown, checksum, parts: 1, kek, empty }
        } else {
            let (_, bytes) = stored.collect(most).await?;
            let (tail, map) = footer::open(&upload.dek, Layout::Multipart, &bytes, size)?;
            let map = map.ok_or(Error::NotAuthentic)?;
            if !is_of(map.entries(), asked.wanted) {
                return Ok(None);
            }
            let known = Known::new(commitment, etag, &tail, map);
            self.tails.put(object, None, known.clone());
            let parts = known.map.entries().len();
            length = known.map.length();
            Completed { headers, etag: shown, checksum: known.checksum.clone(), parts, kek, empty }
        };
        let choice = upload.settings.checksum;
        asked.promised.check(choice, completed.checksum.as_ref(), completed.parts, length)?;
        Ok(Some(completed))
    }
}

/// The storage server's ETag in an answer's headers.
pub(super) fn etag_in(headers: &HeaderMap) -> Result<String, Error> {
    let etag = headers.get(ETAG).and_then(|etag| etag.to_str().ok());
    etag.map(str::to_owned).ok_or_else(|| WrongAnswer::Kind.into())
}
