//! Conditional requests: what the client knows of an object, said in the storage server's words.

use std::time::SystemTime;

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::Code;
use super::etag;

/// A conditional header that cannot be passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} is not readable text")]
pub struct ConditionError(HeaderName);

impl ConditionError {
    /// The S3 code that goes with it.
    pub fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

/// The client's If-Match, If-None-Match (ETags mapped to the storage server's), If-Modified-Since and
/// If-Unmodified-Since, for the storage request. If-Range is not among them: see [`if_range_holds`].
///
/// # Errors
/// [`ConditionError`]: a condition is never dropped.
pub fn storage_conditions(client: &HeaderMap) -> Result<HeaderMap, ConditionError> {
    let mut storage = HeaderMap::new();
    for name in [IF_MATCH, IF_NONE_MATCH] {
        if let Some(list) = joined(client, &name)? {
            let mapped = etag::storage_list_from_client(&list);
            storage.insert(name.clone(), HeaderValue::from_str(&mapped).map_err(|_| ConditionError(name))?);
        }
    }
    for name in [IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        let mut values = client.get_all(&name).iter();
        match (values.next(), values.next()) {
            (None, _) => {}
            (Some(value), None) => {
                storage.insert(name, value.clone());
            }
            (Some(_), Some(_)) => return Err(ConditionError(name)),
        }
    }
    Ok(storage)
}

/// The client's conditions on the source of a copy (`x-amz-copy-source-if-…`), for the storage request that reads it:
/// If-Match, If-None-Match (ETags mapped), If-Modified-Since and If-Unmodified-Since. Together they mean what they mean on
/// a GET (AWS, CopyObject).
///
/// # Errors
/// [`ConditionError`]: a condition is never dropped.
pub fn source_conditions(client: &HeaderMap) -> Result<HeaderMap, ConditionError> {
    let mut plain = HeaderMap::new();
    for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        for value in client.get_all(format!("x-amz-copy-source-{name}")) {
            plain.append(name.clone(), value.clone());
        }
    }
    storage_conditions(&plain)
}

/// Several headers of one name are one list (RFC 9110, section 5.2).
fn joined(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ConditionError> {
    let mut list: Option<String> = None;
    for value in headers.get_all(name) {
        let value = value.to_str().map_err(|_| ConditionError(name.clone()))?;
        list = Some(match list {
            None => value.to_owned(),
            Some(list) => format!("{list}, {value}"),
        });
    }
    Ok(list)
}

/// Whether the Range of a request with this If-Range counts (RFC 9110, section 13.1.5); if not, the whole object
/// is the answer. An ETag, as clients see it, must be the same by strong comparison; a date must be exactly the
/// Last-Modified.
pub fn if_range_holds(if_range: &str, client_etag: &str, last_modified: Option<&str>) -> bool {
    let date = |text: &str| -> Option<SystemTime> { httpdate::parse_http_date(text.trim()).ok() };
    match date(if_range) {
        Some(since) => last_modified.and_then(date) == Some(since),
        None => etag::same_strong(if_range, client_etag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "9b2cf535f27731c974343645a3985328";
    const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        }
        headers
    }

    #[test]
    fn conditions_reach_the_storage_server_with_its_own_etags() {
        let client = headers(&[
            (IF_MATCH, &format!("\"{MD5}-0\"")),
            (IF_MATCH, "\"other-2\""),
            (IF_NONE_MATCH, "*"),
            (IF_MODIFIED_SINCE, DATE),
            (IF_UNMODIFIED_SINCE, "not even a date"),
            (http::header::IF_RANGE, "\"x\""),
            (http::header::RANGE, "bytes=0-1"),
        ]);
        let expected = headers(&[
            (IF_MATCH, &format!("\"{MD5}\", \"other-2\"")),
            (IF_NONE_MATCH, "*"),
            (IF_MODIFIED_SINCE, DATE),
            (IF_UNMODIFIED_SINCE, "not even a date"),
        ]);
        assert_eq!(storage_conditions(&client), Ok(expected));
        assert_eq!(storage_conditions(&HeaderMap::new()), Ok(HeaderMap::new()));
    }

    #[test]
    fn conditions_on_a_source_are_those_of_a_read() {
        let client = headers(&[
            (HeaderName::from_static("x-amz-copy-source-if-match"), &format!("{MD5}-0")),
            (HeaderName::from_static("x-amz-copy-source-if-none-match"), "\"x\""),
            (HeaderName::from_static("x-amz-copy-source-if-unmodified-since"), DATE),
            (IF_NONE_MATCH, "*"),
        ]);
        let expected = headers(&[(IF_MATCH, MD5), (IF_NONE_MATCH, "\"x\""), (IF_UNMODIFIED_SINCE, DATE)]);
        assert_eq!(source_conditions(&client), Ok(expected));
    }

    #[test]
    fn conditions_that_cannot_be_read_are_refused_not_dropped() {
        let mut client = HeaderMap::new();
        client.insert(IF_MATCH, HeaderValue::from_bytes(b"\"\xff\"").expect("opaque bytes are legal"));
        assert_eq!(storage_conditions(&client), Err(ConditionError(IF_MATCH)));
        let twice = headers(&[(IF_UNMODIFIED_SINCE, DATE), (IF_UNMODIFIED_SINCE, DATE)]);
        assert_eq!(storage_conditions(&twice), Err(ConditionError(IF_UNMODIFIED_SINCE)));
    }

    #[test]
    fn if_range_compares_strongly() {
        assert!(if_range_holds("\"a-0\"", "\"a-0\"", None));
        assert!(if_range_holds("a-0", "\"a-0\"", None));
        assert!(!if_range_holds("\"a\"", "\"a-0\"", Some(DATE)));
        assert!(!if_range_holds("W/\"a-0\"", "\"a-0\"", None));
        assert!(if_range_holds(DATE, "\"a\"", Some(DATE)));
        assert!(!if_range_holds(DATE, "\"a\"", Some("Wed, 21 Oct 2015 07:28:01 GMT")));
        assert!(!if_range_holds(DATE, "\"a\"", None));
        assert!(!if_range_holds("", "\"a\"", None));
    }
}
