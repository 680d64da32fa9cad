//! Which objects are to be encrypted anew.
//!
//! KEK, version and branch key stand in the envelope, the date of writing in its encrypted part. An operator of the storage
//! server may show another envelope than the one that was written and so keep an object from being chosen; it gains nothing by
//! it, having had the object, and could as well have kept a copy of it.
//!
//! A copy that the storage server made has its own date of writing, with the DEK of its source.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::LAST_MODIFIED;

use crate::format::envelope::Unverified;
use crate::format::metadata::Metadata;
use crate::names::{BranchId, KekName, KekVersion};

/// Which objects: those for which all that is said here holds. With nothing said, all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Under this branch key.
    pub branch: Option<BranchId>,
    /// Under a version of their KEK, as of writing, lower than this one.
    pub below: Option<KekVersion>,
    /// Under another KEK than this one, under which they then are.
    pub onto: Option<KekName>,
    /// Written before that many milliseconds since 1970 (UTC).
    pub before_ms: Option<u64>,
}

impl Choice {
    /// Whether the envelope decides.
    pub(super) fn is_of_envelopes(&self) -> bool {
        self.branch.is_some() || self.below.is_some() || self.onto.is_some()
    }

    /// Whether all that is said of envelopes holds of this one.
    pub(super) fn covers(&self, envelope: &Unverified) -> bool {
        let branch = envelope.branch();
        self.branch.is_none_or(|id| id == branch.id)
            && self.below.is_none_or(|version| branch.version < version)
            && self.onto.as_ref().is_none_or(|kek| *kek != branch.kek)
    }

    /// Whether the object is old enough: by the date in its envelope or, of objects that have none, by the storage server's.
    /// Where there is neither, it is.
    pub(super) fn covers_date(&self, metadata: &Metadata, storage: &HeaderMap) -> bool {
        let Some(before_ms) = self.before_ms else { return true };
        metadata.written_ms.or_else(|| modified_ms(storage)).is_none_or(|written_ms| written_ms < before_ms)
    }
}

fn modified_ms(storage: &HeaderMap) -> Option<u64> {
    let date = httpdate::parse_http_date(storage.get(LAST_MODIFIED)?.to_str().ok()?).ok()?;
    u64::try_from(date.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_date_of_the_envelope_counts_before_the_storage_servers() {
        let choice = Choice { before_ms: Some(1_600_000_000_000), ..Choice::default() };
        let old = HeaderMap::from_iter([(LAST_MODIFIED, HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT"))]);
        let written = |written_ms| Metadata { written_ms, ..Metadata::default() };
        assert!(choice.covers_date(&written(None), &old));
        assert!(!choice.covers_date(&written(Some(1_600_000_000_000)), &old));
        assert!(choice.covers_date(&written(Some(1_599_999_999_999)), &HeaderMap::new()));
        assert!(choice.covers_date(&written(None), &HeaderMap::new()), "nobody knows that it is younger");
        assert!(Choice::default().covers_date(&written(None), &old));
    }
}
