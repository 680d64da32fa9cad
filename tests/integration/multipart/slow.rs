//! Completions that take long: the client is kept waiting with white space.

use std::time::Duration;

use http::Method;

use super::{KEY, OBJECT, assert_object, begin, is_complete, whole};
use crate::harness::store::Instead;
use crate::harness::{BUCKET, World};

#[tokio::test]
async fn white_space_comes_first_and_then_the_truth() {
    let world = World::new().await;
    let (id, parts) = begin(&world.s3, &[(1, 10)]).await;
    let slow = Duration::from_millis(5_500);
    world
        .store
        .before(move |seen| (seen.method == Method::POST && seen.has("uploadId")).then_some(Instead::Pause(slow)));
    // It fails in the end, as the object is one thing and the condition another.
    world.s3.put(BUCKET, KEY, "old").await.ok();
    let failed = world.s3.ask_complete(OBJECT, &id, &parts).header("if-none-match", "*").send().await;
    assert_eq!((failed.status, failed.code().as_str()), (200, "PreconditionFailed"), "{failed:?}");
    assert!(failed.text().starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>"), "{failed:?}");

    let (id, parts) = begin(&world.s3, &[(1, 20)]).await;
    world.store.honest();
    world
        .store
        .before(move |seen| (seen.method == Method::POST && seen.has("uploadId")).then_some(Instead::Pause(slow)));
    let answer = world.s3.complete(OBJECT, &id, &parts).await;
    assert!(is_complete(&answer), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/xml");
    assert_eq!(answer.leaf("ETag"), world.s3.head(BUCKET, KEY).await.ok().header("etag"));
    assert_object(&world.s3, &whole(&[(1, 20)])).await;
}
