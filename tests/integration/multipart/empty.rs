//! Uploads without a byte become empty objects.

use http::Method;

use claviger::format::envelope::Unverified;
use claviger::object::bucket::KeyRule;

use super::{KEY, OBJECT, assert_object, begin, is_abort};
use crate::harness::custodian::kek;
use crate::harness::proxy::key_rule;
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply, Setup, World};

#[tokio::test]
async fn an_empty_part_makes_an_empty_object() {
    let world = World::new().await;
    let ask = world.s3.ask(Method::POST, BUCKET, KEY).query_text("uploads");
    let ask =
        ask.header("x-amz-meta-owner", "me").header("content-type", "text/csv").header("x-amz-mfa", "device 123456");
    let id = ask.header("x-amz-storage-class", "STANDARD_IA").send().await.ok().leaf("UploadId");
    let etag = world.s3.upload_part(OBJECT, &id, 1, "").await.ok().header("etag").to_owned();
    world.store.take_whole_log();
    for _ in 0..2 {
        let answer = world.s3.complete(OBJECT, &id, &[(1, etag.clone())]).await.ok();
        assert_eq!(answer.leaf("ETag"), world.s3.head(BUCKET, KEY).await.ok().header("etag"));
    }
    assert_object(&world.s3, b"").await;
    let head = world.s3.head(BUCKET, KEY).await.ok();
    assert_eq!((head.header("x-amz-meta-owner"), head.header("content-type")), ("me", "text/csv"));
    assert!(world.store.object(BUCKET, KEY).expect("stored").body.is_empty());
    assert!(world.store.uploads().is_empty(), "the upload on the storage server was given up");
    let log = world.store.take_whole_log();
    let put = log.iter().find(|seen| seen.is(Method::PUT, KEY)).expect("a PUT");
    assert_eq!(put.header("x-amz-storage-class"), Some("STANDARD_IA"), "what Create asked for");
    assert_eq!(put.header("x-amz-mfa"), None, "that was for Create alone");
}

#[tokio::test]
async fn conditions_hold_for_empty_ones_too() {
    let world = World::new().await;
    world.s3.put(BUCKET, KEY, "old").await.ok();
    let (id, parts) = begin(&world.s3, &[(1, 0)]).await;
    let ask = || world.s3.ask_complete(OBJECT, &id, &parts).header("if-none-match", "*");
    ask().send().await.fails(412, "PreconditionFailed");
    world.store.buckets().get_mut(BUCKET).expect("there").clear();
    ask().send().await.ok();
    ask().send().await.ok();
    assert_object(&world.s3, b"").await;
}

#[tokio::test]
async fn repeated_it_overwrites_nothing_that_came_after() {
    let world = World::new().await;
    let (id, parts) = begin(&world.s3, &[(1, 0)]).await;
    world.s3.complete(OBJECT, &id, &parts).await.ok();
    world.s3.put(BUCKET, KEY, "newer").await.ok();
    let (_proxy, other) = world.fresh().await;
    for s3 in [&world.s3, &other] {
        s3.complete(OBJECT, &id, &parts).await.fails(404, "NoSuchUpload");
        assert_object(s3, b"newer").await;
    }
}

#[tokio::test]
async fn another_list_is_not_what_was_completed() {
    let world = World::new().await;
    let (_proxy, other) = world.fresh().await;
    let (id, parts) = begin(&world.s3, &[(1, 0), (2, 100)]).await;
    let (empty, long) = (&parts[..1], &parts[1..]);
    world.s3.complete(OBJECT, &id, empty).await.ok();
    let made_up = [(1, format!("{:032x}-0", 7))];
    for s3 in [&world.s3, &other] {
        for list in [long, &made_up] {
            s3.complete(OBJECT, &id, list).await.fails(404, "NoSuchUpload");
        }
        s3.complete(OBJECT, &id, empty).await.ok();
        let promise = s3.ask_complete(OBJECT, &id, empty).header("x-amz-mp-object-size", "7");
        promise.send().await.fails(400, "InvalidRequest");
    }
    assert_object(&world.s3, b"").await;
}

#[tokio::test]
async fn what_the_completion_says_of_objects_is_not_heeded() {
    let world = World::new().await;
    let (id, parts) = begin(&world.s3, &[(1, 0)]).await;
    world.store.take_whole_log();
    let ask = world.s3.ask_complete(OBJECT, &id, &parts).header("x-amz-tagging", "a=b");
    let ask = ask.header("x-amz-storage-class", "GLACIER").header("x-amz-expected-bucket-owner", "me");
    ask.send().await.ok();
    let log = world.store.take_whole_log();
    let put = log.iter().find(|seen| seen.is(Method::PUT, KEY)).expect("a PUT");
    assert_eq!((put.header("x-amz-tagging"), put.header("x-amz-storage-class")), (None, None));
    assert_eq!(put.header("x-amz-expected-bucket-owner"), Some("me"));
}

#[tokio::test]
async fn an_upload_that_stays_is_not_completed() {
    let world = World::new().await;
    let (id, parts) = begin(&world.s3, &[(1, 0)]).await;
    world.store.before(|seen| is_abort(seen).then(|| Instead::Answer(Reply::error(403, "AccessDenied"))));
    world.s3.complete(OBJECT, &id, &parts).await.fails(403, "AccessDenied");
    world.store.honest();
    world.s3.complete(OBJECT, &id, &parts).await.ok();
    assert!(world.store.uploads().is_empty());
}

#[tokio::test]
async fn nothing_new_comes_under_a_former_kek() {
    let world = World::with(Setup { others: Some(key_rule("former")), ..Setup::default() }).await;
    let (id, parts) = begin(&world.s3, &[(1, 0)]).await;
    let rule = KeyRule { former_keks: vec![kek("former")], ..key_rule("demo") };
    let (_proxy, s3) = world.fresh_with(Setup { others: Some(rule), ..Setup::default() }).await;
    s3.complete(OBJECT, &id, &parts).await.ok();
    let stored = world.store.object(BUCKET, KEY).expect("stored");
    assert_eq!(Unverified::parse(stored.envelope()).expect("an envelope").branch().kek, kek("demo"));
    assert_object(&s3, b"").await;
}
