//! The span of one attempt at the custodian, until the head of the answer. It says what is asked for, not of which key.

use http::Response;

use super::exchange::Call;
use super::settings::Address;
use crate::net::client::{ClientError, ResponseBody};
use crate::telemetry::traces::{Span, client, method_name};

pub(super) fn begin(call: &Call<'_>, address: &Address) -> Span {
    let span = client("custodian");
    if span.is_recorded() {
        let (host, port) = address.server();
        span.rename(format!("custodian {}", call.name));
        span.set("claviger.operation", call.name);
        span.set("http.request.method", method_name(&call.method));
        span.set("server.address", host.to_owned());
        span.set("server.port", i64::from(port));
    }
    span
}

pub(super) fn settled(span: &Span, outcome: &Result<Response<ResponseBody>, ClientError>) {
    match outcome.as_ref().map(Response::status) {
        Ok(status) => {
            span.set("http.response.status_code", i64::from(status.as_u16()));
            if !status.is_success() {
                span.fails(if status.is_server_error() { "5xx" } else { "4xx" });
            }
        }
        Err(error) => span.fails(match error {
            ClientError::Connect(_) | ClientError::Unsent(_) => "unreachable",
            ClientError::Timeout { .. } => "timeout",
            ClientError::Garbage(_) => "garbage",
            ClientError::Request(_) => "unsendable",
            ClientError::Closed(_) => "broken",
        }),
    }
}
