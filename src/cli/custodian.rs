//! `claviger custodian`: runs the custodian's server; `claviger custodian init`: makes its store and seals.

mod init;
mod remote;
mod renewal;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use tokio::sync::watch;

use super::descriptors::Room;
use super::seeing::{self, Showing, Tracing};
use super::{Usage, asked_to_end, notify, runtime, wiring};
use crate::config::custodian_server::{self as config, CustodianConfig, SealSection, StoreSection};
use crate::crypto;
use crate::custodian::engine::{EngineSettings, RETIRE_WAIT_S};
use crate::custodian::seal::pkcs11::Token;
use crate::custodian::server::{AutoSeal, Opening, Server, ServerSettings};
use crate::custodian::store::{Store, StoreSettings, connect_postgres, open_sqlite};
use crate::net::listener::{ConnectionCount, ListenerLimits};
use crate::net::tls::IdentityFiles;
use crate::telemetry;
use crate::telemetry::certificates;
use crate::telemetry::health::{Check, Health};
use crate::telemetry::traces::TraceSettings;
use crate::tlog::storage::Disk;

/// How long a connection without requests is kept: its buffers still hold the last answer, which may have a key in it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file
    #[arg(long = "config", env = "CLAVIGER_CUSTODIAN_CONFIG", value_name = "FILE", required = true)]
    file: Option<PathBuf>,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    end_with_parent: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Make the store and its seals
    ///
    /// Of a seal of shares, the shares are given out now and never again.
    Init(init::Arguments),
}

pub(super) fn run(arguments: Arguments) -> Result<()> {
    match arguments {
        Arguments { command: Some(Command::Init(arguments)), .. } => init::run(&arguments),
        Arguments { command: None, file, end_with_parent } => {
            if end_with_parent {
                let signal = Some(rustix::process::Signal::TERM);
                rustix::process::set_parent_process_death_signal(signal).context("cannot follow the parent process")?;
            }
            let file = file.ok_or_else(|| Usage("give --config FILE".to_owned()))?;
            serve(config::load(&file)?)
        }
    }
}

fn serve(config: CustodianConfig) -> Result<()> {
    telemetry::init(config.log_format, &config.log_filter).map_err(|error| Usage(error.to_string()))?;
    runtime()?.block_on(async {
        let asked_to_end = asked_to_end()?;
        let listener = wiring::listen(config.server.listen).await?;
        let store = open_store(&config.store).await?;
        let seals = auto_seals(&config.seals)?;
        let address = listener.local_addr()?;
        let (renewed, tls) = watch::channel(Arc::clone(&config.server.tls_config));
        let room = Room { connections: config.server.max_connections, requests: 0, servers: 0 }.fitted();
        let limits = ListenerLimits {
            drain: config.server.drain,
            max_connections: room.connections,
            idle_timeout: IDLE_TIMEOUT,
            ..ListenerLimits::default()
        };
        let traces = config.traces.clone().map(|traces| of_instance(traces, &config.server.instance));
        let (traces, exporting) = Tracing::start(traces)?;
        let shown = (config.metrics, config.server.tls.identity.clone());
        let telling = tokio::spawn(certificates::keep_telling(vec![("server", shown.1.clone())]));
        let files = renewal::Files { policy: config.policy_file.clone(), tls: config.server.tls.clone() };
        log_start(&config, address);
        let server = Server::new(settings(&config, &traces), opening(config, Arc::clone(&store)));
        let (health, showing) = show(&server, shown, (&limits.count, &traces)).await?;
        let unsealing = tokio::spawn({
            let server = Arc::clone(&server);
            async move {
                server.unseal_by_itself(&seals).await;
                if server.is_sealed() {
                    tracing::warn!("sealed: `claviger unseal` takes a share of each of those who have one");
                }
            }
        });
        let renewing = tokio::spawn(renewal::keep_looking(files, Arc::clone(&server), renewed));
        // Sealed or not: who unseals it has to reach it.
        notify::ready("listening");
        health.serves();
        let report = server
            .serve(listener, tls, limits, async {
                asked_to_end.await;
                notify::stopping();
                health.drains();
                tracing::info!("asked to end; running requests go on, new ones are not taken");
            })
            .await;
        unsealing.abort();
        renewing.abort();
        telling.abort();
        store.close().await;
        if let Some(exporting) = exporting {
            exporting.end().await;
        }
        if let Some(showing) = showing {
            showing.end().await;
        }
        tracing::info!(requests_cut = report.requests_cut, "the custodian has ended");
        Ok(())
    })
}

