//! What an operator sees of requests: counters and histograms that move, and one id from the client to the storage server.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use claviger::telemetry::metrics::{Registry, TextForm};
use http::Method;
use tokio::sync::Semaphore;

use crate::harness::proxy::Metrics;
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Ending, Proxy, Reply, Setup, World, noise, until};

/// What a scrape shows.
struct Scrape(String);

impl Scrape {
    /// The value of a series; 0 if it is not shown.
    fn value(&self, series: &str) -> f64 {
        let value = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }
}

fn scrape(metrics: &Metrics, proxy: &Proxy) -> Scrape {
    let mut registry = Registry::default();
    metrics.front.register(&mut registry);
    metrics.storage.register(&mut registry);
    let keys = proxy.keys.clone();
    metrics.keys.register(&mut registry, move || Some(keys.clone()));
    Scrape(registry.encode(TextForm::Prometheus).expect("writes"))
}

async fn world() -> (World, Metrics) {
    let metrics = Metrics::default();
    (World::with(Setup { metrics: metrics.clone(), ..Setup::default() }).await, metrics)
}

#[tokio::test]
async fn counters_and_histograms_move_with_requests() {
    let (world, metrics) = world().await;
    let value = |series: &str| scrape(&metrics, &world.proxy).value(series);
    let puts = "claviger_requests_total{operation=\"PutObject\",result=\"2xx\"}";
    assert_eq!(value(puts), 0.0);
    world.s3.put(BUCKET, "object", noise(200_000, 1)).await.ok();
    assert_eq!(value(puts), 1.0);
    assert_eq!(value("claviger_received_bytes_total"), 200_000.0);
    assert!(
        value("claviger_storage_call_duration_seconds_count{method=\"PUT\",outcome=\"2xx\"}") >= 2.0,
        "key and object"
    );
    assert!(value("claviger_custodian_call_duration_seconds_count{verb=\"generate\",outcome=\"ok\"}") >= 1.0);
    assert!(value("claviger_key_cache_lookups_total{kind=\"write\",outcome=\"hit\"}") >= 1.0);
    assert_eq!(value("claviger_leases{kind=\"write\",age=\"0-1m\"}"), 1.0);

    world.s3.get(BUCKET, "object").await.ok();
    world.s3.get(BUCKET, "object").await.ok();
    world.s3.get(BUCKET, "absent").await.fails(404, "NoSuchKey");
    world.proxy.s3_as("AKNOBODY").get(BUCKET, "object").await.fails(403, "InvalidAccessKeyId");
    assert_eq!(value("claviger_requests_total{operation=\"GetObject\",result=\"2xx\"}"), 2.0);
    assert_eq!(value("claviger_requests_total{operation=\"GetObject\",result=\"NoSuchKey\"}"), 1.0);
    assert_eq!(value("claviger_requests_total{operation=\"-\",result=\"InvalidAccessKeyId\"}"), 1.0);
    assert!(value("claviger_sent_bytes_total") >= 400_000.0);
    assert_eq!(value("claviger_key_cache_lookups_total{kind=\"read\",outcome=\"miss\"}"), 1.0);
    assert!(value("claviger_key_cache_lookups_total{kind=\"read\",outcome=\"hit\"}") >= 1.0);
    assert_eq!(value("claviger_key_cache_entries{kind=\"read\"}"), 1.0);
    assert_eq!(value("claviger_leases{kind=\"read\",age=\"0-1m\"}"), 1.0);
    until("all answers have ended", || value("claviger_requests_in_flight") == 0.0).await;
    assert_eq!(value("claviger_request_duration_seconds_count{operation=\"GetObject\"}"), 3.0);
    assert_eq!(value("claviger_integrity_alarms_total"), 0.0);
    let shown = scrape(&metrics, &world.proxy).0;
    for name in ["object", "absent", BUCKET, "akadmin", "demo"] {
        assert!(!shown.contains(&format!("\"{name}\"")), "{name} is in a label");
    }
}

