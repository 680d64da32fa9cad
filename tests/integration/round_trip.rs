//! What is written comes back, whole and in ranges, at the price in storage requests that the design allows.

use http::Method;

use crate::harness::{BUCKET, S3, World, noise};

/// Around the borders of segments and of what is handled in memory, and beyond the least part of a multipart upload.
const SIZES: [usize; 8] = [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000, (6 << 20) + 1];

/// Range headers with the bytes that they mean.
fn ranges(size: usize) -> Vec<(String, std::ops::Range<usize>)> {
    let last = size - 1;
    let mut ranges = vec![
        ("bytes=0-0".to_owned(), 0..1),
        (format!("bytes={last}-{last}"), last..size),
        ("bytes=0-".to_owned(), 0..size),
        (format!("bytes={last}-"), last..size),
        ("bytes=-1".to_owned(), last..size),
        (format!("bytes=-{}", size * 2), 0..size),
        (format!("bytes=0-{}", size * 2), 0..size),
    ];
    for (first, last) in [(65_535, 65_536), (65_536, 65_536), (65_530, 131_080), (100_000, 150_000), (1, size - 1)] {
        if first <= last && last < size {
            ranges.push((format!("bytes={first}-{last}"), first..last + 1));
        }
    }
    ranges
}

async fn put_all(s3: &S3) -> Vec<(String, bytes::Bytes)> {
    let mut written = Vec::new();
    for size in SIZES {
        let (key, body) = (format!("size-{size}"), noise(size, size as u64));
        let ask = s3.ask(Method::PUT, BUCKET, &key).body(body.clone());
        ask.header("content-type", "text/csv").header("x-amz-meta-owner", "Ümlaut GmbH").send().await.ok();
        written.push((key, body));
    }
    written
}

#[tokio::test]
async fn whole_objects_and_their_headers_come_back() {
    let world = World::new().await;
    for (key, body) in put_all(&world.s3).await {
        world.store.take_log();
        let got = world.s3.get(BUCKET, &key).await.ok();
        assert!(got.body == body, "{key}");
        assert_eq!(world.store.take_log().len(), 1, "GET {key}: one request to the storage server");
        let head = world.s3.head(BUCKET, &key).await.ok();
        let requests = world.store.take_log().len();
        assert!(requests == 1 || body.is_empty() && requests == 2, "HEAD {key}: {requests} requests");
        for answer in [&got, &head] {
            assert_eq!(answer.header("content-length"), body.len().to_string(), "{key}");
            assert_eq!(answer.header("content-type"), "text/csv");
            assert_eq!(answer.headers["x-amz-meta-owner"].as_bytes(), "Ümlaut GmbH".as_bytes());
            assert_eq!(answer.header("x-amz-server-side-encryption"), "aws:kms");
            assert_eq!(answer.header("x-amz-server-side-encryption-aws-kms-key-id"), "demo");
            assert!(answer.header("etag").ends_with("-0\""), "no bare MD5 of ciphertext: {}", answer.header("etag"));
            assert!(!answer.headers.contains_key("x-amz-checksum-crc32"), "the ciphertext's checksum passed");
            assert!(!answer.headers.contains_key("x-amz-meta-claviger"), "the envelope passed");
        }
        assert!(head.body.is_empty());
    }
}

#[tokio::test]
async fn every_form_of_range_gives_its_bytes_cold_and_warm() {
    let world = World::new().await;
    for (key, body) in put_all(&world.s3).await.into_iter().skip(1) {
        for (range, bytes) in ranges(body.len()) {
            let (_proxy, cold) = world.fresh().await;
            for (temperature, most) in [("cold", 2), ("warm", 1)] {
                world.store.take_log();
                let answer = cold.get_range(BUCKET, &key, &range).await.ok();
                let requests = world.store.take_log().len();
                assert!(requests <= most, "{key} {range} {temperature}: {requests} requests");
                assert_eq!(answer.status, 206, "{key} {range}");
                assert!(answer.body == body[bytes.clone()], "{key} {range} {temperature}");
                let expected = format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, body.len());
                assert_eq!(answer.header("content-range"), expected);
            }
        }
    }
}

#[tokio::test]
async fn ranges_that_are_none_or_lie_outside() {
    let world = World::new().await;
    let body = noise(100_000, 1);
    world.s3.put(BUCKET, "object", body.clone()).await.ok();
    world.s3.put(BUCKET, "empty", "").await.ok();
    for whole in ["bytes=0-1,4-5", "items=0-1", "bytes=9-1", "bytes=a-b"] {
        let answer = world.s3.get_range(BUCKET, "object", whole).await.ok();
        assert_eq!((answer.status, answer.body == body), (200, true), "{whole}");
    }
    for outside in ["bytes=100000-", "bytes=-0", "bytes=200000-300000"] {
        let (_proxy, cold) = world.fresh().await;
        for _ in 0..2 {
            let answer = cold.get_range(BUCKET, "object", outside).await.fails(416, "InvalidRange");
            assert_eq!(answer.header("content-range"), "bytes */100000", "{outside}");
        }
    }
    for range in ["bytes=0-0", "bytes=-1", "bytes=0-"] {
        let answer = world.s3.get_range(BUCKET, "empty", range).await.fails(416, "InvalidRange");
        assert_eq!(answer.header("content-range"), "bytes */0", "{range}");
    }
}

