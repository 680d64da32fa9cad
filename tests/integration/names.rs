//! Keys are what the client says they are, byte for byte.

use http::Method;

use crate::harness::listing::unescaped;
use crate::harness::{BUCKET, S3, World};

const KEYS: [&str; 30] = [
    "plain",
    "a//b",
    "//lead",
    "/lead",
    "trail/",
    "trail//",
    "..up",
    "a/../b",
    "a/./b",
    "a/..",
    ".",
    "%41",
    "%2F",
    "%2e%2e/x",
    "a%",
    "a+b",
    "a b",
    " ",
    "a&b=c",
    "a?b",
    "a#b",
    "a;b",
    "ümlaut/日本語/🔑",
    "e\u{301}",
    "<xml attr=\"'\">&amp;",
    "back\\slash",
    "~tilde*(star)",
    "colon:at@comma,dollar$",
    "\"quotes\"",
    "line\u{2028}separator",
];

fn listed(listing: &str) -> Vec<String> {
    let entries = listing.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
    entries.map(|(key, _)| unescaped(key)).collect()
}

#[tokio::test]
async fn every_key_comes_back_as_it_was_and_is_itself_alone() {
    let world = World::new().await;
    for key in KEYS {
        world.s3.put(BUCKET, key, format!("content of {key}")).await.ok();
    }
    let mut expected: Vec<String> = KEYS.iter().map(|key| (*key).to_owned()).collect();
    expected.sort();
    assert_eq!(world.store.keys(BUCKET), expected);
    for key in KEYS {
        assert_eq!(world.s3.get(BUCKET, key).await.ok().text(), format!("content of {key}"), "{key:?}");
        world.s3.head(BUCKET, key).await.ok();
        assert_eq!(world.s3.get_range(BUCKET, key, "bytes=0-6").await.ok().text(), "content", "{key:?}");
    }
    let listing = world.s3.list(BUCKET, &[("list-type", "2")]).await.ok().text();
    assert_eq!(listed(&listing), expected);
    for key in KEYS {
        let listing = world.s3.list(BUCKET, &[("list-type", "2"), ("prefix", key)]).await.ok().text();
        assert!(listed(&listing).contains(&key.to_owned()), "{key:?}: {listing}");
        world.s3.ask(Method::DELETE, BUCKET, key).send().await.ok();
        world.s3.get(BUCKET, key).await.fails(404, "NoSuchKey");
    }
    assert!(world.store.keys(BUCKET).is_empty());
}

#[tokio::test]
async fn url_encoded_listings_decode_to_the_keys() {
    let world = World::new().await;
    for key in KEYS {
        world.s3.put(BUCKET, key, "x").await.ok();
    }
    let listing = world.s3.list(BUCKET, &[("list-type", "2"), ("encoding-type", "url")]).await.ok().text();
    let decode = |key: &String| percent_encoding::percent_decode_str(key).decode_utf8().expect("UTF-8").into_owned();
    let keys: Vec<String> = listed(&listing).iter().map(decode).collect();
    assert_eq!(keys, world.store.keys(BUCKET));
}

#[tokio::test]
async fn buckets_may_stand_in_the_host() {
    let world = World::new().await;
    let s3 = S3 { host: format!("{BUCKET}.s3.test"), ..world.s3.clone() };
    // The path is the key; what the harness calls a bucket is its first piece.
    s3.put("folder", "../object", "by host").await.ok();
    assert_eq!(world.store.keys(BUCKET), ["folder/../object"]);
    assert_eq!(world.s3.get(BUCKET, "folder/../object").await.ok().text(), "by host");
}

#[tokio::test]
async fn a_key_does_not_lead_out_of_its_bucket() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    let before = world.store.buckets().len();
    world.store.take_whole_log();
    for key in ["..", "../claviger-state/branch/x", "a/../../claviger-state/branch/x", "a\\..\\..\\records\\object"] {
        for method in [Method::PUT, Method::GET, Method::DELETE] {
            let answer = world.s3.ask(method, BUCKET, key).body("x").send().await;
            assert!(answer.fails(400, "InvalidArgument").text().contains("leads out of the bucket"), "{key}");
        }
        for parameter in ["prefix", "start-after", "continuation-token"] {
            world.s3.list(BUCKET, &[("list-type", "2"), (parameter, key)]).await.fails(400, "InvalidArgument");
        }
        world.s3.list(BUCKET, &[("marker", key)]).await.fails(400, "InvalidArgument");
        let document = format!("<Delete><Object><Key>{key}</Key></Object></Delete>");
        let ask = world.s3.ask(Method::POST, BUCKET, "").query_text("delete").body(document);
        ask.send().await.fails(400, "InvalidArgument");
    }
    assert!(world.store.take_whole_log().is_empty(), "a request reached the storage server");
    assert_eq!(world.store.buckets().len(), before);
}

#[tokio::test]
async fn names_that_cannot_be() {
    let world = World::new().await;
    world.s3.put(BUCKET, &"k".repeat(1024), "x").await.ok();
    world.s3.put(BUCKET, &"k".repeat(1025), "x").await.fails(400, "KeyTooLongError");
    for key in ["a\0b", "\0"] {
        world.s3.put(BUCKET, key, "x").await.fails(400, "InvalidArgument");
    }
    for bucket in ["ab", "UPPER", "under_score", "white space", "-lead", "b".repeat(64).as_str(), "..", "."] {
        let answer = world.s3.put(bucket, "key", "x").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "InvalidBucketName"), "{bucket}: {answer:?}");
    }
    assert_eq!(world.store.keys(BUCKET).len(), 1);
}
