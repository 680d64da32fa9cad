//! Spans from their beginning to a collector, which does not always take them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use prost::Message as _;
use tokio::net::TcpListener;

use super::*;
use crate::net::listener::{self, ListenerLimits};
use crate::telemetry::metrics::{Registry, TextForm};
use crate::telemetry::request_id::{RequestId, Work};

const THEIRS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

type Answer = (StatusCode, Vec<u8>);

/// A collector that gives these answers, and 200 once they are used up.
#[derive(Clone)]
struct Taking {
    address: SocketAddr,
    answers: Arc<Mutex<Vec<Answer>>>,
    spans: Arc<Mutex<Vec<Sent>>>,
}

impl Taking {
    async fn start(mut answers: Vec<Answer>) -> Self {
        answers.reverse();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let taking = Self { address, answers: Arc::new(Mutex::new(answers)), spans: Arc::default() };
        let served = taking.clone();
        let service = move |request, _| served.clone().answer(request);
        tokio::spawn(listener::run(listener, None, ListenerLimits::default(), service, std::future::pending()));
        taking
    }

    async fn answer(self, request: http::Request<Incoming>) -> Response<Full<Bytes>> {
        let body = request.into_body().collect().await.expect("comes whole").to_bytes();
        let next = self.answers.lock().expect("not poisoned").pop();
        let (status, answer) = next.unwrap_or((StatusCode::OK, Vec::new()));
        if status.is_success() {
            let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
            let of_scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            self.spans.lock().expect("not poisoned").extend(of_scopes.flat_map(|scope| scope.spans));
        }
        let mut response = Response::new(Full::from(answer));
        *response.status_mut() = status;
        response
    }

    fn tracer(&self, change: impl FnOnce(&mut TraceSettings)) -> (Tracer, Exporting, TraceMetrics) {
        let url = format!("http://{}/v1/traces", self.address);
        let mut settings = TraceSettings::new(Collector::parse(&url).expect("a URL"), "test");
        settings.interval = Duration::from_millis(10);
        change(&mut settings);
        let metrics = TraceMetrics::default();
        let (tracer, exporting) = Tracer::start(&settings, &metrics).expect("no files");
        (tracer, exporting, metrics)
    }

    fn spans(&self) -> Vec<Sent> {
        self.spans.lock().expect("not poisoned").clone()
    }
}

fn asked_from(traceparent: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, HeaderValue::from_static(traceparent));
    headers
}

fn told(span: &Span) -> String {
    span.header().expect("servers are told").to_str().expect("text").to_owned()
}

fn counted(metrics: &TraceMetrics, series: &str) -> u64 {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let text = registry.encode(TextForm::Prometheus).expect("writes");
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).expect("it is shown");
    value.parse::<f64>().expect("a number") as u64
}

#[tokio::test]
async fn strangers_are_told_of_and_neither_sample_nor_join() {
    let collector = Taking::start(Vec::new()).await;
    let (tracer, exporting, _) = collector.tracer(|_| {});
    let span = tracer.serve("request", &asked_from(THEIRS));
    let header = told(&span);
    assert!(!header.contains("0af76519") && header.ends_with("-01"), "{header}");
    drop(span);
    exporting.end().await;
    let spans = collector.spans();
    assert_eq!((spans.len(), spans[0].links.len(), spans[0].parent_span_id.len()), (1, 1, 0));

    let (tracer, exporting, _) = collector.tracer(|settings| settings.sample_ratio = 0.0);
    let span = tracer.serve("request", &asked_from(THEIRS));
    assert!(told(&span).ends_with("-00") && !span.is_recorded(), "they do not decide");
    assert_eq!(span.trace().expect("others are told").id(), None, "the log has no id of what nobody sees");
    drop(span);
    exporting.end().await;
    assert_eq!(collector.spans().len(), 1);
}

