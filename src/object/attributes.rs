//! GetObjectAttributes: what is known of an object, from its authenticated end.
//!
//! It never goes to the storage server, which knows ciphertext only and in places answers with the object's bytes.

use http::StatusCode;
use http::header::{ETAG, HeaderMap};

use crate::format::checksum::{Algorithm, Checksum, Kind};
use crate::format::envelope::Layout;
use crate::format::layout::PartEntry;
use crate::format::size;
use crate::s3::conditions::storage_conditions;
use crate::s3::operation::{GetAttributes, Read, clean_response_headers};
use crate::s3::xml::{Attributes, ChecksumText, Part, PartsPage};

use super::answer::Answer;
use super::error::{Error, WrongAnswer};
use super::fetch::{Fetched, Piece, Stored, known_from};
use super::get::not_modified;
use super::metadata;
use super::opened::Opened;
use super::put::insert_etag;
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

impl Objects {
    pub(super) async fn attributes(
        &self,
        call: &Call,
        object: Named<'_>,
        wanted: &GetAttributes,
    ) -> Result<Answer, Error> {
        let asked = Asked::from_headers(&call.headers)?;
        let read = Read { version_id: wanted.version_id.clone(), ..Read::default() };
        let conditions = storage_conditions(&call.headers)?;
        let piece = Piece::Last(if asked.parts { END } else { size::TAIL });
        let mut fetched = self.fetch(call, object, &read, piece, &conditions).await?;
        if matches!(fetched, Fetched::Unsatisfiable) {
            // Of an empty object there is no range.
            fetched = self.fetch(call, object, &read, Piece::Whole, &conditions).await?;
        }
        let stored = match fetched {
            Fetched::Found(stored) => stored,
            Fetched::NotModified(headers) => return Ok(not_modified(call, &headers)),
            Fetched::Unsatisfiable => return Err(WrongAnswer::Range.into()),
        };
        let opened = self.open(call, object, &stored.headers).await?;
        self.tails.check(object, read.version_id.as_deref(), stored.etag(), &opened.commitment)?;
        let storage = stored.headers.clone();
        let end = self.end_of(call, object, &read, &opened, stored, asked.parts).await?;
        let mut headers = clean_response_headers(&call.operation, &storage);
        let class = headers.remove("x-amz-storage-class");
        let class = class.as_ref().and_then(|class| class.to_str().ok()).unwrap_or("STANDARD").to_owned();
        let page = end.list.as_ref().map(|known| page(&asked, known));
        let attributes = Attributes {
            etag: asked.etag.then(|| etag(&storage)),
            checksum: end.checksum.as_ref().filter(|_| asked.checksum).map(|kept| checksum(kept, end.parts)),
            parts: page,
            storage_class: asked.storage_class.then_some(class),
            size: asked.size.then_some(end.length),
        };
        Ok(Answer::xml(StatusCode::OK, headers, attributes.to_xml()))
    }

    async fn end_of(
        &self,
        call: &Call,
        object: Named<'_>,
        read: &Read,
        opened: &Opened,
        stored: Stored,
        with_parts: bool,
    ) -> Result<End, Error> {
        let place = (stored.size, stored.etag().cloned());
        if opened.layout == Layout::Empty {
            let checksum = opened.metadata.empty_checksum.clone();
            return if place.0 == 0 {
                Ok(End { length: 0, checksum, parts: 1, list: None })
            } else {
                Err(Error::NotAuthentic)
            };
        }
        let (_, bytes) = stored.collect(END).await?;
        if opened.layout == Layout::Multipart && with_parts {
            let known = match known_from(opened, place.clone(), &bytes)? {
                Some(known) => known,
                None => self.read_footer(call, object, read, opened, place).await?,
            };
            self.tails.put(object, read.version_id.as_deref(), known.clone());
            let (length, checksum, parts) = (known.map.length(), known.checksum.clone(), known.parts());
            return Ok(End { length, checksum, parts, list: Some(known) });
        }
        let tail = super::source::tail_of(opened, &bytes, place.0)?;
        Ok(End { length: tail.length(), checksum: tail.checksum().cloned(), parts: tail.parts(), list: None })
    }
}

/// As clients see it, without quotes.
fn etag(storage: &HeaderMap) -> String {
    let mut shown = HeaderMap::new();
    insert_etag(&mut shown, storage);
    let etag = shown.get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
    etag.trim_matches('"').to_owned()
}

fn checksum(kept: &Checksum, parts: u32) -> (ChecksumText, &'static str) {
    let value = metadata::base64(kept.value());
    let (value, kind) = match kept.kind() {
        Kind::FullObject => (value, "FULL_OBJECT"),
        Kind::Composite => (format!("{value}-{parts}"), "COMPOSITE"),
    };
    ((metadata::of_format(kept.algorithm()), value), kind)
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
    // Filled with zeros; all zeros when none is kept.
    let value = algorithm.and_then(|algorithm| Some((algorithm, entry.checksum.get(..algorithm.value_len())?)));
    let value = value.filter(|_| entry.checksum.iter().any(|byte| *byte != 0));
    let checksum = value.map(|(algorithm, value)| (metadata::of_format(algorithm), metadata::base64(value)));
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
