//! A custodian that cannot be reached, says no, or says nothing: 503 with Retry-After, never plaintext, never a hang.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use claviger::custody::keys::Revocation;
use claviger::custody::lease::LeaseSettings;

use crate::cutting_off::{SIZE, reading};
use crate::harness::custodian::{Failing, custodian, kek};
use crate::harness::verdict::{Verdict, judge};
use crate::harness::{Answer, BUCKET, Setup, World, noise};

async fn world(leases: LeaseSettings) -> (World, Arc<Failing>) {
    let custodian = Failing::new();
    let world = World::with(Setup { custodian: custodian.clone(), leases, ..Setup::default() }).await;
    world.store.create("other-bucket");
    (world, custodian)
}

#[track_caller]
fn may_come_again(answer: Answer) {
    let answer = answer.fails(503, "ServiceUnavailable");
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{answer:?}");
}

#[tokio::test]
async fn unreachable() {
    let (world, custodian) = world(LeaseSettings::default()).await;
    world.s3.put(BUCKET, "object", noise(300_000, 1)).await.ok();
    world.s3.get(BUCKET, "object").await.ok();
    custodian.unreachable.store(true, Ordering::SeqCst);

    // What is leased works on.
    world.s3.put(BUCKET, "further", "x").await.ok();
    assert!(world.s3.get(BUCKET, "object").await.ok().body == noise(300_000, 1));
    world.s3.get_range(BUCKET, "further", "bytes=0-0").await.ok();

    // Nothing new starts.
    for size in [0, 10, 300_000] {
        may_come_again(world.s3.put("other-bucket", "object", noise(size, 1)).await);
    }
    assert!(world.store.keys("other-bucket").is_empty());
    let fresh =
        crate::harness::Proxy::start(&world.store, Setup { custodian: custodian.clone(), ..Setup::default() }).await;
    may_come_again(fresh.s3().get(BUCKET, "object").await);
    may_come_again(fresh.s3().get_range(BUCKET, "object", "bytes=0-9").await);
    assert_eq!(fresh.s3().head(BUCKET, "object").await.status, 503);

    // What needs no key needs no custodian.
    fresh.s3().list(BUCKET, &[]).await.ok();
    custodian.unreachable.store(false, Ordering::SeqCst);
    assert!(fresh.s3().get(BUCKET, "object").await.ok().body == noise(300_000, 1));
    world.s3.put("other-bucket", "object", "x").await.ok();
}

#[tokio::test]
async fn silent() {
    let (world, custodian) = world(LeaseSettings { rpc_deadline_s: 1, ..LeaseSettings::default() }).await;
    custodian.silent.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    may_come_again(world.s3.put(BUCKET, "object", "x").await);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(world.store.take_whole_log().is_empty());
}

#[tokio::test]
async fn denying() {
    let (world, custodian) = world(LeaseSettings::default()).await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    custodian.denies.store(true, Ordering::SeqCst);
    world.s3.get(BUCKET, "object").await.fails(403, "AccessDenied");
    world.s3.put("other-bucket", "object", "x").await.fails(403, "AccessDenied");
    assert!(world.store.keys("other-bucket").is_empty());
}

#[tokio::test]
async fn a_failing_custodian_is_not_stormed() {
    let (world, custodian) = world(LeaseSettings::default()).await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    custodian.denies.store(true, Ordering::SeqCst);
    let (before, begun) = (custodian.calls.load(Ordering::SeqCst), Instant::now());
    for _ in 0..200 {
        world.s3.get(BUCKET, "object").await.fails(403, "AccessDenied");
    }
    let calls = custodian.calls.load(Ordering::SeqCst) - before;
    // A denial is remembered for 2 s.
    let most = 2 + usize::try_from(begun.elapsed().as_secs()).expect("few");
    assert!(calls <= most, "{calls} calls for 200 requests in {:?}", begun.elapsed());
}

#[tokio::test]
async fn when_the_lease_ends_so_does_the_access() {
    let leases = LeaseSettings { read_lease_s: 2, ..LeaseSettings::default() };
    let (world, custodian) = world(leases).await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    world.s3.get(BUCKET, "object").await.ok();
    custodian.unreachable.store(true, Ordering::SeqCst);
    world.s3.get(BUCKET, "object").await.ok();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    may_come_again(world.s3.get(BUCKET, "object").await);
}

#[tokio::test]
async fn a_download_that_outlasts_its_lease_renews_it_in_mid_stream_or_ends() {
    let leases = LeaseSettings { read_lease_s: 1, ..LeaseSettings::default() };
    for (denies, unreachable) in [(false, false), (true, false), (false, true)] {
        let (world, custodian) = world(leases.clone()).await;
        let (body, gate, running) = reading(&world).await;
        let before = custodian.calls.load(Ordering::SeqCst);
        custodian.denies.store(denies, Ordering::SeqCst);
        custodian.unreachable.store(unreachable, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(custodian.calls.load(Ordering::SeqCst), before, "nobody is asked while nothing is given out");
        gate.add_permits(10);
        let answer = running.await.expect("no panic");
        assert!(custodian.calls.load(Ordering::SeqCst) > before, "the custodian is asked again");
        if denies || unreachable {
            assert_eq!(judge("not renewed", &answer, &body), Verdict::Cut);
            assert!(answer.body.len() <= SIZE / 2 + 70_000, "nothing after the lease: {}", answer.body.len());
        } else {
            assert!(answer.ok().body == body);
        }
    }
}

#[tokio::test]
async fn disabled_and_unknown_keks() {
    let (embedded, _folder) = custodian(&["demo"]);
    let world = World::with(Setup { custodian: Arc::new(embedded.clone()), ..Setup::default() }).await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    world.s3.get(BUCKET, "object").await.ok();
    let who = embedded.requester().expect("random");
    embedded.engine().disable(&who, &kek("demo")).await.expect("disables");
    world.proxy.keys.revoke(&Revocation::Kek(kek("demo")));
    world.s3.get(BUCKET, "object").await.fails(400, "KMS.DisabledException");
    world.s3.put(BUCKET, "new", "x").await.fails(400, "KMS.DisabledException");
    assert_eq!(world.store.keys(BUCKET), ["object"]);

    let others = Some(crate::harness::proxy::key_rule("nowhere"));
    let unknown = crate::harness::Proxy::start(&world.store, Setup { others, ..Setup::default() }).await;
    unknown.s3().put(BUCKET, "new", "x").await.fails(400, "KMS.NotFoundException");
    assert_eq!(world.store.keys(BUCKET), ["object"]);
}
