//! A small S3 client, written apart from the proxy's own signing, which can be made to sign wrongly.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use claviger::crypto::{hmac_sha256, sha256};
use claviger::net::BoxError;
use claviger::net::client::{ClientSettings, HttpClient};
use claviger::net::tls::{ClientTls, client_config};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::OffsetDateTime;

use super::LONG;
use super::listing::unescaped;

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Only what no URI can carry is encoded, so that tests can write escapes themselves.
const AS_IS: &AsciiSet = &IN_PATH.remove(b'%');
const IN_PATH: &AsciiSet = &UNRESERVED.remove(b'/');

pub(crate) type ClientBody = UnsyncBoxBody<Bytes, BoxError>;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A client of the proxy.
#[derive(Clone)]
pub(crate) struct S3 {
    pub(crate) http: HttpClient<ClientBody>,
    pub(crate) base: String,
    pub(crate) host: String,
    pub(crate) access_key: String,
    pub(crate) secret: String,
}

/// What came back. `status` is 0 when nothing did.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The body broke off.
    pub(crate) cut: bool,
}

impl Answer {
    /// The S3 error code, or nothing.
    pub(crate) fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        code.map(|(code, _)| code.to_owned()).unwrap_or_default()
    }

    /// The text of the first element of that name, or nothing.
    pub(crate) fn leaf(&self, name: &str) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let rest = text.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split_once("</")).map(|(text, _)| unescaped(text)).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!((200..300).contains(&self.status) && !self.cut, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn fails(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code().as_str(), self.cut), (status, code, false), "{self:?}");
        self
    }
}

impl S3 {
    pub(crate) fn new(address: SocketAddr, ca_file: Option<&Path>, access_key: &str, secret: &str) -> Self {
        let tls = ClientTls { ca_file: ca_file.map(Path::to_path_buf), identity: None };
        let settings = ClientSettings { body_timeout: LONG, ..ClientSettings::default() };
        let http = HttpClient::new(client_config(&tls).expect("good files"), &settings);
        let scheme = if ca_file.is_some() { "https" } else { "http" };
        Self {
            http,
            base: format!("{scheme}://{address}"),
            host: address.to_string(),
            access_key: access_key.to_owned(),
            secret: secret.to_owned(),
        }
    }

    /// A request about `/bucket/key`, `/bucket` or `/`.
    pub(crate) fn ask(&self, method: Method, bucket: &str, key: &str) -> Ask {
        let path = match (bucket, key) {
            ("", _) => "/".to_owned(),
            (bucket, "") => format!("/{}", utf8_percent_encode(bucket, AS_IS)),
            (bucket, key) => {
                format!("/{}/{}", utf8_percent_encode(bucket, AS_IS), utf8_percent_encode(key, IN_PATH))
            }
        };
        Ask {
            s3: self.clone(),
            method,
            path,
            query: Vec::new(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            stream: None,
            payload: None,
            at: OffsetDateTime::now_utc(),
        }
    }

    pub(crate) async fn put(&self, bucket: &str, key: &str, body: impl Into<Bytes>) -> Answer {
        self.ask(Method::PUT, bucket, key).body(body).send().await
    }

    pub(crate) async fn get(&self, bucket: &str, key: &str) -> Answer {
        self.ask(Method::GET, bucket, key).send().await
    }

    pub(crate) async fn get_range(&self, bucket: &str, key: &str, range: &str) -> Answer {
        self.ask(Method::GET, bucket, key).header("range", range).send().await
    }

    pub(crate) async fn head(&self, bucket: &str, key: &str) -> Answer {
        self.ask(Method::HEAD, bucket, key).send().await
    }

    /// Begins an upload; its id.
    pub(crate) async fn create_upload(&self, bucket: &str, key: &str) -> String {
        self.ask(Method::POST, bucket, key).query_text("uploads").send().await.ok().leaf("UploadId")
    }

    pub(crate) async fn upload_part(
        &self,
        (bucket, key): (&str, &str),
        id: &str,
        number: u32,
        body: impl Into<Bytes>,
    ) -> Answer {
        let ask = self.ask(Method::PUT, bucket, key).query("partNumber", &number.to_string()).query("uploadId", id);
        ask.body(body).send().await
    }

    /// The request that completes an upload of `parts`, numbers and ETags, for more headers.
    pub(crate) fn ask_complete(&self, (bucket, key): (&str, &str), id: &str, parts: &[(u32, String)]) -> Ask {
        let parts: String = parts
            .iter()
            .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
            .collect();
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        self.ask(Method::POST, bucket, key).query("uploadId", id).body(document)
    }

    pub(crate) async fn complete(&self, object: (&str, &str), id: &str, parts: &[(u32, String)]) -> Answer {
        self.ask_complete(object, id, parts).send().await
    }

    pub(crate) async fn abort(&self, (bucket, key): (&str, &str), id: &str) -> Answer {
        self.ask(Method::DELETE, bucket, key).query("uploadId", id).send().await
    }

    pub(crate) async fn list(&self, bucket: &str, query: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, bucket, "").queries(query).send().await
    }
}

