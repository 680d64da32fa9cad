//! What a request's span says of it.
//!
//! **Invariant:** neither paths nor queries are in a span; names of buckets, records and clients only where the configuration reveals them.

use http::{Request, StatusCode, Version};

use super::fault::Fault;
use super::metrics::result_of;
use super::respond::About;
use crate::net::listener::ConnectionInfo;
use crate::telemetry::request_id::RequestId;
use crate::telemetry::traces::{Span, Tracer, method_name, piece};

/// The span of a request that has just come.
pub(super) fn begin<B>(tracer: &Tracer, request: &Request<B>, info: &ConnectionInfo, id: RequestId) -> Span {
    let span = tracer.serve("request", request.headers());
    if span.is_recorded() {
        span.set("http.request.method", method_name(request.method()));
        span.set("url.scheme", if info.tls { "https" } else { "http" });
        span.set("network.protocol.version", version(request.version()));
        span.set("claviger.request_id", id.to_string());
        if span.may_reveal().peer {
            span.set("client.address", info.peer.ip().to_string());
        }
    }
    span
}

/// What became known of the request, and its outcome.
pub(super) fn answered(span: &Span, about: &About, status: StatusCode, fault: Option<&Fault>) {
    if !span.is_recorded() {
        return;
    }
    about.describe(span);
    span.set("http.response.status_code", i64::from(status.as_u16()));
    span.set("claviger.result", fault.map_or("ok", result_of));
    if let Some(fault) = fault.filter(|fault| fault.alarm || fault.status.is_server_error()) {
        span.fails(if fault.alarm { "not-authentic" } else { result_of(fault) });
    }
}

/// `work`, in a span of its own that fails with it.
pub(super) fn in_span<T>(name: &'static str, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let span = piece(name);
    let done = work();
    if let Err(fault) = &done {
        span.fails(result_of(fault));
    }
    done
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}
