//! The instruments: cheap to clone, and clones count together.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::{counter, gauge, histogram};

use super::Label;

/// Upper bounds of durations, in seconds: from a cache's hit to an upload of many minutes.
const SECONDS: [f64; 18] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// Counts up.
#[derive(Debug, Clone, Default)]
pub struct Counter(pub(super) counter::Counter<u64, AtomicU64>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// `count` more.
    pub fn add(&self, count: u64) {
        self.0.inc_by(count);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(pub(super) gauge::Gauge);

impl Gauge {
    /// How much it is.
    pub fn get(&self) -> i64 {
        self.0.get()
    }

    /// One more, for as long as the answer exists.
    #[must_use]
    pub fn hold(&self) -> InFlight {
        self.0.inc();
        InFlight(self.clone())
    }
}

/// Counts as one in a gauge until it is dropped.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.dec();
    }
}

/// Makes the histograms of a family.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfSeconds;

impl MetricConstructor<histogram::Histogram> for OfSeconds {
    fn new_metric(&self) -> histogram::Histogram {
        histogram::Histogram::new(SECONDS)
    }
}

type CounterFamily<const N: usize> = Family<[Label; N], counter::Counter<u64, AtomicU64>>;
type HistogramFamily<const N: usize> = Family<[Label; N], histogram::Histogram, OfSeconds>;

/// Counters by labels.
#[derive(Debug, Clone)]
pub struct Counters<const N: usize> {
    names: [&'static str; N],
    pub(super) family: CounterFamily<N>,
}

impl<const N: usize> Counters<N> {
    /// None yet, with labels of these names.
    pub fn new(names: [&'static str; N]) -> Self {
        Self { names, family: Family::default() }
    }

    /// The counter of these values. It is shown from now on.
    pub fn of(&self, values: [&'static str; N]) -> Counter {
        Counter(self.family.get_or_create_owned(&labels(self.names, values)))
    }

    /// One more of these values.
    pub fn inc(&self, values: [&'static str; N]) {
        self.family.get_or_create(&labels(self.names, values)).inc();
    }
}

/// Histograms of durations by labels.
#[derive(Debug, Clone)]
pub struct Histograms<const N: usize> {
    names: [&'static str; N],
    pub(super) family: HistogramFamily<N>,
}

impl<const N: usize> Histograms<N> {
    /// None yet, with labels of these names.
    pub fn new(names: [&'static str; N]) -> Self {
        Self { names, family: Family::new_with_constructor(OfSeconds) }
    }

    /// Takes in one duration of these values.
    pub fn observe(&self, values: [&'static str; N], seconds: f64) {
        self.family.get_or_create(&labels(self.names, values)).observe(seconds);
    }
}

fn labels<const N: usize>(names: [&'static str; N], values: [&'static str; N]) -> [Label; N] {
    let mut values = values.into_iter();
    names.map(|name| (name, values.next().unwrap_or_default()))
}
