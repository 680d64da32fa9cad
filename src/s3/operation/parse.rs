//! From method, target, query and headers to an operation, or a refusal.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::s3::target::{Query, Target, is_version_id, leads_out};

use super::{
    BucketOperation, GetAttributes, ListBuckets, ObjectOperation, Operation, OperationError, Parameters, PassThrough,
    Read, SubResource, Unsupported, Verb, is_given, multipart,
};
use crate::s3::copy_source::{self, CopySource};

/// The most entries in one page of a listing (AWS, ListObjectsV2).
const LONGEST_PAGE: u32 = 1000;

/// The parameters of listings and settings that say where in the bucket to look. A storage server that keeps objects as files may
/// take them, and the token of the next page, for directories.
const PLACES: &[&str] = &[
    "prefix",
    "marker",
    "start-after",
    "continuation-token",
    "key-marker",
    "upload-id-marker",
    "version-id-marker",
    "id",
];

/// The parameters that bound a page of a listing.
const PAGE_LENGTHS: &[&str] = &["max-keys", "max-uploads"];

/// The parameters of GetObject and HeadObject that set headers of the answer.
const OVERRIDES: &[(&str, HeaderName)] = &[
    ("response-cache-control", http::header::CACHE_CONTROL),
    ("response-content-disposition", http::header::CONTENT_DISPOSITION),
    ("response-content-encoding", http::header::CONTENT_ENCODING),
    ("response-content-language", http::header::CONTENT_LANGUAGE),
    ("response-content-type", http::header::CONTENT_TYPE),
    ("response-expires", http::header::EXPIRES),
];

impl Operation {
    /// What the request asks for. To be called after authentication: headers that a presigned URL carries as
    /// parameters are put back among `headers`, where everything after this looks for them.
    ///
    /// # Errors
    /// [`OperationError`].
    pub fn parse(
        method: &Method,
        target: Target,
        query: &Query,
        headers: &mut HeaderMap,
    ) -> Result<Self, OperationError> {
        query.restore_hoisted(headers)?;
        check_headers(method, headers)?;
        if let Some(unsupported) = query.operational().iter().find_map(|(name, _)| Unsupported::by_parameter(name)) {
            return Err(OperationError::NotImplemented(unsupported));
        }
        Ok(match target {
            Target::Service => Self::ListBuckets(list_buckets(method, query)?),
            Target::Bucket(bucket) => Self::Bucket(bucket, bucket_operation(method, query, headers)?),
            Target::Object { bucket, key } => Self::Object(bucket, key, object_operation(method, query, headers)?),
        })
    }
}

fn check_headers(method: &Method, headers: &HeaderMap) -> Result<(), OperationError> {
    let reads = method == Method::GET || method == Method::HEAD;
    if method != Method::PUT && headers.contains_key(copy_source::HEADER) {
        return Err(OperationError::Header(HeaderName::from_static(copy_source::HEADER)));
    }
    for name in headers.keys() {
        if let Some(unsupported) = Unsupported::by_header(name.as_str()) {
            return Err(OperationError::NotImplemented(unsupported));
        }
        let text = name.as_str();
        let about_copies = text.starts_with("x-amz-copy-source-") && !headers.contains_key(copy_source::HEADER);
        let about_encryption = text.starts_with("x-amz-server-side-encryption") && !text.contains("-customer-");
        if about_copies || (reads && about_encryption) {
            return Err(OperationError::Header(name.clone()));
        }
        if text == "x-amz-meta-claviger" {
            return Err(OperationError::ReservedMetadata);
        }
    }
    Ok(())
}

