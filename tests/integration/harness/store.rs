//! A storage server in memory: what its operator sees, and what its operator can do to it.
//!
//! It is as careless as real ones are: query parameters that it does not know are ignored, so that `PUT key?new-thing`
//! stores an object and `GET key?acl` answers with one. Signatures it does verify.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use claviger::s3::sigv4::{Presented, RequestView, VerifySettings};
use claviger::secret::SecretBytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::STATE;
use super::reply::{Reply, ReplyBody};

mod copies;
mod lies;
mod multipart;
mod objects;
mod spool;
mod versions;

use lies::{Quirks, Traffic};
pub(crate) use multipart::{Piece, Uploading};
pub(crate) use objects::etag_of;

pub(crate) const ACCESS_KEY: &str = "STOREKEY";
pub(crate) const SECRET: &str = "the secret that the proxy has for the storage server";
/// Objects of this bucket are kept in files, so that they do not count as memory.
pub(crate) const SPOOL: &str = "spool";

/// A request as the server sees it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) query: Vec<(String, Option<String>)>,
    pub(crate) headers: HeaderMap,
}

impl Seen {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.query.iter().any(|(known, _)| known == name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name)?.1.as_deref()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn is(&self, method: Method, key: &str) -> bool {
        self.method == method && self.key == key && self.bucket != STATE
    }
}

/// A stored object.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) body: Bytes,
    /// User metadata and content headers.
    pub(crate) headers: HeaderMap,
    /// Without quotes.
    pub(crate) etag: String,
    pub(crate) modified: SystemTime,
    pub(crate) spooled: Option<Arc<NamedTempFile>>,
    /// In buckets with versions.
    pub(crate) version: Option<String>,
}

impl Stored {
    pub(crate) fn envelope(&self) -> &str {
        self.headers.get("x-amz-meta-claviger").and_then(|text| text.to_str().ok()).expect("it has an envelope")
    }
}

pub(crate) type Buckets = BTreeMap<String, BTreeMap<String, Stored>>;

/// What is done in place of serving a request.
pub(crate) enum Instead {
    /// This answer, without reading the body.
    Answer(Reply),
    /// Nothing: the connection closes.
    HangUp,
    /// The connection closes after so many bytes of the body.
    HangUpAfter(usize),
    /// The body is read, it is served, and nobody is told: the connection closes.
    HangUpAfterServing,
    /// It is served after a pause.
    Pause(Duration),
}

type Before = Arc<dyn Fn(&Seen) -> Option<Instead> + Send + Sync>;
type Everybody = Arc<dyn Fn(&Seen) -> bool + Send + Sync>;
type After = Arc<dyn Fn(&Seen, &mut Reply) + Send + Sync>;
type AtCompletion = Arc<dyn Fn(&Uploading, &mut Vec<Piece>) + Send + Sync>;

#[derive(Default)]
struct Inner {
    buckets: Mutex<Buckets>,
    log: Mutex<Vec<Seen>>,
    before: Mutex<Option<Before>>,
    after: Mutex<Option<After>>,
    everybody: Mutex<Option<Everybody>>,
    garbage: Mutex<Option<Bytes>>,
    at_completion: Mutex<Option<AtCompletion>>,
    /// By upload id. Locked after `buckets`.
    uploads: Mutex<BTreeMap<String, Uploading>>,
    /// By bucket and key, of buckets with versions. Locked after `buckets`.
    history: Mutex<versions::History>,
    quirks: Mutex<Quirks>,
    traffic: Mutex<Traffic>,
    broken_uploads: AtomicUsize,
    etags: AtomicUsize,
}