#[tokio::test]
async fn if_range_decides_whether_a_range_counts() {
    let world = World::new().await;
    let body = noise(200_000, 2);
    let etag = world.s3.put(BUCKET, "object", body.clone()).await.ok().header("etag").to_owned();
    for (value, status, expected) in [(etag.as_str(), 206, &body[5..10]), ("\"another\"", 200, &body[..])] {
        let ask = world.s3.ask(Method::GET, BUCKET, "object").header("range", "bytes=5-9").header("if-range", value);
        let answer = ask.send().await.ok();
        assert_eq!((answer.status, &*answer.body == expected), (status, true), "{value}");
    }
}

#[tokio::test]
async fn listings_have_exact_sizes_and_the_etags_of_the_objects_in_one_request() {
    let world = World::new().await;
    let written = put_all(&world.s3).await;
    let mut etags = Vec::new();
    for (key, _) in &written {
        etags.push(world.s3.head(BUCKET, key).await.ok().header("etag").trim_matches('"').to_owned());
    }
    for query in [&[("list-type", "2")][..], &[], &[("list-type", "2"), ("encoding-type", "url")]] {
        world.store.take_log();
        let listing = world.s3.list(BUCKET, query).await.ok().text();
        assert_eq!(world.store.take_log().len(), 1, "a listing is one request");
        assert!(listing.contains(&format!("<Name>{BUCKET}</Name>")), "{listing}");
        assert!(!listing.contains("Checksum"), "it speaks of ciphertext: {listing}");
        for ((key, body), etag) in written.iter().zip(&etags) {
            let shown = key.replace('-', if query.len() == 2 { "%2D" } else { "-" });
            let entry = listing.split("<Contents>").find(|entry| entry.contains(&format!("<Key>{shown}</Key>")));
            let entry = entry.unwrap_or_else(|| panic!("{key} is listed: {listing}"));
            assert!(entry.contains(&format!("<Size>{}</Size>", body.len())), "{entry}");
            assert!(entry.contains(etag.as_str()), "{entry} has not {etag}");
        }
    }
}

#[tokio::test]
async fn listings_page_and_group() {
    let world = World::new().await;
    for key in ["a/1", "a/2", "b", "c/1"] {
        world.s3.put(BUCKET, key, "x").await.ok();
    }
    let grouped = world.s3.list(BUCKET, &[("list-type", "2"), ("delimiter", "/")]).await.ok().text();
    assert!(grouped.contains("<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"), "{grouped}");
    let first = world.s3.list(BUCKET, &[("list-type", "2"), ("max-keys", "3")]).await.ok().text();
    assert!(first.contains("<IsTruncated>true</IsTruncated>") && !first.contains("c/1"), "{first}");
    let token = first.split("NextContinuationToken>").nth(1).and_then(|rest| rest.split('<').next()).expect("a token");
    let second = world.s3.list(BUCKET, &[("list-type", "2"), ("continuation-token", token)]).await.ok().text();
    assert!(second.contains("c/1") && !second.contains("a/1"), "{second}");
}

#[tokio::test]
async fn buckets_are_made_found_listed_and_removed() {
    let world = World::new().await;
    let s3 = &world.s3;
    let ask = |method: Method| s3.ask(method, "fresh-bucket", "");
    ask(Method::HEAD).send().await.fails(404, "");
    ask(Method::PUT).send().await.ok();
    ask(Method::HEAD).send().await.ok();
    let location = ask(Method::GET).query_text("location").send().await.ok().text();
    assert!(location.contains("LocationConstraint"), "{location}");
    let buckets = s3.ask(Method::GET, "", "").send().await.ok().text();
    assert!(buckets.contains("<Name>fresh-bucket</Name>") && buckets.contains("<Name>records</Name>"), "{buckets}");
    s3.put("fresh-bucket", "key", "x").await.ok();
    ask(Method::DELETE).send().await.fails(409, "BucketNotEmpty");
    s3.ask(Method::DELETE, "fresh-bucket", "key").send().await.ok();
    s3.get("fresh-bucket", "key").await.fails(404, "NoSuchKey");
    ask(Method::DELETE).send().await.ok();
    ask(Method::GET).send().await.fails(404, "NoSuchBucket");
}

#[tokio::test]
async fn many_objects_are_deleted_at_once() {
    let world = World::new().await;
    for key in ["one", "two & <three>", "four"] {
        world.s3.put(BUCKET, key, "x").await.ok();
    }
    let document =
        "<Delete><Object><Key>one</Key></Object><Object><Key>two &amp; &lt;three&gt;</Key></Object></Delete>";
    let answer = world.s3.ask(Method::POST, BUCKET, "").query_text("delete").body(document).send().await.ok();
    assert!(answer.text().contains("<Deleted><Key>one</Key>"), "{answer:?}");
    assert_eq!(world.store.keys(BUCKET), ["four"]);
}

#[tokio::test]
async fn it_works_the_same_over_tls_and_http_2() {
    let world = World::with(crate::harness::Setup { tls: true, ..Default::default() }).await;
    let body = noise(300_000, 3);
    world.s3.put(BUCKET, "tls", body.clone()).await.ok();
    assert!(world.s3.get(BUCKET, "tls").await.ok().body == body);
    let got = crate::harness::http2::get(&world, BUCKET, "tls").await;
    assert_eq!((got.status, got.body == body, got.cut), (200, true, false));
}
