//! Tests of what a scrape shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[test]
fn counters_gauges_and_histograms_are_shown_with_their_labels() {
    let (requests, flying) = (Counters::new(["operation", "result"]), Gauge::default());
    let took = Histograms::new(["operation"]);
    let held = flying.hold();
    drop(flying.hold());
    requests.inc(["GetObject", "2xx"]);
    requests.of(["GetObject", "2xx"]).add(2);
    requests.inc(["GetObject", "NoSuchKey"]);
    took.observe(["GetObject"], 0.02);
    let mut registry = Registry::default();
    registry.counters("claviger_requests", "Requests", &requests);
    registry.gauge("claviger_flying", "In flight", &flying);
    registry.histograms("claviger_took_seconds", "Durations", &took);
    let text = registry.encode(TextForm::OpenMetrics).expect("writes");
    for line in [
        "# HELP claviger_requests Requests.",
        "# TYPE claviger_requests counter",
        "claviger_requests_total{operation=\"GetObject\",result=\"2xx\"} 3",
        "claviger_requests_total{operation=\"GetObject\",result=\"NoSuchKey\"} 1",
        "claviger_flying 1",
        "claviger_took_seconds_bucket{le=\"0.01\",operation=\"GetObject\"} 0",
        "claviger_took_seconds_bucket{le=\"0.025\",operation=\"GetObject\"} 1",
        "claviger_took_seconds_count{operation=\"GetObject\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    drop(held);
    assert_eq!(flying.get(), 0);
}

#[test]
fn what_is_read_at_the_scrape_is_as_it_is_then() {
    let value = Arc::new(AtomicU64::new(1));
    let mut registry = Registry::default();
    let read = Arc::clone(&value);
    registry.read_gauges("claviger_age_seconds", "The age", move || {
        let age = read.load(Ordering::Relaxed);
        (age > 0).then(|| Sample::from(age).label("kind", "read"))
    });
    registry.read_counters("claviger_things", "Things", || [Sample::from(7_u64)]);
    let text = registry.encode(TextForm::Prometheus).expect("writes");
    assert!(text.contains("claviger_age_seconds{kind=\"read\"} 1.0\n"), "{text}");
    assert!(text.contains("# TYPE claviger_things_total counter\nclaviger_things_total 7.0\n"), "{text}");
    assert!(!text.contains("# EOF"));
    value.store(0, Ordering::Relaxed);
    assert!(!registry.encode(TextForm::Prometheus).expect("writes").contains("claviger_age"), "nothing to tell");
}

#[test]
fn open_metrics_are_for_who_asks_for_them() {
    assert_eq!(TextForm::accepted(None), TextForm::Prometheus);
    assert_eq!(TextForm::accepted(Some("text/plain")), TextForm::Prometheus);
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
    assert_eq!(TextForm::accepted(Some(prometheus)), TextForm::OpenMetrics);
}
