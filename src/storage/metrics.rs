//! How long the storage server takes for requests, and how often it is asked again.

use http::{Method, Response};

use super::error::StorageError;
use crate::telemetry::known_method;
use crate::telemetry::metrics::{Counter, Histograms, Registry};

/// What is counted of the requests to storage servers. Clones count together.
#[derive(Debug, Clone)]
pub struct StorageMetrics {
    calls: Histograms<2>,
    retries: Counter,
}

impl Default for StorageMetrics {
    fn default() -> Self {
        Self { calls: Histograms::new(["method", "outcome"]), retries: Counter::default() }
    }
}

impl StorageMetrics {
    /// Has them shown.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time of each request to the storage server until the head of its answer, a streamed body included";
        registry.histograms("claviger_storage_call_duration_seconds", help, &self.calls);
        let help = "Requests to the storage server that were sent again";
        registry.counter("claviger_storage_retries", help, &self.retries);
    }

    pub(super) fn called<B>(&self, method: &Method, outcome: &Result<Response<B>, StorageError>, seconds: f64) {
        self.calls.observe([method_of(method), outcome_of(outcome)], seconds);
    }

    pub(super) fn tries_again(&self) {
        self.retries.inc();
    }
}

pub(super) fn method_of(method: &Method) -> &'static str {
    known_method(method).unwrap_or("other")
}

pub(super) fn outcome_of<B>(outcome: &Result<Response<B>, StorageError>) -> &'static str {
    match outcome {
        Ok(response) => match response.status().as_u16() {
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        },
        Err(error) => match error {
            StorageError::Request(_) => "unsendable",
            StorageError::Unreachable(_) => "unreachable",
            StorageError::Timeout { .. } => "timeout",
            StorageError::Broken(_) => "broken",
            StorageError::Garbage(_) => "garbage",
            StorageError::Refused(_) => "refused",
            StorageError::Aborted(_) => "aborted",
        },
    }
}
