//! A collector of traces in this process: what its operator sees.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use claviger::telemetry::traces::{Collector as Url, Exporting, TraceMetrics, TraceSettings, Tracer};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;

use super::{LONG, until};

/// A span, and of which service it is.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) service: String,
    pub(crate) span: Span,
}

impl Received {
    /// An attribute as text.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        value_of(&self.span.attributes, key)
    }

    pub(crate) fn is_child_of(&self, other: &Self) -> bool {
        self.span.trace_id == other.span.trace_id && self.span.parent_span_id == other.span.span_id
    }
}

fn value_of(attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

/// It takes everything.
#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let collector = Self { address: listener.local_addr().expect("bound"), bodies: Arc::default() };
        let bodies = Arc::clone(&collector.bodies);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let bodies = Arc::clone(&bodies);
                let service = service_fn(move |request| answer(request, Arc::clone(&bodies)));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        collector
    }

    /// What makes spans as a service of this name and sends them here.
    pub(crate) fn tracer(&self, service: &str) -> (Tracer, Exporting, TraceMetrics) {
        start(&settings(self.address, service))
    }

    /// All that came.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner).concat()
    }

    pub(crate) fn spans(&self) -> Vec<Received> {
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut spans = Vec::new();
        for body in bodies {
            for of_resource in ExportTraceServiceRequest::decode(body).expect("OTLP").resource_spans {
                let resource = of_resource.resource.expect("it says whose they are");
                let service = value_of(&resource.attributes, "service.name").expect("a name");
                let found = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                spans.extend(found.map(|span| Received { service: service.clone(), span }));
            }
        }
        spans
    }

    /// The spans by name, once there is one that is called so.
    pub(crate) async fn once_there_is(&self, name: &str) -> HashMap<String, Received> {
        until(name, || self.spans().iter().any(|received| received.span.name == name)).await;
        self.spans().into_iter().map(|received| (received.span.name.clone(), received)).collect()
    }
}

/// Of a collector that may not be there.
pub(crate) fn settings(address: SocketAddr, service: &str) -> TraceSettings {
    let url = Url::parse(&format!("http://{address}/v1/traces")).expect("a URL");
    TraceSettings { interval: Duration::from_millis(10), timeout: LONG, ..TraceSettings::new(url, service) }
}

pub(crate) fn start(settings: &TraceSettings) -> (Tracer, Exporting, TraceMetrics) {
    let metrics = TraceMetrics::default();
    let (tracer, exporting) = Tracer::start(settings, &metrics).expect("no files");
    (tracer, exporting, metrics)
}

async fn answer(
    request: Request<Incoming>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/v1/traces");
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let body = request.into_body().collect().await.expect("comes whole").to_bytes();
    bodies.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    Ok(Response::new(Full::default()))
}
