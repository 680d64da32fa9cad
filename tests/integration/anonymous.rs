//! Requests that nobody signed: only where the configuration admits them, and only what the storage server gives to everybody.

use claviger::custody::reason::Reason;
use claviger::names::LogicalBucket;
use claviger::object::access::{Anonymous, BucketPattern, Grant};
use claviger::s3::operation::Access;
use http::Method;

use crate::harness::client::Ask;
use crate::harness::proxy::EVERYTHING;
use crate::harness::store::Instead;
use crate::harness::{Answer, BUCKET, Reply, STATE, Setup, World, noise};

/// What may be done without a signature.
pub(crate) fn anonymous(bucket: &str, access: &[Access]) -> Option<Anonymous> {
    let buckets = vec![BucketPattern::Exactly(LogicalBucket::new(bucket).expect("legal"))];
    Some(Anonymous { reason: Reason::CustomerInitiated, grants: vec![Grant { buckets, access: access.to_vec() }] })
}

async fn world(access: &[Access]) -> World {
    let world = World::with(Setup { anonymous: anonymous(BUCKET, access), ..Setup::default() }).await;
    world.s3.put(BUCKET, "object", "public").await.ok();
    world.store.take_whole_log();
    world
}

/// Sends without a signature.
async fn unsigned(ask: Ask) -> Answer {
    let mut headers = ask.sign().headers;
    for name in ["authorization", "x-amz-date", "x-amz-content-sha256"] {
        headers.remove(name);
    }
    ask.send_with(headers).await
}

#[tokio::test]
async fn the_storage_server_decides_what_everybody_may() {
    let world = world(&EVERYTHING).await;
    let get = || unsigned(world.s3.ask(Method::GET, BUCKET, "object"));
    get().await.fails(403, "AccessDenied");
    let seen = world.store.take_log();
    assert!(!seen.is_empty() && seen.iter().all(|seen| seen.header("authorization").is_none()), "{seen:?}");
    assert!(seen.iter().all(|seen| seen.headers.keys().all(|name| !name.as_str().starts_with("x-amz-"))), "{seen:?}");

    world.store.everybody_may(|seen| seen.bucket == BUCKET && seen.method == Method::GET && seen.key == "object");
    assert_eq!(get().await.ok().text(), "public");
    unsigned(world.s3.ask(Method::HEAD, BUCKET, "object")).await.ok();
    assert_eq!(
        unsigned(world.s3.ask(Method::GET, BUCKET, "object").header("range", "bytes=1-2")).await.ok().text(),
        "ub"
    );
    for refused in [
        world.s3.ask(Method::GET, BUCKET, "other"),
        world.s3.ask(Method::PUT, BUCKET, "object").body("theirs"),
        world.s3.ask(Method::PUT, BUCKET, "object").body(noise(300_000, 1)),
        world.s3.ask(Method::DELETE, BUCKET, "object"),
        world.s3.ask(Method::GET, BUCKET, ""),
        world.s3.ask(Method::GET, "", ""),
    ] {
        unsigned(refused).await.fails(403, "AccessDenied");
    }
    assert_eq!(world.s3.get(BUCKET, "object").await.ok().text(), "public");
}

#[tokio::test]
async fn what_everybody_may_write_is_encrypted_like_everything() {
    let world = world(&[Access::Write, Access::Read]).await;
    world.store.everybody_may(|seen| seen.bucket == BUCKET);
    for length in [0, 1000, 300_000] {
        let body = noise(length, 7);
        unsigned(world.s3.ask(Method::PUT, BUCKET, "new").body(body.clone())).await.ok();
        let stored = world.store.object(BUCKET, "new").expect("stored");
        assert!(length == 0 || !crate::harness::contains(&stored.body, &body[..length.min(64)]));
        assert_eq!(world.s3.get(BUCKET, "new").await.ok().body, body);
    }
    // The state bucket stays the proxy's own affair: signed, and nobody's to read.
    let state: Vec<_> = world.store.take_whole_log().into_iter().filter(|seen| seen.bucket == STATE).collect();
    assert!(state.iter().all(|seen| seen.header("authorization").is_some()), "{state:?}");
    unsigned(world.s3.ask(Method::GET, STATE, "branch")).await.fails(403, "AccessDenied");
    let ask = world.s3.ask(Method::PUT, BUCKET, "new").body("x").header("x-amz-acl", "public-read");
    unsigned(ask).await.fails(403, "AccessDenied");
}

