//! What the storage server's operator may try while a bucket is migrated.

use std::time::Duration;

use claviger::maintenance::migrate::Ended;
use claviger::object::error::{Error, WrongAnswer};
use http::Method;

use super::{Unencrypted, before_the_proxy, fresh, go_on, job, job_on, migrating, plaintext, seal};
use crate::harness::proxy::{bucket_rule, key_rule};
use crate::harness::store::etag_of;
use crate::harness::{BUCKET, S3, STATE, Setup, World, noise};

/// Longer than a proxy goes by what it has read.
pub(super) const LATER: Duration = Duration::from_millis(3_200);
pub(super) const LISTED: &str = "a/small";

pub(super) async fn refused(s3: &S3, key: &str) {
    for method in [Method::GET, Method::HEAD] {
        assert_eq!(s3.ask(method, BUCKET, key).send().await.status, 403, "{key}");
    }
    for (name, value) in [("range", "bytes=0-0"), ("range", "bytes=1-"), ("x-amz-object-attributes", "ObjectSize")] {
        let ask = s3.ask(Method::GET, BUCKET, key).header(name, value);
        let ask = if name == "range" { ask } else { ask.query_text("attributes") };
        ask.send().await.fails(403, "InvalidObjectState");
    }
    assert_eq!(s3.ask(Method::GET, BUCKET, key).query("partNumber", "1").send().await.status, 403);
    let copy = s3.ask(Method::PUT, BUCKET, "stolen").header("x-amz-copy-source", &format!("/{BUCKET}/{key}"));
    copy.send().await.fails(403, "InvalidObjectState");
}

pub(super) async fn sealed() -> World {
    let (world, _) = before_the_proxy().await;
    seal(&job(&world.store)).await.expect("seals");
    world
}

#[tokio::test]
async fn plaintext_that_is_not_listed_is_refused() {
    let world = sealed().await;
    let body = noise(300, 301);
    world.s3.put(BUCKET, "encrypted", body.clone()).await.ok();
    let s3 = fresh(&world).await;
    s3.get(BUCKET, "encrypted").await.ok();
    // Under a new key; another object's, also with what another key is listed with; and an envelope stripped off.
    let listed = world.store.object(BUCKET, LISTED).expect("stored");
    world.store.plant(BUCKET, "planted", plaintext(body));
    world.store.plant(BUCKET, "a/smaller", listed.clone());
    world.store.plant(BUCKET, "a/empty", listed);
    world.store.tamper(BUCKET, "encrypted", |stored| {
        stored.headers.remove("x-amz-meta-claviger");
    });
    for s3 in [s3, fresh(&world).await] {
        for key in ["planted", "a/smaller", "a/empty", "encrypted"] {
            refused(&s3, key).await;
        }
    }
    // The job does not bless them either.
    let report = go_on(&job(&world.store)).await.expect("goes through");
    assert_eq!((report.0, report.1, report.2), (Ended::Closed, 4, 1), "{report:?}");
    let s3 = fresh(&world).await;
    for key in ["planted", "a/smaller", "a/empty", "encrypted"] {
        refused(&s3, key).await;
    }
}

#[tokio::test]
async fn what_was_overwritten_does_not_come_back_without_its_envelope() {
    let world = sealed().await;
    let s3 = fresh(&world).await;
    s3.put(BUCKET, LISTED, noise(301, 5)).await.ok();
    s3.get(BUCKET, LISTED).await.ok();
    world.store.tamper(BUCKET, LISTED, |stored| {
        stored.headers.remove("x-amz-meta-claviger");
    });
    refused(&s3, LISTED).await;
}

#[tokio::test]
async fn another_body_under_the_listed_etag_is_refused_or_not_encrypted() {
    let world = sealed().await;
    let s3 = fresh(&world).await;
    world.store.tamper(BUCKET, LISTED, |stored| stored.body = noise(299, 6));
    refused(&s3, LISTED).await;
    assert!(go_on(&job(&world.store)).await.expect("goes through").0 == Ended::Closed);
    // Of the same size: the job finds that the ETag is not the MD5 of it.
    let world = sealed().await;
    world.store.tamper(BUCKET, LISTED, |stored| stored.body = noise(300, 6));
    let report = go_on(&job(&world.store)).await.expect("goes on with the others");
    assert_eq!((report.0, report.1, report.3.len()), (Ended::Failed, 4, 1), "{report:?}");
    assert!(report.3[0].0 == LISTED, "{report:?}");
    // Another ETag: nothing of what was listed is left.
    let world = sealed().await;
    let s3 = fresh(&world).await;
    world.store.tamper(BUCKET, LISTED, |stored| {
        stored.body = noise(300, 6);
        stored.etag = etag_of(&stored.body);
    });
    refused(&s3, LISTED).await;
}

