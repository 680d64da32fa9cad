//! The operator learns nothing of what is written, and what he copies elsewhere does not open.

use http::{HeaderName, HeaderValue, Method};

use crate::harness::proxy::{bucket_rule, key_rule};
use crate::harness::{BUCKET, STATE, Setup, World, contains, noise};

const SECRET_WORDS: [&str; 5] =
    ["patient 4711 has the flu", "Ward-Seven", "application/x-medical", "report-of-4711.pdf", "x-medical-zip"];

#[tokio::test]
async fn neither_content_nor_metadata_nor_content_type_is_visible() {
    let world = World::new().await;
    for (key, repeats) in [("small", 1), ("large", 20_000)] {
        let ask = world.s3.ask(Method::PUT, BUCKET, key).body(SECRET_WORDS[0].repeat(repeats));
        let ask = ask.header("x-amz-meta-place", SECRET_WORDS[1]).header("content-type", SECRET_WORDS[2]);
        let ask = ask.header("content-disposition", &format!("attachment; filename={}", SECRET_WORDS[3]));
        ask.header("content-encoding", SECRET_WORDS[4]).send().await.ok();
    }
    let mut seen = 0;
    for object in world.store.buckets().values().flat_map(|bucket| bucket.values()) {
        let headers = format!("{:?}", object.headers);
        for word in SECRET_WORDS {
            assert!(!contains(&object.body, word.as_bytes()), "{word} is in a body");
            assert!(!headers.contains(word), "{word} is in {headers}");
        }
        seen += 1;
    }
    assert!(seen >= 3, "two objects and a branch key");
    let stored = world.store.object(BUCKET, "small").expect("stored");
    let names: Vec<&str> = stored.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(stored.headers["content-type"], "application/octet-stream");
    assert!(!stored.envelope().is_empty());
    for sent in world.store.take_whole_log() {
        let sent = format!("{sent:?}");
        assert!(!SECRET_WORDS.iter().any(|word| sent.contains(word)), "a request shows it: {sent}");
    }
    // The same search finds what is there to be found.
    assert!(contains(&world.s3.get(BUCKET, "large").await.ok().body, SECRET_WORDS[0].as_bytes()));
}

#[tokio::test]
async fn the_same_object_twice_looks_different() {
    let world = World::new().await;
    for key in ["one", "two"] {
        world.s3.put(BUCKET, key, noise(70_000, 1)).await.ok();
    }
    let [one, two] = ["one", "two"].map(|key| world.store.object(BUCKET, key).expect("stored"));
    assert_eq!(one.body.len(), two.body.len());
    let equal = one.body.windows(8).step_by(8).filter(|piece| contains(&two.body[..4096], piece)).count();
    assert!(equal == 0, "{equal} equal pieces of 8 bytes");
    world.s3.put(BUCKET, "one", noise(70_000, 1)).await.ok();
    assert_ne!(world.store.object(BUCKET, "one").expect("stored").body, one.body);
}

/// Two logical buckets, on two KEKs or one.
fn two_buckets(second_kek: &str) -> Setup {
    let rules = vec![
        bucket_rule(BUCKET, BUCKET, key_rule("demo")),
        bucket_rule("archive", "archive-on-storage", key_rule(second_kek)),
    ];
    Setup { rules, others: None, ..Setup::default() }
}

#[tokio::test]
async fn what_is_moved_to_another_key_or_bucket_does_not_open() {
    for kek in ["demo", "other"] {
        let world = World::with(two_buckets(kek)).await;
        for size in [0, 100, 200_000] {
            world.s3.put(BUCKET, "original", noise(size, 5)).await.ok();
            let stored = world.store.object(BUCKET, "original").expect("stored");
            world.store.plant(BUCKET, "copy", stored.clone());
            world.store.plant("archive-on-storage", "original", stored);
            for (bucket, key) in [(BUCKET, "copy"), ("archive", "original")] {
                for range in [None, Some("bytes=0-9")] {
                    let answer = match range {
                        None => world.s3.get(bucket, key).await,
                        Some(range) => world.s3.get_range(bucket, key, range).await,
                    };
                    answer.fails(403, "InvalidObjectState");
                }
                world.s3.head(bucket, key).await.fails(403, "");
            }
            assert!(world.s3.get(BUCKET, "original").await.ok().body == noise(size, 5), "where it was, it opens");
        }
    }
}

