//! Fetching stored bytes, and what the storage server says about them.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::format::footer;
use crate::format::keys::Commitment;
use crate::format::layout::StoredOffset;
use crate::format::size;
use crate::s3::operation::Read;
use crate::storage::{ResponseStream, StorageError, StorageRequest, StorageResponse};

use super::error::{Error, WrongAnswer};
use super::opened::{Opened, envelope_of};
use super::tails::Known;
use super::{Call, Named, Objects};

/// Which stored bytes to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// All.
    Whole,
    /// Those from the first offset up to, and without, the second.
    Range(StoredOffset, StoredOffset),
    /// That many at the end, or all if there are fewer.
    Last(u64),
}

/// Bytes of a whole stored object and its ETag, on the storage server's word.
pub(super) type SizeAndEtag = (u64, Option<HeaderValue>);

/// What came of a fetch.
pub(super) enum Fetched {
    /// The bytes.
    Found(Stored),
    /// The client has them already; these headers say so.
    NotModified(HeaderMap),
    /// There are no such bytes: an empty object, for one.
    Unsatisfiable,
}

/// Stored bytes on their way.
pub(super) struct Stored {
    pub(super) headers: HeaderMap,
    /// Bytes of the whole stored object, on the storage server's word.
    pub(super) size: u64,
    /// Where the bytes begin.
    pub(super) first: u64,
    /// How many they are.
    length: u64,
    pub(super) body: ResponseStream,
}

impl Stored {
    /// All `size` bytes of an object.
    pub(super) fn whole(response: StorageResponse, size: u64) -> Self {
        Self { headers: response.headers, size, first: 0, length: size, body: response.body }
    }

    /// The object's ETag on the storage server.
    pub(super) fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG)
    }

    /// Whether these bytes belong to the object with that commitment and plaintext length.
    pub(super) fn belongs_to(&self, commitment: &Commitment, length: u64) -> bool {
        let same = envelope_of(&self.headers).is_ok_and(|envelope| envelope.commitment() == commitment);
        same && self.size == size::stored(length)
    }

    /// How many bytes the whole stored object has, and its ETag.
    pub(super) fn size_and_etag(&self) -> SizeAndEtag {
        (self.size, self.etag().cloned())
    }

    /// All bytes that are to come, at most `limit`, and where they begin.
    pub(super) async fn collect(self, limit: u64) -> Result<(u64, Bytes), Error> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (status, headers) = (StatusCode::OK, HeaderMap::new());
        let bytes = StorageResponse { status, headers, body: self.body }.collect(limit).await?;
        if bytes.len() as u64 == self.length { Ok((self.first, bytes)) } else { Err(Error::NotAuthentic) }
    }
}

impl Objects {
    /// Asks for stored bytes. `further` are conditions, in the storage server's words.
    pub(super) async fn fetch(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        piece: Piece,
        further: &HeaderMap,
    ) -> Result<Fetched, Error> {
        let request = self.request(call, Method::GET, object.bucket, Some(object.key));
        self.fetched(call, request, read, piece, further).await
    }

    /// As [`Self::fetch`], for an answer to a client and nothing else: a replica, which may be behind, will do.
    pub(super) async fn fetch_to_show(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        piece: Piece,
        further: &HeaderMap,
    ) -> Result<Fetched, Error> {
        let request = self.request(call, Method::GET, object.bucket, Some(object.key)).or_replica();
        self.fetched(call, request, read, piece, further).await
    }

