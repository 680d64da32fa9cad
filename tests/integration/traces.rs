//! What the operator of a collector sees of requests, and what others see of a trace; and that a collector can do no harm.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use claviger::telemetry::traces::{Reveal, TraceMetrics, TraceSettings, Tracer};
use http::Method;
use tokio::net::TcpListener;

use crate::customer_keys::{KEY, keyed};
use crate::harness::client::hex;
use crate::harness::collector::{Collector, Received, settings, start};
use crate::harness::office::Office;
use crate::harness::proxy::key_rule;
use crate::harness::store::{Instead, SECRET};
use crate::harness::{BUCKET, LONG, Reply, Setup, World, contains, noise, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const OBJECT: &str = "folder/the-telling-name";

fn traced(tracer: Tracer) -> Setup {
    Setup { tracer, ..Setup::default() }
}

fn traceparent() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

#[tokio::test]
async fn a_request_is_one_trace_through_proxy_custodian_and_storage_server() {
    let collector = Collector::start().await;
    // Of a custodian's clients, all are known.
    let trusting = TraceSettings { trust_client: true, ..settings(collector.address, "custodian") };
    let (theirs, _custodians, _) = start(&trusting);
    let (ours, _proxys, _) = collector.tracer("proxy");
    let office = Office::traced(&["traced"], theirs).await;
    let setup = Setup { custodian: office.transit(), others: Some(key_rule("traced")), ..traced(ours) };
    let world = World::with(setup).await;
    world.store.take_whole_log();
    let ask = world.s3.ask(Method::PUT, BUCKET, OBJECT).body(noise(200_000, 1));
    let put = ask.header("traceparent", &traceparent()).header("tracestate", "a=b").send().await.ok();

    let request = collector.once_there_is("PutObject").await["PutObject"].clone();
    let is_of_it = |received: &&Received| received.span.trace_id == request.span.trace_id;
    until("the custodian's span", || {
        collector.spans().iter().filter(is_of_it).any(|received| received.service == "custodian")
    })
    .await;
    let spans: Vec<Received> = collector.spans().into_iter().filter(|received| is_of_it(&received)).collect();
    let named = |name: &str| spans.iter().filter(|received| received.span.name == name).collect::<Vec<_>>();
    assert!(named("authentication")[0].is_child_of(&request));
    let [asked] = named("custodian datakey/plaintext")[..] else { panic!("{spans:?}") };
    assert!(asked.is_child_of(&request));
    let [served] = named("datakey")[..] else { panic!("{spans:?}") };
    assert!(served.is_child_of(asked) && served.service == "custodian");
    let stored = named("storage PUT");
    assert!(stored.len() >= 2 && stored.iter().all(|stored| stored.is_child_of(&request)), "key and object: {spans:?}");

    // What they say.
    let id = put.header("x-amz-request-id");
    assert_eq!(request.service, "proxy");
    for (key, value) in [
        ("claviger.request_id", id),
        ("claviger.operation", "PutObject"),
        ("claviger.result", "ok"),
        ("http.request.method", "PUT"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(request.value(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(served.value("claviger.for_request").as_deref(), Some(id));
    assert_eq!(stored[0].value("server.port"), Some(world.store.address.port().to_string()));

    // The client's trace is told and goes no further: its flags and its vendors' state least of all.
    assert_ne!(hex(&request.span.trace_id), TRACE);
    assert!(request.span.parent_span_id.is_empty());
    assert_eq!(request.span.links.iter().map(|link| hex(&link.trace_id)).collect::<Vec<_>>(), [TRACE]);
    let seen = world.store.take_whole_log();
    let told: HashSet<String> = stored.iter().map(|stored| hex(&stored.span.span_id)).collect();
    assert!(seen.len() >= 2);
    for seen in seen {
        let header = seen.header("traceparent").expect("the storage server is told").to_owned();
        let fields: Vec<&str> = header.split('-').collect();
        assert!(fields[1] == hex(&request.span.trace_id) && told.contains(fields[2]), "{header}");
        assert_eq!((seen.header("tracestate"), seen.header("baggage")), (None, None));
    }
}

#[tokio::test]
async fn the_trace_of_a_trusted_client_goes_on_and_what_streams_belongs_to_it() {
    let collector = Collector::start().await;
    let trusting = TraceSettings { trust_client: true, sample_ratio: 0.0, ..settings(collector.address, "proxy") };
    let (tracer, _exporting, _) = start(&trusting);
    let world = World::new().await;
    world.s3.put(BUCKET, OBJECT, noise(2 << 20, 1)).await.ok();
    // It knows nothing of the object yet.
    let (_proxy, s3) = world.fresh_with(traced(tracer)).await;
    s3.get(BUCKET, "what-its-client-does-not-sample").await.fails(404, "NoSuchKey");
    let ask = s3.ask(Method::GET, BUCKET, OBJECT).header("traceparent", &traceparent());
    ask.header("range", "bytes=0-1048575").send().await.ok();
    let request = collector.once_there_is("GetObject").await["GetObject"].clone();
    let spans = collector.spans();
    assert!(spans.iter().all(|received| hex(&received.span.trace_id) == TRACE), "only what its client samples");
    assert_eq!(hex(&request.span.parent_span_id), SPAN);
    assert_eq!(request.value("http.response.body.size").as_deref(), Some("1048576"));
    let body = spans.iter().find(|received| received.span.name == "answer body").expect("it streamed");
    assert!(body.is_child_of(&request) && body.span.end_time_unix_nano <= request.span.end_time_unix_nano);
    let fetched = spans.iter().filter(|received| received.span.name == "storage GET").count();
    assert!(fetched >= 2, "its end, and the range: {spans:?}");
}

#[tokio::test]
async fn nothing_that_is_to_stay_here_reaches_the_collector() {
    let collector = Collector::start().await;
    let (tracer, _exporting, _) = collector.tracer("proxy");
    let world = World::with(traced(tracer)).await;
    let ask = world.s3.ask(Method::PUT, BUCKET, OBJECT).body("the very secret content");
    ask.header("x-amz-meta-note", "the very secret note").send().await.ok();
    world.s3.ask(Method::GET, BUCKET, OBJECT).query("response-content-type", "text/very-secret").send().await.ok();
    keyed(world.s3.ask(Method::PUT, BUCKET, "another-name"), &KEY).body("x").send().await.ok();
    world.proxy.s3_as("AKNOBODY").get(BUCKET, OBJECT).await.fails(403, "InvalidAccessKeyId");
    world.store.before(|_| Some(Instead::Answer(Reply::error(500, "Broken-very-secret"))));
    let ask = world.s3.ask(Method::HEAD, BUCKET, OBJECT).header("baggage", "user=very-secret");
    ask.header("tracestate", "vendor=very-secret").header("traceparent", &traceparent()).send().await;
    collector.once_there_is("HeadObject").await;

    let bytes = collector.bytes();
    let envelope = world.store.object(BUCKET, OBJECT).expect("stored").envelope().to_owned();
    let signature = "X-Amz-Credential";
    for secret in ["very secret", "very-secret", "telling-name", "another-name", "akadmin", "AKADMIN", "AKNOBODY"]
        .into_iter()
        .chain([&*world.s3.secret, SECRET, &envelope, BUCKET, "demo", signature, "authorization"])
    {
        assert!(!contains(&bytes, secret.as_bytes()), "{secret:?} is in a span");
    }
    assert!(!contains(&bytes, &KEY));
    // What is there all the same.
    let spans = collector.spans();
    let failed =
        spans.iter().filter(|received| received.span.name == "storage HEAD" || received.span.name == "storage GET");
    let failed: Vec<&Received> = failed.filter(|received| received.value("error.type").is_some()).collect();
    let again = failed.iter().filter_map(|received| received.value("http.request.resend_count")).collect::<Vec<_>>();
    assert!(
        failed.iter().all(|one| one.value("error.type").as_deref() == Some("5xx")) && again.contains(&"1".to_owned())
    );
    assert!(spans.iter().any(|received| received.value("claviger.result").as_deref() == Some("InvalidAccessKeyId")));
}

#[tokio::test]
async fn names_are_revealed_where_it_is_asked_for() {
    let collector = Collector::start().await;
    let reveal = Reveal { bucket: true, key: true, principal: true, peer: true };
    let (tracer, _exporting, _) = start(&TraceSettings { reveal, ..settings(collector.address, "proxy") });
    let world = World::with(traced(tracer)).await;
    world.s3.put(BUCKET, OBJECT, "x").await.ok();
    let request = collector.once_there_is("PutObject").await["PutObject"].clone();
    for (key, value) in
        [("aws.s3.bucket", BUCKET), ("aws.s3.key", OBJECT), ("enduser.id", "akadmin"), ("client.address", "127.0.0.1")]
    {
        assert_eq!(request.value(key).as_deref(), Some(value), "{key}");
    }
}

#[tokio::test]
async fn without_a_collector_nobody_is_told_of_a_trace() {
    let world = World::new().await;
    world.store.take_whole_log();
    let ask = world.s3.ask(Method::PUT, BUCKET, OBJECT).body("x").header("traceparent", &traceparent());
    ask.send().await.ok();
    let seen = world.store.take_whole_log();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.header("traceparent").is_none()));
}

/// Requests go on as ever, and spans are dropped and counted, whoever is at `address`.
async fn does_no_harm(address: SocketAddr) {
    let few =
        TraceSettings { queue_max: 8, batch_max: 4, timeout: Duration::from_secs(1), ..settings(address, "proxy") };
    let (tracer, exporting, metrics) = start(&few);
    let world = World::with(traced(tracer)).await;
    for number in 0..20 {
        let name = format!("object-{number}");
        world.s3.put(BUCKET, &name, noise(1000, number)).await.ok();
        assert_eq!(world.s3.get(BUCKET, &name).await.ok().body, noise(1000, number));
    }
    let dropped = |metrics: &TraceMetrics| metrics.all_dropped();
    until("spans are dropped", || dropped(&metrics) >= 20).await;
    let begun = Instant::now();
    exporting.end().await;
    assert!(begun.elapsed() < LONG / 2);
    let before = dropped(&metrics);
    world.s3.get(BUCKET, "object-1").await.ok();
    until("those after the end are counted, too", || dropped(&metrics) > before).await;
    assert_eq!(metrics.all_sent(), 0);
}

#[tokio::test]
async fn a_collector_that_is_not_there_does_no_harm() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    does_no_harm(address).await;
}

#[tokio::test]
async fn a_collector_that_never_answers_does_no_harm() {
    // Connections are taken by the system, and nobody reads.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    does_no_harm(listener.local_addr().expect("bound")).await;
}
