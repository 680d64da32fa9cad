//! Copies: what comes of them, and that no data moves through the proxy where the storage server can copy.

mod attacks;
mod customer_keys;
mod multipart;
mod policy;

use bytes::Bytes;
use http::Method;

use crate::harness::client::Ask;
use crate::harness::proxy::{bucket_rule, key_rule};
use crate::harness::store::Instead;
use crate::harness::{Answer, BUCKET, Reply, S3, Setup, World, noise};

/// A bucket under another KEK.
const OTHER: &str = "tenant-records";
/// More than the documents and tails of a copy take, less than any object that is long.
const NO_DATA: usize = 4000;

/// A request to copy `from`, percent-encoded, to `key`.
fn ask(s3: &S3, from: &str, bucket: &str, key: &str) -> Ask {
    s3.ask(Method::PUT, bucket, key).header("x-amz-copy-source", from)
}

async fn copy(s3: &S3, from: &str, bucket: &str, key: &str) -> Answer {
    ask(s3, from, bucket, key).send().await
}

fn setup() -> Setup {
    Setup { rules: vec![bucket_rule(OTHER, "tenant-physical", key_rule("other"))], ..Setup::default() }
}

async fn world(setup: Setup) -> World {
    let world = World::with(setup).await;
    world.store.create("tenant-physical");
    world
}

async fn put_described(s3: &S3, key: &str, body: Bytes) -> Answer {
    let ask = s3.ask(Method::PUT, BUCKET, key).body(body).header("content-type", "text/csv");
    ask.header("x-amz-meta-owner", "alice").header("cache-control", "no-store").send().await.ok()
}

const SIZES: [usize; 6] = [0, 1, 65_536, 65_537, 200_000, (6 << 20) + 1];

/// Copies an object of each size and reads it back; bytes that moved through the proxy go to `moved`.
async fn copies_of_every_size(world: &World, moved: impl Fn(usize, usize)) {
    for size in SIZES {
        let body = noise(size, size as u64);
        let written = put_described(&world.s3, "from", body.clone()).await;
        for (bucket, key, kek) in [(BUCKET, "to", "demo"), (OTHER, "to/öther key?+", "other")] {
            world.store.take_traffic();
            let copied = copy(&world.s3, "records/from", bucket, key).await.ok();
            let traffic = world.store.take_traffic();
            moved(size, traffic.received.max(traffic.sent));
            assert_eq!(copied.header("x-amz-server-side-encryption-aws-kms-key-id"), kek);
            let (_proxy, fresh) = world.fresh_with(setup()).await;
            let ask = fresh.ask(Method::GET, bucket, key).header("x-amz-checksum-mode", "ENABLED");
            let read = ask.send().await.ok();
            assert!(read.body == body, "{size} {bucket}");
            for (name, value) in [("content-type", "text/csv"), ("x-amz-meta-owner", "alice")] {
                assert_eq!(read.header(name), value, "{size} {bucket}");
            }
            assert_eq!(read.header("cache-control"), "no-store");
            assert_eq!(copied.leaf("ETag"), read.header("etag"), "{size} {bucket}");
            let crc = written.header("x-amz-checksum-crc64nvme");
            assert_eq!(copied.leaf("ChecksumCRC64NVME"), crc, "{size} {bucket}");
            assert_eq!(copied.leaf("ChecksumType"), "FULL_OBJECT");
            let known = fresh.head(bucket, key).await.ok();
            assert_eq!(known.header("content-length"), size.to_string());
            assert!(copied.leaf("LastModified").ends_with("Z"), "{copied:?}");
        }
    }
}

#[tokio::test]
async fn the_storage_server_copies_and_no_data_moves() {
    let world = world(setup()).await;
    copies_of_every_size(&world, |size, moved| assert!(moved < NO_DATA, "{size}: {moved}")).await;
}

