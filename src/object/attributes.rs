//! GetObjectAttributes: what is known of an object, from its authenticated end.
//!
//! It never goes to the storage server, which knows ciphertext only and in places answers with the object's bytes.

use http::StatusCode;
use http::header::{ETAG, HeaderMap};

use crate::format::checksum::{Algorithm, Checksum};
use crate::format::envelope::Layout;
use crate::format::layout::PartEntry;
use crate::format::size;
use crate::s3::operation::{GetAttributes, Read, clean_response_headers};
use crate::s3::xml::{Attributes, Part, PartsPage};

use super::answer::Answer;
use super::error::Error;
use super::fetch::{Fetched, Piece, Stored};
use super::metadata;
use super::opened::Opened;
use super::put::shown_etag;
use super::reading::{Emptiness, Reading, check_empty};
use super::source::END;
use super::tails::Known;
use super::{Call, Named, Objects};

/// The header that says what is asked for.
const ASKED: &str = "x-amz-object-attributes";
/// Most parts of a page (AWS, GetObjectAttributes).
const LONGEST_PAGE: u32 = 1000;

/// Why no attributes were given.
#[derive(Debug, thiserror::Error)]
pub enum AttributesError {
    /// Nothing is asked for.
    #[error("the x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty")]
    Nothing,
    /// Something is asked for that there is not.
    #[error("invalid attribute name specified")]
    Unknown,
    /// Not a number.
    #[error("the header {0} must be a number, digits only")]
    Number(&'static str),
}

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    etag: bool,
    checksum: bool,
    parts: bool,
    storage_class: bool,
    size: bool,
    max_parts: u32,
    marker: u32,
}

impl Asked {
    fn from_headers(headers: &HeaderMap) -> Result<Self, AttributesError> {
        let max_parts = number(headers, "x-amz-max-parts")?.unwrap_or(LONGEST_PAGE).min(LONGEST_PAGE);
        let marker = number(headers, "x-amz-part-number-marker")?.unwrap_or(0);
        let mut asked = Self { max_parts, marker, ..Self::default() };
        let mut any = false;
        for value in headers.get_all(ASKED) {
            for name in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let wanted = match name {
                    b"" => continue,
                    b"ETag" => &mut asked.etag,
                    b"Checksum" => &mut asked.checksum,
                    b"ObjectParts" => &mut asked.parts,
                    b"StorageClass" => &mut asked.storage_class,
                    b"ObjectSize" => &mut asked.size,
                    _ => return Err(AttributesError::Unknown),
                };
                (*wanted, any) = (true, true);
            }
        }
        if any { Ok(asked) } else { Err(AttributesError::Nothing) }
    }
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u32>, AttributesError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(Some).ok_or(AttributesError::Number(name))
}

/// What the end of an object says.
struct End {
    length: u64,
    checksum: Option<Checksum>,
    parts: u32,
    /// The parts of an object that was uploaded in parts, if they were asked for.
    list: Option<Known>,
}

impl End {
    fn empty(opened: &Opened) -> Self {
        Self { length: 0, checksum: opened.metadata.empty_checksum.clone(), parts: 1, list: None }
    }
}

impl Objects {
    pub(super) async fn attributes(
        &self,
        call: &Call,
        object: Named<'_>,
        wanted: &GetAttributes,
    ) -> Result<Answer, Error> {
        let asked = Asked::from_headers(&call.headers)?;
        let read = Read { version_id: wanted.version_id.clone(), ..Read::default() };
        let reading = Reading::new(self, call, object, &read)?;
        let (storage, end) = match described(&reading, asked.parts).await {
            Err(Error::NotEncrypted) if Self::migrates(object.bucket) => {
                let (storage, length) = reading.unencrypted_described().await?;
                (storage, End { length, checksum: None, parts: 1, list: None })
            }
            outcome => match outcome? {
                Described::By(storage, end) => (storage, end),
                Described::NotModified(answer) => return Ok(answer),
            },
        };
        let mut headers = clean_response_headers(&call.operation, &storage);
        let class = headers.remove("x-amz-storage-class");
        let class = class.as_ref().and_then(|class| class.to_str().ok()).unwrap_or("STANDARD").to_owned();
        let page = end.list.as_ref().map(|known| page(&asked, known));
        let attributes = Attributes {
            etag: asked.etag.then(|| etag(&storage)),
            checksum: end
                .checksum
                .as_ref()
                .filter(|_| asked.checksum)
                .map(|kept| metadata::checksum_text(kept, end.parts)),
            parts: page,
            storage_class: asked.storage_class.then_some(class),
            size: asked.size.then_some(end.length),
        };
        Ok(Answer::xml(StatusCode::OK, headers, attributes.to_xml()))
    }
}

