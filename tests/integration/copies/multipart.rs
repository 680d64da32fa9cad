//! Copies of objects that were uploaded in parts, and what is told of their parts.

use http::Method;

use super::{BUCKET, NO_DATA, OTHER, ask, copy, setup, world};
use crate::harness::{S3, Setup, noise};

const FIRST: usize = (5 << 20) + 17;
const LAST: usize = 100_000;

/// An object in two parts, with checksums by `algorithm` if there is one.
async fn in_parts(s3: &S3, key: &str, algorithm: Option<&str>) -> bytes::Bytes {
    let mut create = s3.ask(Method::POST, BUCKET, key).query_text("uploads").header("content-type", "text/csv");
    if let Some(algorithm) = algorithm {
        create = create.header("x-amz-checksum-algorithm", algorithm);
    }
    let id = create.send().await.ok().leaf("UploadId");
    let mut list = String::new();
    let bodies = [noise(FIRST, 1), noise(LAST, 2)];
    for (number, body) in (1..).zip(&bodies) {
        let part = s3.upload_part((BUCKET, key), &id, number, body.clone()).await.ok();
        let checksum = match part.header("x-amz-checksum-sha256") {
            "" => String::new(),
            sha256 => format!("<ChecksumSHA256>{sha256}</ChecksumSHA256>"),
        };
        let etag = part.header("etag");
        list += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>{checksum}</Part>");
    }
    let document = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    s3.ask(Method::POST, BUCKET, key).query("uploadId", &id).body(document).send().await.ok();
    bodies.concat().into()
}

#[tokio::test]
async fn parts_stay_as_they_are() {
    let world = world(setup()).await;
    let body = in_parts(&world.s3, "from", None).await;
    world.store.take_traffic();
    let copied = copy(&world.s3, "records/from", OTHER, "to").await.ok();
    let moved = world.store.take_traffic();
    assert!(moved.received.max(moved.sent) < NO_DATA, "{moved:?}");
    let read = world.s3.get(OTHER, "to").await.ok();
    assert!(read.body == body);
    assert_eq!((read.header("content-type"), read.header("etag")), ("text/csv", copied.leaf("ETag").as_str()));
    let range = world.s3.get_range(OTHER, "to", &format!("bytes={}-{}", FIRST - 3, FIRST + 3)).await.ok();
    assert!(range.body == body[FIRST - 3..FIRST + 4]);
    // The first remains what it was.
    assert!(world.s3.get(BUCKET, "from").await.ok().body == body);
}

#[tokio::test]
async fn in_pieces_and_through_the_proxy_too() {
    for copies in [(true, 5 << 20), (false, 5 << 30)] {
        let world = world(Setup { copies, ..setup() }).await;
        let body = in_parts(&world.s3, "from", Some("SHA256")).await;
        copy(&world.s3, "records/from", OTHER, "to").await.ok();
        assert!(world.s3.get(OTHER, "to").await.ok().body == body, "{copies:?}");
    }
}

#[tokio::test]
async fn a_composite_checksum_is_kept_unless_one_is_asked_for() {
    let world = world(setup()).await;
    in_parts(&world.s3, "from", Some("SHA256")).await;
    let kept = copy(&world.s3, "records/from", BUCKET, "to").await.ok();
    assert!(kept.leaf("ChecksumSHA256").ends_with("-2"), "{kept:?}");
    assert_eq!(kept.leaf("ChecksumType"), "COMPOSITE");
    let asked = ask(&world.s3, "records/from", BUCKET, "to").header("x-amz-checksum-algorithm", "SHA256");
    let asked = asked.send().await.ok();
    assert_eq!((asked.leaf("ChecksumType").as_str(), asked.leaf("ChecksumSHA256").len()), ("FULL_OBJECT", 44));
}

#[tokio::test]
async fn attributes_tell_of_parts_page_by_page() {
    let world = world(setup()).await;
    in_parts(&world.s3, "from", Some("SHA256")).await;
    let attributes = |more: &'static [(&'static str, &'static str)]| {
        let ask = world.s3.ask(Method::GET, BUCKET, "from").query_text("attributes");
        let ask = ask.header("x-amz-object-attributes", "ObjectParts,ObjectSize,Checksum");
        more.iter().fold(ask, |ask, (name, value)| ask.header(name, value)).send()
    };
    let all = attributes(&[]).await.ok();
    assert_eq!(all.leaf("ObjectSize"), (FIRST + LAST).to_string());
    assert_eq!((all.leaf("PartsCount").as_str(), all.leaf("IsTruncated").as_str()), ("2", "false"));
    let text = all.text();
    assert!(
        text.contains(&format!("<Size>{FIRST}</Size>")) && text.contains(&format!("<Size>{LAST}</Size>")),
        "{text}"
    );
    assert_eq!(text.matches("<ChecksumSHA256>").count(), 3, "the object's and each part's: {text}");
    let first = attributes(&[("x-amz-max-parts", "1")]).await.ok();
    assert_eq!((first.leaf("IsTruncated").as_str(), first.leaf("NextPartNumberMarker").as_str()), ("true", "1"));
    assert_eq!(first.text().matches("<Part>").count(), 1);
    let second = attributes(&[("x-amz-max-parts", "1"), ("x-amz-part-number-marker", "1")]).await.ok();
    assert_eq!((second.leaf("IsTruncated").as_str(), second.leaf("PartNumber").as_str()), ("false", "2"));
    let none = attributes(&[("x-amz-max-parts", "0"), ("x-amz-part-number-marker", "2")]).await.ok();
    assert_eq!((none.text().matches("<Part>").count(), none.leaf("PartsCount").as_str()), (0, "2"));
}
