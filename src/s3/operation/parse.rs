//! From method, target, query and headers to an operation, or a refusal.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::s3::target::{Query, Target, is_version_id, leads_out};

use super::{
    BucketOperation, ListBuckets, ObjectOperation, Operation, OperationError, Parameters, PassThrough, Read,
    SubResource, Unsupported, is_given,
};

/// The most entries in one page of a listing (AWS, ListObjectsV2).
const LONGEST_PAGE: u32 = 1000;

/// The parameters of listings that say where in the bucket to look. A storage server that keeps objects as files may
/// take them, and the token of the next page, for directories.
const PLACES: &[&str] = &["prefix", "marker", "start-after", "continuation-token"];

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
    for name in headers.keys() {
        if let Some(unsupported) = Unsupported::by_header(name.as_str()) {
            return Err(OperationError::NotImplemented(unsupported));
        }
        if reads && name.as_str().starts_with("x-amz-server-side-encryption") {
            return Err(OperationError::Header(name.clone()));
        }
        if name.as_str() == "x-amz-meta-claviger" {
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
            Err(OperationError::NotImplemented(Unsupported::PostForm))
        }
        _ => Err(other_method(method, "a bucket")),
    }
}

fn object_operation(method: &Method, query: &Query, headers: &HeaderMap) -> Result<ObjectOperation, OperationError> {
    if let Some(sub_resource) = SubResource::of_object(query) {
        return PassThrough::parse(sub_resource, method, query).map(ObjectOperation::PassThrough);
    }
    match *method {
        Method::PUT => {
            known(query, &[])?;
            Ok(ObjectOperation::PutObject { grants: grants(headers), locks: locks(headers) })
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
    let mut read = Read { version_id: version_id(query)?, overrides: Vec::new() };
    for (name, value) in query.operational() {
        if name == "versionId" {
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
    let mut allowed = vec!["prefix", "delimiter", "max-keys", "encoding-type"];
    allowed.extend(further);
    let mut parameters = known(query, &allowed)?;
    if parameters.get("encoding-type").is_some_and(|encoding| encoding != "url") {
        return Err(OperationError::Value("encoding-type"));
    }
    if let Some(place) = PLACES.iter().find(|place| parameters.get(place).is_some_and(leads_out)) {
        return Err(OperationError::OutOfBucket(place));
    }
    for (name, value) in &mut parameters.0 {
        let (true, Some(number)) = (name == "max-keys", value.as_mut().filter(|value| !value.is_empty())) else {
            continue;
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let most: i32 = number.parse().ok().filter(|_| digits).ok_or(OperationError::Value("max-keys"))?;
        // S3 gives no more either; some servers would, and a page is held in memory.
        *number = most.unsigned_abs().min(LONGEST_PAGE).to_string();
    }
    Ok(parameters)
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
fn grants(headers: &HeaderMap) -> bool {
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

fn locks(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("x-amz-object-lock-"))
}

fn bypasses_governance(headers: &HeaderMap) -> bool {
    is_given(headers, "x-amz-bypass-governance-retention")
}
