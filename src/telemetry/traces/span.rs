//! A span under way, and the trace that further ones belong to.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use opentelemetry::trace::{SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, Value};

use super::{Making, Reveal, context};

/// Most bytes of a text in a span: the longest key.
const TEXT_MAX: usize = 1024;

/// What spans are made below: the span of a request.
#[derive(Clone)]
pub struct Trace {
    making: Arc<Making>,
    context: Context,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.id()).finish()
    }
}

impl Trace {
    /// The id, if the trace is made.
    pub fn id(&self) -> Option<String> {
        let span = self.context.span();
        let span = span.span_context();
        span.is_sampled().then(|| span.trace_id().to_string())
    }

    pub(super) fn child(&self, name: &'static str, kind: SpanKind) -> Span {
        Span::begin(&self.making, SpanBuilder::from_name(name).with_kind(kind), &self.context)
    }
}

/// A span, which ends when this is dropped; or nothing, where nothing is traced.
#[derive(Debug, Default)]
pub struct Span(Option<Trace>);

impl Span {
    pub(super) fn begin(making: &Arc<Making>, builder: SpanBuilder, parent: &Context) -> Self {
        let span = making.tracer.build_with_context(builder, parent);
        Self(Some(Trace { making: Arc::clone(making), context: parent.with_span(span) }))
    }

    /// What belongs below it.
    pub fn trace(&self) -> Option<Trace> {
        self.0.clone()
    }

    fn recorded(&self) -> Option<&Trace> {
        self.0.as_ref().filter(|trace| trace.context.span().is_recording())
    }

    /// What may be said of the request; nothing if the span is not recorded.
    pub fn may_reveal(&self) -> Reveal {
        self.recorded().map_or_else(Reveal::default, |trace| trace.making.reveal)
    }

    /// Whether what is set is of use to anybody.
    pub fn is_recorded(&self) -> bool {
        self.recorded().is_some()
    }

    /// Calls it otherwise.
    pub fn rename(&self, name: impl Into<Cow<'static, str>>) {
        if let Some(trace) = self.recorded() {
            trace.context.span().update_name(name);
        }
    }

    /// Sets an attribute.
    pub fn set(&self, key: &'static str, value: impl Into<Value>) {
        if let Some(trace) = self.recorded() {
            trace.context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// Sets an attribute to a text of somebody else's, which is cut if it is longer than any may be.
    pub fn set_text(&self, key: &'static str, text: &str) {
        if self.is_recorded() {
            self.set(key, text[..text.floor_char_boundary(TEXT_MAX)].to_owned());
        }
    }

    /// Marks it as failed, for a reason of few.
    pub fn fails(&self, reason: &'static str) {
        self.set("error.type", reason);
        if let Some(trace) = self.recorded() {
            trace.context.span().set_status(Status::error(""));
        }
    }

    /// What tells a server of it.
    pub fn header(&self) -> Option<HeaderValue> {
        context::header(&self.0.as_ref()?.context)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(trace) = &self.0 {
            trace.context.span().end();
        }
    }
}
