//! The span of one attempt at a storage server, until the head of the answer. It says which server it was, not which object.

use http::Response;

use super::error::StorageError;
use super::metrics::{method_of, outcome_of};
use super::request::Outline;
use super::settings::Endpoint;
use crate::telemetry::traces::{Span, client};

pub(super) fn begin(outline: &Outline, endpoint: &Endpoint) -> Span {
    let before = outline.attempts_before();
    let span = client("storage");
    if span.is_recorded() {
        let (method, (host, port)) = (method_of(outline.method()), endpoint.server());
        span.rename(format!("storage {method}"));
        span.set("http.request.method", method);
        span.set("server.address", host.to_owned());
        span.set("server.port", i64::from(port));
        if before > 0 {
            span.set("http.request.resend_count", i64::from(before));
        }
    }
    span
}

pub(super) fn settled<B>(span: &Span, outcome: &Result<Response<B>, StorageError>) {
    if let Ok(answer) = outcome {
        span.set("http.response.status_code", i64::from(answer.status().as_u16()));
    }
    if outcome.as_ref().map_or(true, |answer| answer.status().is_client_error() || answer.status().is_server_error()) {
        span.fails(outcome_of(outcome));
    }
}
