//! Parts made of other objects: decrypted and encrypted anew.

use http::Method;

use super::{KEY, OBJECT, PART, assert_object, begin, whole};
use crate::harness::proxy::{bucket_rule, key_rule};
use crate::harness::{Answer, BUCKET, S3, Setup, World, noise};

const SINGLE: usize = PART + 200_000;

async fn copy(s3: &S3, id: &str, number: u32, source: &str, further: &[(&str, &str)]) -> Answer {
    let ask = s3.ask(Method::PUT, BUCKET, KEY).query("partNumber", &number.to_string()).query("uploadId", id);
    let ask = ask.header("x-amz-copy-source", source);
    further.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send().await
}

fn etag(answer: Answer) -> String {
    let answer = answer.ok();
    assert!(answer.text().contains("<CopyPartResult"), "{}", answer.text());
    assert!(answer.leaf("LastModified").ends_with('Z'), "{}", answer.text());
    answer.leaf("ETag")
}

#[tokio::test]
async fn from_single_and_multipart_sources_with_ranges() {
    let world = World::new().await;
    let s3 = &world.s3;
    let lengths = [(1, PART + 3), (2, 70_001)];
    let (id, parts) = begin(s3, &lengths).await;
    s3.complete(OBJECT, &id, &parts).await.ok();
    let multipart = whole(&lengths);
    s3.put(BUCKET, "single", noise(SINGLE, 5)).await.ok();
    let id = s3.create_upload(BUCKET, KEY).await;
    let from = |range: &'static str| [("x-amz-copy-source-range", range)];
    let parts = [
        (1, etag(copy(s3, &id, 1, "/records/single", &[]).await)),
        (2, etag(copy(s3, &id, 2, "records/the/object", &from("bytes=1-5242885")).await)),
        // From the object that the upload will replace, across the border of its parts.
        (3, etag(copy(s3, &id, 3, "records/the%2Fobject", &from("bytes=5242000-5300000")).await)),
    ];
    let traffic = world.store.take_traffic();
    s3.complete(OBJECT, &id, &parts).await.ok();
    assert!(world.store.take_traffic().received < 200_000, "the parts are there: {traffic:?}");
    let body = [&noise(SINGLE, 5), &multipart[1..5_242_886], &multipart[5_242_000..=5_300_000]].concat();
    assert_object(s3, &body).await;
}

#[tokio::test]
async fn across_buckets_and_keks() {
    let rules = vec![
        bucket_rule(BUCKET, BUCKET, key_rule("demo")),
        bucket_rule("archive", "archive-on-storage", key_rule("other")),
    ];
    let world = World::with(Setup { rules, others: None, ..Setup::default() }).await;
    world.store.create("archive-on-storage");
    world.s3.put("archive", "source", noise(1000, 7)).await.ok();
    let id = world.s3.create_upload(BUCKET, KEY).await;
    let part = (1, etag(copy(&world.s3, &id, 1, "archive/source", &[]).await));
    world.s3.complete(OBJECT, &id, &[part]).await.ok();
    assert_object(&world.s3, &noise(1000, 7)).await;
    for seen in world.store.take_whole_log() {
        assert!(seen.header("x-amz-copy-source").is_none(), "the storage server is not asked to copy: {seen:?}");
    }
}

#[tokio::test]
async fn conditions_ranges_and_sources_that_do_not_do() {
    let world = World::new().await;
    let s3 = &world.s3;
    let written = s3.put(BUCKET, "source", noise(1000, 7)).await.ok().header("etag").to_owned();
    let id = s3.create_upload(BUCKET, KEY).await;
    let source = "records/source";
    let refused = [("x-amz-copy-source-if-match", "\"other\""), ("x-amz-copy-source-if-none-match", written.as_str())];
    for condition in refused {
        copy(s3, &id, 1, source, &[condition]).await.fails(412, "PreconditionFailed");
    }
    for range in ["bytes=0-1000", "bytes=1000-1001", "bytes=5000-6000"] {
        copy(s3, &id, 1, source, &[("x-amz-copy-source-range", range)]).await.fails(416, "InvalidRange");
    }
    copy(s3, &id, 1, source, &[("x-amz-copy-source-range", "0-5")]).await.fails(400, "InvalidArgument");
    copy(s3, &id, 1, "records/nothing", &[]).await.fails(404, "NoSuchKey");
    copy(s3, &id, 1, "claviger-state/upload", &[]).await.fails(404, "NoSuchBucket");
    copy(s3, "no-such-upload", 1, source, &[]).await.fails(404, "NoSuchUpload");
    let part = etag(copy(s3, &id, 1, source, &[("x-amz-copy-source-if-match", &written)]).await);
    s3.complete(OBJECT, &id, &[(1, part)]).await.ok();
    assert_object(s3, &noise(1000, 7)).await;
}

#[tokio::test]
async fn a_source_that_was_tampered_with_makes_no_part() {
    let world = World::new().await;
    let s3 = &world.s3;
    s3.put(BUCKET, "source", noise(SINGLE, 5)).await.ok();
    let id = s3.create_upload(BUCKET, KEY).await;
    world.store.tamper(BUCKET, "source", |stored| {
        let mut body = stored.body.to_vec();
        body[3_000_000] ^= 1;
        stored.body = body.into();
    });
    let answer = copy(s3, &id, 1, "records/source", &[]).await;
    assert!(answer.status >= 400, "{answer:?}");
    let uploads = world.store.uploads();
    let stored = uploads.values().flat_map(|upload| upload.parts.values().flatten()).count();
    assert_eq!(stored, 0, "the last bytes did not go");
}
