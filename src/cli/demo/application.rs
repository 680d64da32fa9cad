//! The demo's application: a small S3 client that knows nothing of encryption.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use time::OffsetDateTime;

use super::home::{CLIENT_ACCESS_KEY, Home, read_secret};
use crate::cli::init::names;
use crate::net::body::collect_bounded;
use crate::net::client::{ClientSettings, HttpClient};
use crate::net::tls::{ClientTls, client_config};
use crate::s3::sigv4::{Credentials, PayloadHash, SigningTarget, sign, uri_encode_path};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an answer.
const ANSWER_MAX: usize = 1 << 20;

/// An S3 client of the proxy.
pub(super) struct Application {
    http: HttpClient<Full<Bytes>>,
    address: SocketAddr,
    credentials: Credentials,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Application {
    /// Of the proxy at `address`, with the certificates and secrets of `home`.
    pub(super) fn new(address: SocketAddr, home: &Home) -> Result<Self> {
        let tls = client_config(&ClientTls { ca_file: Some(home.path(names::CA)), identity: None })?;
        let secret = read_secret(&home.path(names::CLIENT_SECRET))?;
        let credentials =
            Credentials { access_key: CLIENT_ACCESS_KEY.to_owned(), secret: secret.into(), session_token: None };
        Ok(Self { http: HttpClient::new(tls, &ClientSettings::default()), address, credentials })
    }

    /// Makes a bucket; one that is there already is as good.
    pub(super) async fn make_bucket(&self, bucket: &str) -> Result<()> {
        let answer = self.send(Method::PUT, &format!("/{bucket}"), HeaderMap::new(), Bytes::new()).await?;
        let there = answer.status == StatusCode::CONFLICT;
        if answer.status.is_success() || there { Ok(()) } else { refused("make a bucket", &answer) }
    }

    pub(super) async fn put(&self, path: &str, headers: &[(&'static str, &str)], body: Bytes) -> Result<()> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        }
        let answer = self.send(Method::PUT, path, map, body).await?;
        if answer.status.is_success() { Ok(()) } else { refused("store the sample", &answer) }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer> {
        let answer = self.send(Method::GET, path, HeaderMap::new(), Bytes::new()).await?;
        if answer.status.is_success() { Ok(answer) } else { refused("read the sample", &answer) }
    }

    async fn send(&self, method: Method, path: &str, mut headers: HeaderMap, body: Bytes) -> Result<Answer> {
        let path = uri_encode_path(path.as_bytes());
        headers.insert(HOST, HeaderValue::from_str(&self.address.to_string())?);
        let target = SigningTarget { method: method.as_str(), raw_path: &path, raw_query: None };
        let now = OffsetDateTime::now_utc();
        sign(&self.credentials, "us-east-1", now, &target, &mut headers, PayloadHash::of(&body))?;
        headers.insert(CONTENT_LENGTH, body.len().into());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("https://{}{path}", self.address).parse()?;
        *request.headers_mut() = headers;
        let response = self.http.request(request, ANSWER_TIMEOUT).await.context("the proxy does not answer")?;
        let (parts, body) = response.into_parts();
        let body = collect_bounded(body, ANSWER_MAX).await.context("the proxy's answer broke off")?;
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

fn refused<T>(what: &str, answer: &Answer) -> Result<T> {
    bail!("the proxy refuses to {what}: {}\n{}", answer.status, String::from_utf8_lossy(&answer.body))
}
