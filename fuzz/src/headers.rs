//! Headers of clients and storage servers.

use claviger::s3::conditions::{if_range_holds, source_conditions, storage_conditions};
use claviger::s3::copy_source::{self, CopySource};
use claviger::s3::customer_key::CustomerKeys;
use claviger::s3::etag::{client_from_storage, storage_from_client, storage_list_from_client};
use claviger::s3::range;
use claviger::s3::sigv4::uri_encode_query;
use claviger::storage::fuzz_retry_after;
use claviger::telemetry::traces::fuzz_traceparent;
use http::{HeaderMap, HeaderValue};

use super::input::Request;

const CONDITIONS: [&str; 4] = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];

/// The source of a copy reads as the same when it is written in full; no condition is dropped; and of a customer key nothing is left in the headers.
pub fn headers(bytes: &[u8]) {
    let Some(mut request) = Request::read(bytes) else { return };
    if let Ok(Some(source)) = CopySource::from_headers(&request.headers) {
        let mut written = format!("{}/{}", source.bucket, source.key.encoded());
        if let Some(version) = &source.version_id {
            written += &format!("?{}", uri_encode_query([("versionId", version)]));
        }
        let mut again = HeaderMap::new();
        again.insert(copy_source::HEADER, HeaderValue::try_from(written).expect("percent-encoded"));
        if let Some((first, last)) = source.range {
            let range = HeaderValue::try_from(format!("bytes={first}-{last}")).expect("digits");
            again.insert(copy_source::RANGE_HEADER, range);
        }
        assert_eq!(CopySource::from_headers(&again), Ok(Some(source)));
    }
    for (prefix, judged) in
        [("", storage_conditions(&request.headers)), ("x-amz-copy-source-", source_conditions(&request.headers))]
    {
        let Ok(conditions) = judged else { continue };
        for name in CONDITIONS {
            assert_eq!(conditions.contains_key(name), request.headers.contains_key(format!("{prefix}{name}")));
        }
    }
    if CustomerKeys::take(&mut request.headers).is_ok() {
        for [prefix, name] in [["", "key"], ["", "key-md5"], ["copy-source-", "key"], ["copy-source-", "key-md5"]] {
            assert!(!request.headers.contains_key(format!("x-amz-{prefix}server-side-encryption-customer-{name}")));
        }
    }
}

/// A range lies within the object; a storage ETag comes back from the client as it was, which never sees a bare MD5; and what else is written of a value reads as the same.
pub fn header_value(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    fuzz_retry_after(&value);
    fuzz_traceparent(&value);
    let Ok(text) = value.to_str() else { return };
    for length in [0, 1, 1000, u64::MAX] {
        if let Ok(Some(span)) = range::resolve(range::parse(text), length) {
            assert!(span.first <= span.last && span.last < length);
        }
    }
    let etag = client_from_storage(text);
    assert_eq!(storage_from_client(&etag), text.trim());
    let opaque = etag.strip_prefix("W/").unwrap_or(&etag).trim_matches('"');
    assert!(opaque.len() != 32 || !opaque.bytes().all(|byte| byte.is_ascii_hexdigit()), "{etag}");
    let _ = storage_list_from_client(text);
    assert!(!if_range_holds("W/\"a\"", text, Some(text)));
    let _ = if_range_holds(text, "\"a\"", Some(text));
}
