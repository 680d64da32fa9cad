//! What runs is cut off when its key is revoked, and let finish when the proxy is asked to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use claviger::custody::keys::{KeyMetrics, Revocation};
use claviger::custody::lease::LeaseSettings;
use claviger::telemetry::metrics::{Registry, TextForm};
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::Semaphore;

use crate::harness::client::Ask;
use crate::harness::custodian::Failing;
use crate::harness::proxy::Metrics;
use crate::harness::verdict::{Verdict, judge};
use crate::harness::{Answer, BUCKET, Ending, S3, Setup, World, noise, until};

pub(crate) const SIZE: usize = 2 << 20;

/// A GET that waits in the middle for the gate.
pub(crate) async fn reading(world: &World) -> (Bytes, Arc<Semaphore>, tokio::task::JoinHandle<Answer>) {
    let body = noise(SIZE, 1);
    world.s3.put(BUCKET, "object", body.clone()).await.ok();
    world.store.take_log();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    world.store.after(move |seen, reply| {
        if seen.is(Method::GET, "object") {
            reply.ending = Ending::WaitAfter(SIZE / 2, Arc::clone(&held));
        }
    });
    let s3 = world.s3.clone();
    let come = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&come);
    let reading = tokio::spawn(async move {
        let mut body = Vec::new();
        let answer = s3.ask(Method::GET, BUCKET, "object").send_each(|data| {
            body.extend_from_slice(&data);
            count.store(body.len(), Ordering::SeqCst);
        });
        let answer = answer.await;
        Answer { body: body.into(), ..answer }
    });
    until("the first bytes come", || come.load(Ordering::SeqCst) > 0).await;
    (body, gate, reading)
}

/// An upload whose second half waits for the gate.
async fn writing(world: &World) -> (Arc<Semaphore>, tokio::task::JoinHandle<Answer>) {
    world.s3.put(BUCKET, "warm", "x").await.ok();
    let gate = Arc::new(Semaphore::new(0));
    let frames = futures_util::stream::unfold((0, Arc::clone(&gate)), |(step, gate)| async move {
        if step == 1 {
            gate.acquire().await.expect("open").forget();
        }
        let frame = Ok::<_, claviger::net::BoxError>(Frame::data(noise(SIZE / 2, step)));
        (step < 2).then_some((frame, (step + 1, gate)))
    });
    let ask = world.s3.ask(Method::PUT, BUCKET, "upload").header("content-length", &SIZE.to_string());
    let writing = tokio::spawn(ask.stream(StreamBody::new(frames).boxed_unsync()).send());
    until("the upload arrives", || world.store.take_log().iter().any(|seen| seen.key == "upload")).await;
    (gate, writing)
}

#[tokio::test]
async fn a_revocation_cuts_a_running_get() {
    let world = World::new().await;
    let (body, gate, running) = reading(&world).await;
    world.proxy.keys.revoke(&Revocation::All);
    gate.add_permits(10);
    let answer = running.await.expect("no panic");
    assert_eq!(judge("revoked", &answer, &body), Verdict::Cut);
    assert!(answer.body.len() <= SIZE / 2 + 70_000, "nothing after the revocation: {}", answer.body.len());
    // A new lease opens it again: revoking is not disabling.
    assert!(world.s3.get(BUCKET, "object").await.ok().body == body);
}

#[tokio::test]
async fn without_one_the_same_get_finishes() {
    let world = World::new().await;
    let (body, gate, running) = reading(&world).await;
    gate.add_permits(10);
    assert!(running.await.expect("no panic").ok().body == body);
}

#[tokio::test]
async fn a_revocation_ends_a_running_upload_and_nothing_is_stored() {
    let world = World::new().await;
    let (gate, running) = writing(&world).await;
    world.proxy.keys.revoke(&Revocation::All);
    gate.add_permits(10);
    running.await.expect("no panic").fails(503, "ServiceUnavailable");
    assert_eq!(world.store.keys(BUCKET), ["warm"]);
}

