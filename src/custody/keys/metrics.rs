//! What is told of branch keys: how often they are at hand, how many are leased and for how long already, what the custodian takes.

use std::time::Duration;

use crate::custody::CustodyError;
use crate::telemetry::metrics::{Counter, Counters, Histograms, Registry, Sample};

use super::BranchKeys;

/// Upper bounds of ages of leases, in seconds, and what the bands below them are called. The last takes the rest.
const AGES: [(u64, &str); 4] = [(60, "0-1m"), (300, "1-5m"), (1800, "5-30m"), (u64::MAX, "30m-")];

/// What is counted of branch keys. Clones count together.
#[derive(Debug, Clone)]
pub struct KeyMetrics {
    lookups: Counters<2>,
    pub(super) reads: Lookups,
    pub(super) writes: Lookups,
    calls: Histograms<2>,
}

/// How often a key was at hand, and how often not.
#[derive(Debug, Clone)]
pub(super) struct Lookups {
    pub(super) hit: Counter,
    pub(super) miss: Counter,
    /// It is remembered that the custodian refused.
    pub(super) refused: Counter,
}

impl Default for KeyMetrics {
    fn default() -> Self {
        let lookups = Counters::new(["kind", "outcome"]);
        let of = |kind| Lookups {
            hit: lookups.of([kind, "hit"]),
            miss: lookups.of([kind, "miss"]),
            refused: lookups.of([kind, "refused"]),
        };
        let (reads, writes) = (of("read"), of("write"));
        Self { lookups, reads, writes, calls: Histograms::new(["verb", "outcome"]) }
    }
}

impl KeyMetrics {
    /// Has them shown, and what `keys` gives at the time of the scrape: these may be replaced, or be none.
    pub fn register(
        &self,
        registry: &mut Registry,
        keys: impl Fn() -> Option<BranchKeys> + Clone + Send + Sync + 'static,
    ) {
        let help = "Lookups of branch keys in memory; a miss asks the custodian";
        registry.counters("claviger_key_cache_lookups", help, &self.lookups);
        let help = "Time of each call to the custodian, waiting for a place included";
        registry.histograms("claviger_custodian_call_duration_seconds", help, &self.calls);
        let tallied = move || keys().map(|keys| keys.tally()).into_iter();
        let tally = tallied.clone();
        registry.read_gauges("claviger_key_cache_entries", "Branch keys and callers in memory", move || {
            tally().flat_map(|tally| tally.entries())
        });
        let tally = tallied.clone();
        registry.read_gauges("claviger_leases", "Leases of branch keys that are good, by age", move || {
            tally().flat_map(|tally| tally.leases())
        });
        let tally = tallied.clone();
        let help = "Whether the custodian's watch is open";
        registry.read_gauges("claviger_custodian_watch_connected", help, move || {
            tally().filter_map(|tally| tally.watch).map(|watch| Sample::from(watch.connected))
        });
        let help = "Time since the custodian's watch last said something";
        registry.read_gauges("claviger_custodian_watch_silence_seconds", help, move || {
            tallied().filter_map(|tally| tally.watch?.silent_for).map(Sample::from)
        });
    }

    pub(crate) fn called<T>(&self, verb: &'static str, outcome: &Result<T, CustodyError>, seconds: f64) {
        self.calls.observe([verb, outcome.as_ref().map_or_else(outcome_of, |_| "ok")], seconds);
    }
}

fn outcome_of(error: &CustodyError) -> &'static str {
    match error {
        CustodyError::UnknownKek => "unknown-kek",
        CustodyError::Denied => "denied",
        CustodyError::Disabled => "disabled",
        CustodyError::VersionTooOld => "version-too-old",
        CustodyError::VersionUnknown => "version-unknown",
        CustodyError::NotAuthentic => "not-authentic",
        CustodyError::Unreachable(_) => "unreachable",
        CustodyError::Sealed => "sealed",
        CustodyError::Malformed(_) => "malformed",
        CustodyError::Random(_) => "no-randomness",
    }
}

/// How the watch over the custodian is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchState {
    /// It is open.
    pub connected: bool,
    /// Since the custodian last said something; `None` if it never did.
    pub silent_for: Option<Duration>,
}

/// How many leases there are, by age.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ages([usize; AGES.len()]);

impl Ages {
    pub(super) fn add(&mut self, lasted: Duration) {
        let band = AGES.iter().position(|(most, _)| lasted.as_secs() < *most).unwrap_or(AGES.len() - 1);
        self.0[band] += 1;
    }

    fn samples(self, kind: &'static str) -> impl Iterator<Item = Sample> {
        let named = self.0.into_iter().zip(AGES);
        named.map(move |(count, (_, band))| Sample::from(count).label("kind", kind).label("age", band))
    }
}

/// What there is at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) reading: Ages,
    pub(super) writing: Ages,
    pub(super) read_entries: usize,
    pub(super) write_slots: usize,
    pub(super) watch: Option<WatchState>,
}

impl Tally {
    fn entries(self) -> [Sample; 2] {
        let of = |kind, entries| Sample::from(entries).label("kind", kind);
        [of("read", self.read_entries), of("write", self.write_slots)]
    }

    fn leases(self) -> impl Iterator<Item = Sample> {
        self.reading.samples("read").chain(self.writing.samples("write"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_fall_into_bands() {
        let mut ages = Ages::default();
        for seconds in [0, 59, 60, 299, 300, 1800, 1_000_000] {
            ages.add(Duration::from_secs(seconds));
        }
        assert_eq!(ages, Ages([2, 2, 1, 2]));
        let samples: Vec<Sample> = ages.samples("read").collect();
        assert_eq!(samples[0], Sample::new(2.0).label("kind", "read").label("age", "0-1m"));
    }
}