#[tokio::test]
async fn where_it_shall_not_or_cannot_the_proxy_copies() {
    let world_of = world(Setup { copies: (false, 5 << 30), ..setup() }).await;
    copies_of_every_size(&world_of, |size, moved| assert!(moved >= size)).await;
    let log = world_of.store.take_log();
    assert!(log.iter().all(|seen| seen.header("x-amz-copy-source").is_none()), "it was asked all the same");
    let world = world(setup()).await;
    world.store.quirks().lacks_copies = true;
    copies_of_every_size(&world, |size, moved| assert!(moved >= size)).await;
}

#[tokio::test]
async fn long_objects_are_copied_in_pieces() {
    let world = world(Setup { copies: (true, 5 << 20), ..setup() }).await;
    let body = noise(11 << 20, 1);
    put_described(&world.s3, "from", body.clone()).await;
    world.store.before(|seen| seen.has("tagging").then(|| Instead::Answer(Reply::error(501, "NotImplemented"))));
    world.store.take_traffic();
    world.store.take_log();
    let copied = copy(&world.s3, "records/from", OTHER, "to").await.ok();
    let traffic = world.store.take_traffic();
    assert!(traffic.received.max(traffic.sent) < NO_DATA, "{traffic:?}");
    let pieces = world.store.take_log().iter().filter(|seen| seen.has("partNumber")).count();
    assert_eq!(pieces, 3);
    let read = world.s3.get(OTHER, "to").await.ok();
    assert!(read.body == body);
    assert_eq!((read.header("content-type"), read.header("etag")), ("text/csv", copied.leaf("ETag").as_str()));
    // Conditions on the destination hold for the completion, too, and what was begun is given up.
    let ask = ask(&world.s3, "records/from", OTHER, "to").header("if-none-match", "*");
    ask.send().await.fails(412, "PreconditionFailed");
    assert!(world.store.uploads().is_empty());
}

#[tokio::test]
async fn a_piece_that_fails_leaves_nothing() {
    let world = world(Setup { copies: (true, 5 << 20), ..setup() }).await;
    put_described(&world.s3, "from", noise(11 << 20, 1)).await;
    world.store.before(|seen| {
        let document = "\n<Error><Code>InternalError</Code><Message>late</Message></Error>";
        (seen.value("partNumber") == Some("2")).then(|| Instead::Answer(Reply::xml(200, document)))
    });
    copy(&world.s3, "records/from", BUCKET, "to").await.fails(500, "InternalError");
    assert!(world.store.uploads().is_empty() && world.store.object(BUCKET, "to").is_none());
}

#[tokio::test]
async fn whoever_lost_the_keys_completes_no_pieces() {
    let world = world(Setup { copies: (true, 5 << 20), ..setup() }).await;
    put_described(&world.s3, "from", noise(11 << 20, 1)).await;
    let keys = world.proxy.keys.clone();
    world.store.before(move |seen| {
        if seen.value("partNumber") == Some("2") {
            keys.revoke(&claviger::custody::keys::Revocation::All);
        }
        None
    });
    copy(&world.s3, "records/from", BUCKET, "to").await.fails(503, "ServiceUnavailable");
    assert!(world.store.uploads().is_empty() && world.store.object(BUCKET, "to").is_none());
}

#[tokio::test]
async fn metadata_is_the_sources_or_the_requests() {
    for server_side in [true, false] {
        let world = world(Setup { copies: (server_side, 5 << 30), ..setup() }).await;
        put_described(&world.s3, "from", noise(100_000, 1)).await;
        let ask = |directive: &str| {
            let ask = ask(&world.s3, "records/from", BUCKET, "to").header("x-amz-metadata-directive", directive);
            ask.header("content-type", "image/png").header("x-amz-meta-new", "1").send()
        };
        ask("COPY").await.ok();
        let head = world.s3.head(BUCKET, "to").await.ok();
        assert_eq!((head.header("content-type"), head.header("x-amz-meta-owner")), ("text/csv", "alice"));
        assert_eq!((head.header("x-amz-meta-new"), head.header("cache-control")), ("", "no-store"));
        ask("REPLACE").await.ok();
        let head = world.s3.head(BUCKET, "to").await.ok();
        assert_eq!((head.header("content-type"), head.header("x-amz-meta-owner")), ("image/png", ""));
        assert_eq!((head.header("x-amz-meta-new"), head.header("cache-control")), ("1", ""));
        ask("replace").await.fails(400, "InvalidArgument");
    }
}

