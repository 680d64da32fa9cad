//! `x-amz-copy-source`: which object, and which bytes of it, a copy is made from.

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::error::Code;
use super::range::{self, ByteRange};
use super::target::{ObjectKey, is_version_id};
use crate::names::LogicalBucket;

/// The header that names the source.
pub const HEADER: &str = "x-amz-copy-source";
/// The header that names the bytes of it, for UploadPartCopy.
pub const RANGE_HEADER: &str = "x-amz-copy-source-range";

/// The headers about the source of a copy cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopySourceError {
    /// Not `BUCKET/KEY[?versionId=ID]`, percent-encoded.
    #[error("x-amz-copy-source must be BUCKET/KEY, percent-encoded, with ?versionId=ID if a version is meant")]
    Source,
    /// Not `bytes=FIRST-LAST`.
    #[error("x-amz-copy-source-range must be bytes=FIRST-LAST")]
    Range,
}

impl CopySourceError {
    /// The S3 code that goes with it.
    pub fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

/// The source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    /// Its bucket.
    pub bucket: LogicalBucket,
    /// Its key.
    pub key: ObjectKey,
    /// This version only.
    pub version_id: Option<String>,
    /// First and last plaintext byte, for UploadPartCopy; none: all.
    pub range: Option<(u64, u64)>,
}

impl CopySource {
    /// From the headers; none when they name no source.
    ///
    /// # Errors
    /// [`CopySourceError`].
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, CopySourceError> {
        let Some(source) = single(headers, HEADER, CopySourceError::Source)? else { return Ok(None) };
        let range = single(headers, RANGE_HEADER, CopySourceError::Range)?.map(parse_range).transpose()?;
        Ok(Some(Self { range, ..Self::parse(source)? }))
    }

    fn parse(text: &str) -> Result<Self, CopySourceError> {
        let wrong = CopySourceError::Source;
        // A `?` within the key is percent-encoded; some clients leave it as it is, so only the last one with this name counts.
        let (path, version_id) = match text.rsplit_once("?versionId=") {
            Some((path, version)) => (path, Some(decoded(version)?)),
            None => (text, None),
        };
        if version_id.as_ref().is_some_and(|version| !is_version_id(version)) {
            return Err(wrong);
        }
        // In a key, S3 takes a bare plus for a space, and s5cmd writes spaces so.
        let path = decoded(&path.replace('+', " "))?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = path.split_once('/').ok_or(wrong)?;
        let bucket = LogicalBucket::new(bucket).map_err(|_| wrong)?;
        Ok(Self { bucket, key: ObjectKey::new(key).map_err(|_| wrong)?, version_id, range: None })
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &str, wrong: CopySourceError) -> Result<Option<&'a str>, CopySourceError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => std::str::from_utf8(value.as_bytes()).map(Some).map_err(|_| wrong),
        (Some(_), Some(_)) => Err(wrong),
    }
}

fn decoded(text: &str) -> Result<String, CopySourceError> {
    percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| CopySourceError::Source)
}

fn parse_range(text: &str) -> Result<(u64, u64), CopySourceError> {
    match range::parse(text) {
        Some(ByteRange::FromTo(first, last)) => Ok((first, last)),
        _ => Err(CopySourceError::Range),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn parse(source: &'static str, range: Option<&'static str>) -> Result<Option<CopySource>, CopySourceError> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static(source));
        if let Some(range) = range {
            headers.insert(HeaderName::from_static(RANGE_HEADER), HeaderValue::from_static(range));
        }
        CopySource::from_headers(&headers)
    }

    #[test]
    fn sources_are_percent_encoded_paths() {
        for (text, key, version) in [
            ("records/a/b", "a/b", None),
            ("/records/a%2Fb", "a/b", None),
            ("records%2Fa%2Bb+c%20d", "a+b c d", None),
            ("records/a%3FversionId=1", "a?versionId=1", None),
            ("/records//a?versionId=x%2By", "/a", Some("x+y")),
            ("records/?x", "?x", None),
        ] {
            let source = parse(text, None).expect(text).expect("a source");
            assert_eq!((source.bucket.as_str(), source.key.as_str()), ("records", key), "{text}");
            assert_eq!(source.version_id.as_deref(), version, "{text}");
        }
        assert_eq!(CopySource::from_headers(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn what_names_no_object_is_refused() {
        for text in [
            "",
            "/",
            "records",
            "records/",
            "/records/",
            "Records/a",
            "records/../a",
            "records/a%00",
            "records/%FF",
            "arn:aws:s3:us-east-1:1:accesspoint/x/object/a",
            "records/a?versionId=",
            "records/a?versionId=../../x",
        ] {
            assert_eq!(parse(text, None), Err(CopySourceError::Source), "{text}");
        }
        for range in ["bytes=1-", "bytes=-1", "bytes=2-1", "1-2", "bytes=0-1,3-4", ""] {
            assert_eq!(parse("records/a", Some(range)), Err(CopySourceError::Range), "{range}");
        }
        let ranged = parse("records/a", Some("bytes=0-5")).expect("good").expect("a source");
        assert_eq!(ranged.range, Some((0, 5)));
    }
}
