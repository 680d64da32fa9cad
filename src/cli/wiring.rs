//! Makes the running parts of what the configuration says.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;

use crate::config::{Config, Mistake, Problem, Problems};
use crate::custodian::audit::{AuditFailed, AuditLog, AuditSink, Entry, FileSink};
use crate::custodian::authorise::EveryoneInProcess;
use crate::custodian::embedded::Embedded;
use crate::custodian::engine::Engine;
use crate::custodian::seal::{SealError, Unsealed};
use crate::custody::Custodian;
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::derivation::prove_derivation;
use crate::custody::keys::BranchKeys;
use crate::custody::reason::Reason;
use crate::names::{BranchId, KekName, LogicalBucket, Principal, Purpose, WriterDomain};
use crate::net::listener::{DrainReport, ListenerLimits};
use crate::object::Objects;
use crate::object::state::StateBucket;
use crate::proxy::{Front, FrontSettings};
use crate::s3::sigv4::VerifySettings;
use crate::storage::Storage;

/// The caller of what the program does of itself.
pub(super) fn itself() -> Caller {
    let principal = Principal::new("claviger").expect("a legal principal");
    Caller { principal, reason: Reason::SystemOperation }
}

/// Opens the key store and looks the configured KEKs up. A key store in use by a running proxy is not looked into.
pub(super) fn check_custodian(config: &Config) -> Result<(), Problems> {
    match Unsealed::open(&config.custodian.keyring_file, &config.custodian.passphrase) {
        Ok(unsealed) => check_keks(config, &Engine::new(unsealed, EveryoneInProcess, AuditLog::new(NoKeyUse))),
        Err(SealError::InUse(_)) => Ok(()),
        Err(error) => Err(unopened(config, error)),
    }
}

/// The audit log of an engine that only lists: nothing can be written to it, so no key can be used.
struct NoKeyUse;

impl AuditSink for NoKeyUse {
    fn append(&self, _: &Entry) -> Result<(), AuditFailed> {
        Err(std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem).into())
    }
}

fn unopened(config: &Config, error: SealError) -> Problems {
    let line = Some(config.custodian.keyring_line);
    let problem = Problem { line, key: "custodian.keyring_file".to_owned(), mistake: error.into() };
    Problems { file: config.file.clone(), list: vec![problem] }
}

fn check_keks(config: &Config, engine: &Engine) -> Result<(), Problems> {
    let known = engine.list();
    let mut list = Vec::new();
    for used in &config.keks {
        let mistake = match known.iter().find(|known| known.name == used.kek) {
            None => Mistake::UnknownKek { known: known.iter().map(|known| known.name.to_string()).collect() },
            Some(found) if found.disabled => Mistake::DisabledKek,
            Some(_) => continue,
        };
        list.push(Problem { line: Some(used.line), key: used.key.clone(), mistake });
    }
    if list.is_empty() { Ok(()) } else { Err(Problems { file: config.file.clone(), list }) }
}

/// The custodian in this process, unsealed, with every configured KEK known.
fn custodian(config: &Config) -> Result<Arc<dyn Custodian>> {
    let section = &config.custodian;
    let unsealed =
        Unsealed::open(&section.keyring_file, &section.passphrase).map_err(|error| unopened(config, error))?;
    let audit = FileSink::open(&section.audit_file);
    let audit = audit.with_context(|| format!("cannot open the audit log {}", section.audit_file.display()))?;
    let engine = Engine::new(unsealed, EveryoneInProcess, AuditLog::new(audit));
    check_keks(config, &engine)?;
    Ok(Arc::new(Embedded::new(Arc::new(engine))))
}

/// A proxy that is ready to serve.
pub(super) struct Prepared {
    front: Arc<Front>,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    limits: ListenerLimits,
    /// The client of the storage server, which signs as the proxy.
    pub(super) storage: Storage,
}

/// Takes the address, so that a port that is not free is told before anything else.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}, choose another address"))
}

/// Opens the key store, proves the KEKs, and puts the proxy together.
pub(super) async fn prepare(config: Config, listener: TcpListener) -> Result<Prepared> {
    let custodian = custodian(&config)?;
    prove_keks(&config, custodian.as_ref()).await?;
    log_start(&config, listener.local_addr()?);
    let Config { proxy, storage, leases, buckets, clients, .. } = config;
    let state_bucket = storage.state_bucket;
    let storage = Storage::new(storage.settings, storage.credentials)?;
    let directory = Arc::new(StateBucket::new(storage.clone(), state_bucket));
    let keys = BranchKeys::new(custodian, directory, leases, proxy.writer);
    let settings = FrontSettings {
        clients,
        domains: proxy.domains,
        verify: VerifySettings::default(),
        body_timeout: proxy.body_timeout,
        max_requests: proxy.max_requests,
    };
    let front = Arc::new(Front::new(Objects::new(storage.clone(), keys, buckets), settings)?);
    let limits =
        ListenerLimits { drain: proxy.drain, max_connections: proxy.max_connections, ..ListenerLimits::default() };
    Ok(Prepared { front, listener, tls: proxy.tls, limits, storage })
}

impl Prepared {
    /// Serves until `shutdown` resolves, then drains.
    pub(super) async fn serve(self, shutdown: impl Future<Output = ()>) -> DrainReport {
        self.front.serve(self.listener, self.tls, self.limits, shutdown).await
    }
}

/// What an operator wants to see of a start.
fn log_start(config: &Config, address: SocketAddr) {
    let mut keks: Vec<&str> = config.keks.iter().map(|used| used.kek.as_str()).collect();
    keks.sort_unstable();
    keks.dedup();
    let storage = &config.storage.settings.endpoint;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %address,
        tls = config.proxy.tls.is_some(),
        writer = config.proxy.writer.as_str(),
        %storage,
        state_bucket = config.storage.state_bucket,
        keks = keks.join(","),
        clients = config.clients.len(),
        "the proxy starts; each KEK is proven to bind branch keys to their context"
    );
}

/// Proves that each configured KEK binds branch keys to their context.
async fn prove_keks(config: &Config, custodian: &dyn Custodian) -> Result<()> {
    let mut keks: Vec<&KekName> = config.keks.iter().map(|used| &used.kek).collect();
    keks.sort();
    keks.dedup();
    for kek in keks {
        let context = trial_context(&config.proxy.writer)?;
        let proven = prove_derivation(custodian, kek, &context, &itself()).await;
        proven.with_context(|| format!("the KEK {kek} cannot be used"))?;
    }
    Ok(())
}

/// A context whose branch key wraps nothing.
fn trial_context(writer: &WriterDomain) -> Result<BranchContext> {
    Ok(BranchContext {
        purpose: Purpose::Object,
        bucket: LogicalBucket::new("claviger-self-test").expect("a legal name"),
        writer: writer.clone(),
        id: BranchId::random()?,
    })
}
