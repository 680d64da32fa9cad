//! The Range header, as S3 treats it: one range of bytes, anything else is as if it were absent.

use std::fmt;

/// A range as the client wrote it (RFC 9110, section 14.1.2), in bytes of plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// `FIRST-LAST`, both included; first ≤ last.
    FromTo(u64, u64),
    /// `FIRST-`.
    From(u64),
    /// `-COUNT`: that many at the end.
    Last(u64),
}

/// Bytes `first` to `last` of plaintext, both included; first ≤ last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
}

impl Span {
    /// How many bytes.
    pub fn count(self) -> u64 {
        self.last - self.first + 1
    }

    /// The Content-Range of an answer with these bytes out of `length`.
    pub fn content_range(self, length: u64) -> String {
        format!("bytes {self}/{length}")
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The range begins at or after the end, or asks for no bytes: 416.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range lies beyond the object's {length} bytes")]
pub struct Unsatisfiable {
    /// The length of the object.
    pub length: u64,
}

impl Unsatisfiable {
    /// The Content-Range of the 416 answer.
    pub fn content_range(self) -> String {
        format!("bytes */{}", self.length)
    }
}

/// Reads a Range header. `None` means the whole object: another unit, several ranges, or malformed.
pub fn parse(value: &str) -> Option<ByteRange> {
    let (unit, set) = value.trim().split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    match (number(first.trim()), number(last.trim())) {
        (Some(first), Some(last)) if first <= last => Some(ByteRange::FromTo(first, last)),
        (Some(first), None) if last.trim().is_empty() => Some(ByteRange::From(first)),
        (None, Some(count)) if first.trim().is_empty() => Some(ByteRange::Last(count)),
        _ => None,
    }
}

/// Digits only; what is beyond 64 bits is beyond every object, too.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The bytes that a range means in an object of `length` bytes; `None` for no range: the whole object.
///
/// # Errors
/// [`Unsatisfiable`]; every range of an empty object is.
pub fn resolve(range: Option<ByteRange>, length: u64) -> Result<Option<Span>, Unsatisfiable> {
    let Some(range) = range else { return Ok(None) };
    let (first, last) = match range {
        ByteRange::FromTo(first, last) => (first, last),
        ByteRange::From(first) => (first, u64::MAX),
        ByteRange::Last(0) => return Err(Unsatisfiable { length }),
        ByteRange::Last(count) => (length.saturating_sub(count), u64::MAX),
    };
    if first >= length {
        return Err(Unsatisfiable { length });
    }
    Ok(Some(Span { first, last: last.min(length - 1) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_read() {
        assert_eq!(parse("bytes=0-0"), Some(ByteRange::FromTo(0, 0)));
        assert_eq!(parse(" Bytes = 5-9 "), Some(ByteRange::FromTo(5, 9)));
        assert_eq!(parse("bytes=500-"), Some(ByteRange::From(500)));
        assert_eq!(parse("bytes=-500"), Some(ByteRange::Last(500)));
        assert_eq!(parse("bytes=-0"), Some(ByteRange::Last(0)));
        assert_eq!(parse("bytes=0-99999999999999999999999"), Some(ByteRange::FromTo(0, u64::MAX)));
    }

    #[test]
    fn anything_else_is_the_whole_object() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "bytes=0-1,",
            "items=0-1",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=--2",
            "bytes=0x0-1",
            "bytes 0-1",
            "bytes=1-2-3",
            "bytes=0-a",
        ] {
            assert_eq!(parse(value), None, "{value}");
        }
        assert_eq!(resolve(None, 0), Ok(None));
    }

    #[test]
    fn ranges_are_cut_to_the_object() {
        let resolved =
            |range: &str, length| resolve(parse(range), length).map(|span| span.map(|span| (span.first, span.last)));
        assert_eq!(resolved("bytes=0-0", 10), Ok(Some((0, 0))));
        assert_eq!(resolved("bytes=0-9", 10), Ok(Some((0, 9))));
        assert_eq!(resolved("bytes=9-1000", 10), Ok(Some((9, 9))));
        assert_eq!(resolved("bytes=3-", 10), Ok(Some((3, 9))));
        assert_eq!(resolved("bytes=-3", 10), Ok(Some((7, 9))));
        assert_eq!(resolved("bytes=-11", 10), Ok(Some((0, 9))));
        let refused = Err(Unsatisfiable { length: 10 });
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(resolved(range, 10), refused, "{range}");
        }
        for range in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0"] {
            assert_eq!(resolved(range, 0), Err(Unsatisfiable { length: 0 }), "{range}");
        }
        assert_eq!(resolved("bytes=0-", u64::MAX), Ok(Some((0, u64::MAX - 1))));
    }

    #[test]
    fn content_range_is_written_as_clients_expect() {
        let span = Span { first: 2, last: 5 };
        assert_eq!((span.count(), span.content_range(10).as_str()), (4, "bytes 2-5/10"));
        assert_eq!(Unsatisfiable { length: 10 }.content_range(), "bytes */10");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_resolved_lies_within(value in "bytes=[0-9]{0,21}-[0-9]{0,21}", length: u64) {
            if let Ok(Some(span)) = resolve(parse(&value), length) {
                proptest::prop_assert!(span.first <= span.last && span.last < length);
            }
        }
    }
}
