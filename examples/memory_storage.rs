//! A storage server that keeps everything in memory, for `benches/end-to-end`: fast enough that what stands before it is
//! what is measured. It speaks as much of S3 as that takes, over plain HTTP on loopback, and checks no signature:
//! it is nobody's storage. `GET /?requests` says how many requests came to each bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use bytes::{Bytes, BytesMut};
use clap::Parser;
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// Serves S3 out of memory until it is killed.
#[derive(Parser)]
struct Options {
    /// The port of 127.0.0.1.
    #[arg(long)]
    port: u16,
}

struct Object {
    content: Bytes,
    kept: HeaderMap,
}

type Objects = BTreeMap<String, Arc<Object>>;

/// Parts that came so far, by number.
struct Upload {
    headers: HeaderMap,
    parts: BTreeMap<u32, Bytes>,
}

#[derive(Default)]
struct Storage {
    uploads: RwLock<BTreeMap<String, Upload>>,
    buckets: RwLock<BTreeMap<String, Objects>>,
    /// Requests so far, by bucket.
    requests: RwLock<BTreeMap<String, u64>>,
    stored: AtomicU64,
}

type Answer = Response<Full<Bytes>>;

fn answer(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

fn error(status: StatusCode, code: &str) -> Answer {
    answer(
        status,
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>"
        ),
    )
}

