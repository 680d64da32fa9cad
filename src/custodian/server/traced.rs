//! What the span of a request to the custodian says: what was asked and how it ended, not of which key, nor by whom.

use http::StatusCode;
use http::request::Parts;

use super::request::for_request;
use crate::custodian::requester::Requester;
use crate::telemetry::traces::{Span, method_name};

pub(super) fn answered(span: &Span, parts: &Parts, (name, status): (&'static str, StatusCode), who: &Requester) {
    if !span.is_recorded() {
        return;
    }
    if name != "-" {
        span.rename(name);
        span.set("claviger.operation", name);
    }
    span.set("http.request.method", method_name(&parts.method));
    span.set("url.scheme", "https");
    span.set("http.response.status_code", i64::from(status.as_u16()));
    span.set("claviger.request_id", who.request_uuid());
    if let Some(id) = for_request(&parts.headers) {
        span.set("claviger.for_request", id.to_string());
    }
    let result = match status.as_u16() {
        200..=399 => "ok",
        403 => "denied",
        400..=499 => "refused",
        _ => "failed",
    };
    span.set("claviger.result", result);
    if status.is_server_error() {
        span.fails(result);
    }
}
