//! What is counted of requests: how many, how they ended, how long they took, how many bytes they carried.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;

use super::access_log::Ending;
use super::fault::Fault;
use crate::s3::error::Code;
use crate::telemetry::metrics::{Counter, Counters, Gauge, Histograms, InFlight, Registry, seconds_since};
use crate::telemetry::request_id::Work;
use crate::telemetry::traces::{Span, piece};

/// What is counted of a proxy's requests. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct FrontMetrics(Arc<Instruments>);

#[derive(Debug)]
struct Instruments {
    requests: Counters<2>,
    durations: Histograms<1>,
    in_flight: Gauge,
    received: Counter,
    sent: Counter,
    cut: Counters<1>,
    alarms: Counter,
}

impl Default for Instruments {
    fn default() -> Self {
        let cut = Counters::new(["cause"]);
        // Shown from the start, so that the first of them is a change.
        for cause in ["client-gone", "not-authentic", "storage-failed", "revoked", "lease-ended"] {
            cut.of([cause]);
        }
        Self {
            requests: Counters::new(["operation", "result"]),
            durations: Histograms::new(["operation"]),
            in_flight: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
            cut,
            alarms: Counter::default(),
        }
    }
}

impl FrontMetrics {
    /// Has them shown.
    pub fn register(&self, registry: &mut Registry) {
        let Instruments { requests, durations, in_flight, received, sent, cut, alarms } = self.0.as_ref();
        let help = "Requests of clients, by operation and by S3's error code or else the class of the status";
        registry.counters("claviger_requests", help, requests);
        let help = "Time of each request, from its head to the end of its answer's body";
        registry.histograms("claviger_request_duration_seconds", help, durations);
        registry.gauge("claviger_requests_in_flight", "Requests that are under way", in_flight);
        registry.counter("claviger_received_bytes", "Bytes of requests' bodies, as they came", received);
        registry.counter("claviger_sent_bytes", "Bytes of answers' bodies that were handed to connections", sent);
        registry.counters("claviger_answers_cut", "Answers that ended before their end, by cause", cut);
        let help = "Times that something stored was not what was written: somebody tampered with it, or it rotted";
        registry.counter("claviger_integrity_alarms", help, alarms);
    }

    /// Counts what is read of requests' bodies.
    pub(super) fn received(&self) -> Counter {
        self.0.received.clone()
    }

    /// A request begins.
    pub(super) fn begin(&self, span: Span) -> Exchange {
        let (metrics, in_flight) = (self.clone(), self.0.in_flight.hold());
        let (begun, operation) = (Instant::now(), "-");
        Exchange { metrics, begun, operation, sent: 0, body: Span::default(), span, _in_flight: in_flight }
    }
}

/// A request under way. Its time is taken, and its span ends, when this is dropped.
pub(super) struct Exchange {
    metrics: FrontMetrics,
    begun: Instant,
    operation: &'static str,
    sent: u64,
    /// Of the answer's body, where that goes out piece by piece. It ends before the request's.
    body: Span,
    span: Span,
    _in_flight: InFlight,
}

impl Exchange {
    /// Its span.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// It is answered.
    pub(super) fn answered(&mut self, operation: &'static str, status: StatusCode) {
        self.operation = operation;
        self.metrics.0.requests.inc([operation, class(status)]);
    }

    /// It is answered with an error.
    pub(super) fn failed(&mut self, operation: &'static str, fault: &Fault) {
        self.operation = operation;
        self.metrics.0.requests.inc([operation, result_of(fault)]);
        if fault.alarm {
            self.metrics.0.alarms.inc();
        }
    }

    /// The answer's body begins to go out.
    pub(super) fn begins_body(&mut self, work: &Work) {
        self.body = work.sync_scope(|| piece("answer body"));
    }

    /// `length` bytes of the answer go out.
    pub(super) fn sends(&mut self, length: usize) {
        self.sent += length as u64;
        self.metrics.0.sent.add(length as u64);
    }

    /// The answer came to its end.
    pub(super) fn ended(&self, ending: Ending) {
        let cause = match ending {
            Ending::Complete => return,
            Ending::ClientGone => "client-gone",
            Ending::NotAuthentic => {
                self.metrics.0.alarms.inc();
                "not-authentic"
            }
            Ending::StorageFailed => "storage-failed",
            Ending::Revoked => "revoked",
            Ending::LeaseEnded => "lease-ended",
        };
        self.metrics.0.cut.inc([cause]);
        self.body.fails(cause);
        self.span.fails(cause);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.metrics.0.durations.observe([self.operation], seconds_since(self.begun));
        self.span.set("http.response.body.size", i64::try_from(self.sent).unwrap_or(i64::MAX));
    }
}

/// Of a code that the storage server made up, only the class.
pub(super) fn result_of(fault: &Fault) -> &'static str {
    match &fault.code {
        Cow::Borrowed(code) => code,
        Cow::Owned(text) => {
            let known = Code::ALL.iter().map(|code| code.as_str()).find(|code| code == text);
            known.unwrap_or_else(|| class(fault.status))
        }
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::TextForm;

    fn shown(metrics: &FrontMetrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        registry.encode(TextForm::Prometheus).expect("writes")
    }

    #[test]
    fn a_code_that_the_storage_server_made_up_is_no_series() {
        let metrics = FrontMetrics::default();
        let mut fault = Fault::new(Code::AccessDenied, "no");
        for code in ["NoSuchKey", "Made-up-4711", "records/secret-name"] {
            fault.code = Cow::Owned(code.to_owned());
            metrics.begin(Span::default()).failed("GetObject", &fault);
        }
        let text = shown(&metrics);
        assert!(text.contains("claviger_requests_total{operation=\"GetObject\",result=\"NoSuchKey\"} 1\n"), "{text}");
        assert!(text.contains("claviger_requests_total{operation=\"GetObject\",result=\"4xx\"} 2\n"), "{text}");
        assert!(!text.contains("4711") && !text.contains("secret-name"));
    }

    #[test]
    fn a_request_is_in_flight_until_its_answer_ended() {
        let metrics = FrontMetrics::default();
        let mut exchange = metrics.begin(Span::default());
        exchange.answered("GetObject", StatusCode::PARTIAL_CONTENT);
        exchange.sends(7);
        let text = shown(&metrics);
        assert!(text.contains("claviger_requests_in_flight 1\n") && text.contains("claviger_sent_bytes_total 7\n"));
        assert!(!text.contains("claviger_request_duration_seconds_count"), "{text}");
        exchange.ended(Ending::NotAuthentic);
        drop(exchange);
        let text = shown(&metrics);
        assert!(text.contains("claviger_requests_in_flight 0\n"), "{text}");
        assert!(text.contains("claviger_request_duration_seconds_count{operation=\"GetObject\"} 1\n"), "{text}");
        assert!(text.contains("claviger_answers_cut_total{cause=\"not-authentic\"} 1\n"), "{text}");
        assert!(text.contains("claviger_integrity_alarms_total 1\n"), "{text}");
    }
}
