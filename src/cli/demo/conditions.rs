//! The conditions of reading requests, for the demo's storage server.

use s3s::dto::{ETagCondition, HeadObjectOutput, Timestamp};
use s3s::{S3Result, s3_error};

/// The conditions of a GET or HEAD, of which `s3s-fs` checks none. RFC 9110, 13.2.2.
pub(super) struct Conditions<'a> {
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
    pub(super) if_modified_since: Option<&'a Timestamp>,
    pub(super) if_unmodified_since: Option<&'a Timestamp>,
}

impl Conditions<'_> {
    /// Whether the object that `head` describes is to be sent.
    pub(super) fn check(&self, head: &HeadObjectOutput) -> S3Result<()> {
        let is = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) => head.e_tag.as_ref().is_some_and(|found| found.weak_cmp(etag)),
        };
        // Headers tell whole seconds.
        let since = |time: &Timestamp| {
            let seconds = |time: &Timestamp| time::OffsetDateTime::from(time.clone()).unix_timestamp();
            head.last_modified.as_ref().is_some_and(|modified| seconds(modified) > seconds(time))
        };
        let failed = match self.if_match {
            Some(condition) => !is(condition),
            None => self.if_unmodified_since.is_some_and(since),
        };
        if failed {
            return Err(s3_error!(PreconditionFailed));
        }
        let unchanged = match self.if_none_match {
            Some(condition) => is(condition),
            None => self.if_modified_since.is_some_and(|time| !since(time)),
        };
        if unchanged { Err(s3_error!(NotModified)) } else { Ok(()) }
    }
}
