//! The answer to a form whose file was stored.

use http::header::{CONTENT_LENGTH, ETAG, HOST, LOCATION};
use http::{HeaderValue, StatusCode, request::Parts};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::names::LogicalBucket;
use crate::object::answer::{Answer, AnswerBody};
use crate::s3::form::SuccessAction;
use crate::s3::target::ObjectKey;
use crate::s3::xml::Writer;

use super::super::respond::About;

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// From the answer that a PUT would get.
pub(super) fn answer_to(
    parts: &Parts,
    about: &About,
    (bucket, key): (&LogicalBucket, &ObjectKey),
    action: SuccessAction<'_>,
    stored: Answer,
) -> Answer {
    let Answer { mut headers, .. } = stored;
    headers.remove(CONTENT_LENGTH);
    let etag = headers.get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default().to_owned();
    let place = place(parts, about, key);
    let (status, location) = match action {
        SuccessAction::Redirect(url) => (StatusCode::SEE_OTHER, redirection(url, bucket, key, &etag)),
        SuccessAction::Ok => (StatusCode::OK, place.clone()),
        SuccessAction::Created => (StatusCode::CREATED, place.clone()),
        SuccessAction::NoContent => (StatusCode::NO_CONTENT, place.clone()),
    };
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(LOCATION, location);
    }
    if status != StatusCode::CREATED {
        return Answer { status, headers, body: AnswerBody::Empty };
    }
    let mut document = Writer::new();
    document.open("PostResponse", None);
    document.leaf("Location", &place);
    document.leaf("Bucket", bucket.as_str());
    document.leaf("Key", key.as_str());
    document.leaf("ETag", &etag);
    document.close("PostResponse");
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    Answer { status, headers, body: AnswerBody::Full(document.into_bytes().into()) }
}

/// The object's URL: where the form went, and the key.
fn place(parts: &Parts, about: &About, key: &ObjectKey) -> String {
    let scheme = if about.tls { "https" } else { "http" };
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    format!("{scheme}://{host}{}/{}", parts.uri.path().trim_end_matches('/'), key.encoded())
}

/// Where the form sends the browser, with what S3 adds to it.
fn redirection(url: &str, bucket: &LogicalBucket, key: &ObjectKey, etag: &str) -> String {
    let encoded = |text| utf8_percent_encode(text, UNRESERVED);
    let (url, fragment) = url.split_once('#').map_or((url, String::new()), |(url, rest)| (url, format!("#{rest}")));
    let joint = if url.contains('?') { '&' } else { '?' };
    format!(
        "{url}{joint}bucket={}&key={}&etag={}{fragment}",
        encoded(bucket.as_str()),
        encoded(key.as_str()),
        encoded(etag)
    )
}