/// A request in the making.
#[derive(Debug)]
pub(crate) struct Ask {
    s3: S3,
    method: Method,
    path: String,
    query: Vec<(String, Option<String>)>,
    headers: HeaderMap,
    body: Bytes,
    stream: Option<ClientBody>,
    payload: Option<String>,
    at: OffsetDateTime,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.base)
    }
}

/// A signed head, with what chunk signatures go on from.
pub(crate) struct Signed {
    pub(crate) headers: HeaderMap,
    pub(crate) signature: String,
    pub(crate) key: [u8; 32],
    pub(crate) timestamp: String,
    pub(crate) scope: String,
}

impl Ask {
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    pub(crate) fn queries(self, pairs: &[(&str, &str)]) -> Self {
        pairs.iter().fold(self, |ask, (name, value)| ask.query(name, value))
    }

    /// `a=b&c`, not encoded.
    pub(crate) fn query_text(mut self, text: &str) -> Self {
        for piece in text.split('&').filter(|piece| !piece.is_empty()) {
            let (name, value) = piece.split_once('=').map_or((piece, None), |(name, value)| (name, Some(value)));
            self.query.push((name.to_owned(), value.map(str::to_owned)));
        }
        self
    }

    /// A query that is already encoded.
    pub(crate) fn presigned(mut self, query: &str) -> Self {
        self.path = format!("{}?{query}", self.path);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// A body that comes as it likes; `content-length` has to be set beside it.
    pub(crate) fn stream(mut self, body: ClientBody) -> Self {
        self.stream = Some(body);
        self.payload("UNSIGNED-PAYLOAD")
    }

    /// The value of `x-amz-content-sha256`, in place of the body's hash.
    pub(crate) fn payload(mut self, word: &str) -> Self {
        self.payload = Some(word.to_owned());
        self
    }

    /// The client's clock.
    pub(crate) fn at(mut self, at: OffsetDateTime) -> Self {
        self.at = at;
        self
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    fn query_string(&self) -> String {
        let pairs = self.query.iter().map(|(name, value)| {
            let name = utf8_percent_encode(name, UNRESERVED);
            value
                .as_ref()
                .map_or(name.to_string(), |value| format!("{name}={}", utf8_percent_encode(value, UNRESERVED)))
        });
        pairs.collect::<Vec<_>>().join("&")
    }

    /// Path and query as they go out.
    pub(crate) fn target(&self) -> String {
        let query = self.query_string();
        if query.is_empty() { self.path.clone() } else { format!("{}?{query}", self.path) }
    }

    /// Signs as AWS describes it, headers of this hop left out.
    pub(crate) fn sign(&self) -> Signed {
        let mut headers = self.headers.clone();
        let text = |value: &str| HeaderValue::from_str(value).expect("ASCII");
        let timestamp = self
            .at
            .format(time::macros::format_description!(version = 2, "[year][month][day]T[hour][minute][second]Z"));
        let timestamp = timestamp.expect("formats");
        let payload = self.payload.clone().unwrap_or_else(|| hex(&sha256(&self.body)));
        headers.insert("host", text(&self.s3.host));
        headers.insert("x-amz-date", text(&timestamp));
        headers.insert("x-amz-content-sha256", text(&payload));
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.retain(|name| !matches!(*name, "expect" | "content-length" | "user-agent" | "connection"));
        names.sort_unstable();
        let value = |name: &str| {
            let all =
                headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
            all.collect::<Vec<_>>().join(",")
        };
        let canonical_headers: String = names.iter().map(|name| format!("{name}:{}\n", value(name))).collect();
        let mut query: Vec<String> = self.query_string().split('&').map(str::to_owned).collect();
        query.retain(|pair| !pair.is_empty());
        query.iter_mut().filter(|pair| !pair.contains('=')).for_each(|pair| pair.push('='));
        query.sort_by(|one, other| one.split_once('=').cmp(&other.split_once('=')));
        let names = names.join(";");
        let canonical =
            format!("{}\n{}\n{}\n{canonical_headers}\n{names}\n{payload}", self.method, self.path, query.join("&"));
        let date = &timestamp[..8];
        let scope = format!("{date}/us-east-1/s3/aws4_request");
        let to_sign = format!("AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{}", hex(&sha256(canonical.as_bytes())));
        let start = format!("AWS4{}", self.s3.secret);
        let steps = [date, "us-east-1", "s3", "aws4_request"];
        let key = steps.iter().fold(start.into_bytes(), |key, step| hmac_sha256(&key, step.as_bytes()).to_vec());
        let signature = hex(&hmac_sha256(&key, to_sign.as_bytes()));
        let credential = format!("{}/{scope}", self.s3.access_key);
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
        headers.insert("authorization", text(&authorization));
        let key = key.try_into().expect("32 bytes");
        Signed { headers, signature, key, timestamp, scope }
    }

    pub(crate) async fn send(self) -> Answer {
        let headers = self.sign().headers;
        self.send_with(headers).await
    }

    pub(crate) async fn send_with(self, headers: HeaderMap) -> Answer {
        let mut collected = Vec::new();
        let answer = self.send_into(headers, |data| collected.extend_from_slice(&data)).await;
        Answer { body: collected.into(), ..answer }
    }

    /// Sends, and gives the answer's body to `each` as it comes. The answer has no body then.
    pub(crate) async fn send_each(self, each: impl FnMut(Bytes)) -> Answer {
        let headers = self.sign().headers;
        self.send_into(headers, each).await
    }

    async fn send_into(self, headers: HeaderMap, mut each: impl FnMut(Bytes)) -> Answer {
        let uri = format!("{}{}", self.s3.base, self.target());
        let mut request = Request::new(match self.stream {
            Some(stream) => stream,
            None => Full::new(self.body.clone()).map_err(|never| match never {}).boxed_unsync(),
        });
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.parse().expect("a URI");
        *request.headers_mut() = headers;
        if self.body.is_empty() && matches!(self.method, Method::PUT | Method::POST) {
            // As S3 clients do; the HTTP library leaves it out.
            request.headers_mut().entry("content-length").or_insert(HeaderValue::from_static("0"));
        }
        let Ok(response) = self.s3.http.request(request, LONG + Duration::from_secs(5)).await else {
            return Answer { status: 0, headers: HeaderMap::new(), body: Bytes::new(), cut: true };
        };
        let (parts, mut body) = response.into_parts();
        let mut cut = false;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => each(frame.into_data().unwrap_or_default()),
                Err(_) => {
                    cut = true;
                    break;
                }
            }
        }
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: Bytes::new(), cut }
    }
}
