//! Makes the running parts of what the configuration says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;

use crate::config::{Config, StorageSection};
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::derivation::{DerivationError, prove_derivation};
use crate::custody::keys::BranchKeys;
use crate::custody::lease::LeaseSettings;
use crate::custody::reason::Reason;
use crate::custody::watch::Watch;
use crate::custody::{Custodian, CustodyError};
use crate::names::{BranchId, KekName, LogicalBucket, Principal, Purpose, WriterDomain};
use crate::net::listener::{DrainReport, ListenerLimits};
use crate::object::Objects;
use crate::object::bucket::Buckets;
use crate::object::state::StateBucket;
use crate::proxy::access_log::{AccessLog, AccessLogSettings};
use crate::proxy::{Front, FrontSettings};
use crate::s3::sigv4::VerifySettings;
use crate::storage::Storage;
use crate::transit::Transit;
use crate::transit::settings::TransitSettings;
use crate::transit::watch::Watching;

/// The caller of what the program does of itself.
pub(super) fn itself() -> Caller {
    let principal = Principal::new("claviger").expect("a legal principal");
    Caller { principal, reason: Reason::SystemOperation }
}

/// Opens the custodian's watch, if it is to be watched. Without it nothing is served.
async fn watch(
    settings: &TransitSettings,
    leases: &LeaseSettings,
    transit: &Transit,
    keys: &BranchKeys,
) -> Result<Option<Watching>> {
    let LeaseSettings { read_lease_s, write_renew_s, .. } = *leases;
    if !settings.watch {
        tracing::warn!(
            read_lease_s,
            write_renew_s,
            "the custodian is not watched: what is revoked there goes on here until the leases end"
        );
        return Ok(None);
    }
    let grace = settings.watch_grace.unwrap_or(Duration::from_secs(read_lease_s));
    let watching = transit.watch(Watch::new(keys.clone(), grace)).await;
    watching.map(Some).context("the custodian's watch cannot be opened, and without it no key is used")
}

/// A proxy that is ready to serve.
pub(super) struct Prepared {
    front: Arc<Front>,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    limits: ListenerLimits,
    _watching: Option<Watching>,
    access_log: Option<Arc<AccessLog>>,
    /// The client of the storage server, which signs as the proxy.
    pub(super) storage: Storage,
}

/// Takes the address, so that a port that is not free is told before anything else.
pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}, choose another address"))
}

/// What carries out operations on objects, without anybody who asks for them.
pub(super) struct Workbench {
    pub(super) objects: Arc<Objects>,
    /// The client of the storage server, which signs as the proxy.
    pub(super) storage: Storage,
    watching: Option<Watching>,
}

/// Puts storage server and custodian together.
async fn workbench(
    storage: StorageSection,
    custodian: &TransitSettings,
    leases: &LeaseSettings,
    buckets: Buckets,
    writer: WriterDomain,
    transit: Arc<Transit>,
) -> Result<Workbench> {
    let state_bucket = storage.state_bucket;
    let storage = Storage::new(storage.settings, storage.credentials)?;
    let state = StateBucket::new(storage.clone(), state_bucket);
    let directory = Arc::new(state.clone());
    let keys = BranchKeys::new(Arc::clone(&transit) as Arc<dyn Custodian>, directory, leases.clone(), writer);
    let watching = watch(custodian, leases, &transit, &keys).await?;
    let objects = Arc::new(Objects::new(storage.clone(), keys, buckets, state));
    Ok(Workbench { objects, storage, watching })
}

/// The clients of custodian and state bucket alone.
pub(super) fn custodian_and_state(config: Config) -> Result<(Transit, StateBucket)> {
    let transit = Transit::new(&config.custodian).context("the custodian's settings do not do")?;
    let StorageSection { settings, credentials, state_bucket, .. } = config.storage;
    Ok((transit, StateBucket::new(Storage::new(settings, credentials)?, state_bucket)))
}

/// What a job works with: all of a proxy but the listening side. Buckets and keys are those of its configuration.
pub(super) async fn prepare_job(config: Config) -> Result<Workbench> {
    let transit = Arc::new(Transit::new(&config.custodian).context("the custodian's settings do not do")?);
    prove_keks(&config, transit.as_ref()).await?;
    let Config { proxy, storage, custodian, leases, buckets, .. } = config;
    workbench(storage, &custodian, &leases, buckets, proxy.writer, transit).await
}

