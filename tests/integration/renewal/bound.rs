//! `rebind`: what was copied or restored under another name opens there again, if the old name is known, and nothing else does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use claviger::object::renewal::{Choice, Manner};

use super::{MANNER, envelope, objects_of_each_kind, re_encrypt_with, rebind, rebind_only, seen};
use crate::harness::custodian::{kek, shared_in};
use crate::harness::proxy::{bucket_rule, domain, key_rule, workbench};
use crate::harness::{BUCKET, S3, Setup, World, noise};

/// A bucket of its own keys.
const RESTORED: &str = "restored";

fn setup() -> Setup {
    let mut keys = key_rule("other");
    keys.accept_writers = vec![domain("us"), domain("eu")];
    Setup { rules: vec![bucket_rule(RESTORED, "restored-physical", keys)], ..Setup::default() }
}

fn set_up(copies: (bool, u64)) -> Setup {
    Setup { copies, ..setup() }
}

async fn world() -> World {
    let world = World::with(setup()).await;
    world.store.create("restored-physical");
    world
}

async fn fresh(world: &World) -> S3 {
    world.fresh_with(setup()).await.1
}

/// As by the storage server's own tools, without the proxy.
fn restore(world: &World, key: &str, as_key: &str) {
    let stored = world.store.object(BUCKET, key).expect("stored");
    world.store.plant("restored-physical", as_key, stored);
}

const SERVER_SIDE: (bool, u64) = (true, 5 << 30);

#[tokio::test]
async fn a_restored_bucket_opens_again_and_no_data_moves() {
    let world = world().await;
    let written = objects_of_each_kind(&world.s3).await;
    let mut before = Vec::new();
    for (key, _) in &written {
        before.push(seen(&world.s3, BUCKET, key).await);
        restore(&world, key, &format!("backup/{key}"));
    }
    let s3 = fresh(&world).await;
    s3.get(RESTORED, "backup/a/one").await.fails(403, "InvalidObjectState");
    world.store.take_traffic();
    let objects = workbench(&world.store, setup());
    let report = rebind(Arc::clone(&objects), (RESTORED, "backup/"), (BUCKET, ""), MANNER).await;
    assert_eq!(report.counts(), (written.len() as u64, 0, 0, 0), "{report:?}");
    let traffic = world.store.take_traffic();
    assert!(traffic.received < 4000, "{traffic:?}");
    let s3 = fresh(&world).await;
    for ((key, body), was) in written.iter().zip(before) {
        let now = seen(&s3, RESTORED, &format!("backup/{key}")).await;
        assert!(now[0].2 == *body, "{key}");
        for (was, now) in was.iter().zip(&now) {
            let without_kek = |headers: &[String]| {
                headers.iter().filter(|header| !header.contains("kms-key-id")).cloned().collect::<Vec<_>>()
            };
            assert_eq!((was.0, without_kek(&was.1), &was.2), (now.0, without_kek(&now.1), &now.2), "{key}");
        }
        let (old, new) = (
            envelope(&world.store, BUCKET, key),
            envelope(&world.store, "restored-physical", &format!("backup/{key}")),
        );
        assert_eq!(new.branch().kek, kek("other"));
        let empty = body.is_empty();
        assert_eq!(new.commitment() == old.commitment(), !empty, "the DEK stays with the body");
        assert!(s3.get(BUCKET, key).await.ok().body == *body, "the other one is as it was");
    }
    let again = rebind(objects, (RESTORED, "backup/"), (BUCKET, ""), MANNER).await;
    assert_eq!(again.counts(), (0, written.len() as u64, 0, 0), "{again:?}");
}