fn list_buckets(method: &Method, query: &Query) -> Result<ListBuckets, OperationError> {
    if method != Method::GET {
        return Err(other_method(method, "the service"));
    }
    let parameters = known(query, &["prefix", "continuation-token", "max-buckets"])?;
    let text = |name| parameters.get(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let max_buckets = match text("max-buckets") {
        None => None,
        Some(number) => {
            let within = number.parse().ok().filter(|number| (1..=10_000).contains(number));
            Some(within.ok_or(OperationError::Value("max-buckets"))?)
        }
    };
    Ok(ListBuckets { prefix: text("prefix"), continuation_token: text("continuation-token"), max_buckets })
}

fn bucket_operation(method: &Method, query: &Query, headers: &HeaderMap) -> Result<BucketOperation, OperationError> {
    if let Some(sub_resource) = SubResource::of_bucket(query) {
        return PassThrough::parse(sub_resource, method, query).map(BucketOperation::PassThrough);
    }
    if query.has("encryption") {
        flag(query, "encryption")?;
        known(query, &["encryption"])?;
        return match *method {
            Method::GET => Ok(BucketOperation::Encryption(Verb::Get)),
            Method::PUT => Ok(BucketOperation::Encryption(Verb::Put)),
            Method::DELETE => Ok(BucketOperation::Encryption(Verb::Delete)),
            _ => Err(other_method(method, "encryption")),
        };
    }
    match *method {
        Method::GET if query.has("location") => {
            flag(query, "location")?;
            known(query, &["location"]).map(|_| BucketOperation::GetBucketLocation)
        }
        Method::GET if query.has("list-type") => {
            if query.get("list-type") != Some("2") {
                return Err(OperationError::Value("list-type"));
            }
            listing(query, &["list-type", "continuation-token", "start-after", "fetch-owner"])
                .map(BucketOperation::ListObjectsV2)
        }
        Method::GET if query.has("versions") => {
            flag(query, "versions")?;
            listing(query, &["versions", "key-marker", "version-id-marker"]).map(BucketOperation::ListObjectVersions)
        }
        Method::GET if query.has("uploads") => {
            flag(query, "uploads")?;
            listing(query, &["uploads", "key-marker", "upload-id-marker", "max-uploads"])
                .map(BucketOperation::ListMultipartUploads)
        }
        Method::GET => listing(query, &["marker"]).map(BucketOperation::ListObjectsV1),
        Method::PUT => {
            known(query, &[]).map(|_| BucketOperation::CreateBucket { configures: configures_bucket(headers) })
        }
        Method::HEAD => known(query, &[]).map(|_| BucketOperation::HeadBucket),
        Method::DELETE => known(query, &[]).map(|_| BucketOperation::DeleteBucket),
        Method::POST if query.has("delete") => {
            flag(query, "delete")?;
            known(query, &["delete"])?;
            Ok(BucketOperation::DeleteObjects { bypasses_governance: bypasses_governance(headers) })
        }
        Method::POST => {
            known(query, &[])?;
            Err(OperationError::NotAForm)
        }
        _ => Err(other_method(method, "a bucket")),
    }
}

fn object_operation(method: &Method, query: &Query, headers: &HeaderMap) -> Result<ObjectOperation, OperationError> {
    if let Some(sub_resource) = SubResource::of_object(query) {
        return PassThrough::parse(sub_resource, method, query).map(ObjectOperation::PassThrough);
    }
    if let Some(operation) = multipart::parse(method, query, headers) {
        return operation;
    }
    match *method {
        Method::PUT => {
            known(query, &[])?;
            let (grants, locks) = (grants(headers), locks(headers));
            match CopySource::from_headers(headers)? {
                None => Ok(ObjectOperation::PutObject { grants, locks }),
                Some(CopySource { range: Some(_), .. }) => {
                    Err(OperationError::Header(HeaderName::from_static(copy_source::RANGE_HEADER)))
                }
                Some(source) => Ok(ObjectOperation::CopyObject { source, grants, locks }),
            }
        }
        Method::GET if query.has("attributes") => {
            flag(query, "attributes")?;
            known(query, &["attributes", "versionId"])?;
            Ok(ObjectOperation::GetObjectAttributes(GetAttributes { version_id: version_id(query)? }))
        }
        Method::GET => read(query).map(ObjectOperation::GetObject),
        Method::HEAD => read(query).map(ObjectOperation::HeadObject),
        Method::DELETE => {
            known(query, &["versionId"])?;
            Ok(ObjectOperation::DeleteObject {
                version_id: version_id(query)?,
                bypasses_governance: bypasses_governance(headers),
            })
        }
        _ => {
            known(query, &[])?;
            Err(other_method(method, "an object"))
        }
    }
}

fn read(query: &Query) -> Result<Read, OperationError> {
    let part_number = multipart::part_number(query)?;
    let mut read = Read { version_id: version_id(query)?, part_number, overrides: Vec::new() };
    for (name, value) in query.operational() {
        if name == "versionId" || name == "partNumber" {
            continue;
        }
        let Some((parameter, header)) = OVERRIDES.iter().find(|(parameter, _)| parameter == name) else {
            return Err(OperationError::NotImplemented(Unsupported::parameter(name)));
        };
        let value = value.as_deref().unwrap_or_default();
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| OperationError::Value(parameter))?;
        read.overrides.push((header.clone(), value));
    }
    Ok(read)
}

