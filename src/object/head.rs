//! HeadObject: from the authenticated tail, in one request.
//!
//! An archived object's tail cannot be read, so its HEAD fails with the storage server's error: a size on the storage
//! server's word would let it cut an object short for clients that plan their ranges by HEAD.

use http::StatusCode;
use http::header::HeaderMap;

use crate::format::envelope::Layout;
use crate::format::footer::Tail;
use crate::format::size;
use crate::s3::operation::Read;
use crate::s3::range;

use super::answer::Answer;
use super::error::Error;
use super::fetch::{Fetched, Piece};
use super::opened::Opened;
use super::reading::{About, Emptiness, Given, Reading, Wanted, check_empty};
use super::{Call, Named, Objects};

impl Objects {
    pub(super) async fn head(&self, call: &Call, object: Named<'_>, read: &Read) -> Result<Answer, Error> {
        let reading = Reading::new(self, call, object, read)?;
        let wanted = reading.wanted()?;
        match reading.head(wanted).await {
            Err(Error::NotEncrypted) if Self::migrates(object.bucket) => reading.unencrypted_head(wanted).await,
            outcome => outcome,
        }
    }
}

impl Reading<'_> {
    async fn head(&self, wanted: Option<Wanted>) -> Result<Answer, Error> {
        let most = match wanted {
            Some(part @ Wanted::Part(_)) if self.remembered().is_none() => part.end(),
            _ => size::TAIL,
        };
        let stored = match self.fetch(Piece::Last(most)).await? {
            Fetched::Found(stored) => stored,
            Fetched::NotModified(headers) => return Ok(self.not_modified(&headers)),
            Fetched::Unsatisfiable => return self.head_of_empty(wanted).await,
        };
        let mut opened = self.open(&stored.headers).await?;
        if opened.layout == Layout::Empty {
            check_empty(&stored)?;
            return self.of_empty(&stored.headers, &opened, wanted);
        }
        let remembered = self.remembered().filter(|known| stored.belongs_to(&known.commitment, known.map.length()));
        let (storage, place) = (stored.headers.clone(), stored.size_and_etag());
        let (_, bytes) = stored.collect(most).await?;
        let Some(part @ Wanted::Part(_)) = wanted else {
            let tail = Tail::open(&opened.dek, opened.layout, &bytes, place.0)?;
            opened.may_be_given().await?;
            return self.head_by_tail(&storage, &opened, &tail, wanted);
        };
        let known = match remembered {
            Some(known) => known,
            None => self.layout(&opened, place, &bytes).await?,
        };
        opened.may_be_given().await?;
        let about = About::new(&known, part.given(&known.map)?);
        Ok(Answer::empty(StatusCode::PARTIAL_CONTENT, self.headers(&storage, &opened, &about)))
    }

    /// The answer, for the range that the request may ask for.
    fn head_by_tail(
        &self,
        storage: &HeaderMap,
        opened: &Opened,
        tail: &Tail,
        wanted: Option<Wanted>,
    ) -> Result<Answer, Error> {
        let length = tail.length();
        let given = match wanted {
            Some(Wanted::Range(range)) => range::resolve(Some(range), length).map_err(|_| Error::Range { length })?,
            _ => None,
        };
        let status = if given.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let given = given.map_or(Given::Whole, Given::Range);
        let about = About { length, given, checksum: tail.checksum(), parts: tail.parts() };
        Ok(Answer::empty(status, self.headers(storage, opened, &about)))
    }

    async fn head_of_empty(&self, wanted: Option<Wanted>) -> Result<Answer, Error> {
        match self.fetch_empty().await? {
            Emptiness::NotModified(headers) => Ok(self.not_modified(&headers)),
            Emptiness::Empty(storage, opened) => self.of_empty(&storage, &opened, wanted),
        }
    }
}
