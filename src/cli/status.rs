//! `claviger status`: how proxies and custodians are, from their metrics, and the keys, from the custodian; on a terminal, again each
//! second.

mod scrape;
mod view;

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use futures_util::future::join_all;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use serde_json::{Value, json};

#[doc(hidden)]
pub use self::scrape::fuzz_scrape;

use self::scrape::Scrape;
use self::view::{CUSTODIANS, KEYS, PROXIES, Seen, columns, custodian_row, key_row, proxy_row};
use super::custodian_client::{Client, CustodianFlags, plain};
use super::{Usage, runtime};
use crate::net::body::collect_bounded;
use crate::net::client::{ClientSettings, HttpClient};
use crate::net::tls::{ClientTls, client_config};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How long a process may take to tell.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of a scrape.
const SCRAPE_MAX: usize = 16 << 20;
/// Most keys that are shown.
const KEYS_MAX: usize = 100;
/// How often keys are counted: each count has entries in the audit log.
const KEYS_EVERY: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(super) struct Arguments {
    /// Where a proxy shows its metrics, such as http://127.0.0.1:9464/metrics; give it several times, or several with commas
    #[arg(long = "metrics-url", env = "CLAVIGER_METRICS_URL", value_name = "URL", value_delimiter = ',')]
    proxies: Vec<String>,
    /// Where a custodian shows its metrics
    #[arg(
        long = "custodian-metrics-url",
        env = "CLAVIGER_CUSTODIAN_METRICS_URL",
        value_name = "URL",
        value_delimiter = ','
    )]
    custodians: Vec<String>,
    /// Show it once and end, as where there is no terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    custodian: CustodianFlags,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let urls: Vec<Uri> =
        arguments.proxies.iter().chain(&arguments.custodians).map(|url| parse(url)).collect::<Result<_>>()?;
    if urls.is_empty() {
        let advice = "of which processes? Give --metrics-url, or set CLAVIGER_METRICS_URL";
        return Err(Usage(advice.to_owned()).into());
    }
    // Without a custodian to ask, there is nothing to say of keys.
    let client = if arguments.custodian.names_one() { Some(Client::new(&arguments.custodian)?) } else { None };
    let live = !arguments.once && !arguments.custodian.wants_json() && std::io::stdout().is_terminal();
    runtime()?.block_on(Status::new(urls, client, arguments.custodian.wants_json())?.show(live))
}

/// `http://HOST:PORT[/metrics]`.
fn parse(url: &str) -> Result<Uri> {
    let wrong =
        || Usage(format!("{url:?} is not where metrics are shown: write for example http://127.0.0.1:9464/metrics"));
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.authority().is_none() {
        return Err(wrong().into());
    }
    if uri.path() != "/" {
        return Ok(uri);
    }
    Ok(format!("{}/metrics", url.trim_end_matches('/')).parse().map_err(|_| wrong())?)
}

struct Status {
    http: HttpClient<Full<Bytes>>,
    urls: Vec<Uri>,
    client: Option<Client>,
    json: bool,
    /// What the custodian last said of its keys, and when.
    keys: Option<(Instant, Result<Vec<Value>, String>)>,
}

impl Status {
    fn new(urls: Vec<Uri>, client: Option<Client>, json: bool) -> Result<Self> {
        let tls = client_config(&ClientTls::default())?;
        let settings = ClientSettings { connect_timeout: ANSWER_TIMEOUT, ..ClientSettings::default() };
        Ok(Self { http: HttpClient::new(tls, &settings), urls, client, json, keys: None })
    }

    /// Shows it, after two looks; then again and again if it is `live`.
    async fn show(mut self, live: bool) -> Result<()> {
        let mut before = self.look().await;
        loop {
            tokio::time::sleep(EVERY).await;
            let now = self.look().await;
            self.count_keys().await;
            let told = self.told(&now, &before);
            if self.json {
                println!("{told:#}");
            } else {
                let clear = if live { "\u{1b}[H\u{1b}[2J" } else { "" };
                print!("{clear}{}", self.as_text(&told));
                std::io::stdout().flush().context("cannot show it")?;
            }
            if !live {
                return Ok(());
            }
            before = now;
        }
    }

