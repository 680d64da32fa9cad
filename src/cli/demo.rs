//! `claviger demo`: everything on one machine, with a sample that shows who sees what.

mod application;
mod custodian;
mod home;
mod show;
mod storage;
mod storage_server;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::application::Application;
use self::custodian::CustodianProcess;
use self::home::{CustodianAccess, Home, StorageAccess};
use self::storage_server::StorageServer;
use super::{Usage, asked_to_end, runtime, serving, wiring};
use crate::config;
use crate::storage::Endpoint;
use crate::telemetry::{self, LogFormat};
use crate::transit::settings::Address;

/// The port that is tried first, so that it stays the same from run to run.
const USUAL_PORT: u16 = 9443;
/// The custodian's.
const USUAL_CUSTODIAN_PORT: u16 = 9444;
/// Those of the proxy's metrics and the custodian's.
const USUAL_METRICS_PORTS: [u16; 2] = [9464, 9465];
/// Of what the embedded storage server logs, nothing is news: the proxy tells of its failures.
const LOG_FILTER: &str = "warn,s3s=off,sqlx=error";

#[derive(Args)]
pub(super) struct Arguments {
    /// Keep certificates, keys and objects here, and use those that are here; without it, a temporary folder
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The proxy's address; port 0 takes any that is free [default: 127.0.0.1:9443, or any if that is taken]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Store on this S3 server instead of the embedded one
    #[arg(long, value_name = "URL", requires_all = ["storage_access_key", "storage_secret_key_file"])]
    storage_url: Option<String>,
    /// The access key there
    #[arg(long, value_name = "KEY", requires = "storage_url")]
    storage_access_key: Option<String>,
    /// The file with the secret key
    #[arg(long, value_name = "FILE", requires = "storage_url")]
    storage_secret_key_file: Option<PathBuf>,
    /// The region there
    #[arg(long, value_name = "NAME", default_value = "us-east-1", requires = "storage_url")]
    storage_region: String,
    /// Use this custodian, OpenBao or Vault server instead of one of the demo's own; make the KEK first, with
    /// `claviger key create demo` or `bao write transit/keys/demo derived=true`
    #[arg(long, value_name = "URL")]
    custodian_url: Option<String>,
    /// The CA certificates to trust there; without it, the public ones
    #[arg(long, value_name = "FILE", requires = "custodian_url")]
    custodian_ca_file: Option<PathBuf>,
    /// The file with a token for it
    #[arg(long, value_name = "FILE", requires = "custodian_url", conflicts_with = "custodian_certificate_file")]
    custodian_token_file: Option<PathBuf>,
    /// The client certificate to show it
    #[arg(long, value_name = "FILE", requires_all = ["custodian_url", "custodian_key_file"])]
    custodian_certificate_file: Option<PathBuf>,
    /// The key of the client certificate
    #[arg(long, value_name = "FILE", requires = "custodian_certificate_file")]
    custodian_key_file: Option<PathBuf>,
    /// Log in with the client certificate at this path, such as auth/cert: OpenBao and Vault want it
    #[arg(long, value_name = "PATH", requires = "custodian_certificate_file")]
    custodian_login_mount: Option<String>,
    /// End after the show
    #[arg(long)]
    once: bool,
    /// Print the show as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    if let Some(url) = &arguments.storage_url {
        Endpoint::parse(url, false).map_err(|error| Usage(error.to_string()))?;
    }
    if let Some(url) = &arguments.custodian_url {
        Address::parse(url).map_err(|error| Usage(error.to_string()))?;
        if arguments.custodian_token_file.is_none() && arguments.custodian_certificate_file.is_none() {
            let advice = "--custodian-token-file, or --custodian-certificate-file and --custodian-key-file";
            return Err(Usage(format!("--custodian-url needs a way to authenticate: give {advice}")).into());
        }
    }
    telemetry::init(LogFormat::Text, LOG_FILTER).map_err(|error| Usage(error.to_string()))?;
    runtime()?.block_on(demonstrate(&arguments))
}

