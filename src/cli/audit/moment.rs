//! Times and durations as people write them.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A duration: a number with `ms`, `s`, `m`, `h` or `d`, such as `5s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err("write a number with ms, s, m, h or d, such as 5s".to_owned()),
    };
    let number: u32 = number.parse().map_err(|_| "write a whole number before the unit".to_owned())?;
    Ok(Duration::from_millis(u64::from(number) * unit_ms))
}

/// A time: RFC 3339, a date (its beginning in UTC), or a duration ago.
pub(super) fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let date = || OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339).ok();
    let ago = || Some(OffsetDateTime::now_utc() - duration(text).ok()?);
    let found = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(date).or_else(ago);
    found.ok_or_else(|| "write a time such as 2026-01-31T12:00:00Z, a date, or how long ago (such as 2h)".to_owned())
}

/// As people read it, in UTC with seconds.
pub(super) fn seconds(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().and_then(|unix_s| OffsetDateTime::from_unix_timestamp(unix_s).ok());
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("{unix_s} s after 1970"))
}

/// The system's clock, in seconds since 1970.
pub(super) fn now_s() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for bad in ["", "5", "s", "-5s", "5 s", "1.5h", "99999999999s", "5w"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!(moment("1970-01-02").map(OffsetDateTime::unix_timestamp), Ok(86_400));
        assert_eq!(moment("1970-01-01T01:00:00+01:00").map(OffsetDateTime::unix_timestamp), Ok(0));
        let then = moment("2h").expect("a duration");
        assert!((7200..7210).contains(&(OffsetDateTime::now_utc() - then).whole_seconds()));
        assert!(moment("yesterday").is_err());
        assert_eq!(seconds(86_400), "1970-01-02T00:00:00Z");
    }
}
