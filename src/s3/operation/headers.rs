//! Which headers pass between client and storage server.
//!
//! **Invariant:** nothing that describes plaintext reaches the storage server, nothing that describes ciphertext
//! reaches the client, and no header changes where or how a body is stored.

use http::{HeaderMap, HeaderName, header};

use super::{BucketOperation, ObjectOperation, Operation};

/// Request headers that stay here: those that belong to this hop or its signature, describe the body, set
/// conditions (which [`crate::s3::conditions`] maps), or would redirect the request.
const WITHHELD: &[&str] = &[
    // This hop and who is on it (RFC 9110, section 7.6.1).
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "host",
    "via",
    "forwarded",
    "max-forwards",
    "cookie",
    "user-agent",
    "x-amz-user-agent",
    // The client's signature.
    "authorization",
    "date",
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
    // The body, in plaintext. Accept and Accept-Encoding would change the storage server's.
    "accept",
    "accept-encoding",
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-language",
    "content-length",
    "content-md5",
    "content-range",
    "digest",
    "cache-control",
    "pragma",
    "expires",
    "range",
    "x-amz-decoded-content-length",
    "x-amz-trailer",
    "x-amz-sdk-checksum-algorithm",
    // Refused before; never forwarded all the same.
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
    "x-amz-metadata-directive",
    "x-amz-if-match-size",
    // Taken by some servers or their front ends for another method, host or path.
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-host",
    "x-real-ip",
];

/// Families of them. The last ones are extensions of certain servers that change how a body is stored
/// (unpacking archives, raw replicas, writing attributes) or delete more than is named.
const WITHHELD_FAMILIES: &[&str] = &[
    "if-",
    "content-digest",
    "repr-digest",
    "x-forwarded",
    "x-http-method",
    "x-claviger-",
    "x-amz-meta-",
    "x-amz-checksum-",
    "x-amz-server-side-encryption",
    "x-amz-copy-source",
    "x-amz-rename",
    "x-amz-fwd-",
    "amz-sdk-",
    "sec-",
    "proxy-",
    "x-minio-",
    "x-rustfs-",
    "x-seaweedfs-",
    "seaweed-",
    "x-rgw-",
    "rgwx-",
    "x-goog-",
    "x-oss-",
    "x-obs-",
    "x-cos-",
];

/// The client's headers that go with the request to the storage server. Unknown ones do, unless they would change
/// where or how a body is stored.
///
/// For pass-through operations Content-Type goes as well: their body is the client's. (Content-MD5 does not: the
/// body may have come as aws-chunked, so it is made anew from the bytes that are sent.)
pub fn forwardable_request_headers(operation: &Operation, client: &HeaderMap) -> HeaderMap {
    let hop_by_hop = named_in_connection(client);
    let mut forwarded = HeaderMap::new();
    for (name, value) in client {
        if is_forwardable(operation, name) && !hop_by_hop.contains(name) {
            forwarded.append(name, value.clone());
        }
    }
    forwarded
}

fn is_forwardable(operation: &Operation, name: &HeaderName) -> bool {
    let text = name.as_str();
    if *name == header::CONTENT_TYPE {
        return is_pass_through(operation);
    }
    // Servers with CGI in their past read `_` as `-`: x_amz_copy_source would be x-amz-copy-source to them.
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    plain && !WITHHELD.contains(&text) && !WITHHELD_FAMILIES.iter().any(|family| text.starts_with(family))
}

fn is_pass_through(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Bucket(_, BucketOperation::PassThrough(_))
            | Operation::Object(_, _, ObjectOperation::PassThrough(_))
    )
}

/// The headers that Connection names belong to this hop, too.
fn named_in_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// Answer headers that say something about the object or bucket other than its bytes.
const RETURNED: &[&str] = &[
    "last-modified",
    "retry-after",
    "vary",
    "x-amz-version-id",
    "x-amz-delete-marker",
    "x-amz-expiration",
    "x-amz-restore",
    "x-amz-storage-class",
    "x-amz-archive-status",
    "x-amz-tagging-count",
    "x-amz-replication-status",
    "x-amz-request-charged",
    "x-amz-bucket-region",
    "x-amz-bucket-location-type",
    "x-amz-bucket-location-name",
    "x-amz-access-point-alias",
    "x-amz-transition-default-minimum-object-size",
    "x-amz-abort-date",
    "x-amz-abort-rule-id",
];

/// Families of them.
const RETURNED_FAMILIES: &[&str] = &["x-amz-object-lock-", "access-control-"];

/// The storage server's headers that go back to the client: a list of known ones, so that nothing that speaks of
/// ciphertext slips through. ETag, length, type and checksums are set by whoever knows the plaintext. For
/// pass-through operations Content-Type stays: their body is the storage server's.
pub fn clean_response_headers(operation: &Operation, storage: &HeaderMap) -> HeaderMap {
    let hop_by_hop = named_in_connection(storage);
    let mut returned = HeaderMap::new();
    for (name, value) in storage {
        let text = name.as_str();
        let known = RETURNED.contains(&text)
            || RETURNED_FAMILIES.iter().any(|family| text.starts_with(family))
            || (*name == header::CONTENT_TYPE && is_pass_through(operation));
        if known && !hop_by_hop.contains(name) {
            returned.append(name, value.clone());
        }
    }
    returned
}

/// The storage server's own id for the request, for the logs.
pub fn storage_request_id(storage: &HeaderMap) -> Option<&str> {
    ["x-amz-request-id", "x-amz-id-2"].iter().find_map(|name| storage.get(*name)?.to_str().ok())
}
