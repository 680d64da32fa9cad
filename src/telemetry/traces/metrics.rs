//! How many spans were sent, and how many were not.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::telemetry::metrics::{Counter, Counters, Registry, Sample};

/// Why spans were dropped.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dropped {
    /// More come than the collector takes.
    QueueFull,
    /// The collector cannot be reached, or fails.
    CollectorFailed,
    /// The collector took the request and not the span.
    Rejected,
    /// The process ended.
    Ended,
}

/// What is counted of spans. Clones count together.
#[derive(Debug, Clone)]
pub struct TraceMetrics {
    sent: Counter,
    dropped: Counters<1>,
    causes: [Counter; 4],
    /// Below 0 for a moment, where a span ends just when the rest is dropped.
    waiting: Arc<AtomicI64>,
}

impl Default for TraceMetrics {
    fn default() -> Self {
        let dropped = Counters::new(["cause"]);
        // Shown from the start, so that the first of them is a change. In the order of the enum.
        let causes = ["queue-full", "collector-failed", "rejected", "ended"].map(|cause| dropped.of([cause]));
        Self { sent: Counter::default(), dropped, causes, waiting: Arc::default() }
    }
}

impl TraceMetrics {
    /// Has them shown.
    pub fn register(&self, registry: &mut Registry) {
        registry.counter("claviger_trace_spans_sent", "Spans that the collector has taken", &self.sent);
        let help = "Spans that nobody will see, by cause";
        registry.counters("claviger_trace_spans_dropped", help, &self.dropped);
        let waiting = Arc::clone(&self.waiting);
        let help = "Spans that wait to be sent, or are being sent";
        registry.read_gauges("claviger_trace_spans_waiting", help, move || {
            [Sample::from(waiting.load(Ordering::Relaxed).max(0).unsigned_abs())]
        });
    }

    /// How many were dropped so far.
    pub fn all_dropped(&self) -> u64 {
        self.causes.iter().map(Counter::get).sum()
    }

    /// How many the collector has taken.
    pub fn all_sent(&self) -> u64 {
        self.sent.get()
    }

    pub(super) fn queued(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, count: u64) {
        self.leave(count);
        self.sent.add(count);
    }

    pub(super) fn dropped(&self, cause: Dropped, count: u64) {
        self.leave(count);
        self.causes[cause as usize].add(count);
    }

    /// What still waits will not be sent.
    pub(super) fn drop_the_rest(&self) {
        let rest = self.waiting.swap(0, Ordering::Relaxed);
        self.causes[Dropped::Ended as usize].add(rest.max(0).unsigned_abs());
    }

    fn leave(&self, count: u64) {
        self.waiting.fetch_sub(count.cast_signed(), Ordering::Relaxed);
    }
}
