//! Copies of and to objects under the client's own key (SSE-C).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::{BUCKET, NO_DATA, OTHER, ask, setup, world};
use crate::harness::client::Ask;
use crate::harness::{Setup, noise};
use http::Method;

/// With the headers of the key that is all `byte`; `of` is what stands in their names before.
fn with_key(ask: Ask, of: &str, byte: u8) -> Ask {
    let key = [byte; 32];
    let name = |what: &str| format!("x-amz-{of}server-side-encryption-customer-{what}");
    let ask = ask.header(&name("algorithm"), "AES256").header(&name("key"), &STANDARD.encode(key));
    ask.header(&name("key-md5"), &STANDARD.encode(Md5::digest(key)))
}

#[tokio::test]
async fn keys_are_taken_off_put_on_and_changed() {
    for copies in [true, false] {
        let world = world(Setup { copies: (copies, 5 << 30), ..setup() }).await;
        for size in [0, 1000, 100_000] {
            let body = noise(size, 1);
            world.s3.put(BUCKET, "plain", body.clone()).await.ok();
            let copy = |from: &str, to: &str, source: Option<u8>, target: Option<u8>| {
                let mut copy = ask(&world.s3, &format!("{BUCKET}/{from}"), BUCKET, to);
                copy = if let Some(key) = source { with_key(copy, "copy-source-", key) } else { copy };
                if let Some(key) = target { with_key(copy, "", key) } else { copy }.send()
            };
            let read = |key: &str, with: u8| with_key(world.s3.ask(Method::GET, BUCKET, key), "", with).send();
            world.store.take_traffic();
            let first = copy("plain", "first", None, Some(1)).await.ok();
            assert_eq!(first.header("x-amz-server-side-encryption-customer-algorithm"), "AES256");
            assert_eq!(first.header("x-amz-server-side-encryption"), "");
            copy("first", "second", Some(1), Some(2)).await.ok();
            copy("second", "third", Some(2), None).await.ok();
            // Onto itself, as keys are changed.
            copy("second", "second", Some(2), Some(3)).await.ok();
            let moved = world.store.take_traffic();
            assert!(!copies || moved.received.max(moved.sent) < 4 * NO_DATA, "{moved:?}");
            assert!(read("first", 1).await.ok().body == body);
            assert!(read("second", 3).await.ok().body == body);
            assert!(world.s3.get(BUCKET, "third").await.ok().body == body);
            assert!(read("second", 2).await.status == 400);
            assert!(world.s3.get(BUCKET, "second").await.status == 400);
        }
    }
}

#[tokio::test]
async fn a_copy_is_no_way_around_a_key() {
    for copies in [true, false] {
        let world = world(Setup { copies: (copies, 5 << 30), ..setup() }).await;
        let put = world.s3.ask(Method::PUT, BUCKET, "secret").body(noise(1000, 1));
        with_key(put, "", 1).send().await.ok();
        world.s3.put(BUCKET, "plain", noise(1000, 2)).await.ok();
        let copy = || ask(&world.s3, "records/secret", OTHER, "to");
        copy().send().await.fails(400, "InvalidRequest");
        // The key of the destination is not that of the source.
        with_key(copy(), "", 1).send().await.fails(400, "InvalidRequest");
        with_key(copy(), "copy-source-", 2).send().await.fails(400, "InvalidRequest");
        let needless = ask(&world.s3, "records/plain", OTHER, "to");
        with_key(needless, "copy-source-", 1).send().await.fails(400, "InvalidRequest");
        assert!(world.store.keys("tenant-physical").is_empty());
        let log = world.store.take_whole_log();
        assert!(log.iter().all(|seen| !format!("{:?}", seen.headers).contains("customer")), "a key went on");
    }
}