#[tokio::test]
async fn without_the_right_name_nothing_is_bound() {
    let world = world().await;
    world.s3.put(BUCKET, "a", noise(70_000, 1)).await.ok();
    world.s3.put(BUCKET, "b", noise(70_000, 2)).await.ok();
    world.s3.put(RESTORED, "own", noise(70_000, 3)).await.ok();
    restore(&world, "a", "x");
    let before = world.store.object("restored-physical", "x").expect("there");
    for from in [(BUCKET, "b"), (BUCKET, "x"), (RESTORED, "a"), (BUCKET, "")] {
        let report = rebind(workbench(&world.store, setup()), (RESTORED, "x"), from, MANNER).await;
        assert_eq!(report.counts(), (0, 0, 0, 1), "{from:?} {report:?}");
        assert!(report.found[0].1.contains("opens neither under its own name nor as"), "{report:?}");
    }
    let after = world.store.object("restored-physical", "x").expect("there");
    assert!(before.headers == after.headers && before.body == after.body);
    let own = rebind(workbench(&world.store, setup()), (RESTORED, "own"), (BUCKET, "a"), MANNER).await;
    assert_eq!(own.counts(), (0, 1, 0, 0));
    // Its own envelope with another body.
    world.store.tamper("restored-physical", "x", |stored| stored.body = stored.body.slice(..stored.body.len() - 1));
    let report = rebind(workbench(&world.store, setup()), (RESTORED, "x"), (BUCKET, "a"), MANNER).await;
    assert_eq!(report.counts(), (0, 0, 0, 1), "{report:?}");
}

#[tokio::test]
async fn a_damaged_body_is_not_blessed_where_it_is_streamed() {
    let world = world().await;
    world.s3.put(BUCKET, "a", noise(200_000, 1)).await.ok();
    restore(&world, "a", "x");
    world.store.tamper("restored-physical", "x", |stored| {
        let mut body = stored.body.to_vec();
        body[1000] ^= 1;
        stored.body = body.into();
    });
    let report =
        rebind(workbench(&world.store, set_up((false, 5 << 30))), (RESTORED, "x"), (BUCKET, "a"), MANNER).await;
    assert_eq!(report.counts(), (0, 0, 0, 1), "{report:?}");
    // Where it stays, whoever reads it notices.
    let report = rebind(workbench(&world.store, set_up(SERVER_SIDE)), (RESTORED, "x"), (BUCKET, "a"), MANNER).await;
    assert_eq!(report.counts(), (1, 0, 0, 0));
    assert!(fresh(&world).await.get(RESTORED, "x").await.cut);
}

#[tokio::test]
async fn the_rules_of_the_old_bucket_hold() {
    let world = world().await;
    let (_proxy, theirs) = world.fresh_with(Setup { region: "sg", custodian: shared_in("sg"), ..setup() }).await;
    theirs.put(BUCKET, "a", noise(70_000, 1)).await.ok();
    restore(&world, "a", "x");
    // The old bucket does not accept what this domain wrote.
    let report = rebind(workbench(&world.store, setup()), (RESTORED, "x"), (BUCKET, "a"), MANNER).await;
    assert_eq!(report.counts(), (0, 0, 0, 1), "{report:?}");
    // Nor what is under a KEK that it does not know.
    let mut keys = key_rule("former");
    keys.accept_writers = vec![domain("us"), domain("sg")];
    let rules =
        |keys| vec![bucket_rule(RESTORED, "restored-physical", key_rule("other")), bucket_rule(BUCKET, BUCKET, keys)];
    let other = Setup { rules: rules(keys.clone()), ..Setup::default() };
    let report = rebind(workbench(&world.store, other), (RESTORED, "x"), (BUCKET, "a"), MANNER).await;
    assert_eq!(report.counts(), (0, 0, 0, 1), "{report:?}");
    // What others wrote is encrypted anew: who knows a DEK can write under it.
    let before = envelope(&world.store, "restored-physical", "x");
    keys.former_keks = vec![kek("demo")];
    let right = Setup { rules: rules(keys), ..Setup::default() };
    let report = rebind(workbench(&world.store, right), (RESTORED, "x"), (BUCKET, "a"), MANNER).await;
    assert_eq!(report.counts(), (1, 0, 0, 0), "{report:?}");
    let after = envelope(&world.store, "restored-physical", "x");
    assert_ne!(before.commitment(), after.commitment());
    assert_eq!(after.branch().writer, domain("us"));
    assert!(fresh(&world).await.get(RESTORED, "x").await.ok().body == noise(70_000, 1));
}

