//! The header `traceparent` of W3C's Trace Context: read from requests, and written into them.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The header in which servers are told of the span that asks.
pub const HEADER: HeaderName = HeaderName::from_static("traceparent");

/// Bytes of the header's fields; what a later version may append is not looked at.
const LENGTH: usize = 55;
/// More bytes are nobody's header.
const LENGTH_MAX: usize = 256;

/// The span that a request with these headers was sent from; `None` if it does not say so, or not in the one right way.
pub(super) fn sent_with(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(HEADER).iter();
    let (first, None) = (values.next()?, values.next()) else { return None };
    let text = first.to_str().ok().filter(|text| is_well_formed(text.as_bytes()))?;
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Received(text));
    let sender = context.span().span_context().clone();
    sender.is_valid().then_some(sender)
}

/// The library takes numbers of other lengths, and dashes at the end.
fn is_well_formed(text: &[u8]) -> bool {
    let Some((fields, rest)) = text.split_at_checked(LENGTH) else { return false };
    let is_right = |(at, byte): (usize, &u8)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    let rest_is_right = rest.is_empty() || (!fields.starts_with(b"00") && rest[0] == b'-' && text.len() <= LENGTH_MAX);
    fields.iter().enumerate().all(is_right) && rest_is_right
}

/// What tells a server of the span of `context`.
pub(super) fn header(context: &Context) -> Option<HeaderValue> {
    let mut sent = Sent(None);
    TraceContextPropagator::new().inject_context(context, &mut sent);
    sent.0
}

/// No other header is seen by the library: a client's `tracestate` is not ours to pass on.
struct Received<'h>(&'h str);

impl Extractor for Received<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == HEADER.as_str()).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

struct Sent(Option<HeaderValue>);

impl Injector for Sent {
    fn set(&mut self, key: &str, value: String) {
        if key == HEADER.as_str() {
            self.0 = HeaderValue::try_from(value).ok();
        }
    }
}

/// What is read of a header is written as one that reads as the same.
#[doc(hidden)]
pub fn fuzz_traceparent(value: &HeaderValue) {
    let read = |value: &HeaderValue| sent_with(&HeaderMap::from_iter([(HEADER, value.clone())]));
    if let Some(sender) = read(value) {
        let written = header(&Context::new().with_remote_span_context(sender.clone())).expect("a valid span");
        let again = read(&written).expect("what is written is a header");
        assert_eq!((again.trace_id(), again.span_id()), (sender.trace_id(), sender.span_id()));
        assert_eq!(again.is_sampled(), sender.is_sampled());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn read(values: &[&str]) -> Option<(String, String, bool)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_str(value).expect("a value"));
        }
        headers.insert("tracestate", HeaderValue::from_static("vendor=secret"));
        let sender = sent_with(&headers)?;
        assert!(sender.is_remote() && sender.trace_state().header().is_empty(), "{sender:?}");
        Some((sender.trace_id().to_string(), sender.span_id().to_string(), sender.is_sampled()))
    }

    #[test]
    fn the_header_is_read_in_its_one_form() {
        let found = |sampled| Some((TRACE.to_owned(), SPAN.to_owned(), sampled));
        assert_eq!(read(&[&format!("00-{TRACE}-{SPAN}-01")]), found(true));
        assert_eq!(read(&[&format!("00-{TRACE}-{SPAN}-00")]), found(false));
        assert_eq!(read(&[&format!("00-{TRACE}-{SPAN}-fe")]), found(false), "unknown flags say nothing");
        assert_eq!(read(&[&format!("cc-{TRACE}-{SPAN}-01-what-comes")]), found(true), "of a later version");
        let upper = TRACE.to_ascii_uppercase();
        for wrong in [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01x"),
            format!("cc-{TRACE}-{SPAN}-01-{}", "x".repeat(LENGTH_MAX)),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{upper}-{SPAN}-01"),
            format!("+0-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}x{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0g"),
        ] {
            assert_eq!(read(&[&wrong]), None, "{wrong:?}");
        }
        let right = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(read(&[&right, &right]), None, "twice");
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn what_is_read_can_be_written() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_str(&format!("00-{TRACE}-{SPAN}-01")).expect("a value");
        headers.insert(HEADER, value.clone());
        let sender = sent_with(&headers).expect("right");
        assert_eq!(header(&Context::new().with_remote_span_context(sender)), Some(value));
        assert_eq!(header(&Context::new()), None);
    }
}