#[tokio::test]
async fn trusted_senders_join_and_decide() {
    let collector = Taking::start(Vec::new()).await;
    let (tracer, exporting, _) = collector.tracer(|settings| {
        settings.trust_client = true;
        settings.sample_ratio = 0.0;
    });
    let joined = tracer.serve("request", &asked_from(THEIRS));
    let not_made = tracer.serve("request", &asked_from("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"));
    let alone = tracer.serve("request", &HeaderMap::new());
    assert!(joined.is_recorded() && !not_made.is_recorded() && !alone.is_recorded());
    assert!(told(&joined).starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    drop((joined, not_made, alone));
    exporting.end().await;
    let [span] = &collector.spans()[..] else { panic!("one of three is made") };
    assert_eq!(span.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
}

#[tokio::test]
async fn what_is_asked_for_a_request_is_below_it_and_nothing_else_is_traced() {
    assert!(client("storage").header().is_none(), "no request is worked on");
    let collector = Taking::start(Vec::new()).await;
    let (tracer, exporting, _) = collector.tracer(|_| {});
    let span = tracer.serve("request", &HeaderMap::new());
    let work = Work::new(RequestId::random(), span.trace());
    let carried = work.scope(async {
        let asked = client("storage");
        asked.set_text("long", &"ä".repeat(2000));
        tokio::spawn(request_id::carried(async { drop(piece("elsewhere")) })).await.expect("runs");
        asked.fails("timeout");
        told(&asked)
    });
    let header = carried.await;
    drop(span);
    exporting.end().await;
    let spans = collector.spans();
    let named = |name: &str| spans.iter().find(|span| span.name == name).expect(name);
    let (request, asked) = (named("request"), named("storage"));
    assert_eq!((&asked.parent_span_id, &named("elsewhere").parent_span_id), (&request.span_id, &request.span_id));
    assert_eq!(asked.status.as_ref().map(|status| status.code), Some(2));
    assert_eq!(asked.kind, 3, "a client");
    let id: String = asked.span_id.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(header.contains(&id), "{header}");
    let long = asked.attributes.iter().find(|attribute| attribute.key == "long").expect("set");
    assert_eq!(long.encoded_len(), 1024 + 6 + 6, "texts are cut");
}

#[tokio::test]
async fn batches_are_sent_again_where_that_may_help_and_dropped_where_not() {
    let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "no".to_owned() };
    let partial = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let lying = ExportTracePartialSuccess { rejected_spans: i64::MAX, error_message: String::new() };
    let lying = ExportTraceServiceResponse { partial_success: Some(lying) }.encode_to_vec();
    let answers = vec![
        (StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
        (StatusCode::OK, Vec::new()),
        (StatusCode::BAD_REQUEST, Vec::new()),
        (StatusCode::OK, partial),
        (StatusCode::OK, lying),
        (StatusCode::OK, vec![0; 1 << 20]),
    ];
    let collector = Taking::start(answers).await;
    let (tracer, exporting, metrics) = collector.tracer(|settings| settings.batch_max = 1);
    for _ in 0..5 {
        drop(tracer.serve("request", &HeaderMap::new()));
    }
    exporting.end().await;
    assert_eq!(counted(&metrics, "claviger_trace_spans_sent_total"), 1);
    let dropped = |cause: &str| counted(&metrics, &format!("claviger_trace_spans_dropped_total{{cause=\"{cause}\"}}"));
    assert_eq!((dropped("rejected"), dropped("collector-failed"), dropped("queue-full")), (2, 2, 0));
    assert_eq!(counted(&metrics, "claviger_trace_spans_waiting"), 0);
}

#[tokio::test]
async fn a_silent_collector_costs_neither_room_nor_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let nobody =
        Taking { address: listener.local_addr().expect("bound"), answers: Arc::default(), spans: Arc::default() };
    let (tracer, exporting, metrics) = nobody.tracer(|settings| {
        (settings.queue_max, settings.batch_max) = (4, 2);
        settings.timeout = Duration::from_millis(200);
    });
    for _ in 0..100 {
        drop(tracer.serve("request", &HeaderMap::new()));
    }
    // Nothing has waited, so that nothing was sent either.
    let dropped = |cause: &str| counted(&metrics, &format!("claviger_trace_spans_dropped_total{{cause=\"{cause}\"}}"));
    assert_eq!(dropped("queue-full"), 96);
    exporting.end().await;
    assert_eq!((metrics.all_dropped(), metrics.all_sent()), (100, 0));
    drop(tracer.serve("request", &HeaderMap::new()));
    assert_eq!(metrics.all_dropped(), 101);
    assert_eq!(counted(&metrics, "claviger_trace_spans_waiting"), 0);
}

#[tokio::test]
async fn no_tracer_makes_nothing() {
    let span = Tracer::default().serve("request", &asked_from(THEIRS));
    assert!(!span.is_recorded() && span.header().is_none() && span.trace().is_none());
}
