//! Metrics: counters, gauges and histograms, and the registry from which a scrape is written.
//!
//! Parts hold instruments, which work whether or not somebody registered them. What is cheaper to look up than to keep is read at each
//! scrape.
//!
//! **Invariant:** names and values of labels are `&'static str`: nothing that a client, a server or a configuration names becomes a series.

mod instruments;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry;

pub use instruments::{Counter, Counters, Gauge, Histograms, InFlight};

/// A label.
pub type Label = (&'static str, &'static str);

/// One value of a series that is read at each scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    labels: Vec<Label>,
    value: f64,
}

impl Sample {
    /// Of a series without labels.
    pub fn new(value: f64) -> Self {
        Self { labels: Vec::new(), value }
    }

    /// With a label more.
    #[must_use]
    pub fn label(mut self, name: &'static str, value: &'static str) -> Self {
        self.labels.push((name, value));
        self
    }
}

impl From<bool> for Sample {
    fn from(holds: bool) -> Self {
        Self::new(if holds { 1.0 } else { 0.0 })
    }
}

impl From<u64> for Sample {
    fn from(count: u64) -> Self {
        Self::new(count as f64)
    }
}

impl From<usize> for Sample {
    fn from(count: usize) -> Self {
        Self::new(count as f64)
    }
}

impl From<Duration> for Sample {
    fn from(duration: Duration) -> Self {
        Self::new(duration.as_secs_f64())
    }
}

/// How the text of a scrape is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextForm {
    /// Prometheus' own, version 0.0.4, which everybody reads.
    Prometheus,
    /// OpenMetrics 1.0, for who asks for it.
    OpenMetrics,
}

impl TextForm {
    /// The form that an `Accept` header asks for.
    pub fn accepted(accept: Option<&str>) -> Self {
        let asks = accept.is_some_and(|accept| accept.contains("application/openmetrics-text"));
        if asks { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a scrape shows.
#[derive(Debug, Default)]
pub struct Registry(registry::Registry);

impl Registry {
    /// A counter. Its name goes without the `_total` that a scrape shows.
    pub fn counter(&mut self, name: &'static str, help: &'static str, counter: &Counter) {
        self.0.register(name, help, counter.0.clone());
    }

    /// Counters by labels, named as a [`Registry::counter`].
    pub fn counters<const N: usize>(&mut self, name: &'static str, help: &'static str, counters: &Counters<N>) {
        self.0.register(name, help, counters.family.clone());
    }

    /// A gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, gauge: &Gauge) {
        self.0.register(name, help, gauge.0.clone());
    }

    /// Histograms by labels.
    pub fn histograms<const N: usize>(&mut self, name: &'static str, help: &'static str, histograms: &Histograms<N>) {
        self.0.register(name, help, histograms.family.clone());
    }

    /// Gauges that are read at each scrape. No sample means that there is nothing to tell.
    pub fn read_gauges<F, I>(&mut self, name: &'static str, help: &'static str, read: F)
    where
        F: Fn() -> I + Send + Sync + 'static,
        I: IntoIterator<Item = Sample>,
    {
        self.read(name, help, Kind::Gauge, move || read().into_iter().collect());
    }

    /// Counters that are kept elsewhere and read at each scrape, named as a [`Registry::counter`].
    pub fn read_counters<F, I>(&mut self, name: &'static str, help: &'static str, read: F)
    where
        F: Fn() -> I + Send + Sync + 'static,
        I: IntoIterator<Item = Sample>,
    {
        self.read(name, help, Kind::Counter, move || read().into_iter().collect());
    }

    fn read(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        self.0.register_collector(Box::new(Read { name, help, kind, read: Box::new(read) }));
    }

    /// Everything as it is now.
    ///
    /// # Errors
    /// [`fmt::Error`], when something that is read at the scrape fails to be written.
    pub fn encode(&self, form: TextForm) -> Result<String, fmt::Error> {
        let mut scrape = String::new();
        match form {
            TextForm::Prometheus => prometheus_text::encode(&mut scrape, &self.0)?,
            TextForm::OpenMetrics => text::encode(&mut scrape, &self.0)?,
        }
        Ok(scrape)
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Gauge,
    Counter,
}

struct Read {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Read {
    fn write(&self, mut encoder: MetricEncoder<'_>, value: f64) -> fmt::Result {
        match self.kind {
            Kind::Gauge => encoder.encode_gauge(&value),
            Kind::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(&value, None),
        }
    }
}

impl Collector for Read {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let samples = (self.read)();
        if samples.is_empty() {
            return Ok(());
        }
        let kind = match self.kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
        };
        // As the registry writes the help of what it holds itself.
        let help = format!("{}.", self.help);
        let mut metric = encoder.encode_descriptor(self.name, &help, None, kind)?;
        for Sample { labels, value } in &samples {
            let labels = labels.as_slice();
            self.write(metric.encode_family(&labels)?, *value)?;
        }
        Ok(())
    }
}

/// The time since `begun`, in seconds.
pub fn seconds_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64()
}
