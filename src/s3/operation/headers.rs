//! Which headers pass between client and storage server.
//!
//! **Invariant:** nothing that describes plaintext reaches the storage server, nothing that describes ciphertext
//! reaches the client, and no header changes where or how a body is stored. Both ways only known headers pass.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{BucketOperation, ObjectOperation, Operation};

/// The client's headers that go on: those of S3 that say something about object or bucket other than its bytes. Every
/// other one stays, known or not. It may be a credential, name a person, describe plaintext, or be one that a certain
/// server or its front end takes for another method, place or way to store; and whoever runs the server reads it.
///
/// Conditions are not among them: [`crate::s3::conditions`] maps those. Nor is Referer, of which [`site`] is sent on.
const FORWARDED: &[&str] = &[
    // Who else may use it, and who must keep it.
    "x-amz-acl",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
    "x-amz-object-ownership",
    "x-amz-object-lock-mode",
    "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
    "x-amz-bucket-object-lock-enabled",
    "x-amz-bypass-governance-retention",
    "x-amz-confirm-remove-self-bucket-access",
    "x-amz-mfa",
    // Where and at whose cost.
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-request-payer",
    "x-amz-expected-bucket-owner",
    "x-amz-transition-default-minimum-object-size",
    "x-amz-skip-destination-validation",
    // What to answer, and a condition that does not speak of content.
    "x-amz-optional-object-attributes",
    "x-amz-if-match-last-modified-time",
    // Cross-origin requests of browsers, which the bucket's CORS configuration answers.
    "origin",
    "access-control-request-method",
    "access-control-request-headers",
];

/// Those of them that go with requests for an upload under way. These need no more than to write, and S3 has no use for
/// the others there, while some server may heed them.
const FORWARDED_ON_UPLOADS: &[&str] = &[
    "x-amz-request-payer",
    "x-amz-expected-bucket-owner",
    "origin",
    "access-control-request-method",
    "access-control-request-headers",
];

/// The client's headers that go with the request to the storage server: known ones only.
///
/// For pass-through operations Content-Type goes as well: their body is the client's. (Content-MD5 does not: the
/// body may have come as aws-chunked, so it is made anew from the bytes that are sent.)
///
/// What Connection names is no less forwarded. None of these is about a hop, and Connection is not signed: with it
/// somebody on the way could take a signed object lock off an upload.
pub fn forwardable_request_headers(operation: &Operation, client: &HeaderMap) -> HeaderMap {
    let known = if operation.is_on_upload() && !creates_upload(operation) { FORWARDED_ON_UPLOADS } else { FORWARDED };
    let mut forwarded = HeaderMap::new();
    for (name, value) in client {
        let clients_body = *name == header::CONTENT_TYPE && is_pass_through(operation);
        if clients_body || known.contains(&name.as_str()) {
            forwarded.append(name, value.clone());
        }
    }
    let mut referers = client.get_all(header::REFERER).iter();
    if let (Some(site), None) = (referers.next().and_then(site), referers.next()) {
        forwarded.insert(header::REFERER, site);
    }
    forwarded
}

/// The site that a Referer names, cut as browsers cut it for other sites. Bucket policies have conditions on it, and
/// what they refuse must not pass because it was left out; its path and query may name a person or hold a secret.
fn site(referer: &HeaderValue) -> Option<HeaderValue> {
    let (scheme, rest) = referer.to_str().ok()?.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    if !matches!(scheme, "http" | "https") || authority.is_empty() || authority.contains('@') {
        return None;
    }
    let path = if rest.len() > authority.len() { "/" } else { "" };
    HeaderValue::from_str(&format!("{scheme}://{authority}{path}")).ok()
}

fn creates_upload(operation: &Operation) -> bool {
    matches!(operation, Operation::Object(_, _, ObjectOperation::CreateMultipartUpload { .. }))
}

fn is_pass_through(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Bucket(_, BucketOperation::PassThrough(_))
            | Operation::Object(_, _, ObjectOperation::PassThrough(_))
    )
}

/// The headers that Connection names in an answer belong to this hop, too.
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

/// What a storage server says to browsers about other origins, and with it on what its answer depends.
const CORS: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "vary",
];

/// Those of a storage server's headers by which browsers decide what a page of another origin may see.
pub fn cors_headers(storage: &HeaderMap) -> HeaderMap {
    let known = storage.iter().filter(|(name, _)| CORS.contains(&name.as_str()));
    known.map(|(name, value)| (name.clone(), value.clone())).collect()
}

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
