//! What is sent to the storage server again, and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;

use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply, World, noise};

#[tokio::test]
async fn what_can_be_replayed_is_tried_again_and_a_stream_is_not() {
    let world = World::new().await;
    world.s3.put(BUCKET, "warm", "x").await.ok();
    let attempts = |failures: usize, status: u16| {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        world.store.before(move |_| {
            let failing = counted.fetch_add(1, Ordering::SeqCst) < failures;
            failing.then(|| Instead::Answer(Reply::error(status, "SlowDown")))
        });
        count
    };
    let count = attempts(2, 500);
    world.s3.put(BUCKET, "small", noise(65_536, 1)).await.ok();
    assert_eq!(count.load(Ordering::SeqCst), 3);
    assert!(world.s3.get(BUCKET, "small").await.ok().body == noise(65_536, 1));
    let count = attempts(2, 503);
    world.s3.get(BUCKET, "small").await.ok();
    assert_eq!(count.load(Ordering::SeqCst), 3);
    let count = attempts(100, 503);
    world.s3.put(BUCKET, "small", "y").await.fails(503, "SlowDown");
    assert_eq!(count.load(Ordering::SeqCst), 3, "not for ever");
    let count = attempts(1, 503);
    world.s3.put(BUCKET, "large", noise(65_537, 1)).await.fails(503, "SlowDown");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let count = attempts(1, 500);
    let conditional = world.s3.ask(Method::PUT, BUCKET, "new").body("x").header("if-none-match", "*");
    conditional.send().await.fails(500, "SlowDown");
    assert_eq!(count.load(Ordering::SeqCst), 1, "a second attempt would fail on the first one's success");
}

#[tokio::test]
async fn an_upload_whose_answer_got_lost_is_the_clients_to_repeat() {
    let world = World::new().await;
    world.s3.put(BUCKET, "warm", "x").await.ok();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    world.store.before(move |seen| {
        (seen.method == Method::PUT && counted.fetch_add(1, Ordering::SeqCst) == 0)
            .then_some(Instead::HangUpAfterServing)
    });
    world.s3.put(BUCKET, "object", noise(1000, 1)).await.fails(500, "InternalError");
    assert_eq!(count.load(Ordering::SeqCst), 1, "elsewhere it could be carried out later, over a newer object");
    assert!(world.s3.get(BUCKET, "object").await.ok().body == noise(1000, 1));
}

#[tokio::test]
async fn success_before_the_end_of_an_upload_is_none() {
    let world = World::new().await;
    world.s3.put(BUCKET, "old", "x").await.ok();
    world.store.before(|seen| {
        let early = || Instead::Answer(Reply::new(200, "").header("etag", "\"early\""));
        (seen.method == Method::PUT).then(early)
    });
    let answer = world.s3.put(BUCKET, "object", noise(8 << 20, 1)).await;
    assert_eq!(answer.status, 500, "{answer:?}");
}

#[tokio::test]
async fn hanging_up_in_the_middle_of_an_upload() {
    let world = World::new().await;
    world.s3.put(BUCKET, "warm", "x").await.ok();
    world.store.before(|seen| (seen.method == Method::PUT).then_some(Instead::HangUpAfter(100_000)));
    world.s3.put(BUCKET, "object", noise(1 << 20, 1)).await.fails(500, "InternalError");
    assert_eq!(world.store.keys(BUCKET), ["warm"]);
    assert_eq!(world.store.take_log().len(), 2, "a stream is sent once");
}