/// What came of asking.
enum Described {
    By(HeaderMap, End),
    NotModified(Answer),
}

async fn described(reading: &Reading<'_>, with_parts: bool) -> Result<Described, Error> {
    Ok(match reading.fetch(Piece::Last(if with_parts { END } else { size::TAIL })).await? {
        Fetched::Found(stored) => {
            let mut opened = reading.open(&stored.headers).await?;
            let storage = stored.headers.clone();
            let end = end_of(reading, &opened, stored, with_parts).await?;
            opened.may_be_given().await?;
            Described::By(storage, end)
        }
        Fetched::NotModified(headers) => Described::NotModified(reading.not_modified(&headers)),
        Fetched::Unsatisfiable => match reading.fetch_empty().await? {
            Emptiness::Empty(storage, opened) => Described::By(storage, End::empty(&opened)),
            Emptiness::NotModified(headers) => Described::NotModified(reading.not_modified(&headers)),
        },
    })
}

async fn end_of(reading: &Reading<'_>, opened: &Opened, stored: Stored, with_parts: bool) -> Result<End, Error> {
    if opened.layout == Layout::Empty {
        check_empty(&stored)?;
        return Ok(End::empty(opened));
    }
    let place = stored.size_and_etag();
    let (_, bytes) = stored.collect(END).await?;
    if opened.layout == Layout::Multipart && with_parts {
        let known = reading.layout(opened, place, &bytes).await?;
        let (length, checksum, parts) = (known.map.length(), known.checksum.clone(), known.parts());
        return Ok(End { length, checksum, parts, list: Some(known) });
    }
    let tail = super::source::tail_of(opened, &bytes, place.0)?;
    Ok(End { length: tail.length(), checksum: tail.checksum().cloned(), parts: tail.parts(), list: None })
}

/// As clients see it, without quotes.
fn etag(storage: &HeaderMap) -> String {
    shown_etag(storage.get(ETAG)).unwrap_or_default().trim_matches('"').to_owned()
}

fn page(asked: &Asked, known: &Known) -> PartsPage {
    let algorithm = known.checksum.as_ref().map(Checksum::algorithm);
    let mut after = known.map.entries().filter(|entry| entry.number > asked.marker).peekable();
    let limit = usize::try_from(asked.max_parts).unwrap_or(usize::MAX);
    let parts: Vec<Part> = after.by_ref().take(limit).map(|entry| part(&entry, algorithm)).collect();
    let (total, truncated) = (known.map.entries().len(), after.peek().is_some());
    PartsPage { total, marker: asked.marker, max: asked.max_parts, truncated, parts }
}

fn part(entry: &PartEntry, algorithm: Option<Algorithm>) -> Part {
    let checksum = algorithm.and_then(|algorithm| metadata::part_checksum_text(algorithm, &entry.checksum));
    Part { number: entry.number, size: entry.length, checksum }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn asked(pairs: &[(&'static str, &'static str)]) -> Result<Asked, AttributesError> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Asked::from_headers(&headers)
    }

    #[test]
    fn what_is_asked_for_stands_in_one_or_several_headers() {
        let some = asked(&[(ASKED, "ETag, ObjectSize"), (ASKED, "Checksum")]).expect("legal");
        assert_eq!((some.etag, some.size, some.checksum, some.parts), (true, true, true, false));
        assert_eq!((some.max_parts, some.marker), (1000, 0));
        let page = [(ASKED, "ObjectParts"), ("x-amz-max-parts", "7"), ("x-amz-part-number-marker", "3")];
        let page = asked(&page).expect("legal");
        assert_eq!((page.max_parts, page.marker, page.parts), (7, 3, true));
        let many = asked(&[(ASKED, "ObjectParts"), ("x-amz-max-parts", "5000")]).expect("legal");
        assert_eq!(many.max_parts, 1000);
    }

    #[test]
    fn what_there_is_not_is_refused() {
        assert!(matches!(asked(&[]), Err(AttributesError::Nothing)));
        assert!(matches!(asked(&[(ASKED, " , ")]), Err(AttributesError::Nothing)));
        assert!(matches!(asked(&[(ASKED, "ETag,Owner")]), Err(AttributesError::Unknown)));
        for wrong in ["-1", "", "+1", "99999999999"] {
            let wrong = asked(&[(ASKED, "ETag"), ("x-amz-max-parts", wrong)]);
            assert!(matches!(wrong, Err(AttributesError::Number("x-amz-max-parts"))));
        }
    }
}
