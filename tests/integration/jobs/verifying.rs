//! verify: what is damaged is found, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use claviger::maintenance::verify::{Passed, Verify};
use claviger::maintenance::work::Work;
use claviger::object::Objects;
use http::{HeaderMap, Method};

use super::{bench, run, scope, who};
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply, S3, Store, World, noise};
use crate::renewal::{PART, upload};

pub(super) fn verify(objects: &Arc<Objects>, headers_only: bool, versions: bool) -> Arc<Verify> {
    allowing(objects, headers_only, versions, 0)
}

/// One that passes over so many objects.
pub(crate) fn allowing(objects: &Arc<Objects>, headers_only: bool, versions: bool, allowed: u64) -> Arc<Verify> {
    let (objects, who, passed) = (Arc::clone(objects), who(), Passed::allowing(allowed));
    Arc::new(Verify { objects, who, headers_only, versions, dry_run: false, passed })
}

async fn verified(store: &Store, headers_only: bool, versions: bool) -> super::Ran {
    let objects = bench(store);
    run(&objects, &scope("", versions), verify(&objects, headers_only, versions)).await
}

async fn fill(s3: &S3) {
    for (key, size) in [("empty", 0), ("one", 1), ("two", 1), ("segment", 65_536), ("long", 300_000)] {
        s3.put(BUCKET, key, noise(size, 1)).await.ok();
    }
    upload(s3, "parts", None, &[(1, PART), (2, 100_000)]).await;
}

fn flipped(body: &Bytes, at: usize) -> Bytes {
    let mut body = body.to_vec();
    body[at] ^= 0x40;
    body.into()
}

#[tokio::test]
async fn what_is_whole_is_verified_to_the_last_byte() {
    let world = World::new().await;
    fill(&world.s3).await;
    let ran = verified(&world.store, false, false).await;
    assert_eq!(ran.outcome(), (6, 0, 0, 0));
    assert_eq!(ran.counts.bytes as usize, 1 + 1 + 65_536 + 300_000 + PART + 100_000);
    world.store.take_traffic();
    assert_eq!(verified(&world.store, true, false).await.outcome(), (6, 0, 0, 0));
    assert!(world.store.take_traffic().sent < 50_000);
    // In a dry run nothing is read.
    let objects = bench(&world.store);
    let mut dry = Arc::into_inner(verify(&objects, false, false)).expect("the only one");
    dry.dry_run = true;
    world.store.take_log();
    let ran = run(&objects, &scope("", false), Arc::new(dry)).await;
    assert_eq!((ran.outcome(), ran.counts.bytes as usize), ((6, 0, 0, 0), 1 + 1 + 65_536 + 300_000 + PART + 100_000));
    assert!(world.store.take_log().iter().all(|seen| seen.key.is_empty()));
}

