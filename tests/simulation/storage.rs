//! The storage server: S3 in memory, as far as records take it, with all that its operator can do to them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use claviger::net::network::Accept as _;
use claviger::s3::sigv4::{Presented, RequestView, VerifySettings};
use claviger::secret::SecretBytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use md5::{Digest as _, Md5};
use time::OffsetDateTime;

use crate::network::HostNet;
use crate::random::Random;
use crate::trace::Trace;
use crate::{STATE, lock};

pub(crate) const ACCESS_KEY: &str = "STOREKEY";
pub(crate) const SECRET: &str = "the secret that the proxies have for the storage server";

type Answer = Response<Full<Bytes>>;

/// A stored object.
#[derive(Clone)]
pub(crate) struct Stored {
    body: Bytes,
    headers: HeaderMap,
    etag: String,
}

/// How often, in a hundred requests, it fails, and by how much its clock is ahead of each host's.
#[derive(Default)]
pub(crate) struct Manners {
    /// It is carried out, and the connection closes.
    pub(crate) silent: u64,
    /// It is not carried out.
    pub(crate) failing: u64,
    /// It takes up to 2 s.
    pub(crate) slow: u64,
    pub(crate) ahead: BTreeMap<u8, i64>,
}

struct Inner {
    /// By bucket and key, the newest last; `None`: deleted.
    objects: BTreeMap<(String, String), Vec<Option<Stored>>>,
    manners: Manners,
    random: Random,
}

/// The server. What it keeps survives everything.
#[derive(Clone)]
pub(crate) struct Storage {
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    answer
}

fn error(status: u16, code: &str) -> Answer {
    answer(status, format!("<Error><Code>{code}</Code><Message>the storage server says {code}</Message></Error>"))
}

impl Storage {
    pub(crate) fn new(random: Random, trace: Trace) -> Self {
        let inner = Inner { objects: BTreeMap::new(), manners: Manners::default(), random };
        Self { inner: Arc::new(Mutex::new(inner)), trace }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    pub(crate) fn manners(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.lock().manners);
    }

    /// Flips a bit of what is there, in its body or its envelope. Whether there is anything.
    pub(crate) fn damage(&self, bucket: &str, key: &str, place: u64) -> bool {
        let mut inner = self.lock();
        let Some(Some(stored)) = inner.objects.get_mut(&named(bucket, key)).and_then(|all| all.last_mut()) else {
            return false;
        };
        let mut body = stored.body.to_vec();
        let at = usize::try_from(place % body.len().max(1) as u64).expect("an index");
        let Some(byte) = body.get_mut(at) else { return false };
        *byte ^= 1 << (place % 8);
        stored.body = body.into();
        true
    }

    /// Puts an older state of the key in place. Whether there is one.
    pub(crate) fn put_back(&self, bucket: &str, key: &str) -> bool {
        let mut inner = self.lock();
        let Some(all) = inner.objects.get_mut(&named(bucket, key)) else { return false };
        let Some(older) = all.iter().rev().skip(1).find(|stored| stored.is_some()).cloned() else { return false };
        all.push(older);
        true
    }

    /// Puts what is under one key in the place of another.
    pub(crate) fn move_over(&self, bucket: &str, from: &str, to: &str) -> bool {
        let mut inner = self.lock();
        let Some(Some(stored)) = inner.objects.get(&named(bucket, from)).and_then(|all| all.last()).cloned() else {
            return false;
        };
        inner.objects.entry(named(bucket, to)).or_default().push(Some(stored));
        true
    }

    /// A storage server that answers with something else than what was stored, for a check that has to see it.
    pub(crate) fn forget_writes(&self, bucket: &str, key: &str) {
        self.lock().objects.remove(&named(bucket, key));
    }

    pub(crate) async fn serve(self, net: HostNet) {
        let mut listener = net.listen();
        while let Ok((stream, peer)) = listener.accept().await {
            let storage = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| storage.clone().request(request, peer));
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn request(self, request: Request<Incoming>, peer: SocketAddr) -> io::Result<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let IpAddr::V4(address) = peer.ip() else { return Err(io::ErrorKind::AddrNotAvailable.into()) };
        let [.., host] = address.octets();
        let (silent, failing, pause, ahead) = {
            let mut inner = self.lock();
            let Inner { manners, random, .. } = &mut *inner;
            let (silent, failing) = (random.percent(manners.silent), random.percent(manners.failing));
            let pause = random.percent(manners.slow).then(|| random.millis(100..2000));
            (silent, failing, pause, manners.ahead.get(&host).copied().unwrap_or_default())
        };
        tokio::time::sleep(pause.unwrap_or(Duration::ZERO)).await;
        let answer = match () {
            () if failing => error(503, "SlowDown"),
            () if !is_signed(&parts, ahead) => error(403, "RequestTimeTooSkewed"),
            () => self.carry_out(&parts, body),
        };
        // Names in the state bucket are random.
        let (bucket, key) = place(&parts);
        let key = if bucket == STATE { "-" } else { &key };
        let told = if silent { "not told" } else { "told" };
        self.trace.note(format!("storage: {} {bucket}/{key}: {} ({told})", parts.method, answer.status().as_u16()));
        if silent { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(answer) }
    }

