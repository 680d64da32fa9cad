//! The storage server of these tests does what real ones do, and the wrong that it is told to do.

use http::Method;

use crate::harness::store::{ACCESS_KEY, SECRET, Store};
use crate::harness::{BUCKET, S3, noise};

const OBJECT: (&str, &str) = (BUCKET, "key");
const PART: usize = 5 << 20;

async fn server() -> (Store, S3) {
    let store = Store::start().await;
    store.create(BUCKET);
    let s3 = S3::new(store.address, None, ACCESS_KEY, SECRET);
    (store, s3)
}

async fn part(s3: &S3, id: &str, number: u32, length: usize) -> (u32, String) {
    let answer = s3.upload_part(OBJECT, id, number, noise(length, number.into())).await.ok();
    (number, answer.header("etag").to_owned())
}

#[tokio::test]
async fn uploads_are_put_together_as_s3_does() {
    let (store, s3) = server().await;
    let id = s3.create_upload(BUCKET, "key").await;
    let (first, third, fourth) =
        (part(&s3, &id, 1, PART).await, part(&s3, &id, 3, 10).await, part(&s3, &id, 4, 10).await);
    let complete = |parts: &[&(u32, String)]| {
        let parts: Vec<_> = parts.iter().map(|part| (*part).clone()).collect();
        let (s3, id) = (s3.clone(), id.clone());
        async move { s3.complete(OBJECT, &id, &parts).await }
    };
    complete(&[&third, &first]).await.fails(400, "InvalidPartOrder");
    complete(&[&third, &fourth]).await.fails(400, "EntityTooSmall");
    complete(&[&first, &(2, third.1.clone())]).await.fails(400, "InvalidPart");
    assert_eq!(s3.ask(Method::GET, BUCKET, "key").query("uploadId", &id).send().await.ok().leaf("PartNumber"), "1");
    assert_eq!(s3.list(BUCKET, &[("uploads", "")]).await.ok().leaf("UploadId"), id);
    store.take_traffic();
    complete(&[&first, &third]).await.ok();
    assert!(store.take_traffic().received < 1000);
    let whole = s3.get(BUCKET, "key").await.ok().body;
    assert!(whole[..PART] == noise(PART, 1) && whole[PART..] == noise(10, 3));
    assert_eq!(store.take_traffic().sent, whole.len());
    complete(&[&first, &third]).await.fails(404, "NoSuchUpload");
    let other = s3.create_upload(BUCKET, "key").await;
    s3.abort(OBJECT, &other).await.ok();
    assert!(store.uploads().is_empty());
}

#[tokio::test]
async fn pieces_can_be_changed_and_the_server_can_die() {
    let (store, s3) = server().await;
    let id = s3.create_upload(BUCKET, "key").await;
    let parts = [part(&s3, &id, 1, PART).await, part(&s3, &id, 2, 10).await];
    store.at_completion(|_, pieces| pieces.swap(0, 1));
    s3.complete(OBJECT, &id, &parts).await.ok();
    assert!(s3.get(BUCKET, "key").await.ok().body[..10] == noise(10, 2));
    store.dies_at(1, true);
    s3.put(BUCKET, "one", "x").await.ok();
    for key in ["two", "three"] {
        assert_eq!(s3.put(BUCKET, key, "x").await.status, 0);
    }
    assert_eq!(store.keys(BUCKET), ["key", "one", "two"]);
}

#[tokio::test]
async fn copies_have_conditions_unless_they_are_ignored() {
    let (store, s3) = server().await;
    s3.put(BUCKET, "key", "old").await.ok();
    let copy = |condition: &str| {
        let ask = s3.ask(Method::PUT, BUCKET, "copy").header("x-amz-copy-source", "records/key");
        ask.header("x-amz-copy-source-if-match", condition).send()
    };
    copy("another").await.fails(412, "PreconditionFailed");
    store.quirks().ignores_copy_conditions = true;
    copy("another").await.ok();
    assert_eq!(s3.get(BUCKET, "copy").await.ok().text(), "old");
    store.quirks().lacks_copies = true;
    copy("*").await.fails(501, "NotImplemented");
}

#[tokio::test]
async fn versions_are_kept() {
    let (store, s3) = server().await;
    store.keep_versions(BUCKET);
    let mut versions = Vec::new();
    for body in ["one", "two"] {
        versions.push(s3.put(BUCKET, "key", body).await.ok().header("x-amz-version-id").to_owned());
    }
    let get = |version: &str| s3.ask(Method::GET, BUCKET, "key").query("versionId", version).send();
    assert_eq!(get(&versions[0]).await.ok().text(), "one");
    let deleted = s3.ask(Method::DELETE, BUCKET, "key").send().await.ok();
    let marker = deleted.header("x-amz-version-id").to_owned();
    assert_eq!(s3.get(BUCKET, "key").await.fails(404, "NoSuchKey").header("x-amz-delete-marker"), "true");
    get(&marker).await.fails(405, "MethodNotAllowed");
    let listed = s3.list(BUCKET, &[("versions", "")]).await.ok().text();
    assert_eq!((listed.matches("<Version>").count(), listed.matches("<DeleteMarker>").count()), (2, 1));
    s3.ask(Method::DELETE, BUCKET, "key").query("versionId", &marker).send().await.ok();
    assert_eq!(s3.get(BUCKET, "key").await.ok().text(), "two");
}
