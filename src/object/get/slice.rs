//! Ranges and parts of an object: planned from its authenticated layout, cut out of whole segments.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};

use crate::format::body::RangeOpener;
use crate::format::envelope::Layout;
use crate::format::layout::{PartMap, PlainOffset, Plan};

use super::streamed;
use crate::object::answer::{Answer, AnswerBody};
use crate::object::decrypting::{Opener, open_range_in_memory};
use crate::object::error::{Error, WrongAnswer};
use crate::object::fetch::{Fetched, Piece, Stored};
use crate::object::opened::Opened;
use crate::object::reading::{About, Emptiness, Given, Reading, Wanted, check_empty, overwritten};
use crate::object::tails::Known;

/// The bytes that are given.
struct Slice {
    given: Given,
    /// `None`: no bytes at all, of an empty part.
    plan: Option<Plan>,
}

impl Slice {
    fn new(wanted: Wanted, map: &PartMap) -> Result<Self, Error> {
        let given = wanted.given(map)?;
        let span = match given {
            Given::Range(span) | Given::Part(_, Some(span)) => span,
            Given::Whole | Given::Part(_, None) => return Ok(Self { given, plan: None }),
        };
        let plan = map.plan(PlainOffset(span.first), PlainOffset(span.last));
        Ok(Self { given, plan: Some(plan.ok_or(Error::Range { length: map.length() })?) })
    }
}

fn piece(plan: &Plan) -> Piece {
    Piece::Range(plan.stored.start, plan.stored.end)
}

impl Reading<'_> {
    /// A slice of an object whose layout is remembered: one request. `None` when it turns out to be another object now.
    pub(super) async fn slice_of_known(&self, wanted: Wanted) -> Result<Option<Answer>, Error> {
        let Some(known) = self.remembered() else { return Ok(None) };
        let Ok(Slice { given, plan: Some(plan) }) = Slice::new(wanted, &known.map) else { return Ok(None) };
        let stored = match self.fetch(piece(&plan)).await {
            Ok(Fetched::Found(stored)) => stored,
            Ok(Fetched::NotModified(headers)) => return Ok(Some(self.not_modified(&headers))),
            // The object may be shorter by now, so that the answer to the old range makes no sense.
            Ok(Fetched::Unsatisfiable) | Err(Error::WrongAnswer(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !stored.belongs_to(&known.commitment, known.map.length()) {
            // The cold read that follows opens it, and checks that it has another ETag.
            return Ok(None);
        }
        let opened = self.open(&stored.headers).await?;
        Ok(Some(self.partial(stored, opened, &About::new(&known, given), (&known.map, &plan))))
    }

    /// A slice of an object of which nothing is known: its end first, then the slice unless it lies in there.
    pub(super) async fn slice(&self, wanted: Wanted) -> Result<Answer, Error> {
        let most = wanted.end();
        let end = match self.fetch(Piece::Last(most)).await? {
            Fetched::Found(end) => end,
            Fetched::NotModified(headers) => return Ok(self.not_modified(&headers)),
            Fetched::Unsatisfiable => return self.slice_of_empty(wanted).await,
        };
        if !self.range_counts(&end.headers) {
            return self.whole().await;
        }
        let mut opened = self.open(&end.headers).await?;
        if opened.layout == Layout::Empty {
            check_empty(&end)?;
            return self.of_empty(&end.headers, &opened, Some(wanted));
        }
        let (storage, place) = (end.headers.clone(), end.size_and_etag());
        let (first, bytes) = end.collect(most).await?;
        let known = self.layout(&opened, place.clone(), &bytes).await?;
        opened.may_be_given().await?;
        let Slice { given, plan } = Slice::new(wanted, &known.map)?;
        let about = About::new(&known, given);
        let Some(plan) = plan else {
            return Ok(Answer::empty(StatusCode::PARTIAL_CONTENT, self.headers(&storage, &opened, &about)));
        };
        if let Some(from) = plan.stored.start.0.checked_sub(first) {
            let from = usize::try_from(from).map_err(|_| Error::NotAuthentic)?;
            let opener = RangeOpener::new(&opened.dek, Arc::clone(&known.map), &plan);
            return self.partial_in_memory(&storage, &opened, &about, opener, bytes.slice(from..));
        }
        let stored = self.rest(&known, place.1, &plan).await?;
        opened.may_be_given().await?;
        Ok(self.partial(stored, opened, &about, (&known.map, &plan)))
    }

    /// The stored bytes of a slice, of the object whose end was read.
    async fn rest(&self, known: &Known, etag: Option<HeaderValue>, plan: &Plan) -> Result<Stored, Error> {
        let fetched = self.fetch_same(piece(plan), etag.as_ref()).await.map_err(overwritten)?;
        let Fetched::Found(stored) = fetched else { return Err(WrongAnswer::Range.into()) };
        if stored.belongs_to(&known.commitment, known.map.length()) {
            return Ok(stored);
        }
        if etag.is_some() && stored.etag() == etag.as_ref() {
            let bucket = self.object.bucket.name;
            tracing::error!(%bucket, "ALARM: the storage server gave two objects under one ETag");
            return Err(Error::NotAuthentic);
        }
        Err(Error::Overwritten)
    }

    /// No range of an empty object can be fetched; whether it is one, its envelope says.
    async fn slice_of_empty(&self, wanted: Wanted) -> Result<Answer, Error> {
        match self.fetch_empty().await? {
            Emptiness::NotModified(_) => Err(WrongAnswer::Range.into()),
            Emptiness::Empty(storage, opened) => self.of_empty(&storage, &opened, Some(wanted)),
        }
    }

    fn partial(
        &self,
        stored: Stored,
        opened: Opened,
        about: &About<'_>,
        (map, plan): (&Arc<PartMap>, &Plan),
    ) -> Answer {
        let headers = self.headers(&stored.headers, &opened, about);
        let opener = RangeOpener::new(&opened.dek, Arc::clone(map), plan);
        streamed(StatusCode::PARTIAL_CONTENT, headers, stored, Opener::Range(opener), opened, plan.length())
    }

    fn partial_in_memory(
        &self,
        storage: &HeaderMap,
        opened: &Opened,
        about: &About<'_>,
        opener: RangeOpener,
        stored: Bytes,
    ) -> Result<Answer, Error> {
        let headers = self.headers(storage, opened, about);
        let plaintext = open_range_in_memory(opener, stored)?;
        Ok(Answer { status: StatusCode::PARTIAL_CONTENT, headers, body: AnswerBody::Full(plaintext.into()) })
    }
}
