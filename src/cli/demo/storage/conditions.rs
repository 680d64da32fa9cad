//! The conditions of requests: whether the object is the one that the client means.

use http::{HeaderMap, HeaderValue};
use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Error, S3Result, s3_error};
use time::OffsetDateTime;

use super::rows::ObjectRow;

/// The conditions of a GET or HEAD, or those on the source of a copy. RFC 9110, 13.2.2.
#[derive(Default)]
pub(super) struct Conditions<'a> {
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
    pub(super) if_modified_since: Option<&'a Timestamp>,
    pub(super) if_unmodified_since: Option<&'a Timestamp>,
}

enum Outcome {
    Holds,
    Failed,
    Unchanged,
}

impl Conditions<'_> {
    fn outcome(&self, row: &ObjectRow) -> Outcome {
        // Headers tell whole seconds.
        let since =
            |time: &Timestamp| row.modified.div_euclid(1000) > OffsetDateTime::from(time.clone()).unix_timestamp();
        let failed = match self.if_match {
            Some(condition) => !is(row, condition),
            None => self.if_unmodified_since.is_some_and(since),
        };
        let unchanged = match self.if_none_match {
            Some(condition) => is(row, condition),
            None => self.if_modified_since.is_some_and(|time| !since(time)),
        };
        match (failed, unchanged) {
            (true, _) => Outcome::Failed,
            (false, true) => Outcome::Unchanged,
            (false, false) => Outcome::Holds,
        }
    }

    /// Whether `row` is to be sent.
    pub(super) fn check_read(&self, row: &ObjectRow) -> S3Result<()> {
        match self.outcome(row) {
            Outcome::Holds => Ok(()),
            Outcome::Failed => Err(s3_error!(PreconditionFailed)),
            Outcome::Unchanged => Err(not_modified(row)),
        }
    }

    /// Whether `row` is to be copied.
    pub(super) fn check_copy(&self, row: &ObjectRow) -> S3Result<()> {
        if matches!(self.outcome(row), Outcome::Holds) { Ok(()) } else { Err(s3_error!(PreconditionFailed)) }
    }
}

fn is(row: &ObjectRow, condition: &ETagCondition) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == row.etag,
    }
}

/// With the headers that RFC 9110, 15.4.5 asks for.
fn not_modified(row: &ObjectRow) -> S3Error {
    let mut error = s3_error!(NotModified);
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", row.etag)) {
        headers.insert(http::header::ETAG, etag);
    }
    let modified = OffsetDateTime::from(super::described::at_ms(row.modified));
    if let Ok(modified) = HeaderValue::from_str(&httpdate::fmt_http_date(modified.into())) {
        headers.insert(http::header::LAST_MODIFIED, modified);
    }
    error.set_headers(headers);
    error
}

/// Whether an object may be stored where `found` is now.
pub(super) fn check_write(
    found: Option<&ObjectRow>,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    match (if_none_match, found) {
        (Some(ETagCondition::ETag(_)), _) => {
            return Err(s3_error!(NotImplemented, "If-None-Match takes only * on writes"));
        }
        (Some(ETagCondition::Any), Some(_)) => return Err(s3_error!(PreconditionFailed)),
        _ => {}
    }
    match (if_match, found) {
        (Some(_), None) => Err(s3_error!(NoSuchKey)),
        (Some(condition), Some(row)) if !is(row, condition) => Err(s3_error!(PreconditionFailed)),
        _ => Ok(()),
    }
}

/// Whether `row` may be deleted.
pub(super) fn check_delete(
    row: &ObjectRow,
    if_match: Option<&ETagCondition>,
    size: Option<i64>,
    modified: Option<&Timestamp>,
) -> S3Result<()> {
    let seconds = |time: &Timestamp| OffsetDateTime::from(time.clone()).unix_timestamp();
    let holds = if_match.is_none_or(|condition| is(row, condition))
        && size.is_none_or(|size| u64::try_from(size) == Ok(row.size))
        && modified.is_none_or(|time| seconds(time) == row.modified.div_euclid(1000));
    if holds { Ok(()) } else { Err(s3_error!(PreconditionFailed)) }
}

/// An ETag in the form that [`check_delete`] takes.
pub(super) fn condition(etag: Option<ETag>) -> Option<ETagCondition> {
    etag.map(ETagCondition::ETag)
}