/// An empty version would be taken for none by some servers and for an error by others.
pub(super) fn version_id(query: &Query) -> Result<Option<String>, OperationError> {
    match query.get("versionId") {
        Some(version) if !is_version_id(version) => Err(OperationError::Value("versionId")),
        version => Ok(version.map(str::to_owned)),
    }
}

fn listing(query: &Query, further: &[&str]) -> Result<Parameters, OperationError> {
    let mut allowed = vec!["prefix", "delimiter", "encoding-type"];
    if !further.contains(&"max-uploads") {
        allowed.push("max-keys");
    }
    allowed.extend(further);
    // Ceph's, which says that the order does not matter, and nothing else.
    allowed.push("allow-unordered");
    let mut parameters = known(query, &allowed)?;
    if parameters.get("encoding-type").is_some_and(|encoding| encoding != "url") {
        return Err(OperationError::Value("encoding-type"));
    }
    within_bucket(&parameters)?;
    for (name, value) in &mut parameters.0 {
        let (Some(name), Some(number)) =
            (PAGE_LENGTHS.iter().find(|known| *known == name), value.as_mut().filter(|value| !value.is_empty()))
        else {
            continue;
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let most: i32 = number.parse().ok().filter(|_| digits).ok_or(OperationError::Value(name))?;
        // S3 gives no more either; some servers would, and a page is held in memory.
        *number = most.unsigned_abs().min(LONGEST_PAGE).to_string();
    }
    Ok(parameters)
}

/// No parameter that says where to look may lead out of the bucket.
pub(super) fn within_bucket(parameters: &Parameters) -> Result<(), OperationError> {
    match PLACES.iter().find(|place| parameters.get(place).is_some_and(leads_out)) {
        Some(place) => Err(OperationError::OutOfBucket(place)),
        None => Ok(()),
    }
}

/// A number that must be digits only, if it is given and not empty.
pub(super) fn number(query: &Query, name: &'static str) -> Result<Option<u32>, OperationError> {
    let Some(text) = query.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.map(Some).ok_or(OperationError::Value(name))
}

/// The parameters, if each is one of `allowed`.
pub(super) fn known(query: &Query, allowed: &[&str]) -> Result<Parameters, OperationError> {
    match query.operational().iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
        Some((name, _)) => Err(OperationError::NotImplemented(Unsupported::parameter(name))),
        None => Ok(Parameters(query.operational().to_vec())),
    }
}

/// A parameter that only has to be there must have no value: with one, it may mean something else.
pub(super) fn flag(query: &Query, name: &'static str) -> Result<(), OperationError> {
    match query.get(name) {
        Some("") => Ok(()),
        _ => Err(OperationError::Value(name)),
    }
}

pub(super) fn other_method(method: &Method, on: &'static str) -> OperationError {
    let method = method.as_str().chars().take(32).collect();
    OperationError::NotImplemented(Unsupported::Method { method, on })
}

/// Whether an upload gives others access. Some canned ACLs give nobody any but the owner of the bucket or object.
pub(super) fn grants(headers: &HeaderMap) -> bool {
    grants_beyond(headers, &[b"private", b"bucket-owner-full-control", b"bucket-owner-read"])
}

/// Whether a new bucket gives others access, or says more than that it is to be.
fn configures_bucket(headers: &HeaderMap) -> bool {
    grants_beyond(headers, &[b"private"])
        || is_given(headers, "x-amz-bucket-object-lock-enabled")
        || headers.contains_key("x-amz-object-ownership")
}

fn grants_beyond(headers: &HeaderMap, harmless: &[&[u8]]) -> bool {
    headers.get_all("x-amz-acl").iter().any(|acl| !harmless.contains(&acl.as_bytes()))
        || headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-"))
}

pub(super) fn locks(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("x-amz-object-lock-"))
}

fn bypasses_governance(headers: &HeaderMap) -> bool {
    is_given(headers, "x-amz-bypass-governance-retention")
}