    fn carry_out(&self, parts: &Parts, body: Bytes) -> Answer {
        let (bucket, key) = place(parts);
        let query = parts.uri.query().unwrap_or_default();
        let mut inner = self.lock();
        match (&parts.method, key.is_empty()) {
            (&Method::PUT, true) => answer(200, ""),
            (&Method::GET, true) => list(&inner.objects, &bucket, query),
            (_, true) => error(405, "MethodNotAllowed"),
            (&Method::PUT, false) => {
                let all = inner.objects.entry((bucket, key)).or_default();
                if parts.headers.contains_key("if-none-match") && all.last().is_some_and(Option::is_some) {
                    return error(412, "PreconditionFailed");
                }
                let kept = |name: &str| name.starts_with("x-amz-meta-") || name == "content-type";
                let headers = parts.headers.iter().filter(|(name, _)| kept(name.as_str()));
                let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
                let etag: String = Md5::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
                let mut told = answer(200, "");
                told.headers_mut().insert("etag", text(&format!("\"{etag}\"")));
                all.push(Some(Stored { body, headers, etag }));
                told
            }
            (&Method::DELETE, false) => {
                if let Some(all) = inner.objects.get_mut(&(bucket, key)) {
                    all.push(None);
                }
                answer(204, "")
            }
            _ => match inner.objects.get(&(bucket, key)).and_then(|all| all.last()) {
                Some(Some(stored)) => read(parts, stored),
                _ => error(404, "NoSuchKey"),
            },
        }
    }
}

fn named(bucket: &str, key: &str) -> (String, String) {
    (bucket.to_owned(), key.to_owned())
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("ASCII")
}

fn place(parts: &Parts) -> (String, String) {
    let path = percent_encoding::percent_decode_str(&parts.uri.path()[1..]).decode_utf8_lossy().into_owned();
    let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
    named(bucket, key)
}

fn read(parts: &Parts, stored: &Stored) -> Answer {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let etag = format!("\"{}\"", stored.etag);
    if header("if-match").is_some_and(|asked| asked != etag) {
        return error(412, "PreconditionFailed");
    }
    let size = stored.body.len();
    let range = header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let mut told = match range {
        None => answer(200, stored.body.clone()),
        Some((first, last)) => {
            let span = match (first.parse::<usize>(), last.parse::<usize>()) {
                (Ok(first), last) => (first, last.map_or(size, |last| size.min(last + 1))),
                (Err(_), Ok(count)) => (size.saturating_sub(count), size),
                (Err(_), Err(_)) => return error(400, "InvalidArgument"),
            };
            if span.0 >= span.1 {
                return error(416, "InvalidRange");
            }
            let mut part = answer(206, stored.body.slice(span.0..span.1));
            let said = format!("bytes {}-{}/{size}", span.0, span.1 - 1);
            part.headers_mut().insert("content-range", text(&said));
            part
        }
    };
    let headers = told.headers_mut();
    headers.extend(stored.headers.clone());
    headers.insert("etag", text(&etag));
    headers.insert("last-modified", text("Mon, 01 Jun 2026 00:00:00 GMT"));
    if parts.method == Method::HEAD {
        headers.insert("content-length", size.into());
        *told.body_mut() = Full::default();
    }
    told
}

fn list(objects: &BTreeMap<(String, String), Vec<Option<Stored>>>, bucket: &str, query: &str) -> Answer {
    let prefix = query.split('&').find_map(|pair| pair.strip_prefix("prefix=")).unwrap_or_default();
    let prefix = percent_encoding::percent_decode_str(prefix).decode_utf8_lossy().into_owned();
    let mut xml = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
    for ((of, key), all) in objects {
        if of == bucket && key.starts_with(&prefix) && all.last().is_some_and(Option::is_some) {
            xml.push_str(&format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>"));
        }
    }
    answer(200, xml + "</ListBucketResult>")
}

/// Whether a proxy signed it, by a clock that is so many seconds behind ours.
fn is_signed(parts: &Parts, ahead_s: i64) -> bool {
    let view = RequestView::of(parts);
    let Ok(Some(presented)) = Presented::parse(&view) else { return false };
    let secret = SecretBytes::new(SECRET.into()).expect("not empty");
    let now = OffsetDateTime::now_utc() + time::Duration::seconds(ahead_s);
    presented.access_key() == ACCESS_KEY
        && presented.verify(&view, &secret.into(), now, &VerifySettings::default()).is_ok()
}
