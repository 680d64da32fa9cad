//! Objects look the same before and after they are encrypted, but for ETag and date.

use bytes::Bytes;
use claviger::maintenance::migrate::Ended;
use http::Method;

use super::{assert_encrypted, assert_readable, before_the_proxy, fresh, go_on, job, migrate, plaintext, seal};
use crate::harness::{BUCKET, S3, Setup, World, noise};

const TOLD: [&str; 6] =
    ["content-length", "content-type", "cache-control", "x-amz-meta-mtime", "content-range", "x-amz-storage-class"];

/// What clients see of an object, without what may change.
async fn seen(s3: &S3, key: &str) -> Vec<(u16, Vec<String>, Bytes)> {
    let ask = |method: Method| s3.ask(method, BUCKET, key);
    let asks = [
        ask(Method::GET),
        ask(Method::HEAD),
        ask(Method::GET).header("range", "bytes=1-65536"),
        ask(Method::GET).header("range", "bytes=5-"),
        ask(Method::GET).header("range", "bytes=-3"),
        ask(Method::GET).header("range", "bytes=1-1,3-3"),
        ask(Method::HEAD).header("range", "bytes=0-0"),
        ask(Method::GET).header("range", "bytes=99999999-"),
        ask(Method::GET).header("range", "bytes=0-1").header("if-range", "\"another\""),
        ask(Method::GET).header("if-none-match", "\"another\""),
        ask(Method::GET).header("if-match", "\"another\""),
        ask(Method::GET).query("response-content-type", "text/x"),
        ask(Method::GET).query_text("attributes").header("x-amz-object-attributes", "ObjectSize,StorageClass"),
    ];
    let mut answers = Vec::new();
    for ask in asks {
        let answer = ask.send().await;
        assert!(!answer.cut, "{answer:?}");
        let failed = answer.status >= 400;
        let told = if failed { &[] } else { &TOLD[..] };
        let headers = told.iter().map(|name| format!("{name}: {}", answer.header(name))).collect();
        answers.push((answer.status, headers, if failed { answer.code().into() } else { answer.body }));
    }
    answers
}

/// Keys and sizes.
async fn sizes(s3: &S3, query: &str) -> Vec<String> {
    let listing = s3.ask(Method::GET, BUCKET, "").query_text(query).send().await.ok().text();
    let entries = listing.split("<Contents>").skip(1).map(|entry| {
        let leaf = |name: &str| entry.split_once(&format!("<{name}>")).expect("there").1.split('<').next();
        format!("{:?} {:?}", leaf("Key"), leaf("Size"))
    });
    entries.collect()
}

#[tokio::test]
async fn listed_objects_are_served_as_they_are_and_then_encrypted() {
    let (world, objects) = before_the_proxy().await;
    world.s3.put(BUCKET, "d/encrypted", noise(1000, 9)).await.ok();
    for (key, _) in &objects {
        fresh(&world).await.get(BUCKET, key).await.fails(403, "InvalidObjectState");
    }
    seal(&job(&world.store)).await.expect("seals");
    let s3 = fresh(&world).await;
    let mut before = Vec::new();
    for (key, body) in &objects {
        assert!(s3.get(BUCKET, key).await.ok().body == *body, "{key}");
        let head = s3.ask(Method::HEAD, BUCKET, key).send().await.ok();
        let same = s3.ask(Method::GET, BUCKET, key).header("if-none-match", head.header("etag")).send().await;
        assert_eq!(same.status, 304, "{key}");
        let ask = s3.ask(Method::GET, BUCKET, key).header("if-match", head.header("etag"));
        assert!(ask.send().await.ok().body == *body, "{key}");
        assert!(!head.headers.contains_key("x-amz-server-side-encryption"), "{head:?}");
        before.push(seen(&s3, key).await);
    }
    let queries = ["list-type=2", "list-type=2&encoding-type=url", "prefix=b&encoding-type=url"];
    let mut listed = Vec::new();
    for query in queries {
        listed.push(sizes(&s3, query).await);
    }
    assert_eq!(listed[0].len(), 6);
    assert!(listed[0].contains(&"Some(\"d/encrypted\") Some(\"1000\")".to_owned()), "{listed:?}");
    let report = go_on(&job(&world.store)).await.expect("goes through");
    assert_eq!(report, (Ended::Closed, 5, 0, Vec::new()));
    assert_encrypted(&world, &objects);
    assert_readable(&world, &objects).await;
    for s3 in [s3, fresh(&world).await] {
        for ((key, _), before) in objects.iter().zip(&before) {
            assert!(seen(&s3, key).await == *before, "{key}");
        }
    }
    // Who refuses reads all as well.
    let (_proxy, refusing) = world.fresh_with(Setup::default()).await;
    for (query, before) in queries.iter().zip(listed) {
        assert_eq!(sizes(&refusing, query).await, before);
    }
}