/// The bytes that a range asks for: from the first to before the second. `None` if there are none.
fn wanted(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (begin, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => (first, length.min(last.checked_add(1)?)),
        (Ok(first), Err(_)) => (first, length),
        (Err(_), Ok(suffix)) => (length.saturating_sub(suffix), length),
        (Err(_), Err(_)) => return None,
    };
    (begin < end).then_some((begin, end))
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn is_kept(name: &HeaderName) -> bool {
    name == CONTENT_TYPE || name.as_str().starts_with("x-amz-meta-")
}

impl Storage {
    async fn serve(&self, request: Request<Incoming>) -> Result<Answer, hyper::Error> {
        let (head, mut body) = request.into_parts();
        let length =
            head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);
        let mut content = BytesMut::with_capacity(usize::min(length, 1 << 30));
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                content.extend_from_slice(data);
            }
        }
        let path = head.uri.path().trim_start_matches('/');
        let query = head.uri.query().unwrap_or_default();
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if query != "requests" {
            *self.requests.write().expect("no panic holds it").entry(bucket.to_owned()).or_default() += 1;
        }
        let mut answer = match (&head.method, bucket, key) {
            (&Method::GET, "", _) if query == "requests" => {
                let requests = self.requests.read().expect("no panic holds it");
                answer(StatusCode::OK, serde_json::to_vec(&*requests).expect("numbers by name"))
            }
            (&Method::GET, "", _) => self.list_buckets(),
            (&Method::PUT, _, "") => {
                self.buckets.write().expect("no panic holds it").entry(bucket.to_owned()).or_default();
                answer(StatusCode::OK, "")
            }
            (&Method::GET, _, "") if query.contains("location") => {
                answer(StatusCode::OK, "<LocationConstraint>us-east-1</LocationConstraint>")
            }
            (&Method::GET, _, "") => self.list(bucket, query),
            (&Method::HEAD, _, "") if self.has(bucket) => answer(StatusCode::OK, ""),
            (&Method::PUT, _, _) if query.contains("uploadId=") => self.put_part(query, content.freeze()),
            (&Method::POST, _, _) if query.contains("uploadId=") => self.complete(bucket, key, query),
            (&Method::POST, _, _) if query.contains("uploads") => self.begin(bucket, key, &head.headers),
            (&Method::PUT, _, _) => self.put(bucket, key, &head.headers, content.freeze()),
            (&Method::GET | &Method::HEAD, _, _) => self.get(bucket, key, &head.headers, head.method == Method::HEAD),
            (&Method::DELETE, _, _) => {
                if let Some(objects) = self.buckets.write().expect("no panic holds it").get_mut(bucket) {
                    objects.remove(key);
                }
                answer(StatusCode::NO_CONTENT, "")
            }
            _ => error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        };
        answer.headers_mut().insert("x-amz-request-id", HeaderValue::from_static("memory"));
        Ok(answer)
    }

    fn has(&self, bucket: &str) -> bool {
        self.buckets.read().expect("no panic holds it").contains_key(bucket)
    }

    fn put(&self, bucket: &str, key: &str, headers: &HeaderMap, content: Bytes) -> Answer {
        let mut kept: HeaderMap = headers
            .iter()
            .filter(|(name, _)| is_kept(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        // As of an upload in parts, so that nobody takes it for an MD5.
        let etag = format!("\"{:032x}-1\"", self.stored.fetch_add(1, Ordering::Relaxed));
        kept.insert(ETAG, HeaderValue::from_str(&etag).expect("digits"));
        kept.insert(
            LAST_MODIFIED,
            HeaderValue::from_str(&httpdate::fmt_http_date(std::time::SystemTime::now())).expect("a date"),
        );
        let stored = Arc::new(Object { content, kept });
        let mut buckets = self.buckets.write().expect("no panic holds it");
        let Some(objects) = buckets.get_mut(bucket) else { return error(StatusCode::NOT_FOUND, "NoSuchBucket") };
        if headers.contains_key(IF_NONE_MATCH) && objects.contains_key(key) {
            return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
        }
        objects.insert(key.to_owned(), stored);
        drop(buckets);
        let mut answer = answer(StatusCode::OK, "");
        answer.headers_mut().insert(ETAG, HeaderValue::from_str(&etag).expect("digits"));
        answer
    }

    fn begin(&self, bucket: &str, key: &str, headers: &HeaderMap) -> Answer {
        let id = format!("upload-{}", self.stored.fetch_add(1, Ordering::Relaxed));
        let upload = Upload { headers: headers.clone(), parts: BTreeMap::new() };
        self.uploads.write().expect("no panic holds it").insert(id.clone(), upload);
        let begun = format!(
            "<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        answer(StatusCode::OK, begun)
    }

    fn put_part(&self, query: &str, content: Bytes) -> Answer {
        let mut uploads = self.uploads.write().expect("no panic holds it");
        let number = parameter(query, "partNumber").and_then(|number| number.parse().ok());
        let upload = parameter(query, "uploadId").and_then(|id| uploads.get_mut(id));
        let (Some(number), Some(upload)) = (number, upload) else {
            return error(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        upload.parts.insert(number, content);
        let mut answer = answer(StatusCode::OK, "");
        answer.headers_mut().insert(ETAG, HeaderValue::from_static("\"part-0\""));
        answer
    }

    /// All parts that came: the list is not looked at.
    fn complete(&self, bucket: &str, key: &str, query: &str) -> Answer {
        let upload =
            parameter(query, "uploadId").and_then(|id| self.uploads.write().expect("no panic holds it").remove(id));
        let Some(upload) = upload else { return error(StatusCode::NOT_FOUND, "NoSuchUpload") };
        let content = upload.parts.into_values().collect::<Vec<_>>().concat();
        let stored = self.put(bucket, key, &upload.headers, content.into());
        let etag = stored.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let done = format!(
            "<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        );
        answer(stored.status(), done)
    }

    fn get(&self, bucket: &str, key: &str, headers: &HeaderMap, head: bool) -> Answer {
        let found =
            self.buckets.read().expect("no panic holds it").get(bucket).and_then(|objects| objects.get(key).cloned());
        let Some(object) = found else { return error(StatusCode::NOT_FOUND, "NoSuchKey") };
        let length = object.content.len();
        let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
        let mut answer = match range.map(|range| wanted(range, length)) {
            None => answer(StatusCode::OK, if head { Bytes::new() } else { object.content.clone() }),
            Some(None) => return error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
            Some(Some((begin, end))) => {
                let mut part = answer(StatusCode::PARTIAL_CONTENT, object.content.slice(begin..end));
                let range = format!("bytes {begin}-{}/{length}", end - 1);
                part.headers_mut().insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits"));
                part
            }
        };
        answer.headers_mut().extend(object.kept.clone());
        if head {
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        answer
    }

    fn list_buckets(&self) -> Answer {
        let buckets = self.buckets.read().expect("no panic holds it");
        let mut names = String::new();
        for name in buckets.keys() {
            let _ = write!(
                names,
                "<Bucket><Name>{name}</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket>"
            );
        }
        answer(StatusCode::OK, format!("<ListAllMyBucketsResult><Buckets>{names}</Buckets></ListAllMyBucketsResult>"))
    }

    /// All keys below a prefix at once: there are few.
    fn list(&self, bucket: &str, query: &str) -> Answer {
        let prefix = parameter(query, "prefix").unwrap_or_default();
        let folders = parameter(query, "delimiter").is_some_and(|delimiter| !delimiter.is_empty());
        let prefix = percent_encoding::percent_decode_str(prefix).decode_utf8_lossy();
        let buckets = self.buckets.read().expect("no panic holds it");
        let Some(objects) = buckets.get(bucket) else { return error(StatusCode::NOT_FOUND, "NoSuchBucket") };
        let below = objects.range(prefix.clone().into_owned()..).take_while(|(key, _)| key.starts_with(&*prefix));
        let (mut entries, mut common) = (String::new(), BTreeSet::new());
        for (key, object) in below {
            let folder = key.get(prefix.len()..).and_then(|rest| rest.split_once('/'));
            if let Some((folder, _)) = folder.filter(|_| folders) {
                common.insert(format!("<CommonPrefixes><Prefix>{prefix}{folder}/</Prefix></CommonPrefixes>"));
                continue;
            }
            let etag = object.kept.get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
            let size = object.content.len();
            let _ = write!(
                entries,
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{etag}</ETag><Size>{size}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>"
            );
        }
        entries.extend(common);
        let list = format!(
            "<ListBucketResult><Name>{bucket}</Name><Prefix>{prefix}</Prefix><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        );
        answer(StatusCode::OK, list)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let storage = Arc::new(Storage::default());
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, options.port))).await?;
    writeln!(std::io::stdout(), "listening on http://127.0.0.1:{}", options.port)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let storage = Arc::clone(&storage);
        let service = service_fn(move |request| {
            let storage = Arc::clone(&storage);
            async move {
                let served = storage.serve(request).await;
                Ok::<_, Infallible>(served.unwrap_or_else(|_| error(StatusCode::BAD_REQUEST, "IncompleteBody")))
            }
        });
        tokio::spawn(async move {
            // A client that goes away is no matter.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