/// The server. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let store = Self { address: listener.local_addr().expect("bound"), inner: Arc::default() };
        let serving = store.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().connection(stream));
            }
        });
        store
    }

    pub(crate) fn create(&self, bucket: &str) {
        lock(&self.inner.buckets).entry(bucket.to_owned()).or_default();
    }

    /// Everything that the operator sees and can change.
    pub(crate) fn buckets(&self) -> MutexGuard<'_, Buckets> {
        lock(&self.inner.buckets)
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> Option<Stored> {
        self.buckets().get(bucket)?.get(key).cloned()
    }

    /// Changes an object behind everybody's back; its ETag stays unless `change` says otherwise.
    pub(crate) fn tamper(&self, bucket: &str, key: &str, change: impl FnOnce(&mut Stored)) {
        change(self.buckets().get_mut(bucket).and_then(|bucket| bucket.get_mut(key)).expect("the object is there"));
    }

    /// Puts an object there without the proxy.
    pub(crate) fn plant(&self, bucket: &str, key: &str, stored: Stored) {
        self.buckets().entry(bucket.to_owned()).or_default().insert(key.to_owned(), stored);
    }

    /// The keys in a bucket.
    pub(crate) fn keys(&self, bucket: &str) -> Vec<String> {
        self.buckets().get(bucket).map(|bucket| bucket.keys().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn before(&self, rule: impl Fn(&Seen) -> Option<Instead> + Send + Sync + 'static) {
        *lock(&self.inner.before) = Some(Arc::new(rule));
    }

    pub(crate) fn after(&self, rule: impl Fn(&Seen, &mut Reply) + Send + Sync + 'static) {
        *lock(&self.inner.after) = Some(Arc::new(rule));
    }

    /// What everybody may, without a signature: as a bucket's policy or ACL would say it.
    pub(crate) fn everybody_may(&self, rule: impl Fn(&Seen) -> bool + Send + Sync + 'static) {
        *lock(&self.inner.everybody) = Some(Arc::new(rule));
    }

    /// New connections get these bytes for an answer. (Open ones are for the proxy not to keep: see `Setup::pooled`.)
    pub(crate) fn garbage(&self, bytes: &'static [u8]) {
        *lock(&self.inner.garbage) = Some(Bytes::from_static(bytes));
    }

    /// Honest again.
    pub(crate) fn honest(&self) {
        *lock(&self.inner.before) = None;
        *lock(&self.inner.after) = None;
        *lock(&self.inner.garbage) = None;
        *lock(&self.inner.at_completion) = None;
    }

    /// The requests since the last call that were not about the state bucket.
    pub(crate) fn take_log(&self) -> Vec<Seen> {
        std::mem::take(&mut *lock(&self.inner.log)).into_iter().filter(|seen| seen.bucket != STATE).collect()
    }

    /// All requests since the last call.
    pub(crate) fn take_whole_log(&self) -> Vec<Seen> {
        std::mem::take(&mut *lock(&self.inner.log))
    }

    /// Uploads that ended before their end.
    pub(crate) fn broken_uploads(&self) -> usize {
        self.inner.broken_uploads.load(Ordering::SeqCst)
    }

    async fn connection(self, mut stream: TcpStream) {
        stream.set_nodelay(true).expect("a socket");
        let garbage = lock(&self.inner.garbage).clone();
        if let Some(garbage) = garbage {
            let mut head = [0; 64 << 10];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(&garbage).await;
            // A reset could overtake the bytes.
            let _ = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut head)).await;
            return;
        }
        let service = service_fn(|request| self.clone().serve(request));
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Response<ReplyBody>, std::io::Error> {
        let hang_up = || std::io::Error::other("hung up on purpose");
        let (parts, body) = request.into_parts();
        let seen = seen(&parts);
        lock(&self.inner.log).push(seen.clone());
        let signed = is_signed(&parts);
        let before = lock(&self.inner.before).clone();
        let instead = before.and_then(|rule| rule(&seen));
        let mut silent = false;
        match instead {
            None => {}
            Some(Instead::Answer(reply)) => return Ok(reply.into_response(&seen.method)),
            Some(Instead::HangUp) => return Err(hang_up()),
            Some(Instead::HangUpAfter(limit)) => {
                read_some(body, limit).await;
                return Err(hang_up());
            }
            Some(Instead::HangUpAfterServing) => silent = true,
            Some(Instead::Pause(pause)) => tokio::time::sleep(pause).await,
        }
        let everybody = lock(&self.inner.everybody).clone();
        let nobody = !seen.headers.contains_key("authorization");
        if nobody && !everybody.is_some_and(|rule| rule(&seen)) {
            return Ok(Reply::error(403, "AccessDenied").into_response(&seen.method));
        }
        if !signed && !nobody {
            return Ok(Reply::error(403, "SignatureDoesNotMatch").into_response(&seen.method));
        }
        let mut reply =
            if seen.bucket == SPOOL && seen.method == Method::PUT && !seen.key.is_empty() && !seen.has("uploadId") {
                self.put_spooled(&seen, body).await?
            } else {
                let body = match body.collect().await {
                    Ok(body) => body.to_bytes(),
                    Err(error) => {
                        self.inner.broken_uploads.fetch_add(1, Ordering::SeqCst);
                        return Err(std::io::Error::other(error));
                    }
                };
                self.count(&seen, |traffic| traffic.received += body.len());
                let mut asked = seen.clone();
                let page = self.quirks().page.filter(|_| seen.key.is_empty() && !seen.has("max-keys"));
                asked.query.extend(page.map(|page| ("max-keys".to_owned(), Some(page.to_string()))));
                self.answer(&asked, body)
            };
        if silent {
            return Err(hang_up());
        }
        let after = lock(&self.inner.after).clone();
        if let Some(rule) = after {
            rule(&seen, &mut reply);
        }
        if seen.method != Method::HEAD {
            self.count(&seen, |traffic| traffic.sent += reply.body.len());
        }
        Ok(reply.into_response(&seen.method))
    }

    fn new_etag(&self) -> String {
        format!("{:x}-spooled", self.next_number())
    }

    /// Another one each time.
    fn next_number(&self) -> usize {
        self.inner.etags.fetch_add(1, Ordering::SeqCst)
    }
}

async fn read_some(mut body: Incoming, limit: usize) {
    let mut taken = 0;
    while taken < limit {
        let Some(Ok(frame)) = body.frame().await else { return };
        taken += frame.data_ref().map_or(0, Bytes::len);
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().expect("the proxy sends UTF-8").into_owned()
}

fn seen(parts: &http::request::Parts) -> Seen {
    let path = parts.uri.path().trim_start_matches('/');
    let (bucket, key) = parts.uri.path()[1..].split_once('/').unwrap_or((path, ""));
    let query = parts.uri.query().unwrap_or_default().split('&').filter(|piece| !piece.is_empty());
    let query = query.map(|piece| match piece.split_once('=') {
        Some((name, value)) => (decoded(name), Some(decoded(value))),
        None => (decoded(piece), None),
    });
    let headers = parts.headers.clone();
    Seen { method: parts.method.clone(), bucket: decoded(bucket), key: decoded(key), query: query.collect(), headers }
}

/// Only the proxy knows the secret.
fn is_signed(parts: &http::request::Parts) -> bool {
    let view = RequestView::of(parts);
    let Ok(Some(presented)) = Presented::parse(&view) else { return false };
    let secret = SecretBytes::new(SECRET.into()).expect("not empty");
    let proof = presented.verify(&view, &secret.into(), time::OffsetDateTime::now_utc(), &VerifySettings::default());
    presented.access_key() == ACCESS_KEY && proof.is_ok()
}