#[tokio::test]
async fn each_kind_of_damage_is_found() {
    let world = World::new().await;
    fill(&world.s3).await;
    type Damage = (&'static str, fn(&mut crate::harness::store::Stored), bool);
    let damages: [Damage; 9] = [
        ("one", |stored| stored.body = flipped(&stored.body, 20), false),
        ("long", |stored| stored.body = flipped(&stored.body, 150_000), false),
        ("long", |stored| stored.body = stored.body.slice(..stored.body.len() - 1), true),
        ("long", |stored| stored.body = flipped(&stored.body, stored.body.len() - 2), true),
        ("parts", |stored| stored.body = flipped(&stored.body, PART + 50_000), false),
        ("parts", |stored| stored.body = stored.body.slice(..PART), true),
        ("empty", |stored| stored.body = Bytes::from_static(b"x"), true),
        ("two", |stored| stored.headers = HeaderMap::new(), true),
        (
            "two",
            |stored| {
                stored.headers.insert("x-amz-meta-claviger", http::HeaderValue::from_static("AAAA"));
            },
            true,
        ),
    ];
    for (number, (key, damage, by_headers)) in damages.into_iter().enumerate() {
        let good = world.store.object(BUCKET, key).expect("it is there");
        world.store.tamper(BUCKET, key, damage);
        let ran = verified(&world.store, false, false).await;
        assert_eq!((ran.outcome(), ran.keys()), ((5, 0, 0, 1), vec![key]), "{number}: {ran:?}");
        let ran = verified(&world.store, true, false).await;
        assert_eq!(ran.outcome().3, u64::from(by_headers), "{number}: {ran:?}");
        world.store.plant(BUCKET, key, good);
    }
    // Two objects that changed places.
    let (one, two) = (world.store.object(BUCKET, "one"), world.store.object(BUCKET, "two"));
    world.store.plant(BUCKET, "one", two.expect("there"));
    world.store.plant(BUCKET, "two", one.expect("there"));
    assert_eq!(verified(&world.store, true, false).await.keys(), ["one", "two"]);
}

#[tokio::test]
async fn what_cannot_be_verified_fails_unless_it_is_expected() {
    let world = World::new().await;
    fill(&world.s3).await;
    let with_key = world.s3.ask(Method::PUT, BUCKET, "with-key").body(noise(10, 1));
    crate::customer_keys::keyed(with_key, &crate::customer_keys::KEY).send().await.ok();
    archive(&world.store, "long");
    for headers_only in [false, true] {
        for allowed in 0..3 {
            let objects = bench(&world.store);
            let work = allowing(&objects, headers_only, false, allowed);
            let ran = run(&objects, &scope("", false), Arc::clone(&work) as _).await;
            assert_eq!(ran.outcome(), (5, allowed, 0, 2 - allowed));
            let notes = work.notes().join("\n");
            assert!(notes.contains("customer key") && notes.contains("archive"), "{notes}");
            assert_eq!(notes.contains("count as failed"), allowed < 2, "{notes}");
            assert_eq!(work.passed_over(), [("customer_keys", 1), ("archived", 1), ("unencrypted", 0)]);
        }
    }
}

/// The storage server says that the object is in an archive.
fn archive(store: &Store, key: &'static str) {
    store.before(move |seen| {
        let archived = seen.key == key && seen.method == Method::GET;
        archived.then(|| Instead::Answer(Reply::error(403, "InvalidObjectState")))
    });
}

#[tokio::test]
async fn damage_does_not_hide_behind_a_customer_key_or_an_archive() {
    let world = World::new().await;
    fill(&world.s3).await;
    for key in ["two", "with-key"] {
        let ask = world.s3.ask(Method::PUT, BUCKET, key).body(noise(1, 1));
        crate::customer_keys::keyed(ask, &crate::customer_keys::KEY).send().await.ok();
    }
    let flagged = world.store.object(BUCKET, "two").expect("there").headers;
    world.s3.put(BUCKET, "two", noise(1, 1)).await.ok();
    // One is under a customer key, and the operator expects it. Damage to another one is none more.
    let one_allowed = async || {
        let objects = bench(&world.store);
        run(&objects, &scope("", false), allowing(&objects, false, false, 1)).await.outcome()
    };
    assert_eq!(one_allowed().await, (6, 1, 0, 0));
    let good = world.store.object(BUCKET, "two").expect("there");
    world.store.tamper(BUCKET, "two", |stored| {
        stored.body = flipped(&stored.body, 9);
        stored.headers = flagged;
    });
    assert_eq!(one_allowed().await, (5, 1, 0, 1));
    world.store.plant(BUCKET, "two", good);
    world.store.tamper(BUCKET, "long", |stored| stored.body = flipped(&stored.body, 9));
    archive(&world.store, "long");
    assert_eq!(one_allowed().await, (5, 1, 0, 1));
}

#[tokio::test]
async fn a_run_that_goes_on_may_pass_over_no_more_than_one_that_does_not() {
    let world = World::new().await;
    super::fill(&world.s3, 30).await;
    for key in ["k001", "k028"] {
        let ask = world.s3.ask(Method::PUT, BUCKET, key).body(noise(1, 1));
        crate::customer_keys::keyed(ask, &crate::customer_keys::KEY).send().await.ok();
    }
    let ran = async |patient: bool| {
        let objects = bench(&world.store);
        let ran = run(&objects, &scope("", false), allowing(&objects, false, false, 1)).await;
        assert_eq!(ran.end.is_ok(), patient, "{ran:?}");
        (ran.counts.skipped, ran.counts.failed)
    };
    world.store.before(|seen| {
        let late = seen.bucket == BUCKET && seen.key.as_str() >= "k006";
        late.then(|| Instead::Answer(Reply::error(503, "SlowDown")))
    });
    assert_eq!(ran(false).await, (1, 0));
    world.store.honest();
    assert_eq!(ran(true).await, (1, 1));
}

#[tokio::test]
async fn what_is_written_or_deleted_meanwhile_is_no_damage() {
    for deletes in [false, true] {
        let world = World::new().await;
        fill(&world.s3).await;
        let (store, done) = (world.store.clone(), Arc::new(AtomicBool::new(false)));
        // A whole and authentic object takes the place of a damaged one when that is looked at.
        let good = store.object(BUCKET, "long").expect("there");
        store.tamper(BUCKET, "long", |stored| {
            stored.body = flipped(&stored.body, 9);
            stored.etag = "damaged".into();
        });
        let (inside, once) = (store.clone(), Arc::clone(&done));
        store.after(move |seen, _| {
            if seen.method == Method::GET && seen.key == "long" && !once.swap(true, Ordering::SeqCst) {
                match deletes {
                    true => drop(inside.buckets().get_mut(BUCKET).expect("there").remove("long")),
                    false => inside.plant(BUCKET, "long", good.clone()),
                }
            }
        });
        let ran = verified(&world.store, false, false).await;
        assert!(done.load(Ordering::SeqCst));
        assert_eq!(ran.outcome(), if deletes { (5, 0, 1, 0) } else { (6, 0, 0, 0) });
    }
}

#[tokio::test]
async fn a_server_that_lists_what_it_does_not_give_is_found_out() {
    let world = World::new().await;
    fill(&world.s3).await;
    world.store.before(|seen| (seen.key == "two").then(|| Instead::Answer(Reply::error(404, "NoSuchKey"))));
    let ran = verified(&world.store, false, false).await;
    assert_eq!((ran.outcome(), ran.keys()), ((5, 0, 0, 1), vec!["two"]));
    // Nor does another ETag each time hide damage.
    world.store.honest();
    world.store.tamper(BUCKET, "one", |stored| stored.body = flipped(&stored.body, 20));
    let number = std::sync::atomic::AtomicUsize::new(0);
    world.store.after(move |seen, reply| {
        if seen.key == "one" {
            let etag = format!("\"{}\"", number.fetch_add(1, Ordering::SeqCst));
            reply.headers.insert("etag", etag.parse().expect("legal"));
        }
    });
    assert_eq!(verified(&world.store, false, false).await.keys(), ["one"]);
}

#[tokio::test]
async fn old_versions_are_verified_on_request() {
    let world = World::new().await;
    world.store.keep_versions(BUCKET);
    for seed in 0..3 {
        world.s3.put(BUCKET, "a", noise(100, seed)).await.ok();
    }
    world.s3.put(BUCKET, "gone", noise(100, 9)).await.ok();
    world.s3.ask(Method::DELETE, BUCKET, "gone").send().await;
    assert_eq!(verified(&world.store, false, false).await.outcome(), (1, 0, 0, 0));
    assert_eq!(verified(&world.store, false, true).await.outcome(), (4, 0, 0, 0));
    let damaged = {
        let mut history = world.store.history();
        let version = &mut history.get_mut(BUCKET).expect("kept").get_mut("a").expect("there")[0];
        let stored = version.stored.as_mut().expect("no marker");
        stored.body = flipped(&stored.body, 30);
        version.id.clone()
    };
    assert_eq!(verified(&world.store, false, false).await.outcome(), (1, 0, 0, 0));
    let ran = verified(&world.store, false, true).await;
    assert_eq!(ran.outcome(), (3, 0, 0, 1));
    assert_eq!((ran.found[0].0.as_str(), ran.found[0].1.as_deref()), ("a", Some(damaged.as_str())));
}
