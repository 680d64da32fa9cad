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
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use time::OffsetDateTime;

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
    /// Operations in all.
    #[arg(long)]
    count: u64,
    /// Operations at a time.
    #[arg(long, default_value_t = 1)]
    connections: u64,
}

struct Load {
    client: HttpClient<Full<Bytes>>,
    credentials: Credentials,
    options: Options,
    next: AtomicU64,
    body: Bytes,
}

impl Load {
    async fn one(&self, index: u64) -> anyhow::Result<()> {
        let path = format!("/{}/load/{}/{}", self.options.bucket, self.options.size, index % 64);
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
        let response = self.client.request(request, Duration::from_secs(60)).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        ensure!(status.is_success(), "{status}");
        ensure!(self.options.operation == Operation::Put || length == self.options.size, "{length} bytes");
        Ok(())
    }

    async fn work(&self) -> anyhow::Result<Vec<Duration>> {
        let mut taken = Vec::new();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.options.count {
                return Ok(taken);
            }
            let begun = Instant::now();
            self.one(index).await.with_context(|| format!("operation {index}"))?;
            taken.push(begun.elapsed());
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let secret = SecretBytes::new(variable("AWS_SECRET_ACCESS_KEY")?.into_bytes())?;
    let credentials = Credentials { access_key: variable("AWS_ACCESS_KEY_ID")?, secret, session_token: None };
    let tls = client_config(&ClientTls { ca_file: options.ca.clone(), identity: None })?;
    let client = HttpClient::new(tls, &ClientSettings { pool_max_idle_per_host: 4096, ..ClientSettings::default() });
    let body: Bytes = (0..options.size).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect::<Vec<_>>().into();
    let load = Arc::new(Load { client, credentials, options, next: AtomicU64::new(0), body });
    let begun = Instant::now();
    let workers: Vec<_> = (0..load.options.connections)
        .map(|_| {
            let load = Arc::clone(&load);
            tokio::spawn(async move { load.work().await })
        })
        .collect();
    let mut taken = Vec::new();
    for worker in workers {
        taken.extend(worker.await??);
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
    });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
