//! A proxy that serves, and takes a changed configuration over while it does.
//!
//! **Invariant:** a changed configuration is taken over whole or not at all: it is read, checked, and all of it is put together before
//! the first request goes by it. Requests that run go on as they began.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior};

use super::descriptors::Room;
use super::hung_up;
use super::seeing::{Instruments, Showing, Tracing};
use super::wiring::{Connected, prove_keks, split, transit};
use crate::config::{self, Config, KekUse, ProxySettings, SiteSection, Written};
use crate::crypto;
use crate::net::listener::{DrainReport, Former, ListenerLimits, Tls};
use crate::net::tls::IdentityFiles;
use crate::object::access::{Anonymous, Client};
use crate::object::bucket::Buckets;
use crate::proxy::access_log::{AccessLog, AccessLogSettings};
use crate::proxy::{Front, FrontSettings};
use crate::s3::sigv4::VerifySettings;
use crate::storage::{Storage, StorageSettings};
use crate::telemetry::certificates;
use crate::telemetry::health::Health;
use crate::telemetry::traces::Exporting;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// After so long something is tried again that a server could not do.
const AGAIN: Duration = Duration::from_secs(30);

/// What only a restart changes: keys of `[proxy]`, and whole sections.
const FIXED_KEYS: [&str; 5] = ["listen", "plain_http_on_loopback", "max_connections", "leave_s", "drain_s"];
const FIXED_SECTIONS: [&str; 4] = ["audit", "log", "metrics", "traces"];