#[tokio::test]
async fn an_upload_that_outlasts_its_lease_counts_only_if_the_custodian_still_agrees() {
    for denied in [false, true] {
        let custodian = Failing::new();
        let leases = LeaseSettings { write_renew_s: 1, ..LeaseSettings::default() };
        let world = World::with(Setup { custodian: custodian.clone(), leases, ..Setup::default() }).await;
        let (gate, running) = writing(&world).await;
        custodian.denies.store(denied, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        gate.add_permits(10);
        let answer = running.await.expect("no panic");
        if denied {
            answer.fails(403, "AccessDenied");
            assert_eq!(world.store.keys(BUCKET), ["warm"]);
        } else {
            answer.ok();
            assert_eq!(world.s3.get(BUCKET, "upload").await.ok().body.len(), SIZE);
        }
    }
}

/// How often a branch key for reading was at hand.
fn leases_taken(metrics: &KeyMetrics) -> Option<String> {
    let mut registry = Registry::default();
    metrics.register(&mut registry, || None);
    let shown = registry.encode(TextForm::Prometheus).expect("writes");
    shown.lines().find(|line| line.contains("kind=\"read\",outcome=\"hit\"")).map(str::to_owned)
}

/// What is asked for, and how.
type Asking = (&'static str, fn(&S3) -> Ask);

/// What is answered only once all of the storage server's answer is there.
fn answered_at_once() -> [Asking; 5] {
    [
        ("GET", |s3| s3.ask(Method::GET, BUCKET, "object")),
        ("range", |s3| s3.ask(Method::GET, BUCKET, "object").header("range", "bytes=0-9")),
        ("part", |s3| s3.ask(Method::GET, BUCKET, "object").query("partNumber", "1")),
        ("HEAD", |s3| s3.ask(Method::HEAD, BUCKET, "object")),
        ("attributes", |s3| {
            let ask = s3.ask(Method::GET, BUCKET, "object").query_text("attributes");
            ask.header("x-amz-object-attributes", "ObjectSize")
        }),
    ]
}

#[tokio::test]
async fn what_was_waited_for_is_not_given_after_a_revocation() {
    let first = World::new().await;
    let put = first.s3.ask(Method::PUT, BUCKET, "object").header("x-amz-meta-name", "told");
    put.body(noise(300, 1)).send().await.ok();
    first.s3.put(BUCKET, "warm", "x").await.ok();
    for (what, ask) in answered_at_once() {
        for revoked in [true, false] {
            let metrics = Metrics::default();
            let counted = metrics.keys.clone();
            let (proxy, s3) = first.fresh_with(Setup { metrics, ..Setup::default() }).await;
            s3.get(BUCKET, "warm").await.ok();
            let gate = Arc::new(Semaphore::new(0));
            let held = Arc::clone(&gate);
            first.store.after(move |seen, reply| {
                if seen.key == "object" {
                    reply.ending = Ending::WaitAfter(1, Arc::clone(&held));
                }
            });
            let before = leases_taken(&counted);
            let running = tokio::spawn(ask(&s3).send());
            until("the key is leased", || leases_taken(&counted) != before).await;
            if revoked {
                proxy.keys.revoke(&Revocation::All);
            }
            gate.add_permits(10);
            let answer = running.await.expect("no panic");
            first.store.honest();
            let told = answer.headers.contains_key("x-amz-meta-name") || answer.body.starts_with(&noise(300, 1)[..10]);
            assert_eq!((answer.status == 503, told), (revoked, !revoked && what != "attributes"), "{what}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn draining_lets_what_runs_finish_and_takes_nothing_new() {
    let mut world = World::new().await;
    let (read_body, read_gate, reading) = reading(&world).await;
    let (write_gate, writing) = writing(&world).await;
    let address = world.proxy.address;
    world.proxy.begin_stop();
    until("the listener closes", || std::net::TcpStream::connect(address).is_err()).await;
    read_gate.add_permits(10);
    write_gate.add_permits(10);
    assert!(reading.await.expect("no panic").ok().body == read_body);
    writing.await.expect("no panic").ok();
    let begun = Instant::now();
    let report = world.proxy.stop().await;
    assert_eq!((report.requests_cut, report.connections_cut), (0, 0));
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(world.store.object(BUCKET, "upload").map(|stored| stored.body.len() > SIZE), Some(true));
}

#[tokio::test]
async fn what_outlasts_the_drain_is_cut() {
    let world = World::new().await;
    let (body, _gate, reading) = reading(&world).await;
    let (_write_gate, writing) = writing(&world).await;
    let report = world.proxy.stop().await;
    assert_eq!(report.requests_cut, 2, "{report:?}");
    assert_eq!(judge("drained", &reading.await.expect("no panic"), &body), Verdict::Cut);
    assert_eq!(writing.await.expect("no panic").status, 0);
    until("the storage server sees the end", || world.store.broken_uploads() == 1).await;
    assert_eq!(world.store.keys(BUCKET), ["object", "warm"]);
}