#[tokio::test]
async fn another_kek_of_the_same_name_does_not_open() {
    let world = World::new().await;
    let body = noise(1000, 1);
    world.s3.put(BUCKET, "object", body.clone()).await.ok();
    assert!(world.s3.get(BUCKET, "object").await.ok().body == body);
    let (embedded, _folder) = crate::harness::custodian::custodian(&["demo"]);
    let custodian = std::sync::Arc::new(embedded);
    let other = crate::harness::Proxy::start(&world.store, Setup { custodian, ..Setup::default() }).await;
    other.s3().get(BUCKET, "object").await.fails(403, "InvalidObjectState");
    other.s3().get_range(BUCKET, "object", "bytes=0-1").await.fails(403, "InvalidObjectState");
    other.s3().head(BUCKET, "object").await.fails(403, "");
}

#[tokio::test]
async fn the_logical_name_counts_and_not_the_physical_one() {
    let world = World::with(two_buckets("demo")).await;
    let body = noise(100_000, 1);
    world.store.create("archive-on-storage");
    world.s3.put("archive", "object", body.clone()).await.ok();
    let stored = world.store.object("archive-on-storage", "object").expect("stored under its physical name");
    let rules = vec![bucket_rule("archive", "replica", key_rule("demo"))];
    let setup = Setup { rules, others: None, ..Setup::default() };
    let replica = crate::harness::Proxy::start(&world.store, setup).await;
    world.store.plant("replica", "object", stored);
    assert!(replica.s3().get("archive", "object").await.ok().body == body);
    let listing = world.s3.list("archive", &[("list-type", "2")]).await.ok().text();
    assert!(listing.contains("<Name>archive</Name>") && !listing.contains("archive-on-storage"), "{listing}");
    world.s3.get("archive-on-storage", "object").await.fails(404, "NoSuchBucket");
}

#[tokio::test]
async fn a_client_chooses_only_among_the_keks_that_its_bucket_offers() {
    let mut keys = key_rule("demo");
    keys.former_keks = vec![crate::harness::custodian::kek("former")];
    keys.further_keks = vec![crate::harness::custodian::kek("other")];
    let world = World::with(Setup { others: Some(keys), ..Setup::default() }).await;
    let put = |kek: &'static str| {
        let ask = world.s3.ask(Method::PUT, BUCKET, kek).body("x").header("x-amz-server-side-encryption", "aws:kms");
        ask.header("x-amz-server-side-encryption-aws-kms-key-id", kek).send()
    };
    let answer = put("other").await.ok();
    assert_eq!(answer.header("x-amz-server-side-encryption-aws-kms-key-id"), "other");
    assert_eq!(world.s3.get(BUCKET, "other").await.ok().text(), "x");
    for refused in ["former", "unknown", "arn:aws:kms:us-east-1:1:key/x"] {
        put(refused).await.fails(400, "KMS.NotFoundException");
        assert!(world.store.object(BUCKET, refused).is_none());
    }
    // A proxy whose bucket does not accept that KEK does not even ask for it.
    let custodian = crate::harness::custodian::Failing::new();
    let setup = Setup { custodian: custodian.clone(), ..Setup::default() };
    let strict = crate::harness::Proxy::start(&world.store, setup).await;
    strict.s3().get(BUCKET, "other").await.fails(403, "InvalidObjectState");
    assert_eq!(custodian.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_branch_key_directory_holds_nothing_but_wrapped_keys() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    let keys = world.store.keys(STATE);
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(keys[0].starts_with("branch/demo/") && keys[0].ends_with("/v1"), "{keys:?}");
    world.s3.put(BUCKET, "further", "x").await.ok();
    assert_eq!(world.store.keys(STATE), keys, "one branch key for both");
}

#[tokio::test]
async fn metadata_under_the_proxys_own_name_is_refused() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    let envelope = world.store.object(BUCKET, "object").expect("stored").envelope().to_owned();
    let value = HeaderValue::from_str(&envelope).expect("a header value");
    let ask = world.s3.ask(Method::PUT, BUCKET, "forged").body("x");
    ask.header("x-amz-meta-claviger", value.to_str().expect("ASCII")).send().await.fails(400, "InvalidArgument");
    assert!(world.store.object(BUCKET, "forged").is_none());
}
