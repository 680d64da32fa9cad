//! HeadObject: from the authenticated tail, in one request.

use http::header::RANGE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::format::envelope::Layout;
use crate::format::footer::Tail;
use crate::format::size;
use crate::s3::conditions::storage_conditions;
use crate::s3::operation::Read;
use crate::s3::range;
use crate::storage::StorageError;

use super::answer::Answer;
use super::error::{Error, WrongAnswer};
use super::fetch::{Fetched, Piece};
use super::get::{About, headers_of, not_modified};
use super::opened::Opened;
use super::{Call, Named, Objects};

/// Marks an answer whose size is the storage server's word: archived objects cannot be read.
const UNAUTHENTICATED: &str = "x-claviger-size";

impl Objects {
    pub(super) async fn head(&self, call: &Call, object: Named<'_>, read: &Read) -> Result<Answer, Error> {
        let conditions = storage_conditions(&call.headers)?;
        let stored = match self.fetch(call, object, read, Piece::Last(size::TAIL), &conditions).await {
            Ok(Fetched::Found(stored)) => stored,
            Ok(Fetched::NotModified(headers)) => return Ok(not_modified(call, &headers)),
            Ok(Fetched::Unsatisfiable) => return self.head_without_tail(call, object, read, Layout::Empty).await,
            Err(Error::Storage(StorageError::Refused(refusal)))
                if refusal.code.as_deref() == Some("InvalidObjectState") =>
            {
                return self.head_without_tail(call, object, read, Layout::Single).await;
            }
            Err(error) => return Err(error),
        };
        let opened = self.open(call, object, &stored.headers).await?;
        let (headers, size) = (stored.headers.clone(), stored.size);
        if opened.layout == Layout::Empty {
            return if size == 0 {
                answer(call, read, &headers, &opened, &empty(&opened))
            } else {
                Err(Error::NotAuthentic)
            };
        }
        let (_, bytes) = stored.collect(size::TAIL).await?;
        let tail = Tail::open(&opened.dek, opened.layout, &bytes, size)?;
        let about = About { length: tail.length(), span: None, checksum: tail.checksum(), parts: tail.parts() };
        answer(call, read, &headers, &opened, &about)
    }

    /// An object that has no tail ([`Layout::Empty`]), or whose tail cannot be read because it is archived.
    async fn head_without_tail(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        expected: Layout,
    ) -> Result<Answer, Error> {
        let mut request = self.request(call, Method::HEAD, object.bucket, Some(object.key));
        if let Some(version) = &read.version_id {
            request = request.query("versionId", version);
        }
        let response = self.send(call, request).await?.checked().await?;
        let size = response.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let size: u64 = size.and_then(|text| text.parse().ok()).ok_or(WrongAnswer::Length)?;
        let opened = self.open(call, object, &response.headers).await?;
        if opened.layout == Layout::Empty && size == 0 {
            return answer(call, read, &response.headers, &opened, &empty(&opened));
        }
        if expected == Layout::Empty {
            return Err(Error::NotAuthentic);
        }
        let length = size::plaintext(size).ok_or(Error::NotAuthentic)?;
        let about = About { length, span: None, checksum: None, parts: 1 };
        let mut answer = answer(call, read, &response.headers, &opened, &about)?;
        answer.headers.insert(UNAUTHENTICATED, HeaderValue::from_static("not-authenticated"));
        Ok(answer)
    }
}

fn empty(opened: &Opened) -> About<'_> {
    About { length: 0, span: None, checksum: opened.metadata.empty_checksum.as_ref(), parts: 1 }
}

/// The answer, for the range that the request may ask for.
fn answer(call: &Call, read: &Read, storage: &HeaderMap, opened: &Opened, about: &About<'_>) -> Result<Answer, Error> {
    let range = call.headers.get(RANGE).and_then(|range| range.to_str().ok()).and_then(range::parse);
    let span = range::resolve(range, about.length).map_err(|_| Error::Range { length: about.length })?;
    let status = if span.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let headers = headers_of(call, read, storage, opened, &About { span, ..*about });
    Ok(Answer::empty(status, headers))
}
