//! What the custodian tells on its watch reaches running requests and new ones within a second; silence closes the door.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::harness::custodian::{Failing, custodian, kek};
use crate::harness::proxy::{client, everything};
use crate::harness::verdict::{Verdict, judge};
use crate::harness::watch::FakeWatch;
use crate::harness::{Answer, BUCKET, Ending, LONG, S3, Setup, World, noise, until};

const SIZE: usize = 2 << 20;

/// Has GETs of objects wait in the middle for the gate.
fn gated(world: &World) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    world.store.after(move |seen, reply| {
        if seen.method == Method::GET && seen.key.starts_with("object") {
            reply.ending = Ending::WaitAfter(SIZE / 2, Arc::clone(&held));
        }
    });
    gate
}

/// A GET of which the first bytes came.
async fn download(s3: &S3, key: &'static str) -> JoinHandle<Answer> {
    let come = Arc::new(AtomicUsize::new(0));
    let (s3, count) = (s3.clone(), Arc::clone(&come));
    let running = tokio::spawn(async move {
        let mut body = Vec::new();
        let answer = s3.ask(Method::GET, BUCKET, key).send_each(|data| {
            body.extend_from_slice(&data);
            count.store(body.len(), Ordering::SeqCst);
        });
        let answer = answer.await;
        Answer { body: body.into(), ..answer }
    });
    until("the first bytes come", || come.load(Ordering::SeqCst) > 0).await;
    running
}

/// A PUT whose second half waits for the gate.
pub(crate) async fn upload(world: &World, s3: &S3, key: &'static str) -> (Arc<Semaphore>, JoinHandle<Answer>) {
    let gate = Arc::new(Semaphore::new(0));
    let frames = futures_util::stream::unfold((0, Arc::clone(&gate)), |(step, gate)| async move {
        if step == 1 {
            gate.acquire().await.expect("open").forget();
        }
        let frame = Ok::<_, claviger::net::BoxError>(Frame::data(noise(SIZE / 2, step)));
        (step < 2).then_some((frame, (step + 1, gate)))
    });
    let ask = s3.ask(Method::PUT, BUCKET, key).header("content-length", &SIZE.to_string());
    let running = tokio::spawn(ask.stream(StreamBody::new(frames).boxed_unsync()).send());
    until("the upload arrives", || world.store.take_log().iter().any(|seen| seen.key == key)).await;
    (gate, running)
}

/// A world with two clients, whose custodian can deny one of them.
async fn two_clients() -> (World, Arc<Failing>, [S3; 2]) {
    let custodian = Failing::new();
    let clients = ["AKADMIN", "AKALICE", "AKBOB"].map(|access_key| client(access_key, everything())).into();
    let world = World::with(Setup { custodian: custodian.clone(), clients, ..Setup::default() }).await;
    let clients = ["AKALICE", "AKBOB"].map(|access_key| world.proxy.s3_as(access_key));
    (world, custodian, clients)
}

