//! GetObjectAttributes tells of plaintext, and is the proxy's own.

use http::Method;

use crate::harness::{Answer, BUCKET, World, noise};

const ALL: &str = "ETag,Checksum,ObjectParts,StorageClass,ObjectSize";

async fn attributes(world: &World, key: &str, asked: &str) -> Answer {
    let ask = world.s3.ask(Method::GET, BUCKET, key).query_text("attributes");
    ask.header("x-amz-object-attributes", asked).send().await
}

#[tokio::test]
async fn they_are_those_of_the_plaintext() {
    let world = World::new().await;
    for size in [0, 1, 65_536, 200_000] {
        let written = world.s3.put(BUCKET, "object", noise(size, 1)).await.ok();
        world.store.take_log();
        let told = attributes(&world, "object", ALL).await.ok();
        let log = world.store.take_log();
        assert!(log.iter().all(|seen| !seen.has("attributes")), "the storage server was asked for them");
        assert_eq!(told.leaf("ETag"), written.header("etag").trim_matches('"'), "{size}");
        assert_eq!(told.leaf("ObjectSize"), size.to_string());
        assert_eq!(told.leaf("StorageClass"), "STANDARD");
        assert_eq!(told.leaf("ChecksumCRC64NVME"), written.header("x-amz-checksum-crc64nvme"));
        assert_eq!(told.leaf("ChecksumType"), "FULL_OBJECT");
        assert!(!told.text().contains("ObjectParts"), "{}", told.text());
        assert!(!told.header("last-modified").is_empty());
    }
}

#[tokio::test]
async fn only_what_is_asked_for_is_told() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", noise(1000, 1)).await.ok();
    let told = attributes(&world, "object", "ObjectSize").await.ok().text();
    assert!(told.contains("<ObjectSize>1000<") && !told.contains("ETag") && !told.contains("Checksum"), "{told}");
    attributes(&world, "object", "").await.fails(400, "InvalidArgument");
    attributes(&world, "object", "ETag,Owner").await.fails(400, "InvalidArgument");
    attributes(&world, "nothing", ALL).await.fails(404, "NoSuchKey");
}

#[tokio::test]
async fn what_is_not_authentic_has_none() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", noise(1000, 1)).await.ok();
    world.store.tamper(BUCKET, "object", |stored| {
        let mut body = stored.body.to_vec();
        let last = body.len() - 1;
        body[last] ^= 1;
        stored.body = body.into();
    });
    attributes(&world, "object", ALL).await.fails(403, "InvalidObjectState");
}