/// As in S3. And an upload has a record in the state bucket, which is written by the proxy's rights.
#[tokio::test]
async fn hostile_nobody_begins_uploads_or_goes_on_with_one() {
    let world = world(&EVERYTHING).await;
    world.store.everybody_may(|_| true);
    let id = world.s3.create_upload(BUCKET, "large").await;
    world.store.take_whole_log();
    let ask = |method, query: &str| world.s3.ask(method, BUCKET, "large").query_text(query);
    let of_upload = format!("uploadId={id}");
    let part = format!("partNumber=1&{of_upload}");
    for refused in [
        ask(Method::POST, "uploads"),
        ask(Method::PUT, &part).body("x"),
        ask(Method::PUT, &part).header("x-amz-copy-source", "/records/object"),
        ask(Method::GET, &of_upload),
        world.s3.ask_complete((BUCKET, "large"), &id, &[(1, "\"e\"".into())]),
        ask(Method::DELETE, &of_upload),
    ] {
        unsigned(refused).await.fails(403, "AccessDenied");
    }
    assert!(world.store.take_whole_log().is_empty());
}

/// What a server says of credentials that were not there is no fault of the proxy's.
#[tokio::test]
async fn a_server_that_wants_a_signature_denies() {
    let world = world(&EVERYTHING).await;
    world.store.before(|seen| {
        (seen.key == "object" && seen.header("authorization").is_none())
            .then(|| Instead::Answer(Reply::error(401, "InvalidAccessKeyId")))
    });
    unsigned(world.s3.ask(Method::GET, BUCKET, "object")).await.fails(403, "AccessDenied");
}

#[tokio::test]
async fn the_proxys_grants_bound_it_too() {
    let world = world(&[Access::Read]).await;
    world.store.everybody_may(|_| true);
    unsigned(world.s3.ask(Method::GET, BUCKET, "object")).await.ok();
    world.store.create("other");
    world.store.take_whole_log();
    for refused in [
        world.s3.ask(Method::PUT, BUCKET, "object").body("x"),
        world.s3.ask(Method::DELETE, BUCKET, "object"),
        world.s3.ask(Method::GET, BUCKET, ""),
        world.s3.ask(Method::GET, "", ""),
        world.s3.ask(Method::GET, "other", "object"),
    ] {
        unsigned(refused).await.fails(403, "AccessDenied");
    }
    assert!(world.store.take_whole_log().is_empty());
}

#[tokio::test]
async fn what_only_signed_requests_may_say() {
    let world = world(&EVERYTHING).await;
    world.store.everybody_may(|_| true);
    world.store.take_whole_log();
    let ask = || world.s3.ask(Method::GET, BUCKET, "object");
    unsigned(ask().query("response-content-type", "text/html")).await.fails(400, "InvalidRequest");
    let reason = unsigned(ask().header("x-claviger-reason", "customer-support")).await;
    reason.fails(400, "InvalidRequest");
    assert!(world.store.take_whole_log().is_empty());
    // A signature that does not hold does not become none.
    let mut headers = ask().sign().headers;
    headers.insert("authorization", "Bearer x".parse().expect("ASCII"));
    ask().send_with(headers).await.fails(400, "InvalidArgument");
    let mut chunked = world.s3.ask(Method::PUT, BUCKET, "new").body("x").sign().headers;
    chunked.remove("authorization");
    chunked.insert("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".parse().expect("ASCII"));
    world.s3.ask(Method::PUT, BUCKET, "new").body("x").send_with(chunked).await.fails(400, "InvalidArgument");
}

#[tokio::test]
async fn a_hash_that_is_given_is_checked() {
    let world = world(&[Access::Write]).await;
    world.store.everybody_may(|_| true);
    let ask = world.s3.ask(Method::PUT, BUCKET, "new").body("x");
    let mut headers = ask.sign().headers;
    headers.remove("authorization");
    headers.insert("x-amz-content-sha256", "ab".repeat(32).parse().expect("ASCII"));
    ask.send_with(headers).await.fails(400, "XAmzContentSHA256Mismatch");
    assert!(world.store.object(BUCKET, "new").is_none());
}
