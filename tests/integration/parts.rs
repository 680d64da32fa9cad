//! Uploads in parts, up to their end: begun, filled in any order through any proxy, listed, given up.

mod promises;
mod state;

use bytes::Bytes;
use http::Method;

use crate::harness::client::Ask;
use crate::harness::proxy::{bucket_rule, key_rule};
use crate::harness::store::Instead;
use crate::harness::{Answer, BUCKET, Reply, S3, STATE, Setup, World, noise};

const KEY: &str = "a folder/object";
const OBJECT: (&str, &str) = (BUCKET, KEY);
/// What a part but the last has at least: shorter ones are held in the state bucket.
const PART: usize = 5 << 20;
/// Held and in memory, held and streamed, on the storage server.
const SIZES: [usize; 3] = [1000, 200_000, PART + 17];

fn create(s3: &S3) -> Ask {
    s3.ask(Method::POST, BUCKET, KEY).query_text("uploads")
}

fn put_part(s3: &S3, id: &str, number: u32, body: impl Into<Bytes>) -> Ask {
    let ask = s3.ask(Method::PUT, BUCKET, KEY).query("partNumber", &number.to_string()).query("uploadId", id);
    ask.body(body)
}

async fn list(s3: &S3, id: &str, further: &[(&str, &str)]) -> Answer {
    s3.ask(Method::GET, BUCKET, KEY).query("uploadId", id).queries(further).send().await
}

/// Number, ETag and size of each part in a listing.
fn rows(answer: &Answer) -> Vec<(u32, String, usize)> {
    let text = answer.text();
    let parts = text.split("<Part>").skip(1).map(|part| Answer { body: part.to_owned().into(), ..answer.clone() });
    let row = |part: Answer| {
        let number = |name: &str| part.leaf(name).parse().expect("a number");
        (u32::try_from(number("PartNumber")).expect("small"), part.leaf("ETag"), number("Size"))
    };
    parts.map(row).collect()
}

fn state_of(world: &World, what: &str) -> Vec<String> {
    world.store.keys(STATE).into_iter().filter(|key| key.starts_with("upload/") && key.contains(what)).collect()
}

