//! A log behind a URL: a custodian's, over mutual TLS, or one that is served as static files.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use clap::Args;
use http::uri::{Parts, PathAndQuery};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;

use super::fetch::Fetch;
use crate::cli::Usage;
use crate::net::body::collect_bounded;
use crate::net::client::{ClientSettings, HttpClient, ResponseBody};
use crate::net::tls::{ClientTls, IdentityFiles, client_config};
use crate::transit::settings::Address;

/// Where a custodian serves its log.
const CUSTODIAN_PATH: &str = "/v1/sys/claviger/audit";
/// For the head of each answer, and each pause in its body.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Times that a file is asked for before it is given up.
const ATTEMPTS: u32 = 3;

/// How to reach a log behind a URL.
#[derive(Args, Default)]
pub(super) struct Connection {
    /// The CA certificates to trust there; without it, the public ones
    #[arg(long, env = "VAULT_CACERT", value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// Our certificate, for a server that asks for one
    #[arg(long, env = "VAULT_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub(super) client_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "VAULT_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub(super) client_key: Option<PathBuf>,
}

/// The server of a log.
pub(super) struct Remote {
    client: HttpClient<Full<Bytes>>,
    /// Without a slash at its end.
    base: String,
}

impl Remote {
    /// The log at `url`.
    pub(super) fn new(url: &str, connection: &Connection) -> Result<Self> {
        let base = base(url)?;
        let identity = match (&connection.client_cert, &connection.client_key) {
            (Some(certificates), Some(key)) => {
                Some(IdentityFiles { certificates: certificates.clone(), key: key.clone() })
            }
            _ => None,
        };
        let tls = client_config(&ClientTls { ca_file: connection.ca_file.clone(), identity })?;
        let settings = ClientSettings { body_timeout: TIMEOUT, ..ClientSettings::default() };
        Ok(Self { client: HttpClient::new(tls, &settings), base })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<ResponseBody>> {
        let url = format!("{}/{path}", self.base);
        let request = || {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = url.parse::<Uri>()?;
            anyhow::Ok(request)
        };
        let mut attempt = 1;
        loop {
            match self.client.request(request()?, TIMEOUT).await {
                Err(_) if attempt < ATTEMPTS => tokio::time::sleep(Duration::from_millis(200) * attempt).await,
                settled => return settled.with_context(|| format!("no answer for {url}")),
            }
            attempt += 1;
        }
    }

    /// Hands the custodian a cosignature of its log.
    pub(super) async fn push(&self, line: &str) -> Result<()> {
        let response = self.send(Method::POST, "cosignature", Bytes::from(format!("{line}\n"))).await?;
        let status = response.status();
        anyhow::ensure!(status.is_success(), "the custodian answered {status} to the cosignature");
        Ok(())
    }
}

#[async_trait]
impl Fetch for Remote {
    async fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                bail!("{}/{path}: this client may not read it", self.base)
            }
            status => bail!("{}/{path}: the server answered {status}", self.base),
        }
        let body = collect_bounded(response.into_body(), limit).await;
        Ok(Some(body.with_context(|| format!("{}/{path}", self.base))?.to_vec()))
    }
}

/// Whether `log` is a URL and not a folder.
pub(super) fn is_url(log: &str) -> bool {
    log.starts_with("https://") || log.starts_with("http://")
}

/// The URL that the log's paths go behind.
fn base(url: &str) -> Result<String> {
    let wrong = || Usage(format!("{url:?} is not a log's URL: write `https://HOST[:PORT][/PATH]`, without a query"));
    let Parts { scheme, authority, path_and_query, .. } = url.parse::<Uri>().map_err(|_| wrong())?.into_parts();
    let (Some(scheme), Some(authority)) = (scheme, authority) else { return Err(wrong().into()) };
    // It knows where plain HTTP may go: entries say who works with what.
    let address = Address::parse(&format!("{scheme}://{authority}")).map_err(|error| Usage(error.to_string()))?;
    let path = path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if path.query().is_some() {
        return Err(wrong().into());
    }
    let path = match path.path().trim_end_matches('/') {
        "" => CUSTODIAN_PATH,
        path => path,
    };
    Ok(format!("{address}{path}"))
}

#[cfg(test)]
mod tests;
