//! A read under way: who asks for which object on which conditions, and what the answer's headers say.

use http::StatusCode;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_MATCH, IF_RANGE, LAST_MODIFIED,
    RANGE,
};

use crate::format::checksum::Checksum;
use crate::format::envelope::Layout;
use crate::format::layout::{PartEntry, PartMap};
use crate::format::size;
use crate::s3::conditions::{if_range_holds, storage_conditions};
use crate::s3::operation::{Read, clean_response_headers};
use crate::s3::range::{self, ByteRange, Span};

use super::answer::Answer;
use super::error::{Error, WrongAnswer};
use super::fetch::{Fetched, Piece, SizeAndEtag, Stored, known_from};
use super::get::not_modified;
use super::metadata;
use super::opened::Opened;
use super::put::{insert_etag, shown_etag};
use super::tails::Known;
use super::{Call, Named, Objects};

/// A read under way.
pub(super) struct Reading<'a> {
    pub(super) objects: &'a Objects,
    pub(super) call: &'a Call,
    pub(super) object: Named<'a>,
    pub(super) read: &'a Read,
    /// The client's, in the storage server's words.
    pub(super) conditions: HeaderMap,
}

impl<'a> Reading<'a> {
    pub(super) fn new(objects: &'a Objects, call: &'a Call, object: Named<'a>, read: &'a Read) -> Result<Self, Error> {
        Ok(Self { objects, call, object, read, conditions: storage_conditions(&call.headers)? })
    }

    /// Which bytes are asked for; `None`: all.
    pub(super) fn wanted(&self) -> Result<Option<Wanted>, Error> {
        let range = self.call.headers.get(RANGE);
        match self.read.part_number {
            Some(_) if range.is_some() => Err(Error::RangeAndPart),
            Some(number) => Ok(Some(Wanted::Part(number))),
            None => Ok(range.and_then(|range| range.to_str().ok()).and_then(range::parse).map(Wanted::Range)),
        }
    }

    /// The condition on which a range counts.
    pub(super) fn if_range(&self) -> Option<&HeaderValue> {
        self.call.headers.get(IF_RANGE).filter(|_| self.read.part_number.is_none())
    }

    /// Whether If-Range, if there is one, lets the range count.
    pub(super) fn range_counts(&self, storage: &HeaderMap) -> bool {
        let Some(if_range) = self.if_range() else { return true };
        let etag = shown_etag(storage.get(ETAG)).unwrap_or_default();
        let modified = storage.get(LAST_MODIFIED).and_then(|date| date.to_str().ok());
        if_range.to_str().is_ok_and(|if_range| if_range_holds(if_range, &etag, modified))
    }

    /// Stored bytes, on the client's conditions.
    pub(super) async fn fetch(&self, piece: Piece) -> Result<Fetched, Error> {
        self.objects.fetch_to_show(self.call, self.object, self.read, piece, &self.conditions).await
    }

    /// Stored bytes of the object with that ETag, on no other condition.
    pub(super) async fn fetch_same(&self, piece: Piece, etag: Option<&HeaderValue>) -> Result<Fetched, Error> {
        let conditions = etag.map(|etag| (IF_MATCH, etag.clone())).into_iter().collect();
        self.objects.fetch_to_show(self.call, self.object, self.read, piece, &conditions).await
    }

    /// Opens what the storage server's headers say of the object, unless its ETag is known for another object's.
    pub(super) async fn open(&self, storage: &HeaderMap) -> Result<Opened, Error> {
        let opened = self.objects.open(self.call, self.object, storage).await?;
        self.objects.tails.check(self.object, self.version(), storage.get(ETAG), &opened.commitment)?;
        if self.version().is_none() {
            self.objects.settle(self.object.bucket, self.object.key.as_str());
        }
        Ok(opened)
    }

    /// The layout, from the object's end if that holds it, or else from the footer, which a request of its own fetches.
    pub(super) async fn layout(&self, opened: &Opened, place: SizeAndEtag, end: &[u8]) -> Result<Known, Error> {
        let known = match known_from(opened, place.clone(), end)? {
            Some(known) => known,
            None => self.footer(opened, place).await?,
        };
        self.remember(known.clone());
        Ok(known)
    }