/// The names of the manifest's parts that end so.
pub(super) fn named(world: &World, end: &str) -> Vec<String> {
    let keys = world.store.keys(STATE).into_iter();
    keys.filter(|key| key.starts_with("manifest/") && key.ends_with(end)).collect()
}

#[tokio::test]
async fn an_altered_or_hidden_manifest_lists_nothing() {
    for end in ["head", "contents", "/00000000"] {
        let world = sealed().await;
        let name = named(&world, end).pop().expect("there");
        let whole = world.store.object(STATE, &name).expect("there");
        for at in [0, whole.body.len() / 2, whole.body.len() - 1] {
            let mut body = whole.body.to_vec();
            body[at] ^= 1;
            world.store.tamper(STATE, &name, |stored| stored.body = body.into());
            let s3 = fresh(&world).await;
            assert!(s3.get(BUCKET, LISTED).await.status >= 400, "{name} {at}");
            assert!(
                s3.ask(Method::GET, BUCKET, "").query_text("list-type=2").send().await.status >= 400,
                "{name} {at}"
            );
            assert!(end == "contents" || go_on(&job(&world.store)).await.is_err(), "{name} {at}");
        }
        world.store.buckets().get_mut(STATE).expect("there").remove(&name);
        refused(&fresh(&world).await, LISTED).await;
    }
    // What is encrypted opens all the same.
    let world = sealed().await;
    world.s3.put(BUCKET, "encrypted", noise(10, 1)).await.ok();
    let name = named(&world, "head").pop().expect("there");
    world.store.tamper(STATE, &name, |stored| stored.body = noise(500, 1));
    fresh(&world).await.get(BUCKET, "encrypted").await.ok();
}

#[tokio::test]
async fn a_hidden_manifest_is_missed_soon() {
    let world = sealed().await;
    let s3 = fresh(&world).await;
    s3.get(BUCKET, LISTED).await.ok();
    let name = named(&world, "head").pop().expect("there");
    world.store.buckets().get_mut(STATE).expect("there").remove(&name);
    tokio::time::sleep(LATER).await;
    refused(&s3, LISTED).await;
}

#[tokio::test]
async fn an_older_manifest_does_not_come_back() {
    let world = sealed().await;
    let listed = world.store.object(BUCKET, LISTED).expect("stored");
    let old = world.store.buckets().get(STATE).expect("there").clone();
    go_on(&job(&world.store)).await.expect("goes through");
    let s3 = fresh(&world).await;
    s3.get(BUCKET, LISTED).await.ok();
    world.store.plant(BUCKET, "x", listed.clone());
    refused(&s3, "x").await;
    for (key, stored) in old.into_iter().filter(|(key, _)| key.starts_with("manifest/")) {
        world.store.plant(STATE, &key, stored);
    }
    world.store.plant(BUCKET, LISTED, listed);
    tokio::time::sleep(LATER).await;
    // A proxy that saw the new one, or its end, does not go back.
    assert!(s3.get(BUCKET, LISTED).await.status >= 400);
    // One that runs with "refuse" never looks at it.
    let (_proxy, refusing) = world.fresh_with(Setup::default()).await;
    refused(&refusing, LISTED).await;
}

