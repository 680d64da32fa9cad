//! A request to a storage server, from what the caller says to what goes on the wire.
//!
//! **Invariant:** the path and query that are signed are the ones that are sent.

use std::sync::atomic::{AtomicU32, Ordering};

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use time::OffsetDateTime;

use super::error::RequestError;
use super::settings::{Addressing, Endpoint, StorageSettings};
use super::upload::Upload;
use crate::format::ciphertext::CipherBytes;
use crate::net::BoxError;
use crate::s3::sigv4::{Credentials, PayloadHash, SigningTarget, sign, uri_encode_path, uri_encode_query};
use crate::telemetry::{request_id, traces};

/// Headers that belong to one connection, or that are made here. A caller's are dropped.
const OWN_HEADERS: [HeaderName; 14] = [
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static(request_id::HEADER),
    traces::HEADER,
];

/// What is sent along.
#[derive(Default)]
pub enum StorageBody {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes in memory, which can be sent again.
    Replayable(CipherBytes),
    /// A stream, which cannot.
    Streaming {
        /// Exactly how many bytes it has.
        length: u64,
        /// The bytes. An error in it aborts the request, and the server gets no complete body.
        body: UnsyncBoxBody<CipherBytes, BoxError>,
    },
}

/// Whether a request may be sent again when the server may already have acted on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// It may, however late the first one is carried out: reads, and writes of what never changes under its name.
    Safe,
    /// Only once the server has answered, or if it did not get it. One that is silent may carry it out yet, after a second one was
    /// acknowledged, and over what was written next. Plain PUT, DELETE, DeleteObjects.
    Answered,
    /// It may not: the second answer would say something else. Conditional writes, and starting or completing a
    /// multipart upload. Such a request is tried again only if the server did not get or did not serve it.
    Unsafe,
}

/// A request to a storage server.
pub struct StorageRequest {
    /// The method.
    pub method: Method,
    /// The bucket's name on the server; none to list buckets.
    pub bucket: Option<String>,
    /// The object's key, not encoded.
    pub key: Option<String>,
    /// Query parameters, not encoded, in this order.
    pub query: Vec<(String, Option<String>)>,
    /// Headers. Those of the connection, the signature and the body's length are made by [`super::Storage::send`].
    pub headers: HeaderMap,
    /// The body.
    pub body: StorageBody,
    /// Whether it may be sent twice.
    pub replay: Replay,
    /// Whether a replica may answer it where the storage server is not there.
    pub replica: bool,
}

impl StorageRequest {
    /// A request about the server itself, with nothing in it.
    pub fn new(method: Method) -> Self {
        let (query, headers) = (Vec::new(), HeaderMap::new());
        let (bucket, key, body) = (None, None, StorageBody::Empty);
        let replay = if method.is_safe() { Replay::Safe } else { Replay::Answered };
        Self { method, bucket, key, query, headers, body, replay, replica: false }
    }

    /// A request about `bucket`.
    pub fn bucket(method: Method, bucket: impl Into<String>) -> Self {
        Self { bucket: Some(bucket.into()), ..Self::new(method) }
    }