/// A proxy that is ready to serve.
pub(super) struct Prepared {
    listener: TcpListener,
    limits: ListenerLimits,
    leave: Duration,
    fronts: watch::Receiver<Arc<Front>>,
    tls: Option<Tls>,
    access_log: Option<Arc<AccessLog>>,
    health: Arc<Health>,
    showing: Option<Showing>,
    exporting: Option<Exporting>,
    renewal: Renewal,
    /// The certificates that it shows to others.
    shown: Vec<(&'static str, IdentityFiles)>,
    /// The client of the storage server, which signs as the proxy.
    pub(super) storage: Storage,
}

/// Opens or connects to the custodian, proves the KEKs, and puts the proxy together.
pub(super) async fn prepare(config: Config, listener: TcpListener) -> Result<Prepared> {
    let transit = transit(&config.custodian)?;
    prove_keks(&config, &config.keks, transit.as_ref()).await?;
    log_start(&config, listener.local_addr()?);
    let (shown, placement, servers) = (certificates_of(&config), config.placement(), servers_of(&config));
    let Config {
        file,
        mut proxy,
        storage,
        sites,
        custodian,
        leases,
        buckets,
        keks,
        clients,
        anonymous,
        audit,
        metrics,
        traces,
        written,
        ..
    } = config;
    fit(&mut proxy, servers);
    let access_log = audit.map(access_log).transpose()?;
    let (traces, exporting) = Tracing::start(traces)?;
    let instruments = Instruments::traced(traces);
    let health = instruments.health();
    let showing = match metrics {
        None => None,
        Some(address) => {
            let registry = instruments.registry(&health, access_log.as_ref(), shown.clone());
            Some(Showing::start(address, registry, Arc::clone(&health)).await?)
        }
    };
    let seen = (transit, &instruments);
    let (further, of_further) = split(sites);
    let writer = proxy.writer.clone();
    let connected = Connected::new((storage, further), placement, &custodian, &leases, writer, seen).await?;
    connected.is_seen_by(&instruments);
    let connected = Arc::new(connected);
    let limits = ListenerLimits {
        drain: proxy.drain,
        max_connections: proxy.max_connections,
        count: instruments.connections.clone(),
        ..ListenerLimits::default()
    };
    let (storage, leave) = (connected.storage().clone(), proxy.leave);
    let (tls_sender, tls) = match proxy.tls.clone() {
        None => (None, None),
        Some(config) => {
            let (sender, config) = watch::channel(config);
            (Some(sender), Some(Tls { config, former: Former::Stay }))
        }
    };
    let front = front(&connected, &proxy, (buckets, of_further, clients, anonymous), access_log.clone(), &instruments)?;
    let (front_sender, fronts) = watch::channel(Arc::new(front));
    let renewal = Renewal {
        file,
        in_force: InForce { connected, keks, written },
        fronts: front_sender,
        tls: tls_sender,
        access_log: access_log.clone(),
        instruments,
    };
    Ok(Prepared {
        listener,
        limits,
        leave,
        fronts,
        tls,
        access_log,
        health,
        showing,
        exporting,
        renewal,
        shown,
        storage,
    })
}

/// Takes no more connections and requests than this process may have sockets for.
fn fit(proxy: &mut ProxySettings, servers: usize) {
    let wanted = Room { connections: proxy.max_connections, requests: proxy.max_requests, servers };
    Room { connections: proxy.max_connections, requests: proxy.max_requests, .. } = wanted.fitted();
}

/// How many addresses of storage servers requests go to.
fn servers_of(config: &Config) -> usize {
    let sections = std::iter::once(&config.storage).chain(config.sites.iter().map(|site| &site.storage));
    let settings = sections.flat_map(|section| {
        std::iter::once(&section.settings).chain(section.replica.iter().map(|(settings, _)| settings))
    });
    settings.map(|settings| settings.endpoints().count()).sum()
}

fn front(
    connected: &Arc<Connected>,
    proxy: &ProxySettings,
    (buckets, of_further, clients, anonymous): (Buckets, Vec<Buckets>, Vec<Client>, Option<Anonymous>),
    access_log: Option<Arc<AccessLog>>,
    instruments: &Instruments,
) -> Result<Front> {
    let settings = FrontSettings {
        clients,
        anonymous,
        domains: proxy.domains.clone(),
        verify: VerifySettings::default(),
        body_timeout: proxy.body_timeout,
        max_requests: proxy.max_requests,
        access_log,
        metrics: instruments.front.clone(),
        tracer: instruments.traces.tracer.clone(),
        company: Some(Arc::clone(connected) as Arc<dyn Send + Sync>),
    };
    Ok(Front::new(connected.sites(buckets, of_further), settings)?)
}

impl Prepared {
    /// Serves until `shutdown` resolves, then drains. Meanwhile a changed configuration is taken over, at once on `hangup`.
    pub(super) async fn serve(self, shutdown: impl Future<Output = ()>, hangup: Option<Signal>) -> DrainReport {
        let Self {
            listener, limits, leave, fronts, tls, access_log, health, showing, exporting, renewal, shown, ..
        } = self;
        health.serves();
        let leaving = fronts.clone();
        let shutdown = async move {
            shutdown.await;
            health.drains();
            leaving.borrow().leave();
            tokio::time::sleep(leave).await;
        };
        let serving = Front::serve(fronts, listener, tls, limits, shutdown);
        let report = tokio::select! {
            report = serving => report,
            never = renewal.keep_looking(hangup) => match never {},
            never = certificates::keep_telling(shown) => match never {},
        };
        if let Some(log) = &access_log
            && let Err(error) = log.close().await
        {
            tracing::error!(error = &error as &dyn std::error::Error, "the access log did not end well");
        }
        if let Some(exporting) = exporting {
            exporting.end().await;
        }
        if let Some(showing) = showing {
            showing.end().await;
        }
        report
    }
}

/// What requests go by now.
struct InForce {
    connected: Arc<Connected>,
    /// The KEKs that were proven.
    keks: Vec<KekUse>,
    written: Written,
}

/// Takes changed configurations over.
struct Renewal {
    file: PathBuf,
    in_force: InForce,
    fronts: watch::Sender<Arc<Front>>,
    tls: Option<watch::Sender<Arc<ServerConfig>>>,
    access_log: Option<Arc<AccessLog>>,
    instruments: Instruments,
}

impl Renewal {
    async fn keep_looking(mut self, mut hangup: Option<Signal>) -> Infallible {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // As they were when they were read, so that a change since then is seen.
        let mut seen = self.in_force.written.stamps();
        let mut tried = seen.clone();
        let mut again: Option<Instant> = None;
        loop {
            let asked = tokio::select! {
                _ = every.tick() => false,
                () = hung_up(&mut hangup) => true,
            };
            let before = std::mem::replace(&mut seen, self.in_force.written.look());
            // Files are written one after the other: once they are left alone, they belong together.
            let changed = seen == before && seen != tried;
            if !(asked || changed || again.is_some_and(|again| again <= Instant::now())) {
                continue;
            }
            tried.clone_from(&seen);
            again = match self.renew().await {
                true => {
                    seen = self.in_force.written.stamps();
                    tried.clone_from(&seen);
                    None
                }
                // What is amiss may lie in a file that was not named before, or with a server.
                false => Some(Instant::now() + AGAIN),
            };
        }
    }