    async fn fetched(
        &self,
        call: &Call,
        mut request: StorageRequest,
        read: &Read,
        piece: Piece,
        further: &HeaderMap,
    ) -> Result<Fetched, Error> {
        if let Some(version) = &read.version_id {
            request = request.query("versionId", version);
        }
        let range = match piece {
            Piece::Whole => None,
            Piece::Range(from, to) => Some(format!("bytes={}-{}", from.0, to.0.saturating_sub(1))),
            Piece::Last(count) => Some(format!("bytes=-{count}")),
        };
        if let Some(range) = range {
            request.headers.insert(RANGE, HeaderValue::try_from(range).expect("digits are legal in headers"));
        }
        request.headers.extend(further.clone());
        let response = self.send(call, request).await?;
        match response.status {
            StatusCode::NOT_MODIFIED if asks_whether_modified(further) => {
                return Ok(Fetched::NotModified(response.headers));
            }
            StatusCode::RANGE_NOT_SATISFIABLE if piece != Piece::Whole => return Ok(Fetched::Unsatisfiable),
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => {}
            _ => return Err(refusal(response.error().await)),
        }
        let Place { first, length, size } = place(&response.headers, response.status, piece)?;
        Ok(Fetched::Found(Stored { headers: response.headers, size, first, length, body: response.body }))
    }

    /// The authenticated layout of a multipart object, from its footer.
    pub(super) async fn read_footer(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        opened: &Opened,
        (size, etag): SizeAndEtag,
    ) -> Result<Known, Error> {
        let length = size::plaintext(size).ok_or(Error::NotAuthentic)?;
        let most = size::largest_footer(length);
        let mut conditions = HeaderMap::new();
        conditions.extend(etag.clone().map(|etag| (IF_MATCH, etag)));
        let Fetched::Found(stored) = self.fetch_to_show(call, object, read, Piece::Last(most), &conditions).await?
        else {
            return Err(WrongAnswer::Range.into());
        };
        if !stored.belongs_to(&opened.commitment, length) {
            return Err(Error::NotAuthentic);
        }
        let (_, bytes) = stored.collect(most).await?;
        known_from(opened, (size, etag), &bytes)?.ok_or(Error::NotAuthentic)
    }
}

/// Whether "not modified" can be an answer.
pub(super) fn asks_whether_modified(conditions: &HeaderMap) -> bool {
    conditions.contains_key(IF_NONE_MATCH) || conditions.contains_key(IF_MODIFIED_SINCE)
}

/// A success of another kind, or a refusal that a GET of an object does not have, is not passed on as it is.
pub(super) fn refusal(error: StorageError) -> Error {
    match error {
        StorageError::Refused(refusal) if refusal.status.is_success() || refusal.status.is_redirection() => {
            WrongAnswer::Kind.into()
        }
        error => error.into(),
    }
}

/// Which bytes an answer has.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    first: u64,
    length: u64,
    /// Bytes of the whole object.
    size: u64,
}

/// Which bytes an answer has, which must be those that were asked for.
fn place(headers: &HeaderMap, status: StatusCode, piece: Piece) -> Result<Place, Error> {
    if status == StatusCode::OK {
        // The whole object is a legal answer to any range; for us it must fit the question.
        let size = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        let size: u64 = size.ok_or(WrongAnswer::Length)?;
        let fits = match piece {
            Piece::Whole => true,
            Piece::Range(from, to) => from.0 == 0 && to.0 == size,
            Piece::Last(count) => size <= count,
        };
        return if fits { Ok(Place { first: 0, length: size, size }) } else { Err(WrongAnswer::Range.into()) };
    }
    let range = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let (first, last, size) = range.and_then(parse_content_range).ok_or(WrongAnswer::Length)?;
    if matches!(piece, Piece::Last(_)) && first == 0 && size == 0 {
        // Of the end of an empty object, which has no last byte, Garage makes `bytes 0-18446744073709551615/0`.
        return Ok(Place { first, length: 0, size });
    }
    if first > last || last >= size {
        return Err(WrongAnswer::Range.into());
    }
    let fits = match piece {
        Piece::Whole => false,
        Piece::Range(from, to) => first == from.0 && last.checked_add(1) == Some(to.0),
        Piece::Last(count) => first == size.saturating_sub(count) && last.checked_add(1) == Some(size),
    };
    // What fits ends where it was to end, so this does not wrap.
    let length = (last - first).saturating_add(1);
    if fits { Ok(Place { first, length, size }) } else { Err(WrongAnswer::Range.into()) }
}

