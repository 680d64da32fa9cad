//! GetObject: whole objects, and ranges and parts of them.
//!
//! **Invariant:** ranges are planned from an authenticated length. Where a second request is needed, its answer must
//! carry the commitment of the first.

mod slice;

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;

use crate::format::body::{RangeOpener, SingleOpener};
use crate::format::envelope::Layout;
use crate::format::size;
use crate::s3::operation::{Read, clean_response_headers};

use super::answer::{Answer, AnswerBody};
use super::decrypting::{DecryptingBody, Opener, open_in_memory};
use super::error::{Error, WrongAnswer};
use super::fetch::{Fetched, Piece, Stored};
use super::opened::Opened;
use super::put::insert_etag;
use super::reading::{About, Given, Reading, check_empty};
use super::tails::Known;
use super::{Call, Named, Objects};

/// Stored objects up to this size are verified whole before the answer begins.
pub(super) const IN_MEMORY: u64 = 128 << 10;
const _: () = assert!(IN_MEMORY >= size::stored(size::SEGMENT));

/// How often a read begins anew because the object was overwritten between two requests.
const MOST_OVERWRITES: usize = 3;

impl Objects {
    pub(super) async fn get(&self, call: &Call, object: Named<'_>, read: &Read) -> Result<Answer, Error> {
        let reading = Reading::new(self, call, object, read)?;
        let wanted = reading.wanted()?;
        if let Some(wanted) = wanted.filter(|_| reading.if_range().is_none())
            && let Some(answer) = reading.slice_of_known(wanted).await?
        {
            return Ok(answer);
        }
        for _ in 0..MOST_OVERWRITES {
            let outcome = match wanted {
                None => reading.whole().await,
                Some(wanted) => reading.slice(wanted).await,
            };
            let outcome = match outcome {
                Err(Error::NotEncrypted) if Self::migrates(object.bucket) => reading.unencrypted(wanted).await,
                outcome => outcome,
            };
            if !matches!(outcome, Err(Error::Overwritten)) {
                return outcome;
            }
        }
        Err(Error::Overwritten)
    }
}

impl Reading<'_> {
    async fn whole(&self) -> Result<Answer, Error> {
        let stored = match self.fetch(Piece::Whole).await? {
            Fetched::Found(stored) => stored,
            Fetched::NotModified(headers) => return Ok(self.not_modified(&headers)),
            Fetched::Unsatisfiable => return Err(WrongAnswer::Range.into()),
        };
        if let Some(entry) = self.is_listed(&stored.headers, stored.size).await? {
            return self.unencrypted_whole(stored, &entry).await;
        }
        let opened = self.open(&stored.headers).await?;
        match opened.layout {
            Layout::Empty => check_empty(&stored).map(|()| self.empty(&stored.headers, &opened)),
            Layout::Single if stored.size <= IN_MEMORY => self.whole_in_memory(stored, opened).await,
            Layout::Single => self.whole_single(stored, opened),
            Layout::Multipart => self.whole_multipart(stored, opened).await,
        }
    }

    async fn whole_in_memory(&self, stored: Stored, mut opened: Opened) -> Result<Answer, Error> {
        let (storage, (size, etag)) = (stored.headers.clone(), stored.size_and_etag());
        let opener = SingleOpener::new(Arc::clone(&opened.dek), size).ok_or(Error::NotAuthentic)?;
        let (_, bytes) = stored.collect(size).await?;
        let (plaintext, tail) = open_in_memory(opener, bytes)?;
        opened.may_be_given().await?;
        let known = Known::new(opened.commitment, etag, &tail, tail.single_map()?);
        let headers = self.headers(&storage, &opened, &About::new(&known, Given::Whole));
        self.remember(known);
        Ok(Answer { status: StatusCode::OK, headers, body: AnswerBody::Full(plaintext.into()) })
    }

    fn whole_single(&self, stored: Stored, opened: Opened) -> Result<Answer, Error> {
        let opener = SingleOpener::new(Arc::clone(&opened.dek), stored.size).ok_or(Error::NotAuthentic)?;
        let length = opener.expected_length();
        // The checksum stands at the end of the body: it can only be told if it was seen before.
        let known = self.remembered().filter(|known| stored.belongs_to(&known.commitment, known.map.length()));
        let checksum = known.as_ref().and_then(|known| known.checksum.as_ref());
        let headers =
            self.headers(&stored.headers, &opened, &About { length, given: Given::Whole, checksum, parts: 1 });
        Ok(streamed(StatusCode::OK, headers, stored, Opener::Single(opener), opened, length))
    }

    async fn whole_multipart(&self, stored: Stored, mut opened: Opened) -> Result<Answer, Error> {
        let remembered = self.remembered();
        let known = match remembered.filter(|known| stored.belongs_to(&known.commitment, known.map.length())) {
            Some(known) => known,
            None => {
                let known = self.footer(&opened, stored.size_and_etag()).await?;
                self.remember(known.clone());
                known
            }
        };
        opened.may_be_given().await?;
        let about = About::new(&known, Given::Whole);
        let headers = self.headers(&stored.headers, &opened, &about);
        let opener = RangeOpener::new(&opened.dek, Arc::clone(&known.map), &known.map.plan_all());
        Ok(streamed(StatusCode::OK, headers, stored, Opener::Range(opener), opened, about.length))
    }
}

pub(super) fn not_modified(call: &Call, storage: &HeaderMap) -> Answer {
    let mut headers = clean_response_headers(&call.operation, storage);
    insert_etag(&mut headers, storage);
    Answer::empty(StatusCode::NOT_MODIFIED, headers)
}

fn streamed(
    status: StatusCode,
    headers: HeaderMap,
    stored: Stored,
    opener: Opener,
    opened: Opened,
    length: u64,
) -> Answer {
    let body = DecryptingBody::new(stored.body, opener, opened.lease, length);
    Answer { status, headers, body: AnswerBody::Stream(body.boxed_unsync()) }
}
