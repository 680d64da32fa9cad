//! `Expect: 100-continue` is answered only for requests that may go on: who is refused never sends the body.

use std::time::Duration;

use http::Method;

use crate::harness::custodian::Failing;
use crate::harness::raw::{Raw, head_of};
use crate::harness::{BUCKET, LONG, S3, Setup, World, noise};

const EXPECT: &str = "expect: 100-continue";

/// The answer to a head with the expectation, before any body.
async fn asked(world: &World, s3: &S3, bucket: &str, query: &str, length: usize, further: &str) -> (Raw, String) {
    let ask = s3.ask(Method::PUT, bucket, "object").query_text(query).payload("UNSIGNED-PAYLOAD");
    let ask = match further.split_once(": ") {
        Some((name, value)) => ask.header(name, value),
        None => ask,
    };
    let head = head_of("PUT", &ask, &[EXPECT, &format!("content-length: {length}")]);
    let mut raw = Raw::connect(world.proxy.address).await;
    raw.send(head).await;
    let answer = raw.head().await;
    (raw, answer)
}

#[tokio::test]
async fn a_good_request_is_told_to_continue() {
    let world = World::new().await;
    for size in [1000, 200_000] {
        let (mut raw, answer) = asked(&world, &world.s3, BUCKET, "", size, "").await;
        assert!(answer.starts_with("HTTP/1.1 100 Continue"), "{answer}");
        assert!(raw.is_silent(Duration::from_millis(50)).await, "it waits for the body");
        raw.send(noise(size, 1)).await;
        assert!(raw.head().await.starts_with("HTTP/1.1 200 OK"));
        assert!(world.s3.get(BUCKET, "object").await.ok().body == noise(size, 1));
    }
}

#[tokio::test]
async fn who_was_answered_before_sending_an_empty_body_is_not_answered_again_on_that_connection() {
    let world = World::new().await;
    let (mut raw, answer) = asked(&world, &world.s3, BUCKET, "", 0, "").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"), "{answer}");
    assert!(raw.rest(LONG).await.1, "closed");
    let (mut raw, _) = asked(&world, &world.s3, BUCKET, "", 1000, "").await;
    raw.send(noise(1000, 1)).await;
    let answer = raw.head().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && !answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_refused_one_is_told_why_and_not_to_continue() {
    let world = World::new().await;
    let stranger = S3 { secret: "wrong".into(), ..world.s3.clone() };
    let unknown = S3 { access_key: "AKNOBODY".into(), ..world.s3.clone() };
    let own = &world.s3;
    let cases: [(&S3, &str, &str, usize, &str, &str); 8] = [
        (&stranger, BUCKET, "", 1000, "", "403"),
        (&stranger, BUCKET, "", 200_000, "", "403"),
        (&unknown, BUCKET, "", 1000, "", "403"),
        (own, "claviger-state", "", 1000, "", "404"),
        (own, BUCKET, "new-thing", 1000, "", "501"),
        (own, BUCKET, "", 6 << 30, "", "400"),
        (own, BUCKET, "", 1000, "x-amz-checksum-crc32: junk", "400"),
        (own, BUCKET, "", 1000, "x-amz-server-side-encryption: none", "400"),
    ];
    for (s3, bucket, query, length, further, status) in cases {
        let (mut raw, answer) = asked(&world, s3, bucket, query, length, further).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{bucket} {query} {further}: {answer}");
        let (_, closed) = raw.rest(LONG).await;
        assert!(closed, "the body that was not sent cannot be told from a next request");
    }
    assert!(world.store.take_log().is_empty());
}

#[tokio::test]
async fn without_a_key_there_is_no_body_either() {
    let custodian = Failing::new();
    custodian.unreachable.store(true, std::sync::atomic::Ordering::SeqCst);
    let world = World::with(Setup { custodian, ..Setup::default() }).await;
    let (_, answer) = asked(&world, &world.s3, BUCKET, "", 200_000, "").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}