#[tokio::test]
async fn a_disabled_kek_stops_a_running_download_and_the_next_request_within_a_second() {
    let (embedded, _folder) = custodian(&["demo", "other"]);
    let world = World::with(Setup { custodian: Arc::new(embedded.clone()), ..Setup::default() }).await;
    let watch = FakeWatch::start().await;
    let _watching = watch.watched_by(&world.proxy, LONG).await;
    let body = noise(SIZE, 1);
    world.s3.put(BUCKET, "object", body.clone()).await.ok();
    world.s3.put(BUCKET, "small", "x").await.ok();
    world.s3.get(BUCKET, "small").await.ok();
    let gate = gated(&world);
    let running = download(&world.s3, "object").await;

    let who = embedded.requester().expect("random");
    embedded.engine().disable(&who, &kek("demo")).await.expect("disables");
    let begun = Instant::now();
    watch.says(r#"{"event":"kek","name":"demo","change":"disabled"}"#);
    while world.s3.get(BUCKET, "small").await.status == 200 {
        assert!(begun.elapsed() < Duration::from_secs(1), "still served after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    world.s3.get(BUCKET, "small").await.fails(400, "KMS.DisabledException");
    world.s3.put(BUCKET, "new", "x").await.fails(400, "KMS.DisabledException");
    gate.add_permits(10);
    let answer = running.await.expect("no panic");
    assert_eq!(judge("disabled", &answer, &body), Verdict::Cut);
    assert!(answer.body.len() <= SIZE / 2 + 70_000, "nothing after it: {}", answer.body.len());
}

#[tokio::test]
async fn a_proxy_that_is_cut_off_serves_until_its_grace_is_over_and_again_when_it_is_back() {
    const GRACE: Duration = Duration::from_secs(2);
    let world = World::new().await;
    let watch = FakeWatch::start().await;
    let _watching = watch.watched_by(&world.proxy, GRACE).await;
    let body = noise(SIZE, 1);
    world.s3.put(BUCKET, "object", body.clone()).await.ok();
    world.s3.put(BUCKET, "small", "x").await.ok();
    let gate = gated(&world);
    let running = download(&world.s3, "object").await;

    watch.partition(true);
    let begun = Instant::now();
    // Longer than three heartbeats.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    world.s3.get(BUCKET, "small").await.ok();
    world.s3.put(BUCKET, "small", "y").await.ok();
    while world.s3.get(BUCKET, "small").await.status == 200 {
        assert!(begun.elapsed() < GRACE + Duration::from_secs(2), "it does not close");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begun.elapsed() >= GRACE, "{:?}", begun.elapsed());
    let refused = world.s3.get(BUCKET, "small").await.fails(503, "ServiceUnavailable");
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    world.s3.put(BUCKET, "small", "z").await.fails(503, "ServiceUnavailable");
    assert!(!world.s3.list(BUCKET, &[]).await.ok().text().is_empty(), "what needs no key goes on");
    gate.add_permits(10);
    assert_eq!(judge("cut off", &running.await.expect("no panic"), &body), Verdict::Cut);

    watch.partition(false);
    let begun = Instant::now();
    while world.s3.get(BUCKET, "small").await.status != 200 {
        assert!(begun.elapsed() < LONG, "it does not open again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.s3.get(BUCKET, "small").await.ok().text(), "y");
    world.s3.put(BUCKET, "small", "z").await.ok();
}

#[tokio::test]
async fn after_a_break_leases_are_asked_for_again() {
    let custodian = Failing::new();
    let world = World::with(Setup { custodian: custodian.clone(), ..Setup::default() }).await;
    let watch = FakeWatch::start().await;
    let _watching = watch.watched_by(&world.proxy, LONG).await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    world.s3.get(BUCKET, "object").await.ok();
    let calls = || custodian.calls.load(Ordering::SeqCst);
    let before = calls();
    world.s3.get(BUCKET, "object").await.ok();
    assert_eq!(calls(), before, "leased");
    watch.hangs_up();
    watch.greets(2).await;
    // The proxy may not have read the greeting yet.
    let begun = Instant::now();
    while calls() == before {
        assert!(begun.elapsed() < LONG, "nobody is asked again");
        world.s3.get(BUCKET, "object").await.ok();
    }
    let before = calls();
    world.s3.put(BUCKET, "object", "y").await.ok();
    assert!(calls() > before, "for writing too");
}

#[tokio::test]
async fn a_narrowed_policy_ends_the_downloads_of_those_it_now_denies_and_no_others() {
    let (world, custodian, [alice, bob]) = two_clients().await;
    let watch = FakeWatch::start().await;
    let _watching = watch.watched_by(&world.proxy, LONG).await;
    let body: Bytes = noise(SIZE, 1);
    world.s3.put(BUCKET, "object", body.clone()).await.ok();
    let gate = gated(&world);
    let running = [download(&alice, "object").await, download(&bob, "object").await];
    custodian.deny("akalice");
    let before = custodian.calls.load(Ordering::SeqCst);
    watch.says(r#"{"event":"policy","sha256":"00"}"#);
    // Each running download asks before its next segment; that the event has arrived shows in that they do.
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.add_permits(10);
    let [alices, bobs] = running;
    let alices = alices.await.expect("no panic");
    assert_eq!(judge("alice's", &alices, &body), Verdict::Cut);
    assert!(alices.body.len() <= SIZE / 2 + 70_000, "{}", alices.body.len());
    assert!(bobs.await.expect("no panic").ok().body == body);
    assert!(custodian.calls.load(Ordering::SeqCst) >= before + 2, "both were asked for");
    world.store.honest();
    alice.get(BUCKET, "object").await.fails(403, "AccessDenied");
    bob.get(BUCKET, "object").await.ok();
}

#[tokio::test]
async fn a_revoked_client_is_stopped_and_others_go_on() {
    let (world, custodian, [alice, bob]) = two_clients().await;
    let watch = FakeWatch::start().await;
    let _watching = watch.watched_by(&world.proxy, LONG).await;
    let body: Bytes = noise(SIZE, 1);
    world.s3.put(BUCKET, "object", body.clone()).await.ok();
    let gate = gated(&world);
    let running = [download(&alice, "object").await, download(&bob, "object").await];
    custodian.deny("akalice");
    let before = custodian.calls.load(Ordering::SeqCst);
    watch.says(r#"{"event":"principal","principal":"akalice","change":"revoked"}"#);
    watch.says(r#"{"event":"principal","principal":"spiffe://example.org/region/us/officer/x","change":"reinstated"}"#);
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.add_permits(10);
    let [alices, bobs] = running;
    assert_eq!(judge("alice's", &alices.await.expect("no panic"), &body), Verdict::Cut);
    assert!(bobs.await.expect("no panic").ok().body == body);
    assert_eq!(custodian.calls.load(Ordering::SeqCst), before, "nobody had to be asked");
}

#[tokio::test]
async fn a_narrowed_policy_ends_the_uploads_of_those_it_now_denies_and_no_others() {
    let (world, custodian, [alice, bob]) = two_clients().await;
    let watch = FakeWatch::start().await;
    let _watching = watch.watched_by(&world.proxy, LONG).await;
    world.s3.put(BUCKET, "warm", "x").await.ok();
    let (alices_gate, alices) = upload(&world, &alice, "alices").await;
    let (bobs_gate, bobs) = upload(&world, &bob, "bobs").await;
    custodian.deny("akalice");
    watch.says(r#"{"event":"grants"}"#);
    tokio::time::sleep(Duration::from_millis(500)).await;
    alices_gate.add_permits(10);
    bobs_gate.add_permits(10);
    alices.await.expect("no panic").fails(403, "AccessDenied");
    bobs.await.expect("no panic").ok();
    assert_eq!(world.store.keys(BUCKET), ["bobs", "warm"]);
}