#[tokio::test]
async fn a_configuration_that_is_taken_over_forgets_nothing_that_was_seen() {
    let world = sealed().await;
    let listed = world.store.object(BUCKET, LISTED).expect("stored");
    let old = world.store.buckets().get(STATE).expect("there").clone();
    let (proxy, s3) = world.fresh_with(migrating()).await;
    s3.get(BUCKET, LISTED).await.ok();
    s3.put(BUCKET, LISTED, noise(300, 5)).await.ok();
    proxy.take_over(&world.store, migrating());
    world.store.plant(BUCKET, LISTED, listed.clone());
    refused(&s3, LISTED).await;
    // One that saw the manifest's end does not go back before it either.
    s3.put(BUCKET, LISTED, noise(300, 5)).await.ok();
    go_on(&job(&world.store)).await.expect("goes through");
    let (proxy, s3) = world.fresh_with(migrating()).await;
    world.store.plant(BUCKET, "x", listed.clone());
    refused(&s3, "x").await;
    proxy.take_over(&world.store, migrating());
    for (key, stored) in old.into_iter().filter(|(key, _)| key.starts_with("manifest/")) {
        world.store.plant(STATE, &key, stored);
    }
    world.store.plant(BUCKET, LISTED, listed);
    tokio::time::sleep(LATER).await;
    let answer = s3.get(BUCKET, LISTED).await;
    assert!(answer.status >= 400, "{answer:?}");
    // Who saw nothing of it has only what is there: the copies are good.
    fresh(&world).await.get(BUCKET, LISTED).await.ok();
}

#[tokio::test]
async fn pages_of_another_run_or_bucket_do_not_count() {
    let setup = || {
        let keys = || claviger::object::bucket::KeyRule { unencrypted: Unencrypted::Migrate, ..key_rule("demo") };
        Setup { rules: vec![bucket_rule("other", "other", keys())], ..migrating() }
    };
    let world = sealed().await;
    world.store.create("other");
    let stored = world.store.object(BUCKET, LISTED).expect("stored");
    world.store.plant("other", "planted", stored.clone());
    let other = job_on(&world.store, "other", setup());
    seal(&other).await.expect("seals");
    let pages = named(&world, "/00000000");
    let [one, two] = pages.as_slice() else { panic!("{pages:?}") };
    let (first, second) =
        (world.store.object(STATE, one).expect("there"), world.store.object(STATE, two).expect("there"));
    world.store.plant(STATE, one, second);
    world.store.plant(STATE, two, first.clone());
    let (_proxy, s3) = world.fresh_with(setup()).await;
    assert!(s3.get(BUCKET, LISTED).await.status >= 400);
    assert!(s3.get("other", "planted").await.status >= 400);
    // Of an older run of the same bucket.
    let world = sealed().await;
    let old = named(&world, "/00000000").pop().expect("there");
    let page = world.store.object(STATE, &old).expect("there");
    world.store.buckets().get_mut(BUCKET).expect("there").remove(LISTED);
    seal(&job(&world.store)).await.expect("seals");
    world.store.plant(BUCKET, LISTED, stored);
    let new = named(&world, "/00000000").into_iter().find(|name| *name != old).expect("there");
    refused(&fresh(&world).await, LISTED).await;
    world.store.plant(STATE, &new, page);
    assert!(fresh(&world).await.get(BUCKET, LISTED).await.status >= 400);
}

#[tokio::test]
async fn a_listing_that_lies_gets_nothing_listed_that_is_encrypted() {
    let (world, objects) = before_the_proxy().await;
    world.s3.put(BUCKET, "encrypted", noise(1000, 1)).await.ok();
    world.store.after(|seen, reply| {
        if seen.bucket == BUCKET && seen.has("list-type") {
            let text = String::from_utf8_lossy(&reply.body).replace("<Size>300</Size>", "<Size>284</Size>");
            *reply = crate::harness::Reply::xml(200, text);
        }
    });
    seal(&job(&world.store)).await.expect("seals");
    world.store.honest();
    let s3 = fresh(&world).await;
    refused(&s3, LISTED).await;
    assert!(s3.get(BUCKET, objects[1].0).await.ok().body == objects[1].1);
    assert!(s3.get(BUCKET, "encrypted").await.ok().body == noise(1000, 1));
}

#[tokio::test]
async fn a_listing_that_goes_round_ends_the_search() {
    let (world, _) = before_the_proxy().await;
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&asked);
    world.store.after(move |seen, reply| {
        if seen.bucket == BUCKET && seen.has("list-type") {
            let number = counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let page = String::from_utf8_lossy(&reply.body).replace(
                "<IsTruncated>false</IsTruncated>",
                &format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{number}</NextContinuationToken>"),
            );
            *reply = crate::harness::Reply::xml(200, page);
        }
    });
    let outcome = seal(&job(&world.store)).await;
    assert!(matches!(outcome, Err(Error::WrongAnswer(WrongAnswer::Endless))), "{outcome:?}");
    assert!(asked.load(std::sync::atomic::Ordering::SeqCst) < 20 && named(&world, "head").is_empty());
}