    /// A request about the object `key` in `bucket`.
    pub fn object(method: Method, bucket: impl Into<String>, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..Self::bucket(method, bucket) }
    }

    /// Adds the query parameter `name=value`.
    #[must_use]
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), Some(value.into())));
        self
    }

    /// Adds the query parameter `name`, without a value.
    #[must_use]
    pub fn flag(mut self, name: impl Into<String>) -> Self {
        self.query.push((name.into(), None));
        self
    }

    /// Sets the header `name`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets all headers.
    #[must_use]
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: StorageBody) -> Self {
        self.body = body;
        self
    }

    /// Says that a replica may answer it, which may be behind.
    #[must_use]
    pub fn or_replica(mut self) -> Self {
        self.replica = true;
        self
    }

    /// The same once more; `None` if it has a body.
    pub(super) fn again(&self) -> Option<Self> {
        let StorageBody::Empty = self.body else { return None };
        let Self { method, bucket, key, query, headers, .. } = self;
        let (method, bucket, key) = (method.clone(), bucket.clone(), key.clone());
        let (query, headers, body) = (query.clone(), headers.clone(), StorageBody::Empty);
        Some(Self { method, bucket, key, query, headers, body, replay: self.replay, replica: self.replica })
    }

    /// Says that it writes what never changes under its name, so that it may be sent again whatever became of it.
    #[must_use]
    pub fn replay_safe(mut self) -> Self {
        self.replay = Replay::Safe;
        self
    }

    /// Says that it must not be sent again once the server may have acted on it.
    #[must_use]
    pub fn replay_unsafe(mut self) -> Self {
        self.replay = Replay::Unsafe;
        self
    }
}

/// Everything of a request but the address, the signature and the body: what every attempt has in common.
pub(super) struct Outline {
    method: Method,
    bucket: Option<String>,
    key: Option<String>,
    /// Encoded, with its `?`.
    query: String,
    headers: HeaderMap,
    payload: PayloadHash,
    attempts: AtomicU32,
}

impl Outline {
    pub(super) fn new(
        method: Method,
        bucket: Option<String>,
        key: Option<String>,
        query: Vec<(String, Option<String>)>,
        mut headers: HeaderMap,
        body: &StorageBody,
    ) -> Result<Self, RequestError> {
        for name in &OWN_HEADERS {
            headers.remove(name);
        }
        // A compressed answer would not be the bytes that were stored.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(id) = request_id::current() {
            headers.insert(request_id::HEADER, id.to_header());
        }
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("claviger/", env!("CARGO_PKG_VERSION"))));
        let (length, payload) = match body {
            StorageBody::Empty => (0, PayloadHash::of(b"")),
            StorageBody::Replayable(bytes) => {
                (u64::try_from(bytes.as_bytes().len()).unwrap_or(u64::MAX), PayloadHash::of(bytes.as_bytes()))
            }
            StorageBody::Streaming { length, .. } => (*length, PayloadHash::Unsigned),
        };
        if length > 0 || matches!(method, Method::PUT | Method::POST | Method::PATCH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        check(bucket.as_deref(), key.as_deref())?;
        let attempts = AtomicU32::new(0);
        Ok(Self { method, bucket, key, query: encode_query(&query), headers, payload, attempts })
    }

    /// What is asked for.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// How many attempts there were before this one.
    pub(super) fn attempts_before(&self) -> u32 {
        self.attempts.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether it changes nothing.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// The request of one attempt, signed now.
    pub(super) fn sign(
        &self,
        endpoint: &Endpoint,
        settings: &StorageSettings,
        credentials: &Credentials,
        upload: Upload,
    ) -> Result<Request<Upload>, RequestError> {
        let mut request = self.unsigned(endpoint, settings.addressing, upload)?;
        let uri = request.uri().clone();
        let target = SigningTarget { method: self.method.as_str(), raw_path: uri.path(), raw_query: uri.query() };
        let (region, now) = (&settings.region, OffsetDateTime::now_utc());
        sign(credentials, region, now, &target, request.headers_mut(), self.payload)?;
        Ok(request)
    }

    /// The request of one attempt, without a signature.
    pub(super) fn unsigned(
        &self,
        endpoint: &Endpoint,
        addressing: Addressing,
        upload: Upload,
    ) -> Result<Request<Upload>, RequestError> {
        let (host, path) = place(endpoint, addressing, self.bucket.as_deref(), self.key.as_deref());
        let target = format!("{}{}", uri_encode_path(path.as_bytes()), self.query);
        let scheme = endpoint.scheme().clone();
        let mut request = Request::new(upload);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::builder().scheme(scheme).authority(host.as_str()).path_and_query(target).build()?;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(HOST, HeaderValue::try_from(host)?);
        Ok(request)
    }
}