    /// The layout of a multipart object from its footer, which a request of its own fetches.
    pub(super) async fn footer(&self, opened: &Opened, place: SizeAndEtag) -> Result<Known, Error> {
        let known = self.objects.read_footer(self.call, self.object, self.read, opened, place).await;
        known.map_err(overwritten)
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.read.version_id.as_deref()
    }

    /// What earlier reads found out about the object of this name, which may be another one now.
    pub(super) fn remembered(&self) -> Option<Known> {
        self.objects.tails.get(self.object, self.version())
    }

    pub(super) fn remember(&self, known: Known) {
        self.objects.tails.put(self.object, self.version(), known);
    }

    /// No bytes of an object can be had, so it is empty, if its envelope says so.
    pub(super) async fn fetch_empty(&self) -> Result<Emptiness, Error> {
        let stored = match self.fetch(Piece::Whole).await? {
            Fetched::Found(stored) => stored,
            Fetched::NotModified(headers) => return Ok(Emptiness::NotModified(headers)),
            Fetched::Unsatisfiable => return Err(WrongAnswer::Range.into()),
        };
        let opened = self.open(&stored.headers).await?;
        if opened.layout != Layout::Empty {
            return Err(Error::NotAuthentic);
        }
        check_empty(&stored)?;
        Ok(Emptiness::Empty(stored.headers, Box::new(opened)))
    }

    /// The answer about an empty object.
    pub(super) fn empty(&self, storage: &HeaderMap, opened: &Opened) -> Answer {
        let checksum = opened.metadata.empty_checksum.as_ref();
        let about = About { length: 0, given: Given::Whole, checksum, parts: 1 };
        Answer::empty(StatusCode::OK, self.headers(storage, opened, &about))
    }

    /// The same when only `wanted` is asked for: an empty object has one part and no range.
    pub(super) fn of_empty(
        &self,
        storage: &HeaderMap,
        opened: &Opened,
        wanted: Option<Wanted>,
    ) -> Result<Answer, Error> {
        match wanted {
            Some(Wanted::Range(_)) if self.range_counts(storage) => Err(Error::Range { length: 0 }),
            Some(Wanted::Part(number)) if number != 1 => Err(Error::Part { number, parts: 1 }),
            _ => Ok(self.empty(storage, opened)),
        }
    }

    pub(super) fn not_modified(&self, storage: &HeaderMap) -> Answer {
        not_modified(self.call, storage)
    }

    /// The headers of an answer about the object.
    pub(super) fn headers(&self, storage: &HeaderMap, opened: &Opened, about: &About<'_>) -> HeaderMap {
        let mut headers = clean_response_headers(&self.call.operation, storage);
        insert_etag(&mut headers, storage);
        metadata::describe(&mut headers, &opened.metadata);
        let customer_key = self.call.customer_keys.target.as_ref();
        metadata::describe_encryption(&mut headers, customer_key, opened.metadata.asked, &opened.kek);
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(about.given_length()));
        if let Given::Range(span) | Given::Part(_, Some(span)) = about.given {
            let range = HeaderValue::try_from(span.content_range(about.length));
            headers.insert(CONTENT_RANGE, range.expect("digits are legal in headers"));
        }
        let multipart = opened.layout == Layout::Multipart;
        if multipart && matches!(about.given, Given::Part(..)) {
            headers.insert("x-amz-mp-parts-count", HeaderValue::from(about.parts));
        }
        if let (true, Some(checksum)) = (self.wants_checksum(), about.checksum) {
            match about.given {
                Given::Part(part, _) if multipart => {
                    metadata::describe_part_checksum(&mut headers, checksum, &part.checksum);
                }
                Given::Whole | Given::Part(..) => metadata::describe_checksum(&mut headers, checksum, about.parts),
                Given::Range(_) => {}
            }
        }
        for (name, value) in &self.read.overrides {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }

