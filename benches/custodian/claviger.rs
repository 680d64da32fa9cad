//! The custodian's server, as this program itself in another process: the command line has no way not to wait for the disk.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use claviger::custodian::audit::AuditSettings;
use claviger::custodian::embedded::{self, Place};
use claviger::custodian::engine::EngineSettings;
use claviger::custodian::identity::SpiffeId;
use claviger::custodian::kek::Labels;
use claviger::custodian::passphrase::Passphrase;
use claviger::custodian::server::{AutoSeal, Opening, Server, ServerSettings};
use claviger::custodian::store::{StoreSettings, open_sqlite};
use claviger::net::listener::ListenerLimits;
use claviger::net::tls::mutual_server_config;
use claviger::telemetry::{self, LogFormat};
use claviger::tlog::storage::Disk;
use rustls::ClientConfig;
use tokio::sync::watch;

use crate::connection::{Connection, request};
use crate::contender::{Contender, Process, free_address, until_healthy};
use crate::party::identity;

/// What a new deployment starts with.
const POLICY: &str = include_str!("../../examples/policies/default.cedar");
/// The argument that makes this program the server.
pub(crate) const SERVE: &str = "--serve";
/// The other word of it, for a log that does not wait for the disk.
const NO_SYNC: &str = "no-sync";
const PASSPHRASE: &[u8] = b"a passphrase that is for measuring";

/// Starts one.
pub(crate) async fn start(
    folder: &Path,
    durable: bool,
    client: &Arc<ClientConfig>,
    officer: &Arc<ClientConfig>,
) -> Result<Contender> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args([SERVE, if durable { "sync" } else { NO_SYNC }, &address.to_string()]).current_dir(folder);
    let process = Process::start(&mut command, folder)?;
    until_healthy(address, client, &[200], folder).await?;
    let make = request("POST", "transit/keys/records", None, "{\"derived\":true}");
    Connection::open(address, officer).await?.done(&make).await.context("the KEK is not made")?;
    let name = if durable { "Claviger" } else { "Claviger, not waiting for the disk" };
    Contender::new(name, address, process, None, client).await
}

/// Serves in the current folder until it is killed, logging as `claviger custodian` does.
pub(crate) async fn serve(sync: &str, address: &str) -> Result<()> {
    telemetry::init(LogFormat::Text, "info")?;
    let passphrase = Arc::new(Passphrase::new(PASSPHRASE.to_vec())?);
    let place = Place { store: "store.db".into(), audit: "audit".into() };
    embedded::create(&place, &passphrase, 100_000).await?;
    let id = SpiffeId::parse("spiffe://localhost/region/us/custodian/bench")?;
    let jurisdiction = [("jurisdiction".to_owned(), "us".to_owned())];
    let opening = Opening {
        store: Arc::new(open_sqlite(&place.store, StoreSettings::default()).await?),
        audit: AuditSettings {
            folder: place.audit,
            instance: "bench".to_owned(),
            origin: "localhost/bench".to_owned(),
            checkpoint_interval: Duration::from_secs(1),
        },
        audit_disk: Arc::new(if sync == NO_SYNC { Disk::assume_no_power_loss() } else { Disk::durable() }),
        policy: POLICY.to_owned(),
        engine: EngineSettings { default_labels: Labels::new(jurisdiction.into())?, ..EngineSettings::new(id) },
    };
    let settings = ServerSettings {
        instance: "bench".to_owned(),
        storage_type: "sqlite",
        max_requests: 512,
        max_watches: 16,
        witnesses: Vec::new(),
        tracer: telemetry::traces::Tracer::default(),
    };
    let server = Server::new(settings, opening);
    server.unseal_by_itself(&[AutoSeal::Passphrase(passphrase)]).await;
    let above = Path::new("..");
    let tls = mutual_server_config(&identity(above, "server"), &above.join("ca.pem"), None)?;
    let (_renewed, tls) = watch::channel(tls);
    let listener = tokio::net::TcpListener::bind(address.parse::<SocketAddr>()?).await?;
    server.serve(listener, tls, ListenerLimits::default(), std::future::pending()).await;
    Ok(())
}