#[tokio::test]
async fn onto_itself_something_has_to_change() {
    let world = world(setup()).await;
    let body = noise(100_000, 1);
    put_described(&world.s3, "from", body.clone()).await;
    let onto_itself = || ask(&world.s3, "records/from", BUCKET, "from");
    let refused = onto_itself().send().await.fails(400, "InvalidRequest");
    assert!(refused.text().contains("without changing the object"), "{}", refused.text());
    for (name, value) in [
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-server-side-encryption", "AES256"),
    ] {
        world.store.take_traffic();
        onto_itself().header(name, value).send().await.ok();
        let traffic = world.store.take_traffic();
        assert!(traffic.received.max(traffic.sent) < NO_DATA, "{name}: {traffic:?}");
        assert!(world.s3.get(BUCKET, "from").await.ok().body == body, "{name}");
    }
    let read = world.s3.head(BUCKET, "from").await.ok();
    assert_eq!(read.header("x-amz-server-side-encryption"), "AES256");
    assert_eq!(read.header("content-type"), "binary/octet-stream", "it was replaced by nothing");
}

#[tokio::test]
async fn another_checksum_is_computed_and_a_kept_one_is_not() {
    let world = world(setup()).await;
    put_described(&world.s3, "from", noise(100_000, 1)).await;
    let ask = |algorithm: &str| {
        ask(&world.s3, "records/from", BUCKET, "to").header("x-amz-checksum-algorithm", algorithm).send()
    };
    world.store.take_traffic();
    let same = ask("CRC64NVME").await.ok();
    assert!(!same.leaf("ChecksumCRC64NVME").is_empty() && world.store.take_traffic().received < NO_DATA);
    let other = ask("SHA256").await.ok();
    assert!(world.store.take_traffic().received > 100_000);
    let kept = world.s3.ask(Method::HEAD, BUCKET, "to").header("x-amz-checksum-mode", "ENABLED").send().await.ok();
    assert_eq!(
        (other.leaf("ChecksumSHA256").as_str(), other.leaf("ChecksumSHA256").len()),
        (kept.header("x-amz-checksum-sha256"), 44)
    );
    ask("ROT13").await.fails(400, "InvalidArgument");
}

#[tokio::test]
async fn conditions_on_the_source_hold_for_the_etags_that_clients_see() {
    for (copies, size) in [(true, 100_000), (false, 100_000), (true, 0)] {
        let world = world(Setup { copies: (copies, 5 << 30), ..setup() }).await;
        let etag = put_described(&world.s3, "from", noise(size, 1)).await.header("etag").to_owned();
        let (past, future) = ("Sun, 09 Sep 2001 01:46:40 GMT", "Fri, 01 Jan 2100 00:00:00 GMT");
        for (name, value, status) in [
            ("if-match", etag.as_str(), 200),
            ("if-match", etag.trim_matches('"'), 200),
            ("if-match", "\"other\"", 412),
            ("if-none-match", "\"other\"", 200),
            ("if-none-match", &etag, 412),
            ("if-modified-since", past, 200),
            ("if-modified-since", future, 412),
            ("if-unmodified-since", past, 412),
            ("if-unmodified-since", future, 200),
        ] {
            let ask = ask(&world.s3, "records/from", BUCKET, "to");
            let answer = ask.header(&format!("x-amz-copy-source-{name}"), value).send().await;
            assert_eq!(answer.status, status, "{name} {value}: {answer:?}");
            if status == 412 {
                assert_eq!(answer.code(), "PreconditionFailed");
            }
        }
    }
}

