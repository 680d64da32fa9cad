//! Traces: what a request was made of and how long each piece took, as OpenTelemetry's spans, sent to a collector by OTLP.
//!
//! A request's span goes along with the work (see [`super::request_id`]); what is asked of other servers on the way is a child of it,
//! and they are told of it in the header `traceparent`. What no request asked for is not traced.
//!
//! **Invariant:** nobody waits for the collector. A span that the queue has no room for, or that the collector does not take, is dropped
//! and counted.
//!
//! **Invariant:** a span holds what the code sets on it by name, and nothing else: no log line, no header, no path and no query gets there
//! by itself. Of a client's trace there is the id alone, never its `tracestate` or `baggage`.

mod context;
mod export;
mod metrics;
mod queue;
mod settings;
mod span;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Method};
use opentelemetry::trace::{Link, SpanBuilder, SpanKind, TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanLimits};
use tokio::sync::mpsc;

use super::{known_method, request_id};
use crate::crypto::random_array;
use crate::net::tls::TlsError;

use export::Exporter;
use queue::Queue;

pub use context::HEADER;
#[doc(hidden)]
pub use context::fuzz_traceparent;
pub use export::Exporting;
#[doc(hidden)]
pub use export::fuzz_answer;
pub use metrics::TraceMetrics;
pub use settings::{Collector, InvalidCollector, Reveal, TraceSettings};
pub use span::{Span, Trace};

/// Makes the spans of this process, or none. Clones make them together.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Making>>);

struct Making {
    tracer: SdkTracer,
    trust_client: bool,
    reveal: Reveal,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracer").field(&self.0.is_some()).finish()
    }
}

impl Tracer {
    /// Begins to make spans and to send them to the collector of `settings`.
    ///
    /// # Errors
    /// [`TlsError`], when a certificate file does not do.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(settings: &TraceSettings, metrics: &TraceMetrics) -> Result<(Self, Exporting), TlsError> {
        let (sender, receiver) = mpsc::channel(settings.queue_max);
        let resource = resource(settings);
        let exporter = Exporter::new(settings, &resource, receiver, metrics.clone())?;
        let limits = SpanLimits { max_attributes_per_span: 32, max_links_per_span: 1, ..SpanLimits::default() };
        // All of it is said here: the library would look for the rest in the environment.
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio))))
            .with_span_limits(limits)
            .with_resource(resource)
            .with_span_processor(Queue::new(sender, metrics.clone()))
            .build();
        let making = Making {
            tracer: provider.tracer("claviger"),
            trust_client: settings.trust_client,
            reveal: settings.reveal,
        };
        Ok((Self(Some(Arc::new(making))), exporter.start(settings, metrics.clone())))
    }

    /// The span of a request that came with `headers`.
    ///
    /// The sender's trace goes on in it where senders are trusted. Otherwise it is the first of a trace of our own, which is sampled as
    /// we like, and tells the sender's span as a link.
    pub fn serve(&self, name: &'static str, headers: &HeaderMap) -> Span {
        let Some(making) = &self.0 else { return Span::default() };
        let mut builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server);
        let parent = match context::sent_with(headers) {
            Some(theirs) if making.trust_client => Context::new().with_remote_span_context(theirs),
            Some(theirs) => {
                builder.links = Some(vec![Link::with_context(theirs)]);
                Context::new()
            }
            None => Context::new(),
        };
        Span::begin(making, builder, &parent)
    }
}

/// The span of something that is asked of another server for the request that is worked on; none if that is not traced.
pub fn client(name: &'static str) -> Span {
    child(name, SpanKind::Client)
}

/// The span of a piece of the request that is worked on; none if that is not traced.
pub fn piece(name: &'static str) -> Span {
    child(name, SpanKind::Internal)
}

/// A method's name, as OpenTelemetry has it.
pub fn method_name(method: &Method) -> &'static str {
    known_method(method).unwrap_or("_OTHER")
}

fn child(name: &'static str, kind: SpanKind) -> Span {
    request_id::trace().map_or_else(Span::default, |trace| trace.child(name, kind))
}

/// Which process it is.
fn resource(settings: &TraceSettings) -> Resource {
    let instance = settings.instance.clone().unwrap_or_else(|| {
        let bytes: [u8; 8] = random_array().unwrap_or_default();
        format!("{:016x}", u64::from_be_bytes(bytes))
    });
    let attributes = [
        KeyValue::new("service.name", settings.service_name.clone()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance),
    ];
    Resource::builder_empty().with_attributes(attributes).build()
}