/// Refuses what would be a request about something else.
fn check(bucket: Option<&str>, key: Option<&str>) -> Result<(), RequestError> {
    let Some(bucket) = bucket else {
        return if key.is_none() { Ok(()) } else { Err(RequestError::KeyWithoutBucket) };
    };
    // A name with other characters could move the request to another host or path, and an empty key would turn
    // the deletion of an object into that of its bucket.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !bucket.bytes().all(plain) || bucket.bytes().all(|byte| byte == b'.') {
        return Err(RequestError::BucketName { name: bucket.to_owned() });
    }
    if key.is_some_and(str::is_empty) { Err(RequestError::EmptyKey) } else { Ok(()) }
}

/// The host and the decoded path of a bucket or object, which was [checked](check).
fn place(endpoint: &Endpoint, addressing: Addressing, bucket: Option<&str>, key: Option<&str>) -> (String, String) {
    let host = endpoint.host_and_port();
    let Some(bucket) = bucket else { return (host.into(), "/".into()) };
    let in_host = addressing == Addressing::VirtualHosted && !(endpoint.is_tls() && bucket.contains('.'));
    match (in_host, key) {
        (true, key) => (format!("{bucket}.{host}"), format!("/{}", key.unwrap_or_default())),
        (false, None) => (host.into(), format!("/{bucket}")),
        (false, Some(key)) => (host.into(), format!("/{bucket}/{key}")),
    }
}

