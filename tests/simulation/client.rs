//! An application: one request at a time, signed by a clock of its own.

use std::time::Duration;

use bytes::Bytes;
use claviger::net::client::{ClientSettings, HttpClient};
use claviger::net::network::ClientNetwork;
use claviger::net::tls::{ClientTls, client_config};
use claviger::s3::sigv4::{Credentials, PayloadHash, SigningTarget, sign};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full};
use time::OffsetDateTime;
use tokio::time::timeout;

use crate::proxy::secret_of;

/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of the proxies.
#[derive(Clone)]
pub(crate) struct S3 {
    http: HttpClient<Full<Bytes>>,
    pub(crate) principal: &'static str,
}

/// A whole answer. Without one there is none.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

/// A request, and by how many seconds the clock that signs it is ahead.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) proxy: &'a str,
    pub(crate) key: &'a str,
    pub(crate) body: Bytes,
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) ahead_s: i64,
}

impl S3 {
    pub(crate) fn new(principal: &'static str, network: ClientNetwork) -> Self {
        let settings = ClientSettings { network, ..ClientSettings::default() };
        Self { http: HttpClient::new(client_config(&ClientTls::default()).expect("no files"), &settings), principal }
    }

    pub(crate) async fn send(&self, ask: Ask<'_>) -> Option<Answer> {
        let path = format!("/{}/{}", crate::BUCKET, ask.key);
        let mut headers = HeaderMap::new();
        let text = |value: &str| HeaderValue::from_str(value).expect("ASCII");
        headers.insert("host", text(ask.proxy));
        if let Some((first, last)) = ask.range {
            headers.insert("range", text(&format!("bytes={first}-{last}")));
        }
        let credentials = Credentials {
            access_key: self.principal.to_ascii_uppercase(),
            secret: secret_of(self.principal).into(),
            session_token: None,
        };
        let target = SigningTarget { method: ask.method.as_str(), raw_path: &path, raw_query: None };
        let now = OffsetDateTime::now_utc() + time::Duration::seconds(ask.ahead_s);
        sign(&credentials, "us-east-1", now, &target, &mut headers, PayloadHash::of(&ask.body)).expect("signs");
        if ask.method == Method::PUT {
            headers.insert("content-length", ask.body.len().into());
        }
        let mut request = Request::new(Full::new(ask.body));
        *request.uri_mut() = format!("http://{}{path}", ask.proxy).parse().expect("a URI");
        *request.method_mut() = ask.method;
        *request.headers_mut() = headers;
        let asked = async {
            let (head, body) = self.http.request(request, PATIENCE).await.ok()?.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            Some(Answer { status: head.status.as_u16(), body })
        };
        timeout(PATIENCE, asked).await.ok().flatten()
    }
}
