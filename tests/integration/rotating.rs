//! After a KEK was rotated, new objects soon stand under its new version, and no client notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use claviger::custodian::embedded::Embedded;
use claviger::custody::lease::LeaseSettings;
use claviger::format::envelope::Unverified;
use claviger::names::BranchId;

use crate::harness::custodian::{custodian, kek};
use crate::harness::proxy::{client, everything};
use crate::harness::watch::FakeWatch;
use crate::harness::{BUCKET, LONG, Reply, S3, STATE, Setup, World};
use crate::watching::upload;

const ROTATED: &str = r#"{"event":"kek","name":"demo","change":"rotated"}"#;

/// The branch key of a stored object and the KEK version that it is under.
fn branch(world: &World, key: &str) -> (BranchId, u32) {
    let stored = world.store.object(BUCKET, key).expect("stored");
    let envelope = Unverified::parse(stored.envelope()).expect("an envelope");
    (envelope.branch().id, envelope.branch().version.number())
}

async fn rotate(embedded: &Embedded) {
    let who = embedded.requester().expect("random");
    embedded.engine().rotate(&who, &kek("demo")).await.expect("rotates");
}

/// Writes until an object is under `version`: how many came before it, and how long it took.
async fn write_until(world: &World, s3: &S3, name: &str, version: u32, limit: Duration) -> (usize, Duration) {
    let begun = Instant::now();
    for number in 0.. {
        let key = format!("{name}-{number}");
        s3.put(BUCKET, &key, "x").await.ok();
        if branch(world, &key).1 == version {
            return (number, begun.elapsed());
        }
        assert!(begun.elapsed() < limit, "{number} objects under an older version");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("it ends by an object or by the limit")
}

/// Each object opens for a proxy that remembers nothing.
async fn all_open(world: &World, embedded: &Embedded) {
    let (_proxy, s3) = world.fresh_with(Setup { custodian: Arc::new(embedded.clone()), ..Setup::default() }).await;
    let keys = world.store.keys(BUCKET);
    assert!(!keys.is_empty());
    for key in keys {
        s3.get(BUCKET, &key).await.ok();
    }
}

#[tokio::test]
async fn a_watched_custodians_rotation_is_written_under_within_a_moment() {
    let (embedded, _folder) = custodian(&["demo"]);
    let clients = ["AKADMIN", "AKALICE", "AKBOB"].map(|access_key| client(access_key, everything())).into();
    let custodian = Arc::new(embedded.clone());
    let world = World::with(Setup { custodian, clients, ..Setup::default() }).await;
    let [alice, bob] = ["AKALICE", "AKBOB"].map(|access_key| world.proxy.s3_as(access_key));
    let watch = FakeWatch::start().await;
    let _watching = watch.watched_by(&world.proxy, LONG).await;
    for s3 in [&alice, &bob] {
        s3.put(BUCKET, "first", "x").await.ok();
    }
    let (gate, running) = upload(&world, &alice, "running").await;
    rotate(&embedded).await;
    watch.says(ROTATED);
    let (_, took) = write_until(&world, &alice, "alices", 2, LONG).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (before, _) = write_until(&world, &bob, "bobs", 2, LONG).await;
    gate.add_permits(10);
    running.await.expect("no panic").ok();
    let bobs = branch(&world, &format!("bobs-{before}")).0;
    world.s3.put(BUCKET, "last", "x").await.ok();
    assert_eq!(branch(&world, "last"), (bobs, 2), "one key for all");
    assert_eq!(world.store.keys(STATE).len(), 2, "one branch key of each version");
    all_open(&world, &embedded).await;
}

#[tokio::test]
async fn a_rotation_nobody_tells_of_is_found_at_the_renewal_of_a_lease() {
    let (embedded, _folder) = custodian(&["demo"]);
    let leases = LeaseSettings { write_renew_s: 2, ..LeaseSettings::default() };
    let world = World::with(Setup { custodian: Arc::new(embedded.clone()), leases, ..Setup::default() }).await;
    world.s3.put(BUCKET, "first", "x").await.ok();
    rotate(&embedded).await;
    let (before, took) = write_until(&world, &world.s3, "next", 2, LONG).await;
    assert!(before > 0 && took < Duration::from_millis(2500), "{before} in {took:?}");
    rotate(&embedded).await;
    let (_, took) = write_until(&world, &world.s3, "later", 3, LONG).await;
    assert!(took < Duration::from_millis(2500), "{took:?}");
    all_open(&world, &embedded).await;
}

#[tokio::test]
async fn while_the_directory_fails_writes_go_on_under_the_old_version() {
    let (embedded, _folder) = custodian(&["demo"]);
    let leases = LeaseSettings { write_renew_s: 20, ..LeaseSettings::default() };
    let world = World::with(Setup { custodian: Arc::new(embedded.clone()), leases, ..Setup::default() }).await;
    let watch = FakeWatch::start().await;
    let _watching = watch.watched_by(&world.proxy, LONG).await;
    world.s3.put(BUCKET, "first", "x").await.ok();
    let failing = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&failing);
    world.store.after(move |seen, reply| {
        if fails.load(Ordering::SeqCst) && seen.key.starts_with("branch/") {
            *reply = Reply::error(500, "InternalError");
        }
    });
    rotate(&embedded).await;
    watch.says(ROTATED);
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < Duration::from_millis(500) {
        let key = format!("meanwhile-{number}");
        world.s3.put(BUCKET, &key, "x").await.ok();
        assert_eq!(branch(&world, &key).1, 1);
        number += 1;
    }
    assert!(world.store.take_whole_log().iter().any(|seen| seen.key.starts_with("branch/")), "it was tried");
    failing.store(false, Ordering::SeqCst);
    // After the pause, a twentieth of the lease.
    let (_, took) = write_until(&world, &world.s3, "after", 2, LONG).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    all_open(&world, &embedded).await;
}
