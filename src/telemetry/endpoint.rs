//! The listener for whoever watches over this process: `/metrics`, `/healthz`, `/readyz`, by plain HTTP.
//!
//! It shows numbers and states, and takes nothing: neither keys, names of records nor of people are in its answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tokio::net::TcpListener;

use crate::net::listener::{self, ListenerLimits};

use super::health::Health;
use super::metrics::{Registry, TextForm};

type Answer = Response<Full<Bytes>>;

/// What is shown.
#[derive(Debug)]
pub struct Shown {
    /// At `/metrics`.
    pub registry: Registry,
    /// At `/readyz`.
    pub health: Arc<Health>,
}

/// Serves `listener` until `shutdown` resolves.
pub async fn serve(listener: TcpListener, shown: Arc<Shown>, shutdown: impl Future<Output = ()>) {
    let limits = ListenerLimits {
        max_connections: 32,
        stall_timeout: Duration::from_secs(10),
        max_header_bytes: 8 << 10,
        http2_max_streams: 8,
        drain: Duration::from_secs(1),
        ..ListenerLimits::default()
    };
    let service = move |request: Request<_>, _| {
        let answer = answer(&request, &shown);
        async move { answer }
    };
    listener::run(listener, None, limits, service, shutdown).await;
}

fn answer<B>(request: &Request<B>, shown: &Shown) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => metrics(request, &shown.registry),
        "/healthz" => text(StatusCode::OK, "healthy\n"),
        "/readyz" => readiness(&shown.health),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn metrics<B>(request: &Request<B>, registry: &Registry) -> Answer {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = TextForm::accepted(accept);
    match registry.encode(form) {
        Ok(scrape) => answer_of(StatusCode::OK, form.content_type(), scrape.into()),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n")
        }
    }
}

fn readiness(health: &Health) -> Answer {
    let obstacles = health.obstacles();
    if obstacles.is_empty() {
        return text(StatusCode::OK, "ready\n");
    }
    let lines: String = obstacles.iter().map(|obstacle| format!("{obstacle}\n")).collect();
    answer_of(StatusCode::SERVICE_UNAVAILABLE, PLAIN, lines.into())
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn text(status: StatusCode, text: &'static str) -> Answer {
    answer_of(status, PLAIN, Bytes::from_static(text.as_bytes()))
}

fn answer_of(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::telemetry::metrics::Sample;

    fn shown() -> Shown {
        let mut registry = Registry::default();
        registry.read_gauges("claviger_answer", "The answer", || [Sample::from(42_u64)]);
        Shown { registry, health: Arc::new(Health::new(Vec::new())) }
    }

    async fn ask(shown: &Shown, method: Method, path: &str, accept: &str) -> (u16, String, String) {
        let request = Request::builder().method(method).uri(path).header(ACCEPT, accept).body(()).expect("a request");
        let (head, body) = answer(&request, shown).into_parts();
        let body = body.collect().await.expect("memory").to_bytes();
        let kind = head.headers[CONTENT_TYPE].to_str().expect("text").to_owned();
        (head.status.as_u16(), kind, String::from_utf8(body.into()).expect("UTF-8"))
    }

    #[tokio::test]
    async fn metrics_are_shown_in_the_form_that_is_asked_for() {
        let shown = shown();
        let (status, kind, text) = ask(&shown, Method::GET, "/metrics", "*/*").await;
        assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
        assert!(text.ends_with("claviger_answer 42.0\n"), "{text}");
        let (status, kind, text) = ask(&shown, Method::GET, "/metrics", "application/openmetrics-text").await;
        assert_eq!(status, 200);
        assert!(kind.starts_with("application/openmetrics-text") && text.ends_with("# EOF\n"), "{kind} {text}");
    }

    #[tokio::test]
    async fn readiness_tells_what_is_in_its_way_and_health_does_not() {
        let shown = shown();
        let ready = async || {
            let (status, _, text) = ask(&shown, Method::GET, "/readyz", "*/*").await;
            (status, text)
        };
        assert_eq!(ready().await, (503, "starting\n".to_owned()));
        shown.health.serves();
        assert_eq!(ready().await, (200, "ready\n".to_owned()));
        shown.health.drains();
        assert_eq!(ready().await, (503, "draining\n".to_owned()));
        assert_eq!(ask(&shown, Method::GET, "/healthz", "*/*").await.0, 200);
    }

    #[tokio::test]
    async fn nothing_else_is_served() {
        let shown = shown();
        assert_eq!(ask(&shown, Method::GET, "/", "*/*").await.0, 404);
        assert_eq!(ask(&shown, Method::POST, "/metrics", "*/*").await.0, 405);
    }
}