    async fn look(&self) -> Vec<Option<Scrape>> {
        join_all(self.urls.iter().map(|url| self.scrape(url))).await
    }

    /// What one process tells; nothing if it cannot be reached.
    async fn scrape(&self, url: &Uri) -> Option<Scrape> {
        let request = Request::builder().method(Method::GET).uri(url.clone()).body(Full::default()).ok()?;
        let response = self.http.request(request, ANSWER_TIMEOUT).await.ok()?;
        let at = Instant::now();
        if response.status() != StatusCode::OK {
            return None;
        }
        let body = tokio::time::timeout(ANSWER_TIMEOUT, collect_bounded(response.into_body(), SCRAPE_MAX)).await;
        Some(Scrape::parse(std::str::from_utf8(&body.ok()?.ok()?).ok()?, at))
    }

    async fn count_keys(&mut self) {
        let Some(client) = &self.client else { return };
        if self.keys.as_ref().is_none_or(|(counted, _)| counted.elapsed() >= KEYS_EVERY) {
            let keys = keys(client).await.map_err(|error| format!("{error:#}"));
            self.keys = Some((Instant::now(), keys));
        }
    }

    fn told(&self, now: &[Option<Scrape>], before: &[Option<Scrape>]) -> Value {
        let names: Vec<String> = self.urls.iter().map(|url| plain(&url.to_string())).collect();
        let looks = now.iter().zip(before);
        let seen: Vec<Seen<'_>> = names
            .iter()
            .zip(looks)
            .map(|(url, (now, before))| Seen { url, now: now.as_ref(), before: before.as_ref() })
            .collect();
        let (custodians, proxies): (Vec<&Seen<'_>>, Vec<&Seen<'_>>) = seen.iter().partition(|seen| seen.is_custodian());
        let mut told = json!({
            "proxies": proxies.iter().map(|seen| seen.proxy()).collect::<Vec<_>>(),
            "custodians": custodians.iter().map(|seen| seen.custodian()).collect::<Vec<_>>(),
        });
        match &self.keys {
            Some((_, Ok(keys))) => told["keys"] = json!(keys),
            Some((_, Err(error))) => told["keys_error"] = json!(error),
            None => {}
        }
        told
    }

    fn as_text(&self, told: &Value) -> String {
        let rows = |part: &str, row: fn(&Value) -> Vec<String>| -> Vec<Vec<String>> {
            told[part].as_array().into_iter().flatten().map(row).collect()
        };
        let mut text = columns(&PROXIES, &rows("proxies", proxy_row));
        for (headings, rows) in
            [(&CUSTODIANS[..], rows("custodians", custodian_row)), (&KEYS[..], rows("keys", key_row))]
        {
            if !rows.is_empty() {
                text += &format!("\n{}", columns(headings, &rows));
            }
        }
        if let Some(error) = told["keys_error"].as_str() {
            text += &format!("\nkeys: {}\n", plain(error));
        }
        text
    }
}

/// What hangs on which version of each key, as the custodian counts.
async fn keys(client: &Client) -> Result<Vec<Value>> {
    let listed = client.transit(Method::GET, "keys?list=true", None).await?;
    let names = listed.data["keys"].as_array().cloned().unwrap_or_default();
    let mut counted = Vec::new();
    for name in names.iter().filter_map(Value::as_str).take(KEYS_MAX) {
        let path = format!("keys/{name}/census");
        let mut census = client.ours(Method::GET, &path, None, "a ledger of branch keys").await?.data;
        census["name"] = json!(plain(name));
        counted.push(census);
    }
    Ok(counted)
}