/// Opens or connects to the custodian, proves the KEKs, and puts the proxy together.
pub(super) async fn prepare(config: Config, listener: TcpListener) -> Result<Prepared> {
    let transit = Arc::new(Transit::new(&config.custodian).context("the custodian's settings do not do")?);
    prove_keks(&config, transit.as_ref()).await?;
    log_start(&config, listener.local_addr()?);
    let Config { proxy, storage, custodian: section, leases, buckets, clients, anonymous, audit, .. } = config;
    let access_log = audit.map(access_log).transpose()?;
    let Workbench { objects, storage, watching } =
        workbench(storage, &section, &leases, buckets, proxy.writer, transit).await?;
    let settings = FrontSettings {
        clients,
        anonymous,
        domains: proxy.domains,
        verify: VerifySettings::default(),
        body_timeout: proxy.body_timeout,
        max_requests: proxy.max_requests,
        access_log: access_log.clone(),
    };
    let front = Arc::new(Front::new(objects, settings)?);
    let limits =
        ListenerLimits { drain: proxy.drain, max_connections: proxy.max_connections, ..ListenerLimits::default() };
    Ok(Prepared { front, listener, tls: proxy.tls, limits, _watching: watching, access_log, storage })
}

impl Prepared {
    /// Serves until `shutdown` resolves, then drains.
    pub(super) async fn serve(self, shutdown: impl Future<Output = ()>) -> DrainReport {
        let report = self.front.serve(self.listener, self.tls, self.limits, shutdown).await;
        if let Some(log) = &self.access_log
            && let Err(error) = log.close().await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "the access log did not end well");
        }
        report
    }
}

/// Opens the log of record accesses.
fn access_log(settings: AccessLogSettings) -> Result<Arc<AccessLog>> {
    let folder = settings.folder.clone();
    let log = AccessLog::open(settings);
    let log = log.with_context(|| format!("cannot open the access log in {}", folder.display()))?;
    tracing::info!(folder = %folder.display(), key = %log.verifier(), "record accesses are logged; the key verifies the log");
    Ok(Arc::new(log))
}

/// What an operator wants to see of a start.
fn log_start(config: &Config, address: SocketAddr) {
    let mut keks: Vec<&str> = config.keks.iter().map(|used| used.kek.as_str()).collect();
    keks.sort_unstable();
    keks.dedup();
    let storage = &config.storage.settings.endpoint;
    let custodian: Vec<String> = config.custodian.addresses.iter().map(ToString::to_string).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %address,
        tls = config.proxy.tls.is_some(),
        writer = config.proxy.writer.as_str(),
        %storage,
        state_bucket = config.storage.state_bucket,
        custodian = custodian.join(","),
        keks = keks.join(","),
        clients = config.clients.len(),
        anonymous = config.anonymous.is_some(),
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
        match prove_derivation(custodian, kek, &context, &itself()).await {
            Ok(()) => {}
            Err(DerivationError::WriteOnly) => {
                tracing::warn!(%kek, "this proxy may write under the KEK and open nothing");
            }
            Err(error) => {
                let advice = advice(&config.custodian, kek, &error);
                return Err(error).context(format!("the KEK {kek} cannot be used{advice}"));
            }
        }
    }
    Ok(())
}

/// What to do at a custodian on the network about a KEK that was not proven.
fn advice(custodian: &TransitSettings, kek: &KekName, error: &DerivationError) -> String {
    let mount = custodian.mount.as_str();
    match error {
        DerivationError::Custody(CustodyError::UnknownKek) => {
            format!("; make it there with `claviger key create {kek}` or `bao write {mount}/keys/{kek} derived=true`")
        }
        DerivationError::NotDerived => {
            format!(
                "; name another one, made with `bao write {mount}/keys/NAME derived=true`: it cannot be changed later"
            )
        }
        DerivationError::Custody(CustodyError::Denied) => format!(
            "; check the token or certificate, and that its policy allows `update` on {mount}/datakey/plaintext/{kek} and \
             {mount}/decrypt/{kek}"
        ),
        DerivationError::NotOpened | DerivationError::WriteOnly | DerivationError::Custody(_) => String::new(),
    }
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