/// Shows how it is, if that is configured.
async fn show(
    server: &Arc<Server>,
    (address, identity): (Option<SocketAddr>, IdentityFiles),
    (connections, traces): (&ConnectionCount, &Tracing),
) -> Result<(Arc<Health>, Option<Showing>)> {
    let looked_at = Arc::downgrade(server);
    let serves: Check = Box::new(move || looked_at.upgrade().map_or(Err("ending"), |server| server.can_serve()));
    let health = Arc::new(Health::new(vec![serves]));
    let Some(address) = address else { return Ok((health, None)) };
    let mut registry = seeing::registry("custodian", &health, connections, vec![("server", identity)]);
    server.register(&mut registry);
    traces.register(&mut registry);
    let showing = Showing::start(address, registry, Arc::clone(&health)).await?;
    Ok((health, Some(showing)))
}

fn log_start(config: &CustodianConfig, address: SocketAddr) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cryptography = crypto::LIBRARY,
        %address,
        instance = config.server.instance,
        identity = %config.server.identity,
        store = config.store.kind(),
        seals = config.seals.len(),
        revocation_list = config.server.tls.client_crl.is_some(),
        "the custodian starts"
    );
    let wait = config.keys.destroy_wait;
    if wait.insecure {
        tracing::warn!(
            wait_s = wait.seconds,
            "insecure_destroy_wait_s is set: keys can be destroyed before anyone could step in, and the certificates say so"
        );
    }
    if config.keys.retire_wait_s < RETIRE_WAIT_S {
        tracing::warn!(
            wait_s = config.keys.retire_wait_s,
            "insecure_retire_wait_s is set: versions can be retired that proxies may still be given branch keys under"
        );
    }
}

fn of_instance(traces: TraceSettings, instance: &str) -> TraceSettings {
    TraceSettings { instance: Some(instance.to_owned()), ..traces }
}

fn settings(config: &CustodianConfig, traces: &Tracing) -> ServerSettings {
    ServerSettings {
        instance: config.server.instance.clone(),
        storage_type: config.store.kind(),
        max_requests: config.server.max_requests,
        max_watches: config.server.max_watches,
        witnesses: config.audit.witnesses.clone(),
        tracer: traces.tracer.clone(),
    }
}

fn opening(config: CustodianConfig, store: Arc<dyn Store>) -> Opening {
    let engine = EngineSettings {
        approvals_required: config.approvals.required,
        grant_approvals_required: config.approvals.grants_required,
        default_labels: config.server.default_labels,
        sites: config.keys.sites,
        sites_of: config.keys.sites_of,
        retire_wait_s: config.keys.retire_wait_s,
        destroy_wait: config.keys.destroy_wait,
        ..EngineSettings::new(config.server.identity)
    };
    let audit_disk = Arc::new(Disk::durable());
    Opening { store, audit: config.audit.settings, audit_disk, policy: config.policy, engine }
}

async fn open_store(store: &StoreSection) -> Result<Arc<dyn Store>> {
    let settings = StoreSettings::default();
    Ok(match store {
        StoreSection::Sqlite { file } => {
            let advice =
                || format!("cannot open the store {}; a new one is made by `claviger custodian init`", file.display());
            Arc::new(open_sqlite(file, settings).await.with_context(advice)?)
        }
        StoreSection::Postgres(server) => {
            let advice = || format!("cannot open the store at {}", server.address);
            Arc::new(connect_postgres(server, settings).await.with_context(advice)?)
        }
    })
}

/// The seals that open without people.
fn auto_seals(sections: &[SealSection]) -> Result<Vec<AutoSeal>> {
    let mut seals = Vec::new();
    for section in sections {
        match section {
            SealSection::Shares { .. } => {}
            SealSection::Passphrase { passphrase, .. } => seals.push(AutoSeal::Passphrase(Arc::clone(passphrase))),
            SealSection::Pkcs11(settings) => seals.push(AutoSeal::Pkcs11(Token::new(settings.clone()))),
            SealSection::Transit(seal) => seals.push(AutoSeal::Remote(Arc::new(remote::KeyServer::new(seal)?))),
        }
    }
    Ok(seals)
}
