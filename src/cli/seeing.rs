//! What is seen of a running proxy or custodian: its metrics and readiness, and the listener that shows them.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::custody::keys::{BranchKeys, KeyMetrics};
use crate::net::listener::ConnectionCount;
use crate::net::tls::IdentityFiles;
use crate::proxy::FrontMetrics;
use crate::proxy::access_log::AccessLog;
use crate::storage::StorageMetrics;
use crate::telemetry::endpoint::{self, Shown};
use crate::telemetry::health::{Check, Health};
use crate::telemetry::metrics::{Registry, Sample};
use crate::telemetry::traces::{Exporting, TraceMetrics, TraceSettings, Tracer};
use crate::telemetry::{certificates, process};
use crate::transit::Transit;

/// The instruments of a proxy. They outlast the parts that use them.
#[derive(Clone, Default)]
pub(super) struct Instruments {
    pub(super) front: FrontMetrics,
    pub(super) storage: StorageMetrics,
    pub(super) keys: KeyMetrics,
    pub(super) connections: ConnectionCount,
    pub(super) traces: Tracing,
    in_force: Arc<RwLock<Option<InForce>>>,
}

/// What a scrape looks at.
#[derive(Clone)]
struct InForce {
    keys: BranchKeys,
    transit: Arc<Transit>,
}

impl Instruments {
    /// With what makes spans.
    pub(super) fn traced(traces: Tracing) -> Self {
        Self { traces, ..Self::default() }
    }

    /// These keys, leased from this custodian, are in use from now on.
    pub(super) fn look_at(&self, keys: &BranchKeys, transit: &Arc<Transit>) {
        let now = InForce { keys: keys.clone(), transit: Arc::clone(transit) };
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    fn in_force(&self) -> Option<InForce> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What readiness hangs on.
    pub(super) fn health(&self) -> Arc<Health> {
        let seen = self.clone();
        let watched: Check = Box::new(move || match seen.in_force() {
            Some(now) => now.keys.are_given_out().map_err(|_| "the custodian's watch is lost"),
            None => Err("the custodian was not asked yet"),
        });
        let seen = self.clone();
        let reached: Check = Box::new(move || match seen.in_force() {
            Some(now) if !now.transit.answers() => Err("the custodian cannot be reached"),
            _ => Ok(()),
        });
        Arc::new(Health::new(vec![watched, reached]))
    }

    /// A registry that shows all of it.
    pub(super) fn registry(
        &self,
        health: &Arc<Health>,
        access_log: Option<&Arc<AccessLog>>,
        certificates: Vec<(&'static str, IdentityFiles)>,
    ) -> Registry {
        let mut registry = registry("proxy", health, &self.connections, certificates);
        self.front.register(&mut registry);
        self.storage.register(&mut registry);
        let seen = self.clone();
        self.keys.register(&mut registry, move || seen.in_force().map(|now| now.keys));
        if let Some(log) = access_log {
            log.register(&mut registry);
        }
        self.traces.register(&mut registry);
        registry
    }
}

/// What proxies and custodians have in common.
pub(super) fn registry(
    role: &'static str,
    health: &Arc<Health>,
    connections: &ConnectionCount,
    certificates: Vec<(&'static str, IdentityFiles)>,
) -> Registry {
    let mut registry = Registry::default();
    process::register(&mut registry, role);
    let ready = Arc::clone(health);
    registry
        .read_gauges("claviger_ready", "Whether it is ready for requests", move || [Sample::from(ready.is_ready())]);
    let (open, accepted) = (connections.clone(), connections.clone());
    registry.read_gauges("claviger_connections", "Connections that are open", move || [Sample::from(open.open())]);
    let help = "Connections that were accepted";
    registry.read_counters("claviger_connections_accepted", help, move || [Sample::from(accepted.accepted())]);
    certificates::register(&mut registry, certificates);
    registry
}

/// What makes spans, if that is configured.
#[derive(Clone, Default)]
pub(super) struct Tracing {
    pub(super) tracer: Tracer,
    metrics: Option<TraceMetrics>,
}

impl Tracing {
    /// Begins to make spans and to send them as `settings` say; without any, it makes none.
    pub(super) fn start(settings: Option<TraceSettings>) -> Result<(Self, Option<Exporting>)> {
        let Some(settings) = settings else { return Ok((Self::default(), None)) };
        let metrics = TraceMetrics::default();
        let started = Tracer::start(&settings, &metrics);
        let (tracer, exporting) = started.context("the TLS files for the collector of traces do not do")?;
        let (collector, ratio) = (&settings.collector, settings.sample_ratio);
        tracing::info!(%collector, sample_ratio = ratio, reveal = ?settings.reveal, "traces are sent");
        if !collector.is_tls() && !collector.is_here() {
            tracing::warn!(%collector, "traces go to another machine, unencrypted");
        }
        Ok((Self { tracer, metrics: Some(metrics) }, Some(exporting)))
    }

    /// Has shown what becomes of the spans.
    pub(super) fn register(&self, registry: &mut Registry) {
        if let Some(metrics) = &self.metrics {
            metrics.register(registry);
        }
    }
}

/// The listener, which serves until this ends.
pub(super) struct Showing {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Showing {
    /// Shows `registry` and `health` at `address`.
    pub(super) async fn start(address: SocketAddr, registry: Registry, health: Arc<Health>) -> Result<Self> {
        let listener = TcpListener::bind(address).await;
        let listener =
            listener.with_context(|| format!("cannot listen on {address} for [metrics], choose another address"))?;
        let address = listener.local_addr()?;
        tracing::info!(url = %format_args!("http://{address}/metrics"), "metrics are shown");
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "metrics are shown, unencrypted, to everybody who reaches the address");
        }
        let (end, ended) = oneshot::channel();
        // A dropped sender is an end, too.
        let shutdown = async move { drop(ended.await) };
        let task = tokio::spawn(endpoint::serve(listener, Arc::new(Shown { registry, health }), shutdown));
        Ok(Self { end, task })
    }

    /// Ends it.
    pub(super) async fn end(self) {
        let _ = self.end.send(());
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the listener for metrics did not end well");
        }
    }
}