#[tokio::test]
async fn conditions_on_the_destination_hold() {
    for copies in [true, false] {
        let world = world(Setup { copies: (copies, 5 << 30), ..setup() }).await;
        put_described(&world.s3, "from", noise(100_000, 1)).await;
        let ask = |name: &str, value: &str| ask(&world.s3, "records/from", BUCKET, "to").header(name, value).send();
        ask("if-match", "*").await.fails(404, "NoSuchKey");
        let etag = ask("if-none-match", "*").await.ok().leaf("ETag");
        ask("if-none-match", "*").await.fails(412, "PreconditionFailed");
        ask("if-match", "\"other\"").await.fails(412, "PreconditionFailed");
        ask("if-match", &etag).await.ok();
    }
}

#[tokio::test]
async fn versions_are_copied_by_their_id() {
    for copies in [true, false] {
        let world = world(Setup { copies: (copies, 5 << 30), ..setup() }).await;
        world.store.keep_versions(BUCKET);
        let old = put_described(&world.s3, "from", noise(100_000, 1)).await.header("x-amz-version-id").to_owned();
        world.s3.put(BUCKET, "from", noise(90_000, 2)).await.ok();
        let source = format!("records/from?versionId={old}");
        let copied = copy(&world.s3, &source, OTHER, "to").await.ok();
        assert_eq!(copied.header("x-amz-copy-source-version-id"), old);
        assert!(world.s3.get(OTHER, "to").await.ok().body == noise(100_000, 1));
        // Onto itself an older version is a change.
        let restored = copy(&world.s3, &source, BUCKET, "from").await.ok();
        assert!(!restored.header("x-amz-version-id").is_empty());
        assert!(world.s3.get(BUCKET, "from").await.ok().body == noise(100_000, 1));
        let deleted = world.s3.ask(Method::DELETE, BUCKET, "from").send().await.ok();
        let marker = deleted.header("x-amz-version-id").to_owned();
        let refused = copy(&world.s3, &format!("records/from?versionId={marker}"), BUCKET, "to").await;
        assert!(refused.fails(400, "InvalidRequest").text().contains("delete marker"));
        copy(&world.s3, "records/from", BUCKET, "to").await.fails(404, "NoSuchKey");
    }
}

#[tokio::test]
async fn tags_go_along_or_are_replaced() {
    let world = world(setup()).await;
    put_described(&world.s3, "from", noise(1000, 1)).await;
    let headers_of = |ask: Ask| async {
        world.store.take_log();
        ask.send().await.ok();
        let log = world.store.take_log();
        let write = log.into_iter().rfind(|seen| seen.is(Method::PUT, "to")).expect("it was written");
        let header = |name: &str| write.header(name).unwrap_or_default().to_owned();
        (header("x-amz-tagging-directive"), header("x-amz-tagging"))
    };
    let plain = || ask(&world.s3, "records/from", BUCKET, "to").header("x-amz-tagging", "a=new");
    assert_eq!(headers_of(plain()).await, (String::new(), String::new()));
    let replaced = plain().header("x-amz-tagging-directive", "REPLACE");
    assert_eq!(headers_of(replaced).await, ("REPLACE".into(), "a=new".into()));
    plain().header("x-amz-tagging-directive", "MERGE").send().await.fails(400, "InvalidArgument");
    // Through the proxy, the source's tags are asked for.
    world.store.quirks().lacks_copies = true;
    assert_eq!(headers_of(plain()).await, (String::new(), String::new()));
    world.store.before(|seen| {
        let tags = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag></TagSet></Tagging>";
        (seen.method == Method::GET && seen.has("tagging")).then(|| Instead::Answer(Reply::xml(200, tags)))
    });
    assert_eq!(headers_of(plain()).await.1, "a%20b=1%262");
    let replaced = plain().header("x-amz-tagging-directive", "REPLACE");
    assert_eq!(headers_of(replaced).await.1, "a=new");
}