#[tokio::test]
async fn listed_objects_are_copied_encrypted() {
    let (world, objects) = before_the_proxy().await;
    seal(&job(&world.store)).await.expect("seals");
    let s3 = fresh(&world).await;
    for (number, (key, body)) in objects.iter().enumerate() {
        let copy = format!("copy/{number}");
        let source = format!("/{BUCKET}/{}", key.replace('&', "%26").replace(' ', "%20").replace('ö', "%C3%B6"));
        let source = source.replace('+', "%2B");
        s3.ask(Method::PUT, BUCKET, &copy).header("x-amz-copy-source", &source).send().await.ok();
        let read = s3.get(BUCKET, &copy).await.ok();
        assert!(read.body == *body && read.header("x-amz-meta-mtime") == "1234567.5", "{key}");
        assert_ne!(world.store.object(BUCKET, &copy).expect("there").envelope(), "");
        let begin = s3.ask(Method::POST, BUCKET, "parts").query_text("uploads").send().await.ok();
        let id = begin.leaf("UploadId");
        let part = s3.ask(Method::PUT, BUCKET, "parts").query("partNumber", "1").query("uploadId", &id);
        let part = part.header("x-amz-copy-source", &source);
        if body.len() > 200 {
            let etag = part.header("x-amz-copy-source-range", "bytes=100-200").send().await.ok().leaf("ETag");
            let etag = etag.replace("&quot;", "\"");
            s3.ask_complete((BUCKET, "parts"), &id, &[(1, etag)]).send().await.ok();
            assert!(s3.get(BUCKET, "parts").await.ok().body == body.slice(100..=200), "{key}");
        } else if !body.is_empty() {
            part.header("x-amz-copy-source-range", "bytes=0-200").send().await.fails(416, "InvalidRange");
        }
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_migrated_never_looks_at_a_manifest() {
    let (world, objects) = before_the_proxy().await;
    seal(&job(&world.store)).await.expect("seals");
    let (_proxy, refusing) = world.fresh_with(Setup::default()).await;
    world.store.take_whole_log();
    for (key, _) in &objects {
        refusing.get(BUCKET, key).await.fails(403, "InvalidObjectState");
    }
    refusing.ask(Method::GET, BUCKET, "").send().await.ok();
    let log = world.store.take_whole_log();
    assert!(log.iter().all(|seen| !seen.key.starts_with("manifest/")), "{log:?}");
}

#[tokio::test]
async fn whoever_writes_or_deletes_meanwhile_wins() {
    for in_parts in [true, false] {
        for newcomer in [true, false] {
            let (world, _) = before_the_proxy().await;
            let key = if in_parts { "c/parts" } else { "b/long & ö+" };
            seal(&job(&world.store)).await.expect("seals");
            let there = world.store.object(BUCKET, key).expect("stored");
            world.s3.put(BUCKET, key, noise(77, 77)).await.ok();
            let new = world.store.object(BUCKET, key).expect("stored");
            world.store.plant(BUCKET, key, there);
            let inside = world.store.clone();
            world.store.before(move |seen| {
                let at_once = seen.method == Method::PUT && !seen.has("uploadId");
                let completion = seen.method == Method::POST && seen.has("uploadId");
                if seen.bucket == BUCKET && seen.key == key && (at_once || completion) {
                    if newcomer {
                        inside.plant(BUCKET, key, new.clone());
                    } else {
                        inside.buckets().get_mut(BUCKET).expect("there").remove(key);
                    }
                }
                None
            });
            let report = go_on(&job(&world.store)).await.expect("goes through");
            assert_eq!(report, (Ended::Closed, 4, 1, Vec::new()));
            world.store.honest();
            let read = fresh(&world).await.get(BUCKET, key).await;
            if newcomer {
                assert!(read.ok().body == noise(77, 77));
            } else {
                read.fails(404, "NoSuchKey");
            }
            assert!(world.store.uploads().is_empty());
        }
    }
}

#[tokio::test]
async fn old_versions_stay_and_are_found() {
    let world = World::with(super::migrating()).await;
    world.store.keep_versions(BUCKET);
    world.store.plant(BUCKET, "a", plaintext(noise(1000, 1)));
    let (ended, done, ..) = migrate(&world.store).await;
    assert_eq!((ended, done), (Ended::Closed, 1));
    let (job, mut found) = (job(&world.store), Vec::new());
    assert_eq!(job.find_old_versions(|finding| found.push((finding.key, finding.version))).await.expect("finds"), 1);
    assert_eq!(found, [("a".to_owned(), Some("null".to_owned()))]);
    fresh(&world)
        .await
        .ask(Method::GET, BUCKET, "a")
        .query("versionId", "null")
        .send()
        .await
        .fails(403, "InvalidObjectState");
}

#[tokio::test]
async fn thousands_take_several_pages() {
    let world = World::with(super::migrating()).await;
    for number in 0..2_345 {
        world.store.plant(BUCKET, &format!("k{number:05}"), plaintext(noise(number % 300, number as u64)));
    }
    seal(&job(&world.store)).await.expect("seals");
    let s3 = fresh(&world).await;
    for number in [0, 999, 1000, 2_344] {
        assert!(s3.get(BUCKET, &format!("k{number:05}")).await.ok().body == noise(number % 300, number as u64));
    }
    let report = go_on(&job(&world.store)).await.expect("goes through");
    assert_eq!(report, (Ended::Closed, 2_345, 0, Vec::new()));
    // A second run finds the manifest closed, and a new one is empty.
    assert!(job(&world.store).objects.manifest(&super::name(BUCKET)).await.expect("opens").expect("there").head.done);
    assert_eq!(migrate(&world.store).await, (Ended::Closed, 0, 0, Vec::new()));
    let manifest: Vec<_> =
        world.store.keys("claviger-state").into_iter().filter(|key| key.starts_with("manifest")).collect();
    assert_eq!(manifest.len(), 1, "{manifest:?}");
}

#[tokio::test]
async fn two_machines_share_the_work() {
    let (world, objects) = before_the_proxy().await;
    let (one, other) = (job(&world.store), job(&world.store));
    seal(&one).await.expect("seals");
    let (one, other) = tokio::join!(go_on(&one), go_on(&other));
    let (one, other) = (one.expect("goes through"), other.expect("goes through"));
    assert!(one.3.is_empty() && other.3.is_empty(), "{one:?} {other:?}");
    assert!(one.0 == Ended::Closed || other.0 == Ended::Closed);
    assert_encrypted(&world, &objects);
    assert_readable(&world, &objects).await;
}

#[tokio::test]
async fn keys_that_are_listed_in_no_order_are_put_in_order() {
    let world = World::with(super::migrating()).await;
    for number in 0..1_100 {
        world.store.plant(BUCKET, &format!("k{number:05}"), plaintext(noise(number % 30, number as u64)));
    }
    world.store.shorten_listings(400);
    crate::jobs::checkpoints::list_backwards(&world);
    seal(&job(&world.store)).await.expect("seals");
    world.store.honest();
    let s3 = fresh(&world).await;
    for number in [0, 399, 400, 999, 1_000, 1_099] {
        assert!(
            s3.get(BUCKET, &format!("k{number:05}")).await.ok().body == noise(number % 30, number as u64),
            "{number}"
        );
    }
    assert_eq!(go_on(&job(&world.store)).await.expect("goes through"), (Ended::Closed, 1_100, 0, Vec::new()));
}
