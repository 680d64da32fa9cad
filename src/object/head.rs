//! HeadObject: from the authenticated tail, in one request.
//!
//! An archived object's tail cannot be read, so its HEAD fails with the storage server's error: a size on the storage
//! server's word would let it cut an object short for clients that plan their ranges by HEAD.

use http::header::RANGE;
use http::{HeaderMap, StatusCode};

use crate::format::envelope::Layout;
use crate::format::footer::Tail;
use crate::format::size;
use crate::s3::conditions::storage_conditions;
use crate::s3::operation::Read;
use crate::s3::range;

use super::answer::Answer;
use super::error::{Error, WrongAnswer};
use super::fetch::{Fetched, Piece};
use super::get::{About, headers_of, not_modified};
use super::opened::Opened;
use super::{Call, Named, Objects};

impl Objects {
    pub(super) async fn head(&self, call: &Call, object: Named<'_>, read: &Read) -> Result<Answer, Error> {
        let conditions = storage_conditions(&call.headers)?;
        let stored = match self.fetch(call, object, read, Piece::Last(size::TAIL), &conditions).await {
            Ok(Fetched::Found(stored)) => stored,
            Ok(Fetched::NotModified(headers)) => return Ok(not_modified(call, &headers)),
            Ok(Fetched::Unsatisfiable) => return self.head_of_empty(call, object, read, &conditions).await,
            Err(error) => return Err(error),
        };
        let opened = self.open(call, object, &stored.headers).await?;
        let (headers, size, etag) = (stored.headers.clone(), stored.size, stored.etag().cloned());
        if opened.layout == Layout::Empty {
            return if size == 0 {
                answer(call, read, &headers, &opened, &empty(&opened))
            } else {
                Err(Error::NotAuthentic)
            };
        }
        let (_, bytes) = stored.collect(size::TAIL).await?;
        let tail = Tail::open(&opened.dek, opened.layout, &bytes, size)?;
        self.tails.check(object, read.version_id.as_deref(), etag.as_ref(), &opened.commitment)?;
        let about = About { length: tail.length(), span: None, checksum: tail.checksum(), parts: tail.parts() };
        answer(call, read, &headers, &opened, &about)
    }

    /// An object of which no range can be had is an empty one, if its envelope says so.
    async fn head_of_empty(
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
        if opened.layout != Layout::Empty || stored.size != 0 {
            return Err(Error::NotAuthentic);
        }
        answer(call, read, &stored.headers, &opened, &empty(&opened))
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
