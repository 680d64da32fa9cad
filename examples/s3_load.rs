//! A small S3 load generator for `benches/end-to-end`: PUTs or GETs of one size, on some connections, and how long
//! they took. It runs against anything that speaks S3, so that proxies and bare servers are measured alike.
//!
//! Access key and secret come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`).

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use claviger::net::client::{ClientSettings, HttpClient};
use claviger::net::tls::{ClientTls, client_config};
use claviger::s3::sigv4::{Credentials, PayloadHash, SigningTarget, sign};
use claviger::secret::SecretBytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use time::OffsetDateTime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// No connection is closed for being idle.
const HELD: Duration = Duration::from_secs(3600);
/// An answer of 503 asks for another attempt, as of any client.
const RETRIES: u32 = 5;
/// Before the first of them; the next ones wait longer.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Operation {
    Put,
    Get,
}

/// PUTs or GETs objects and prints one JSON line.
#[derive(Parser)]
struct Options {
    /// Where, such as https://127.0.0.1:9443
    #[arg(long)]
    url: String,
    /// Whom to trust (PEM).
    #[arg(long)]
    ca: Option<PathBuf>,
    /// The bucket; it must exist.
    #[arg(long)]
    bucket: String,
    /// What to do.
    #[arg(long)]
    operation: Operation,
    /// Bytes of each object.
    #[arg(long)]
    size: usize,
    /// Operations in all; or else --seconds.
    #[arg(long, required_unless_present = "seconds")]
    count: Option<u64>,
    /// How long, once each connection has done one operation that is not counted.
    #[arg(long, conflicts_with = "count")]
    seconds: Option<f64>,
    /// Keep the connections, each of which has done one operation that is not counted, for so long at the end, doing nothing.
    #[arg(long, default_value_t = 0.0)]
    hold: f64,
    /// Operations at a time.
    #[arg(long, default_value_t = 1)]
    connections: u64,
    /// So many names, which the requests go round
    #[arg(long, default_value_t = 64)]
    names: u64,
    /// How far one request's name is from the next one's.
    #[arg(long, default_value_t = 1)]
    stride: u64,
}

struct Load {
    /// One for each connection: of connections that are shared, some would be made and never used.
    clients: Vec<HttpClient<Full<Bytes>>>,
    credentials: Credentials,
    options: Options,
    next: AtomicU64,
    retried: AtomicU64,
    body: Bytes,
    ready: Barrier,
}

impl Load {
    async fn one(&self, client: &HttpClient<Full<Bytes>>, index: u64, tried: u32) -> anyhow::Result<()> {
        let path = format!(
            "/{}/load/{}/{}",
            self.options.bucket,
            self.options.size,
            index.wrapping_mul(self.options.stride) % self.options.names.max(1)
        );
        let (method, body) = match self.options.operation {
            Operation::Put => (Method::PUT, self.body.clone()),
            Operation::Get => (Method::GET, Bytes::new()),
        };
        let authority = self.options.url.split("://").nth(1).context("the URL has no scheme")?;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(authority)?);
        if method == Method::PUT {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let target = SigningTarget { method: method.as_str(), raw_path: &path, raw_query: None };
        sign(&self.credentials, "us-east-1", OffsetDateTime::now_utc(), &target, &mut headers, PayloadHash::Unsigned)?;
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.options.url)).body(Full::new(body))?;
        *request.headers_mut() = headers;
        let response = client.request(request, Duration::from_secs(60)).await?;
        let status = response.status();
        if status == StatusCode::SERVICE_UNAVAILABLE && tried < RETRIES {
            self.retried.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(RETRY_PAUSE * (tried + 1)).await;
            return Box::pin(self.one(client, index, tried + 1)).await;
        }
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        ensure!(status.is_success(), "{status}");
        ensure!(self.options.operation == Operation::Put || length == self.options.size, "{length} bytes");
        Ok(())
    }

    async fn work(&self, number: u64) -> anyhow::Result<Vec<Duration>> {
        let (mut taken, client) = (Vec::new(), &self.clients[usize::try_from(number)?]);
        if self.options.seconds.is_some() || self.options.hold > 0.0 {
            self.one(client, number, 0).await.context("the first operation")?;
        }
        self.ready.wait().await;
        let end = self.options.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if end.is_some_and(|end| end <= Instant::now()) || self.options.count.is_some_and(|count| index >= count) {
                return Ok(taken);
            }
            let begun = Instant::now();
            self.one(client, index, 0).await.with_context(|| format!("operation {index}"))?;
            taken.push(begun.elapsed());
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let secret = SecretBytes::new(variable("AWS_SECRET_ACCESS_KEY")?.into_bytes())?;
    let credentials =
        Credentials { access_key: variable("AWS_ACCESS_KEY_ID")?, secret: secret.into(), session_token: None };
    let tls = client_config(&ClientTls { ca_file: options.ca.clone(), identity: None })?;
    let settings = ClientSettings { pool_idle_timeout: HELD, ..ClientSettings::default() };
    let clients = (0..options.connections).map(|_| HttpClient::new(tls.clone(), &settings)).collect();
    let body: Bytes = (0..options.size).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect::<Vec<_>>().into();
    // Whoever waits for all to be ready is one more.
    let ready = Barrier::new(usize::try_from(options.connections)? + 1);
    let load = Arc::new(Load {
        clients,
        credentials,
        options,
        next: AtomicU64::new(0),
        retried: AtomicU64::new(0),
        body,
        ready,
    });
    let mut workers: JoinSet<_> = (0..load.options.connections)
        .map(|number| {
            let load = Arc::clone(&load);
            async move { load.work(number).await }
        })
        .collect();
    tokio::select! {
        biased;
        _ = load.ready.wait() => {}
        // Nobody ends well before all are ready.
        Some(ended) = workers.join_next() => { ended??; }
    }
    let begun = Instant::now();
    let mut taken = Vec::new();
    while let Some(worker) = workers.join_next().await {
        taken.extend(worker??);
    }
    let elapsed = begun.elapsed();
    taken.sort();
    let quantile =
        |permille: usize| taken.get(taken.len().saturating_sub(1) * permille / 1000).map_or(0, Duration::as_micros);
    let report = serde_json::json!({
        "operations": taken.len(),
        "seconds": elapsed.as_secs_f64(),
        "p50_us": quantile(500),
        "p99_us": quantile(990),
        "p999_us": quantile(999),
        "retried": load.retried.load(Ordering::Relaxed),
    });
    writeln!(std::io::stdout(), "{report}")?;
    tokio::time::sleep(Duration::from_secs_f64(load.options.hold)).await;
    Ok(())
}