    /// Reads the configuration and takes it over. Whether it could.
    async fn renew(&mut self) -> bool {
        let (path, read) = (self.file.clone(), self.file.clone());
        let file = path.display();
        // Beside the task that takes connections: whatever holds up a disk does not hold up clients.
        let Ok(loaded) = spawn_blocking(move || config::load(&read)).await else { return false };
        let config = match loaded {
            Ok(config) => config,
            Err(problems) => {
                for problem in &problems.list {
                    tracing::error!(problem = problems.line_of(problem), "a mistake in the changed configuration");
                }
                tracing::error!(%file, "the changed configuration is not taken; the one in force stays");
                return false;
            }
        };
        let changed = self.fixed(&config.written).join(", ");
        if !changed.is_empty() {
            tracing::error!(%file, changed, "the changed configuration takes a restart; the one in force stays");
            return false;
        }
        match self.take_over(config).await {
            Ok(()) => tracing::info!(%file, "the changed configuration is in force"),
            Err(error) => {
                let error: &dyn std::error::Error = error.as_ref();
                tracing::error!(%file, error, "the changed configuration cannot be taken now; the one in force stays");
                return false;
            }
        }
        true
    }

    /// What has changed that only a restart changes.
    fn fixed(&self, new: &Written) -> Vec<String> {
        let old = &self.in_force.written;
        let keys = FIXED_KEYS.iter().filter(|key| !old.says_the_same_of(new, "proxy", key));
        let sections = FIXED_SECTIONS.iter().filter(|section| !old.is_the_same(new, section));
        keys.map(|key| format!("[proxy] {key}")).chain(sections.map(|section| format!("[{section}]"))).collect()
    }

    /// Puts everything together, and only then replaces what there was.
    async fn take_over(&mut self, config: Config) -> Result<()> {
        let old = &self.in_force;
        let (placement, servers) = (config.placement(), servers_of(&config));
        let kept = ["storage", "site", "leases"].iter().all(|section| old.written.is_the_same(&config.written, section))
            // A branch key stands in the directory of the site that its bucket lies on.
            && old.connected.is_placed_as(&placement)
            // The custodian's client looks after its certificates and token itself.
            && old.written.says_the_same(&config.written, "custodian")
            && ["region", "role"].iter().all(|key| old.written.says_the_same_of(&config.written, "proxy", key));
        let transit = if kept { Arc::clone(&old.connected.transit) } else { transit(&config.custodian)? };
        let is_new = |used: &&KekUse| !kept || !old.keks.iter().any(|proven| proven.kek == used.kek);
        let unproven: Vec<KekUse> = config.keks.iter().filter(is_new).cloned().collect();
        prove_keks(&config, &unproven, transit.as_ref()).await?;
        let Config { mut proxy, storage, sites, custodian, leases, buckets, keks, clients, anonymous, written, .. } =
            config;
        fit(&mut proxy, servers);
        let (further, of_further) = split(sites);
        let connected = if kept {
            Arc::clone(&old.connected)
        } else {
            let (seen, writer) = ((transit, &self.instruments), proxy.writer.clone());
            Arc::new(Connected::new((storage, further), placement, &custodian, &leases, writer, seen).await?)
        };
        let (log, instruments) = (self.access_log.clone(), &self.instruments);
        let front = front(&connected, &proxy, (buckets, of_further, clients, anonymous), log, instruments)?;
        connected.is_seen_by(instruments);
        if let (Some(sender), Some(config)) = (&self.tls, proxy.tls) {
            sender.send_replace(config);
        }
        self.fronts.send_modify(|former| *former = Arc::new(front.in_place_of(former)));
        self.in_force = InForce { connected, keks, written };
        Ok(())
    }
}

/// The certificates that it shows to others.
fn certificates_of(config: &Config) -> Vec<(&'static str, IdentityFiles)> {
    let server = config.proxy.identity.clone().map(|identity| ("server", identity));
    let client = config.custodian.tls.identity.clone().map(|identity| ("custodian-client", identity));
    server.into_iter().chain(client).collect()
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
    let replica = config.storage.replica.as_ref().map(|(settings, _)| settings.endpoint.to_string());
    let custodian: Vec<String> = config.custodian.addresses.iter().map(ToString::to_string).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cryptography = crypto::LIBRARY,
        %address,
        tls = config.proxy.tls.is_some(),
        writer = config.proxy.writer.as_str(),
        storage = addresses(&config.storage.settings),
        replica,
        state_bucket = config.storage.state_bucket,
        custodian = custodian.join(","),
        keks = keks.join(","),
        clients = config.clients.len(),
        anonymous = config.anonymous.is_some(),
        "the proxy starts; each KEK is proven to bind branch keys to their context"
    );
    for SiteSection { storage, buckets } in &config.sites {
        let (buckets, addresses) = (buckets.named().count(), addresses(&storage.settings));
        if buckets == 0 {
            tracing::warn!(site = storage.site, "no bucket names this site: it is of no use");
        }
        let (site, state_bucket) = (&storage.site, &storage.state_bucket);
        tracing::info!(site, storage = addresses, state_bucket, buckets, "a further storage server");
    }
}

fn addresses(settings: &StorageSettings) -> String {
    settings.endpoints().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
