//! The answer to a CopyObject.

use std::time::SystemTime;

use http::StatusCode;
use http::header::{DATE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED};

use crate::format::checksum::Checksum;
use crate::s3::checksum::Verified;
use crate::s3::operation::clean_response_headers;
use crate::s3::xml::{CopyResult, copy_object_result};

use crate::storage::StorageResponse;

use super::super::Call;
use super::super::answer::Answer;
use super::super::metadata;
use super::super::put::shown_etag;
use super::super::source::Source;
use super::directives::Wanted;

/// An object that was made of another.
pub(super) struct Copied {
    /// The headers of the answer that made it.
    pub(super) headers: HeaderMap,
    /// What that answer says of it.
    pub(super) result: CopyResult,
    /// The headers under which it was found afterwards.
    pub(super) found: HeaderMap,
}

/// The answer to a copy that the storage server made.
pub(super) fn of_copy(call: &Call, wanted: &Wanted, source: &Source<'_>, copied: &Copied) -> Answer {
    let etag = match &copied.result.etag {
        Some(etag) => HeaderValue::from_str(etag).ok(),
        None => copied.found.get(ETAG).cloned(),
    };
    let modified = copied.result.last_modified.clone();
    let modified = modified.unwrap_or_else(|| moment(copied.found.get(LAST_MODIFIED)));
    let parts = source.parts();
    let about = About { etag, modified, checksum: source.checksum(), parts, version: source.version_id() };
    answer(call, wanted, &copied.headers, &about)
}

/// The answer to a copy that went through the proxy, given how it was stored and the source's version.
pub(super) fn of_stream(
    call: &Call,
    wanted: &Wanted,
    (response, verified): &(StorageResponse, Verified),
    version: Option<&HeaderValue>,
) -> Answer {
    let (etag, modified) = (response.headers.get(ETAG).cloned(), moment(response.headers.get(DATE)));
    let checksum = metadata::stored_checksum(verified);
    let about = About { etag, modified, checksum: Some(&checksum), parts: 1, version };
    answer(call, wanted, &response.headers, &about)
}

/// What is known of the destination.
struct About<'a> {
    /// The storage server's ETag.
    etag: Option<HeaderValue>,
    /// When it was made.
    modified: String,
    checksum: Option<&'a Checksum>,
    parts: u32,
    /// The source's version.
    version: Option<&'a HeaderValue>,
}

/// The answer, given the storage server's headers.
fn answer(call: &Call, wanted: &Wanted, storage: &HeaderMap, about: &About<'_>) -> Answer {
    let mut headers = clean_response_headers(&call.operation, storage);
    headers.remove(LAST_MODIFIED);
    metadata::describe_encryption(&mut headers, call.customer_keys.target.as_ref(), wanted.asked(), &wanted.kek);
    if let Some(version) = about.version {
        headers.insert("x-amz-copy-source-version-id", version.clone());
    }
    let etag = shown_etag(about.etag.as_ref()).unwrap_or_default();
    let checksum = about.checksum.map(|kept| metadata::checksum_text(kept, about.parts));
    let document = copy_object_result(&etag, &about.modified, checksum.as_ref());
    Answer::xml(StatusCode::OK, headers, document)
}

/// The moment of an HTTP date, or now, as S3's documents write it.
pub(super) fn moment(date: Option<&HeaderValue>) -> String {
    let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let since = date.unwrap_or_else(SystemTime::now).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    super::super::answer::moment(since.as_secs().saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_moments() {
        let date = HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(moment(Some(&date)), "2015-10-21T07:28:00.000Z");
        assert_eq!(moment(None).len(), "2015-10-21T07:28:00.000Z".len());
    }
}
