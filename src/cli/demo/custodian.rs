//! The demo's custodian: a second process on loopback, which is spoken to over mTLS like any other.
//!
//! **Invariant:** the process does not outlive the demo: it is asked to end with it, and ends by itself when the demo is killed.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::home::{Home, KEK};
use crate::cli::init::names;
use crate::net::body::collect_bounded;
use crate::net::client::{ClientSettings, HttpClient};
use crate::net::tls::{ClientTls, IdentityFiles, client_config};

/// How long it may take to start. Stretching its passphrase takes most of it.
const START_MAX: Duration = Duration::from_secs(60);
/// How long it may take to end before it is killed.
const END_MAX: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_MAX: usize = 64 << 10;

/// The running process.
pub(super) struct CustodianProcess(Child);

impl CustodianProcess {
    /// Makes its store if there is none yet, starts it at `address`, waits until it is unsealed, and has it make the KEK.
    pub(super) async fn start(home: &Home, address: SocketAddr) -> Result<Self> {
        if !home.path(names::STORE).exists() {
            let made = command(home, &["custodian", "init"])?.status().await;
            let made = made.context("cannot start the custodian")?;
            ensure!(made.success(), "the custodian's store was not made; its own message stands above");
        }
        let child = command(home, &["custodian", "--end-with-parent"])?.kill_on_drop(true).spawn();
        let mut process = Self(child.context("cannot start the custodian")?);
        let officer = Officer::new(home, address)?;
        process.until_unsealed(&officer).await?;
        officer.make_kek().await?;
        Ok(process)
    }

    async fn until_unsealed(&mut self, officer: &Officer) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            if let Some(status) = self.0.try_wait()? {
                bail!("the custodian ended with {status}; its own message stands above");
            }
            if officer.ask(Method::GET, "sys/health", "").await.is_ok_and(|status| status == StatusCode::OK) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the custodian was not ready within {} s", START_MAX.as_secs())
    }

    /// Resolves when it ended without having been asked to.
    pub(super) async fn failed(&mut self) {
        // Whatever is said of it: it is over.
        let _ = self.0.wait().await;
    }

    /// Asks it to end and waits until it has.
    pub(super) async fn end(mut self) {
        let id = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let asked = id.map(|id| kill_process(id, Signal::TERM));
        let ended = tokio::time::timeout(END_MAX, self.0.wait()).await;
        if !matches!((asked, ended), (Some(Ok(())), Ok(Ok(status))) if status.success()) {
            tracing::error!("the custodian did not end well");
        }
    }
}

/// This program with `arguments`, on the custodian's configuration. What it logs, and why it fails, goes to our stderr.
fn command(home: &Home, arguments: &[&str]) -> Result<Command> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut command = Command::new(program);
    command.args(arguments).arg("--config").arg(home.path(names::CUSTODIAN_CONFIG));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command)
}

/// An officer's client.
struct Officer {
    http: HttpClient<Full<Bytes>>,
    address: SocketAddr,
}

impl Officer {
    fn new(home: &Home, address: SocketAddr) -> Result<Self> {
        let [certificates, key] = home.officer().map(|name| home.path(&name));
        let identity = Some(IdentityFiles { certificates, key });
        let tls = client_config(&ClientTls { ca_file: Some(home.path(names::CA)), identity })?;
        Ok(Self { http: HttpClient::new(tls, &ClientSettings::default()), address })
    }

    async fn ask(&self, method: Method, path: &str, body: &'static str) -> Result<StatusCode> {
        let request = Request::builder().method(method).uri(format!("https://{}/v1/{path}", self.address));
        let request = request.body(Full::new(Bytes::from_static(body.as_bytes())))?;
        let (head, body) = self.http.request(request, ANSWER_TIMEOUT).await?.into_parts();
        collect_bounded(body, ANSWER_MAX).await?;
        Ok(head.status)
    }

    /// A KEK that is there already is as good.
    async fn make_kek(&self) -> Result<()> {
        let path = format!("transit/keys/{KEK}");
        let status = self.ask(Method::POST, &path, r#"{"type":"aes256-gcm96","derived":true}"#).await?;
        ensure!(status.is_success(), "the custodian does not make the KEK {KEK}: HTTP status {status}");
        Ok(())
    }
}