#[tokio::test]
async fn an_answer_is_in_flight_and_timed_until_its_end() {
    let (world, metrics) = world().await;
    let value = |series: &str| scrape(&metrics, &world.proxy).value(series);
    world.s3.put(BUCKET, "object", noise(2 << 20, 1)).await.ok();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    world.store.after(move |seen, reply| {
        if seen.is(Method::GET, "object") {
            reply.ending = Ending::WaitAfter(1 << 20, Arc::clone(&held));
        }
    });
    let (s3, come) = (world.s3.clone(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&come);
    let download = tokio::spawn(async move {
        let ask = s3.ask(Method::GET, BUCKET, "object");
        let each = ask.send_each(|data| {
            count.fetch_add(data.len(), Ordering::SeqCst);
        });
        each.await
    });
    until("the first bytes come", || come.load(Ordering::SeqCst) > 0).await;
    assert_eq!(value("claviger_requests_in_flight"), 1.0);
    assert_eq!(value("claviger_request_duration_seconds_count{operation=\"GetObject\"}"), 0.0);
    gate.add_permits(1000);
    download.await.expect("no panic");
    until("it ended", || value("claviger_requests_in_flight") == 0.0).await;
    assert_eq!(value("claviger_request_duration_seconds_count{operation=\"GetObject\"}"), 1.0);
}

#[tokio::test]
async fn tampering_and_failing_servers_are_counted() {
    let (world, metrics) = world().await;
    let value = |series: &str| scrape(&metrics, &world.proxy).value(series);
    for (size, alarms) in [(1000, 1.0), (2 << 20, 2.0)] {
        world.s3.put(BUCKET, "object", noise(size, 1)).await.ok();
        world.store.tamper(BUCKET, "object", |stored| {
            let mut body = stored.body.to_vec();
            body[700] ^= 1;
            stored.body = body.into();
        });
        world.s3.get(BUCKET, "object").await;
        until("the alarm", || value("claviger_integrity_alarms_total") == alarms).await;
    }
    world.store.before(|_| Some(Instead::Answer(Reply::error(500, "Broken-4711"))));
    world.s3.get(BUCKET, "other").await.fails(500, "Broken-4711");
    assert_eq!(value("claviger_requests_total{operation=\"GetObject\",result=\"5xx\"}"), 1.0);
    assert!(value("claviger_storage_retries_total") >= 1.0);
    assert!(value("claviger_storage_call_duration_seconds_count{method=\"GET\",outcome=\"5xx\"}") >= 2.0);
    assert!(!scrape(&metrics, &world.proxy).0.contains("4711"));
}

#[tokio::test]
async fn the_id_in_the_answer_is_the_one_that_the_storage_server_saw() {
    let (world, _) = world().await;
    world.store.take_whole_log();
    let ask = world.s3.ask(Method::PUT, BUCKET, "object").body(noise(2 << 20, 1));
    let put = ask.header("x-claviger-request-id", "FORGEDFORGEDFORG").send().await.ok();
    let ids = || -> HashSet<String> {
        let seen = world.store.take_whole_log();
        assert!(!seen.is_empty());
        seen.iter().map(|seen| seen.header("x-claviger-request-id").expect("an id").to_owned()).collect()
    };
    let id = put.header("x-amz-request-id");
    assert_eq!(ids(), HashSet::from([id.to_owned()]), "of the key's publication and of the object");
    let get = world.s3.get(BUCKET, "object").await.ok();
    assert_ne!(get.header("x-amz-request-id"), id);
    assert_eq!(ids(), HashSet::from([get.header("x-amz-request-id").to_owned()]));
    let upload = world.s3.create_upload(BUCKET, "parts").await;
    world.s3.abort((BUCKET, "parts"), &upload).await.ok();
    assert_eq!(ids().len(), 2);
}