/// `?name=value&flag`, or nothing. A parameter without a value goes without `=`, as AWS's own clients send it.
fn encode_query(query: &[(String, Option<String>)]) -> String {
    let mut encoded = String::new();
    for (name, value) in query {
        encoded.push(if encoded.is_empty() { '?' } else { '&' });
        let pair = uri_encode_query([(name, value.as_deref().unwrap_or_default())]);
        encoded.push_str(if value.is_none() { pair.trim_end_matches('=') } else { &pair });
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretBytes;
    use crate::storage::settings::Endpoint;

    fn settings(url: &str, addressing: Addressing) -> StorageSettings {
        let endpoint = Endpoint::parse(url, false).expect("good URL");
        StorageSettings { addressing, ..StorageSettings::new(endpoint, "us-east-1") }
    }

    fn outline(request: StorageRequest) -> Result<Outline, RequestError> {
        let StorageRequest { method, bucket, key, query, headers, body, .. } = request;
        Outline::new(method, bucket, key, query, headers, &body)
    }

    fn made(settings: &StorageSettings, request: StorageRequest) -> Result<Request<Upload>, RequestError> {
        outline(request)?.unsigned(&settings.endpoint, settings.addressing, Upload::empty())
    }

    #[test]
    fn keys_go_into_the_path_as_they_are() {
        let settings = settings("https://s3.example.org", Addressing::Path);
        let uri = |key: &str| {
            let request = StorageRequest::object(Method::GET, "records", key);
            made(&settings, request).expect("fits").uri().to_string()
        };
        assert_eq!(uri("a//../b/."), "https://s3.example.org/records/a//../b/.");
        assert_eq!(uri("/lead & +%2F?#ü"), "https://s3.example.org/records//lead%20%26%20%2B%252F%3F%23%C3%BC");
    }

    #[test]
    fn virtual_hosts_carry_the_bucket_unless_a_certificate_could_not() {
        let host = |url, bucket| {
            let settings = settings(url, Addressing::VirtualHosted);
            let made = made(&settings, StorageRequest::object(Method::GET, bucket, "k")).expect("fits");
            (made.headers()[HOST].to_str().expect("ASCII").to_owned(), made.uri().path().to_owned())
        };
        assert_eq!(host("https://s3.example.org:9000", "records"), ("records.s3.example.org:9000".into(), "/k".into()));
        assert_eq!(host("https://s3.example.org", "a.b"), ("s3.example.org".into(), "/a.b/k".into()));
        assert_eq!(host("http://localhost:9000", "a.b"), ("a.b.localhost:9000".into(), "/k".into()));
    }

    #[test]
    fn queries_keep_their_order_and_flags_have_no_equals_sign() {
        let settings = settings("https://s3.example.org", Addressing::Path);
        let request = StorageRequest::bucket(Method::GET, "b").flag("versions").query("prefix", "a=b&c").query("x", "");
        assert_eq!(made(&settings, request).expect("fits").uri().query(), Some("versions&prefix=a%3Db%26c&x="));
    }

    #[test]
    fn headers_of_another_connection_are_dropped() {
        let settings = settings("https://s3.example.org", Addressing::Path);
        let request = StorageRequest::object(Method::PUT, "b", "k")
            .header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))
            .header(CONTENT_LENGTH, HeaderValue::from_static("7"))
            .header(HOST, HeaderValue::from_static("elsewhere"))
            .header(EXPECT, HeaderValue::from_static("100-continue"));
        let made = made(&settings, request).expect("fits");
        let headers = made.headers();
        assert_eq!(headers[CONTENT_LENGTH], "0");
        assert_eq!(headers[HOST], "s3.example.org");
        assert!(!headers.contains_key(TRANSFER_ENCODING) && !headers.contains_key(EXPECT));
    }

    #[test]
    fn names_that_would_move_the_request_are_refused() {
        for addressing in [Addressing::VirtualHosted, Addressing::Path] {
            let settings = settings("https://s3.example.org", addressing);
            for bucket in ["", ".", "..", "evil/", "a b", "x@y", "a\r\nb", "h:1", "b?c", "b#c"] {
                let made = made(&settings, StorageRequest::object(Method::GET, bucket, "k"));
                assert!(matches!(made, Err(RequestError::BucketName { .. })), "{bucket:?}");
            }
            let empty_key = made(&settings, StorageRequest::object(Method::DELETE, "records", ""));
            assert!(matches!(empty_key, Err(RequestError::EmptyKey)));
        }
    }

    #[test]
    fn every_attempt_carries_a_signature_of_its_own() {
        let settings = settings("https://s3.example.org", Addressing::Path);
        let secret = SecretBytes::new(b"secret".to_vec()).expect("not empty");
        let credentials = Credentials { access_key: "AK".into(), secret: secret.into(), session_token: None };
        let outline = outline(StorageRequest::object(Method::GET, "b", "k")).expect("fits");
        let request = outline.sign(&settings.endpoint, &settings, &credentials, Upload::empty()).expect("signs");
        let authorization = request.headers()[AUTHORIZATION].to_str().expect("ASCII");
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AK/"), "{authorization}");
        assert!(authorization.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date,"), "{authorization}");
    }

    #[tokio::test]
    async fn the_id_of_the_request_goes_along_signed() {
        let settings = settings("https://s3.example.org", Addressing::Path);
        let secret = SecretBytes::new(b"secret".to_vec()).expect("not empty");
        let credentials = Credentials { access_key: "AK".into(), secret: secret.into(), session_token: None };
        let forged = || {
            let header = HeaderName::from_static(request_id::HEADER);
            StorageRequest::object(Method::GET, "b", "k").header(header, HeaderValue::from_static("forged"))
        };
        let id = request_id::RequestId::random();
        let made = request_id::Work::new(id, None).scope(async { outline(forged()) }).await.expect("fits");
        let request = made.sign(&settings.endpoint, &settings, &credentials, Upload::empty()).expect("signs");
        assert_eq!(request.headers()[request_id::HEADER], id.as_str());
        let authorization = request.headers()[AUTHORIZATION].to_str().expect("ASCII");
        assert!(authorization.contains(";x-claviger-request-id,"), "{authorization}");
        let without = outline(forged()).expect("fits");
        assert!(!without.headers.contains_key(request_id::HEADER), "no request is worked on");
    }
}
