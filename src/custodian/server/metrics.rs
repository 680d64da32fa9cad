//! What is counted of the custodian's requests and decisions, and how it is: sealed, its store, its audit log.

use std::sync::{Arc, Weak};

use http::StatusCode;

use super::Server;
use super::state::Unsealed;
use crate::telemetry::metrics::{Counters, Gauge, Histograms, InFlight, Registry, Sample};
use crate::tlog::Lag;

/// What is counted. Clones count together.
#[derive(Debug, Clone)]
pub(super) struct ServerMetrics {
    requests: Counters<2>,
    durations: Histograms<1>,
    in_flight: Gauge,
    watches: Gauge,
    /// By action and decision.
    pub(super) decisions: Counters<2>,
}

impl Default for ServerMetrics {
    fn default() -> Self {
        Self {
            requests: Counters::new(["operation", "result"]),
            durations: Histograms::new(["operation"]),
            in_flight: Gauge::default(),
            watches: Gauge::default(),
            decisions: Counters::new(["action", "decision"]),
        }
    }
}

impl ServerMetrics {
    /// A request is in flight until the answer is dropped.
    pub(super) fn begin(&self) -> InFlight {
        self.in_flight.hold()
    }

    /// A watch is open until the answer is dropped.
    pub(super) fn watches(&self) -> InFlight {
        self.watches.hold()
    }

    /// A request was answered.
    pub(super) fn answered(&self, operation: &'static str, status: StatusCode, seconds: f64) {
        self.requests.inc([operation, result_of(status)]);
        self.durations.observe([operation], seconds);
    }

    fn register(&self, registry: &mut Registry) {
        let help = "Requests to the custodian, by operation and by status or its class";
        registry.counters("claviger_custodian_requests", help, &self.requests);
        let help = "Time of each request to the custodian";
        registry.histograms("claviger_custodian_request_duration_seconds", help, &self.durations);
        let help = "Requests to the custodian that are under way";
        registry.gauge("claviger_custodian_requests_in_flight", help, &self.in_flight);
        registry.gauge("claviger_custodian_watches", "Watches that are held open", &self.watches);
        let help = "Decisions that were written to the audit log";
        registry.counters("claviger_custodian_decisions", help, &self.decisions);
    }
}

fn result_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400 => "400",
        403 => "403",
        404 => "404",
        405..=499 => "4xx",
        503 => "503",
        _ => "5xx",
    }
}

impl Server {
    /// Whether it can serve: it is unsealed, and store and audit log are well.
    ///
    /// # Errors
    /// What is in the way.
    pub fn can_serve(&self) -> Result<(), &'static str> {
        let unsealed = self.state.unsealed().ok_or("sealed")?;
        let health = unsealed.engine.health();
        match (health.store_ok, health.audit_ok) {
            (true, true) => Ok(()),
            (false, _) => Err("the store is out of sight"),
            (true, false) => Err("the audit log cannot be written"),
        }
    }

    /// Has its metrics shown.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        self.metrics.register(registry);
        let server = Arc::downgrade(self);
        let seen = move |read: fn(&Self) -> Option<Sample>| {
            let server: Weak<Self> = server.clone();
            move || server.upgrade().and_then(|server| read(&server))
        };
        for (name, help, read) in READ {
            registry.read_gauges(name, help, seen(*read));
        }
    }

    fn lag(&self) -> Option<Lag> {
        self.state.unsealed().map(|unsealed| unsealed.engine.audit().log().lag())
    }
}

fn of(server: &Server, read: impl FnOnce(&Unsealed) -> Sample) -> Option<Sample> {
    server.state.unsealed().map(|unsealed| read(&unsealed))
}

type Read = (&'static str, &'static str, fn(&Server) -> Option<Sample>);

/// What is read at each scrape.
const READ: &[Read] = &[
    ("claviger_custodian_sealed", "Whether it is sealed", |server| Some(server.is_sealed().into())),
    ("claviger_custodian_store_well", "Whether it sees its store; not told while it is sealed", |server| {
        of(server, |unsealed| unsealed.engine.health().store_ok.into())
    }),
    ("claviger_custodian_audit_well", "Whether its audit log can be written; not told while it is sealed", |server| {
        of(server, |unsealed| unsealed.engine.health().audit_ok.into())
    }),
    ("claviger_custodian_audit_entries", "Entries of the audit log that are in a checkpoint", |server| {
        of(server, |unsealed| unsealed.engine.audit().head().size.into())
    }),
    ("claviger_custodian_audit_pending_entries", "Entries of the audit log that are in no checkpoint yet", |server| {
        server.lag().map(|lag| lag.entries.into())
    }),
    ("claviger_custodian_audit_lag_seconds", "How long the oldest of these waits", |server| {
        server.lag().map(|lag| lag.oldest.unwrap_or_default().into())
    }),
    ("claviger_custodian_audit_checkpoint_age_seconds", "Time since the last checkpoint of this process", |server| {
        server.lag()?.checkpoint_age.map(Sample::from)
    }),
];
