//! A scrape of metrics, read back: Prometheus' text, sums of series, rates and quantiles between two scrapes.

use std::collections::BTreeMap;
use std::time::Instant;

/// Most samples of a scrape that are looked at.
const SAMPLES_MAX: usize = 100_000;

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// All that was told at a moment.
#[derive(Debug, Clone)]
pub(super) struct Scrape {
    samples: Vec<Sample>,
    at: Instant,
}

impl Scrape {
    /// Reads it. What is not a sample is passed over.
    pub(super) fn parse(text: &str, at: Instant) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self { samples: lines.filter_map(sample).take(SAMPLES_MAX).collect(), at }
    }

    /// The sum of what has the name and labels that `wanted` accepts; `None` without any.
    pub(super) fn sum(&self, name: &str, wanted: impl Fn(&str, &str) -> bool) -> Option<f64> {
        let accepted =
            |sample: &&Sample| sample.name == name && sample.labels.iter().all(|(label, value)| wanted(label, value));
        self.samples.iter().filter(accepted).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }

    /// The sum of a name's values, whatever their labels.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.sum(name, |_, _| true)
    }

    /// The least of a name's values.
    pub(super) fn least(&self, name: &str) -> Option<f64> {
        let values = self.samples.iter().filter(|sample| sample.name == name).map(|sample| sample.value);
        values.reduce(f64::min)
    }

    /// The value of a label, where a name has one.
    pub(super) fn label(&self, name: &str, label: &str) -> Option<&str> {
        self.samples.iter().find(|sample| sample.name == name)?.labels.get(label).map(String::as_str)
    }

    /// How much a counter grew in a second since `before`.
    pub(super) fn rate(&self, before: &Self, name: &str, wanted: impl Fn(&str, &str) -> bool) -> f64 {
        let grown = self.sum(name, &wanted).unwrap_or(0.0) - before.sum(name, &wanted).unwrap_or(0.0);
        let seconds = self.at.saturating_duration_since(before.at).as_secs_f64();
        // A counter that shrank began anew.
        if seconds > 0.0 { grown.max(0.0) / seconds } else { 0.0 }
    }

    /// The quantile `q` of a histogram of durations since `before`, or if there were none, of all.
    pub(super) fn quantile(&self, before: Option<&Self>, name: &str, q: f64) -> Option<f64> {
        let all = self.buckets(name);
        let former = before.map(|before| before.buckets(name)).unwrap_or_default();
        let since: Vec<(f64, f64)> = all
            .iter()
            .map(|(bound, count)| {
                let had = former.iter().find(|(same, _)| same == bound).map_or(0.0, |(_, had)| *had);
                (*bound, (count - had).max(0.0))
            })
            .collect();
        quantile(&since, q).or_else(|| quantile(&all, q))
    }

    /// Upper bounds and how many were not above, in the order of bounds. What is no number is passed over.
    fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let name = format!("{name}_bucket");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.name == name) {
            let bound = sample.labels.get("le").map(String::as_str).unwrap_or_default();
            let Ok(bound) = bound.replace("+Inf", "inf").parse::<f64>() else { continue };
            if bound > f64::NEG_INFINITY && sample.value.is_finite() {
                buckets.push((bound, sample.value));
            }
        }
        buckets.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        buckets.dedup_by(|(next, more), (bound, count)| {
            let same = next == bound;
            if same {
                *count += *more;
            }
            same
        });
        buckets
    }
}

/// As Prometheus' `histogram_quantile`: within a bucket, values are taken to lie evenly; beyond the last bound, at it.
fn quantile(buckets: &[(f64, f64)], q: f64) -> Option<f64> {
    let total = buckets.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
    let rank = q * total;
    let (mut below, mut counted) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank {
            if bound.is_infinite() {
                return Some(below);
            }
            let within = if *count > counted { (rank - counted) / (count - counted) } else { 0.0 };
            return Some((below * (1.0 - within) + bound * within).min(*bound));
        }
        (below, counted) = (*bound, *count);
    }
    None
}