#[tokio::test]
async fn where_the_storage_server_heeds_no_conditions_on_copies_it_is_encrypted_anew() {
    let world = world().await;
    world.store.quirks().ignores_copy_conditions = true;
    let written = objects_of_each_kind(&world.s3).await;
    for (key, _) in &written {
        restore(&world, key, key);
    }
    let report = rebind(workbench(&world.store, setup()), (RESTORED, ""), (BUCKET, ""), MANNER).await;
    assert_eq!(report.counts(), (written.len() as u64, 0, 0, 0), "{report:?}");
    let s3 = fresh(&world).await;
    for (key, body) in &written {
        assert!(s3.get(RESTORED, key).await.ok().body == *body, "{key}");
        let [old, new] = [BUCKET, "restored-physical"].map(|bucket| envelope(&world.store, bucket, key));
        assert_ne!(old.commitment(), new.commitment());
    }
}

#[tokio::test]
async fn the_date_of_writing_stays_with_the_dek() {
    let world = world().await;
    world.s3.put(BUCKET, "old", noise(70_000, 1)).await.ok();
    let stored = world.store.object(BUCKET, "old").expect("there");
    world.store.plant(BUCKET, "new", stored);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let before_ms = u64::try_from(now.as_millis()).ok();
    let report = rebind(workbench(&world.store, setup()), (BUCKET, "new"), (BUCKET, "old"), MANNER).await;
    assert_eq!(report.counts(), (1, 0, 0, 0), "{report:?}");
    let old = Choice { before_ms, ..Choice::default() };
    let manner = Manner { dry_run: true, ..MANNER };
    let (report, _) = re_encrypt_with(workbench(&world.store, setup()), old, manner, false).await;
    assert_eq!(report.counts(), (2, 0, 0, 0), "{report:?}");
}

#[tokio::test]
async fn a_dry_run_binds_nothing() {
    let world = world().await;
    world.s3.put(BUCKET, "a", noise(70_000, 1)).await.ok();
    restore(&world, "a", "x");
    let before = envelope(&world.store, "restored-physical", "x");
    let manner = Manner { dry_run: true, ..MANNER };
    let report = rebind(workbench(&world.store, setup()), (RESTORED, ""), (BUCKET, "a"), manner).await;
    assert_eq!((report.counts(), report.listed), ((0, 0, 0, 1), 1), "x is not what stands for the rest of the key");
    let report = rebind(workbench(&world.store, setup()), (RESTORED, "x"), (BUCKET, "a"), manner).await;
    assert_eq!((report.counts(), report.bytes), ((1, 0, 0, 0), 70_000));
    assert_eq!(envelope(&world.store, "restored-physical", "x"), before);
}

#[tokio::test]
async fn a_bucket_that_the_configuration_does_not_know_proves_nothing() {
    let world = world().await;
    world.s3.put(BUCKET, "a", noise(70_000, 1)).await.ok();
    restore(&world, "a", "x");
    let only = Setup { others: None, ..setup() };
    let report = rebind(workbench(&world.store, only), (RESTORED, "x"), (BUCKET, "a"), MANNER).await;
    assert_eq!(report.counts(), (0, 0, 0, 1), "{report:?}");
    assert!(report.found[0].1.contains("no such bucket"), "{report:?}");
}

#[tokio::test]
async fn what_is_put_over_a_live_object_is_not_bound_if_only_a_list_is() {
    let world = world().await;
    for (bucket, key) in [(BUCKET, "x"), (BUCKET, "live"), (RESTORED, "live")] {
        world.s3.put(bucket, key, noise(500, key.len() as u64 + bucket.len() as u64)).await.ok();
    }
    restore(&world, "x", "x");
    let objects = workbench(&world.store, setup());
    let (to, from) = ((RESTORED, ""), (BUCKET, ""));
    let dry = Manner { dry_run: true, ..MANNER };
    let (report, list) = rebind_only(Arc::clone(&objects), to, from, dry, None).await;
    assert_eq!((report.counts(), list.as_slice()), ((1, 1, 0, 0), &["x".to_owned()][..]));
    // Meanwhile the storage server's operator puts a record of the other bucket over one that is in use.
    restore(&world, "live", "live");
    let (report, _) = rebind_only(Arc::clone(&objects), to, from, MANNER, Some(&list)).await;
    assert_eq!(report.counts(), (1, 1, 0, 0), "{report:?}");
    let s3 = fresh(&world).await;
    s3.get(RESTORED, "x").await.ok();
    s3.get(RESTORED, "live").await.fails(403, "InvalidObjectState");
}