async fn demonstrate(arguments: &Arguments) -> Result<()> {
    let asked_to_end = asked_to_end()?;
    let home = Home::open(arguments.dir.as_deref())?;
    let listener = listen(arguments.listen).await?;
    let address = reachable(listener.local_addr()?);
    home.furnish(address.ip())?;
    let (storage, storage_server) = storage(arguments, &home).await?;
    let (custodian, mut process) = custodian(arguments, &home).await?;
    let addresses = [address, free_address(USUAL_METRICS_PORTS[0])?];
    let config_file = home.write_config(addresses, &storage, &custodian)?;

    let proxy = serving::prepare(config::load(&config_file)?, listener).await?;
    let operator = proxy.storage.clone();
    let mut proxy = Running::start(|end| async {
        proxy.serve(ended(end), None).await;
    });
    let shown = async {
        let application = Application::new(address, &home)?;
        let show = show::play(&application, &operator).await?;
        home.write_environment(addresses, &storage, &custodian)?;
        match (arguments.json, arguments.once) {
            (true, _) => show::print_json(&show, &home, address),
            (false, once) => {
                show::print(&show, &home, address);
                if !once {
                    show::print_what_next(&home)?;
                }
            }
        }
        anyhow::Ok(())
    };
    tokio::select! {
        shown = shown => shown?,
        () = proxy.failed() => anyhow::bail!("the proxy ended by itself"),
        () = failed(&mut process) => anyhow::bail!("the custodian ended by itself"),
    }
    if !arguments.once {
        tokio::select! {
            () = asked_to_end => {}
            // The proxy shows what it does without; whoever killed it wants to see that.
            () = async { failed(&mut process).await; std::future::pending().await } => {}
        }
    }
    // The proxy first: what it has under way still needs the others.
    proxy.end().await;
    if let Some(process) = process {
        process.end().await;
    }
    if let Some(storage_server) = storage_server {
        storage_server.end().await;
    }
    Ok(())
}

async fn listen(asked: Option<SocketAddr>) -> Result<TcpListener> {
    if let Some(address) = asked {
        return wiring::listen(address).await;
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, USUAL_PORT)).await {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            wiring::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
        }
        bound => bound.context("cannot listen"),
    }
}

/// By which address a client on this machine reaches the listener.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

/// The storage server that was asked for, or one of our own.
async fn storage(arguments: &Arguments, home: &Home) -> Result<(StorageAccess, Option<Running>)> {
    let given = (&arguments.storage_url, &arguments.storage_access_key, &arguments.storage_secret_key_file);
    if let (Some(url), Some(access_key), Some(secret_file)) = given {
        let secret_file = std::path::absolute(secret_file).context("cannot resolve the secret's path")?;
        let (url, access_key) = (url.clone(), access_key.clone());
        return Ok((StorageAccess { url, region: arguments.storage_region.clone(), access_key, secret_file }, None));
    }
    let secret_file = home.own_storage_secret()?;
    let secret = home::read_secret(&secret_file)?;
    let server = StorageServer::bind(&home.storage_folder()?, home::STORAGE_ACCESS_KEY, &secret).await?;
    let url = format!("http://{}", server.address()?);
    let access_key = home::STORAGE_ACCESS_KEY.to_owned();
    let access = StorageAccess { url, region: "us-east-1".to_owned(), access_key, secret_file };
    Ok((access, Some(Running::start(|end| server.serve(ended(end))))))
}

/// The custodian that was asked for, or one of our own.
async fn custodian(arguments: &Arguments, home: &Home) -> Result<(CustodianAccess, Option<CustodianProcess>)> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).with_context(|| format!("cannot resolve the path {}", path.display()))
    };
    let Some(url) = &arguments.custodian_url else {
        let address = free_address(USUAL_CUSTODIAN_PORT)?;
        let access = home.own_custodian(address, free_address(USUAL_METRICS_PORTS[1])?)?;
        let process = CustodianProcess::start(home, address).await?;
        return Ok((access, Some(process)));
    };
    let token_file = arguments.custodian_token_file.as_ref().map(absolute).transpose()?;
    let certificate_file = arguments.custodian_certificate_file.as_ref().map(absolute).transpose()?;
    let key_file = arguments.custodian_key_file.as_ref().map(absolute).transpose()?;
    let access = CustodianAccess {
        url: url.clone(),
        ca_file: arguments.custodian_ca_file.as_ref().map(absolute).transpose()?,
        token_file,
        certificate: certificate_file.zip(key_file),
        login_mount: arguments.custodian_login_mount.clone(),
        own: false,
        metrics: None,
    };
    Ok((access, None))
}

/// An address on loopback that nobody listened at a moment ago.
fn free_address(usual_port: u16) -> Result<SocketAddr> {
    let bind = |port| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bind(usual_port).or_else(|_| bind(0)).context("cannot listen on loopback")?;
    Ok(listener.local_addr()?)
}

/// Resolves when the process, if there is one, ended by itself.
async fn failed(process: &mut Option<CustodianProcess>) {
    match process {
        Some(process) => process.failed().await,
        None => std::future::pending().await,
    }
}

async fn ended(mut end: watch::Receiver<bool>) {
    // An error means that nobody is left who could ask for the end: that is one, too.
    let _ = end.wait_for(|end| *end).await;
}

/// A server in the background.
struct Running {
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    fn start<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(watch::Receiver<bool>) -> F) -> Self {
        let (end, receiver) = watch::channel(false);
        Self { end, task: tokio::spawn(serve(receiver)) }
    }

    /// Resolves when it ended without having been asked to.
    async fn failed(&mut self) {
        // Whether it returned or panicked: it is over.
        let _ = (&mut self.task).await;
    }

    /// Asks it to end and waits until it has.
    async fn end(self) {
        self.end.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a server of the demo did not end well");
        }
    }
}