    pub(super) fn wants_checksum(&self) -> bool {
        let mode = self.call.headers.get("x-amz-checksum-mode");
        mode.is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"enabled"))
    }
}

/// What came of fetching an object of which no range can be had.
pub(super) enum Emptiness {
    /// It is empty; the storage server's headers.
    Empty(HeaderMap, Box<Opened>),
    /// The client has it already; these headers say so.
    NotModified(HeaderMap),
}

/// An object whose envelope says that it is empty has no stored bytes.
pub(super) fn check_empty(stored: &Stored) -> Result<(), Error> {
    if stored.size == 0 { Ok(()) } else { Err(Error::NotAuthentic) }
}

/// The object was replaced between two requests that belong together.
pub(super) fn overwritten(error: Error) -> Error {
    if error.is_status(StatusCode::PRECONDITION_FAILED) { Error::Overwritten } else { error }
}

/// Which bytes of the plaintext are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    Range(ByteRange),
    /// The part of that number. An object that one PUT wrote is one part.
    Part(u32),
}

impl Wanted {
    /// The bytes that these are in an object with those parts.
    pub(super) fn given(self, map: &PartMap) -> Result<Given, Error> {
        let length = map.length();
        match self {
            Self::Range(range) => {
                let span = range::resolve(Some(range), length).ok().flatten();
                span.map(Given::Range).ok_or(Error::Range { length })
            }
            Self::Part(number) => {
                let parts = u32::try_from(map.entries().len()).unwrap_or(u32::MAX);
                let part = map.entries().find(|part| part.number == number);
                let (part, range) = part.zip(map.range_of_part(number)).ok_or(Error::Part { number, parts })?;
                let (first, end) = (range.start.0, range.end.0);
                Ok(Given::Part(part, (first < end).then(|| Span { first, last: end - 1 })))
            }
        }
    }

    /// Stored bytes at the end that are fetched first while nothing is known of the object.
    ///
    /// That shall be its whole footer, so that a second request gets the bytes themselves: but how long the footer is,
    /// only the size says, which comes with the first answer. It has 88 bytes for each 5 MiB of plaintext: [`END`]
    /// will do up to 14 GiB, and costs a few milliseconds once, as what was read is remembered. A read that begins
    /// beyond [`LARGE`] fetches the longest footer there is: its object is so large that it does not matter.
    pub(super) fn end(self) -> u64 {
        let least_length = match self {
            Self::Range(ByteRange::FromTo(first, _) | ByteRange::From(first)) => first,
            Self::Range(ByteRange::Last(_)) => 0,
            Self::Part(number) => u64::from(number.saturating_sub(1)).saturating_mul(size::MIN_PART),
        };
        if least_length < LARGE { END } else { LONGEST_FOOTER }
    }
}

/// See [`Wanted::end`].
pub(super) const END: u64 = 256 << 10;
const LARGE: u64 = 4 << 30;
const LONGEST_FOOTER: u64 = size::largest_footer(size::MAX_OBJECT);
const _: () = assert!(END > size::TAIL && END >= size::largest_footer(14 << 30) && LONGEST_FOOTER < 1 << 20);

/// The bytes that an answer gives.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given {
    Whole,
    Range(Span),
    /// A part, and where its bytes are; none if it is empty.
    Part(PartEntry, Option<Span>),
}

/// What an answer says about the plaintext.
pub(super) struct About<'a> {
    /// Bytes of the whole.
    pub(super) length: u64,
    pub(super) given: Given,
    /// The checksum of the whole.
    pub(super) checksum: Option<&'a Checksum>,
    pub(super) parts: u32,
}

impl<'a> About<'a> {
    pub(super) fn new(known: &'a Known, given: Given) -> Self {
        Self { length: known.map.length(), given, checksum: known.checksum.as_ref(), parts: known.parts() }
    }

    fn given_length(&self) -> u64 {
        match self.given {
            Given::Whole => self.length,
            Given::Range(span) => span.count(),
            Given::Part(_, span) => span.map_or(0, Span::count),
        }
    }
}
