//! The time of a request, as signatures write it.

use http::HeaderMap;
use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

use super::AuthError;
use super::canonical::single_header;

/// A time in whole seconds, UTC, with its text `YYYYMMDDTHHMMSSZ` (ISO 8601, basic format).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    at: OffsetDateTime,
    text: String,
}

impl Timestamp {
    /// The timestamp of `at`, without its fraction of a second.
    pub fn new(at: OffsetDateTime) -> Self {
        let at = at.checked_to_offset(UtcOffset::UTC).unwrap_or(at).truncate_to_second();
        let (month, day) = (u8::from(at.month()), at.day());
        let (hour, minute, second) = at.to_hms();
        let text = format!("{:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z", at.year());
        Self { at, text }
    }

    /// Reads `YYYYMMDDTHHMMSSZ`; none when it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| -> Option<u16> {
            let digits = text.get(from..to)?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let small = |from: usize| -> Option<u8> { u8::try_from(number(from, from + 2)?).ok() };
        if text.len() != 16 || text.get(8..9) != Some("T") || text.get(15..) != Some("Z") {
            return None;
        }
        let date = Date::from_calendar_date(number(0, 4)?.into(), Month::try_from(small(4)?).ok()?, small(6)?).ok()?;
        let time = Time::from_hms(small(9)?, small(11)?, small(13)?).ok()?;
        Some(Self { at: date.with_time(time).assume_utc(), text: text.to_owned() })
    }

    /// The time of a request with its signature in the header: `x-amz-date`, or else `Date` (RFC 9110 or ISO 8601).
    ///
    /// The text goes into what is signed, so `Date` itself need not be among the signed headers.
    pub(super) fn of_headers(headers: &HeaderMap) -> Result<Self, AuthError> {
        if let Some(value) = single_header(headers, "x-amz-date")? {
            return value.to_str().ok().and_then(Self::parse).ok_or(AuthError::DateInvalid);
        }
        let value = single_header(headers, "date")?.ok_or(AuthError::DateMissing)?;
        let text = value.to_str().map_err(|_| AuthError::DateInvalid)?;
        let http_date = || httpdate::parse_http_date(text).ok().map(|at| Self::new(at.into()));
        Self::parse(text).or_else(http_date).ok_or(AuthError::DateInvalid)
    }

    /// The time.
    pub fn at(&self) -> OffsetDateTime {
        self.at
    }

    /// `YYYYMMDDTHHMMSSZ`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `YYYYMMDD`.
    pub fn date(&self) -> &str {
        self.text.get(..8).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_there_and_back() {
        let parsed = Timestamp::parse("20130524T000000Z").expect("a timestamp");
        assert_eq!(parsed.at(), time::macros::datetime!(2013-05-24 0:00 UTC));
        assert_eq!(parsed.date(), "20130524");
        assert_eq!(Timestamp::new(time::macros::datetime!(2013-05-24 2:00:00.9 +2)), parsed);
    }

    #[test]
    fn only_the_one_form_is_read() {
        for text in [
            "",
            "20130524",
            "20130524T000000",
            "20130524T000000z",
            "20130524 000000Z",
            "20131324T000000Z",
            "20130230T000000Z",
            "20130524T240000Z",
            "20130524T006000Z",
            "+0130524T000000Z",
            "2013052éT00000Z",
            "20130524T000000ZZ",
            "2013-05-24T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text:?}");
        }
    }
}