/// `bytes FIRST-LAST/SIZE` (RFC 9110, section 14.4).
pub(super) fn parse_content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    // `parse` alone would take a plus sign, too.
    let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    Some((number(first)?, number(last)?, number(size)?))
}

/// What a storage server says of the bytes that it sends is refused, or lies within the object and is what was asked for; the numbers of a
/// `Content-Range` are those that stand in it.
#[doc(hidden)]
pub fn fuzz_place(partial: bool, value: &HeaderValue, (from, to, last): (u64, u64, u64)) {
    let (header, status) =
        if partial { (CONTENT_RANGE, StatusCode::PARTIAL_CONTENT) } else { (CONTENT_LENGTH, StatusCode::OK) };
    let headers = HeaderMap::from_iter([(header, value.clone())]);
    for piece in [Piece::Whole, Piece::Range(StoredOffset(from), StoredOffset(to)), Piece::Last(last)] {
        let Ok(Place { first, length, size }) = place(&headers, status, piece) else { continue };
        assert!(first.checked_add(length).is_some_and(|end| end <= size));
        match piece {
            Piece::Whole => assert_eq!((first, length), (0, size)),
            Piece::Range(from, to) => assert_eq!((first, length), (from.0, to.0 - from.0)),
            Piece::Last(count) => assert_eq!(length, count.min(size)),
        }
    }
    if let Some((first, last, size)) = value.to_str().ok().and_then(parse_content_range) {
        let again = parse_content_range(&format!("bytes {first}-{last}/{size}"));
        assert_eq!(again, Some((first, last, size)));
        assert!(!value.as_bytes().contains(&b'+'));
    }
}

/// The authenticated layout that the last bytes of a stored object of `size` bytes tell; `None` when the part list
/// begins before them.
pub(super) fn known_from(opened: &Opened, (size, etag): SizeAndEtag, end: &[u8]) -> Result<Option<Known>, Error> {
    let (tail, map) = footer::open(&opened.dek, opened.layout, end, size)?;
    Ok(map.map(|map| Known::new(opened.commitment, etag, &tail, map)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(status: u16, header: &'static str, value: &'static str, piece: Piece) -> Option<(u64, u64)> {
        let mut headers = HeaderMap::new();
        headers.insert(header, HeaderValue::from_static(value));
        let place = place(&headers, StatusCode::from_u16(status).expect("legal"), piece).ok()?;
        Some((place.first, place.size))
    }

    #[test]
    fn only_the_bytes_that_were_asked_for_will_do() {
        let range = Piece::Range(StoredOffset(10), StoredOffset(20));
        assert_eq!(placed(206, "content-range", "bytes 10-19/100", range), Some((10, 100)));
        assert_eq!(placed(206, "content-range", "bytes 11-20/100", range), None);
        assert_eq!(placed(206, "content-range", "bytes 10-19/*", range), None);
        assert_eq!(placed(206, "content-range", "bytes 10-18446744073709551615/100", range), None);
        assert_eq!(placed(200, "content-length", "100", range), None);
        assert_eq!(placed(206, "content-range", "bytes 90-99/100", Piece::Last(10)), Some((90, 100)));
        assert_eq!(placed(206, "content-range", "bytes 0-4/5", Piece::Last(10)), Some((0, 5)));
        assert_eq!(placed(206, "content-range", "bytes 0-9/100", Piece::Last(10)), None);
        assert_eq!(placed(200, "content-length", "5", Piece::Last(10)), Some((0, 5)));
        assert_eq!(placed(200, "content-length", "-5", Piece::Whole), None);
        assert_eq!(placed(206, "content-range", "bytes 0-4/5", Piece::Whole), None);
        let nothing = "bytes 0-18446744073709551615/0";
        assert_eq!(placed(206, "content-range", nothing, Piece::Last(10)), Some((0, 0)));
        assert_eq!(placed(206, "content-range", nothing, range), None);
    }
}