#[tokio::test]
async fn parts_come_in_any_order_and_again_and_the_newest_is_listed() {
    let world = World::new().await;
    let id = world.s3.create_upload(BUCKET, KEY).await;
    let mut expected: Vec<(u32, String, usize)> = Vec::new();
    for (number, size) in [(9, PART), (2, PART + 1), (10_000, PART), (3, 0), (9, PART + 9), (4, 70_000), (2, 12)] {
        let answer = put_part(&world.s3, &id, number, noise(size, u64::from(number))).send().await.ok();
        let etag = answer.header("etag").to_owned();
        assert!(etag.len() == 36 && etag.ends_with("-0\""), "{etag}");
        assert_eq!(answer.header("x-amz-server-side-encryption"), "aws:kms");
        assert!(!answer.header("x-amz-checksum-crc64nvme").is_empty());
        expected.retain(|(known, ..)| *known != number);
        expected.push((number, etag, size));
        // The clock has milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    expected.sort();
    let listed = list(&world.s3, &id, &[]).await.ok();
    assert_eq!(rows(&listed), expected);
    assert_eq!(
        (listed.leaf("Bucket"), listed.leaf("Key"), listed.leaf("UploadId")),
        (BUCKET.into(), KEY.into(), id.clone())
    );
    assert_eq!(
        (listed.leaf("IsTruncated").as_str(), listed.leaf("ChecksumAlgorithm").as_str()),
        ("false", "CRC64NVME")
    );
    let mut paged = Vec::new();
    let mut marker = "0".to_owned();
    for page in 0.. {
        let further = [("max-parts", "2"), ("part-number-marker", marker.as_str()), ("encoding-type", "url")];
        let listed = list(&world.s3, &id, &further).await.ok();
        assert_eq!(listed.leaf("Key"), "a%20folder/object");
        paged.extend(rows(&listed));
        if listed.leaf("IsTruncated") == "false" {
            assert_eq!(page, 2);
            break;
        }
        marker = listed.leaf("NextPartNumberMarker");
    }
    assert_eq!(paged, expected);
    assert_eq!(state_of(&world, "/held/").len(), 4, "parts 3, 4, 10,000 and the second attempt at part 2");
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let world = World::new().await;
    let id = world.s3.create_upload(BUCKET, KEY).await;
    for (number, size) in (1..).zip(SIZES) {
        put_part(&world.s3, &id, number, noise(size, 1)).send().await.ok();
    }
    assert_eq!((state_of(&world, "").len(), world.store.uploads().len()), (6, 1));
    assert_eq!(world.s3.abort(OBJECT, &id).await.ok().status, 204);
    assert_eq!((state_of(&world, "").len(), world.store.uploads().len()), (0, 0));
    for size in SIZES {
        put_part(&world.s3, &id, 1, noise(size, 1)).send().await.fails(404, "NoSuchUpload");
    }
    list(&world.s3, &id, &[]).await.fails(404, "NoSuchUpload");
    world.s3.abort(OBJECT, &id).await.fails(404, "NoSuchUpload");
    assert_eq!(state_of(&world, "").len(), 0);
}

#[tokio::test]
async fn another_proxy_goes_on_with_it() {
    let world = World::new().await;
    let create = create(&world.s3).header("x-amz-checksum-algorithm", "SHA256").send().await.ok();
    assert_eq!(create.header("x-amz-checksum-algorithm"), "SHA256");
    assert_eq!(create.header("x-amz-checksum-type"), "COMPOSITE");
    let id = create.leaf("UploadId");
    let mut expected = Vec::new();
    for (number, size) in (1..).zip(SIZES) {
        let (_proxy, other) = world.fresh().await;
        let answer = put_part(&other, &id, number, noise(size, 1)).send().await.ok();
        assert!(!answer.header("x-amz-checksum-sha256").is_empty(), "{answer:?}");
        expected.push((number, answer.header("etag").to_owned(), size));
    }
    let (_proxy, other) = world.fresh().await;
    let listed = list(&other, &id, &[]).await.ok();
    assert_eq!(rows(&listed), expected);
    assert_eq!(listed.text().matches("<ChecksumSHA256>").count(), 3);
    other.abort(OBJECT, &id).await.ok();
    list(&world.s3, &id, &[]).await.fails(404, "NoSuchUpload");
}

#[tokio::test]
async fn uploads_are_listed_under_the_buckets_logical_name() {
    let rules = vec![bucket_rule("patients", "physical-7", key_rule("demo"))];
    let world = World::with(Setup { rules, ..Setup::default() }).await;
    world.store.create("physical-7");
    let mut ids = Vec::new();
    for key in ["a", "b/c", "b/d"] {
        let answer = world.s3.ask(Method::POST, "patients", key).query_text("uploads").send().await.ok();
        assert_eq!((answer.leaf("Bucket").as_str(), answer.leaf("Key").as_str()), ("patients", key));
        ids.push(answer.leaf("UploadId"));
    }
    let listed = world.s3.ask(Method::GET, "patients", "").query_text("uploads").send().await.ok();
    assert_eq!(listed.leaf("Bucket"), "patients");
    assert!(ids.iter().all(|id| listed.text().contains(&format!("<UploadId>{id}</UploadId>"))));
    assert!(!listed.text().contains("physical-7"));
    let grouped = world.s3.ask(Method::GET, "patients", "").query_text("uploads&delimiter=/&max-uploads=3");
    let grouped = grouped.send().await.ok().text();
    assert_eq!((grouped.matches("<Upload>").count(), grouped.matches("<Prefix>b/</Prefix>").count()), (1, 1));
    world.store.before(|seen| seen.has("uploads").then(|| Instead::Answer(Reply::xml(200, "<ListBucketResult/>"))));
    let lie = world.s3.ask(Method::GET, "patients", "").query_text("uploads").send().await;
    lie.fails(500, "InternalError");
}

#[tokio::test]
async fn a_part_that_is_too_long_is_refused_before_anything_is_asked() {
    let world = World::new().await;
    let id = world.s3.create_upload(BUCKET, KEY).await;
    world.store.take_whole_log();
    let ask = world.s3.ask(Method::PUT, BUCKET, KEY).query("partNumber", "1").query("uploadId", &id);
    let ask = ask.header("content-encoding", "aws-chunked").header("x-amz-decoded-content-length", "5368709120");
    let ask = ask.header("x-amz-trailer", "x-amz-checksum-crc32").payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    ask.body("0\r\n\r\n").send().await.fails(400, "EntityTooLarge");
    assert!(world.store.take_whole_log().is_empty());
}

#[tokio::test]
async fn the_operator_learns_nothing_of_what_is_uploaded() {
    let world = World::new().await;
    let words = ["Ward-Seven", "x-medical/flu", "patient=4711"];
    let ask = create(&world.s3).header("x-amz-meta-place", words[0]).header("content-type", words[1]);
    let id = ask.send().await.ok().leaf("UploadId");
    for (number, size) in (1..).zip(SIZES) {
        put_part(&world.s3, &id, number, words[2].repeat(size / 12)).send().await.ok();
    }
    let stored = format!("{:?} {:?}", world.store.uploads(), world.store.buckets());
    let bodies: Vec<Bytes> = {
        let uploads = world.store.uploads();
        let parts = uploads.values().flat_map(|upload| upload.parts.values().flatten().map(|part| part.body.clone()));
        let buckets = world.store.buckets();
        let objects = buckets.values().flat_map(|bucket| bucket.values().map(|object| object.body.clone()));
        parts.chain(objects).collect()
    };
    for word in words {
        assert!(!stored.contains(word), "{word}");
        assert!(!bodies.iter().any(|body| crate::harness::contains(body, word.as_bytes())), "{word}");
    }
    assert_eq!(world.store.uploads()[&id].headers["content-type"], "application/octet-stream");
}