/// `name{label="value",…} value`. Our values have no quotes in them.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let pair = |pair: &str| {
        let (label, value) = pair.split_once("=\"")?;
        Some((label.to_owned(), value.strip_suffix('"')?.to_owned()))
    };
    let labels = labels.split(',').filter(|text| !text.is_empty()).map(pair).collect::<Option<_>>()?;
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

/// Whatever a server shows as its metrics, what is made of it is a number or nothing: never one below none for a rate, and a quantile within the bounds.
#[doc(hidden)]
pub fn fuzz_scrape(text: &str) {
    let at = Instant::now();
    let scrape = Scrape::parse(text, at);
    assert!(scrape.samples.len() <= SAMPLES_MAX);
    let names: std::collections::BTreeSet<&str> = scrape.samples.iter().map(|sample| sample.name.as_str()).collect();
    for name in names.into_iter().take(8) {
        assert!(scrape.value(name).is_some());
        let later = Scrape { at: at + std::time::Duration::from_secs(1), ..scrape.clone() };
        assert!(later.rate(&scrape, name, |_, _| true) >= 0.0);
        let of = name.strip_suffix("_bucket").unwrap_or(name);
        let bounds = scrape.buckets(of);
        let Some(median) = scrape.quantile(None, of, 0.5) else { continue };
        let most = bounds.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).fold(0.0, f64::max);
        assert!(median <= most, "{median} of {bounds:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TEXT: &str = "# HELP requests Requests.\n# TYPE requests counter\nrequests_total{operation=\"Get\",result=\"2xx\"} 5\n\
        requests_total{operation=\"Put\",result=\"5xx\"} 2\nready 1.0\ntook_bucket{le=\"0.1\",operation=\"Get\"} 5\n\
        took_bucket{le=\"1.0\",operation=\"Get\"} 9\ntook_bucket{le=\"+Inf\",operation=\"Get\"} 10\nnot a sample\n";

    #[test]
    fn series_are_summed_and_rates_are_of_the_time_between() {
        let begun = Instant::now();
        let before = Scrape::parse(TEXT, begun);
        assert_eq!(before.value("requests_total"), Some(7.0));
        assert_eq!(before.sum("requests_total", |label, value| label != "result" || value == "5xx"), Some(2.0));
        assert_eq!((before.value("ready"), before.value("absent")), (Some(1.0), None));
        assert_eq!(before.label("requests_total", "operation"), Some("Get"));
        let after = Scrape::parse(&TEXT.replace("\"2xx\"} 5", "\"2xx\"} 25"), begun + Duration::from_secs(2));
        assert_eq!(after.rate(&before, "requests_total", |_, _| true), 10.0);
        assert_eq!(before.rate(&after, "requests_total", |_, _| true), 0.0, "a counter that began anew");
    }

    #[test]
    fn quantiles_lie_within_their_buckets() {
        let before = Scrape::parse(TEXT, Instant::now());
        assert_eq!(before.quantile(None, "took", 0.5), Some(0.1));
        let median = before.quantile(None, "took", 0.7).expect("some");
        assert!((median - 0.55).abs() < 1e-9, "{median}");
        assert_eq!(before.quantile(None, "took", 0.99), Some(1.0), "the last bound there is");
        assert_eq!(before.quantile(None, "absent", 0.99), None);
        let after = TEXT.replace("\"1.0\",operation=\"Get\"} 9", "\"1.0\",operation=\"Get\"} 109");
        let after = Scrape::parse(
            &after.replace("+Inf\",operation=\"Get\"} 10", "+Inf\",operation=\"Get\"} 110"),
            Instant::now(),
        );
        let since = after.quantile(Some(&before), "took", 0.5).expect("some");
        assert!((since - 0.55).abs() < 1e-9, "of those since then: {since}");
        assert_eq!(before.quantile(Some(&before), "took", 0.5), Some(0.1), "none since then: of all");
    }
}
