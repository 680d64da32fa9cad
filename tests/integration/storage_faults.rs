//! A storage server that is down, slow, full, or talks nonsense: the right error, nothing in half, no hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;

use crate::harness::store::Instead;
use crate::harness::verdict::{Verdict, judge};
use crate::harness::{Answer, BUCKET, Ending, Proxy, Reply, Setup, World, noise, until};

fn impatient() -> Setup {
    let short = Duration::from_millis(500);
    Setup { head_timeout: short, storage_body_timeout: short, ..Setup::default() }
}

/// All kinds of requests, small and large, at the same time.
async fn every_request(world: &World) -> Vec<(&'static str, Answer)> {
    let of = |method: Method| world.s3.ask(method, BUCKET, "object");
    let document = "<Delete><Object><Key>object</Key></Object></Delete>";
    let asks = [
        ("get", of(Method::GET)),
        ("range", of(Method::GET).header("range", "bytes=0-9")),
        ("head", of(Method::HEAD)),
        ("small put", of(Method::PUT).body(noise(10, 1))),
        ("large put", of(Method::PUT).body(noise(300_000, 1))),
        ("delete", of(Method::DELETE)),
        ("tags", of(Method::GET).query_text("tagging")),
        ("list", world.s3.ask(Method::GET, BUCKET, "").query_text("list-type=2")),
        ("delete many", world.s3.ask(Method::POST, BUCKET, "").query_text("delete").body(document)),
        ("buckets", world.s3.ask(Method::GET, "", "")),
    ];
    futures_util::future::join_all(asks.map(|(what, ask)| async move { (what, ask.send().await) })).await
}

#[tokio::test]
async fn down() {
    let world = World::new().await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let storage = Some(free.local_addr().expect("bound"));
    drop(free);
    let proxy = Proxy::start(&world.store, Setup { storage, ..Setup::default() }).await;
    let world = World { s3: proxy.s3(), store: world.store, proxy };
    for (what, answer) in every_request(&world).await {
        assert_eq!(answer.status, 503, "{what}: {answer:?}");
        assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{what}: {answer:?}");
        assert!(what == "head" || answer.code() == "ServiceUnavailable", "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn silent() {
    let world = World::with(impatient()).await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    world.store.before(|_| Some(Instead::Pause(Duration::from_secs(600))));
    let begun = Instant::now();
    for (what, answer) in every_request(&world).await {
        assert_eq!(answer.status, 503, "{what}: {answer:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    world.store.honest();
    assert_eq!(world.s3.get(BUCKET, "object").await.ok().text(), "x");
}

#[tokio::test]
async fn answering_500_or_503_to_everything() {
    for (status, code) in [(500, "InternalError"), (503, "SlowDown"), (502, "BadGateway"), (504, "Timeout")] {
        let world = World::new().await;
        world.s3.put(BUCKET, "object", "x").await.ok();
        let before = world.store.object(BUCKET, "object").expect("stored").body;
        world.store.before(move |_| Some(Instead::Answer(Reply::error(status, code))));
        for (what, answer) in every_request(&world).await {
            assert_eq!(answer.status, status, "{what}: {answer:?}");
            assert!(what == "head" || answer.code() == code, "{what}: {answer:?}");
            assert!(!answer.header("retry-after").is_empty(), "{what}: {answer:?}");
        }
        assert_eq!(world.store.object(BUCKET, "object").expect("still there").body, before);
    }
}

#[tokio::test]
async fn talking_nonsense() {
    let garbage: [&[u8]; 4] = [
        b"what do you want?\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"\0\x01\x02\x03\x04\x05\x06\x07\x08\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    ];
    for bytes in garbage {
        let world = World::with(Setup { pooled: false, ..Setup::default() }).await;
        world.s3.put(BUCKET, "object", "x").await.ok();
        world.store.garbage(bytes);
        for (what, answer) in every_request(&world).await {
            assert_eq!(answer.status, 500, "{what}: {answer:?}");
            assert!(what == "head" || answer.code() == "InternalError", "{what}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn hanging_up_without_a_word() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    world.store.before(|_| Some(Instead::HangUp));
    for (what, answer) in every_request(&world).await {
        assert!(matches!(answer.status, 500 | 503), "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn hanging_up_or_stalling_in_the_middle_of_an_answer_is_a_cut() {
    let world = World::with(impatient()).await;
    let body = noise(1 << 20, 1);
    world.s3.put(BUCKET, "object", body.clone()).await.ok();
    for ending in [Ending::HangUpAfter(500_000), Ending::PauseAfter(500_000, Duration::from_secs(600))] {
        let shown = ending.clone();
        world.store.after(move |_, reply| reply.ending = shown.clone());
        let answer = world.s3.get(BUCKET, "object").await;
        assert_eq!(judge("broken", &answer, &body), Verdict::Cut);
        assert!(answer.body.len() > 300_000, "what was verified was given: {}", answer.body.len());
        let range = world.s3.get_range(BUCKET, "object", "bytes=1000-999999").await;
        assert_eq!(judge("broken range", &range, &body[1000..1_000_000]), Verdict::Cut);
    }
    world.store.honest();
    assert!(world.s3.get(BUCKET, "object").await.ok().body == body);
}

#[tokio::test]
async fn a_full_disk() {
    let world = World::new().await;
    world.s3.put(BUCKET, "old", "x").await.ok();
    for (status, code) in [(507, "InsufficientStorage"), (500, "InternalError"), (403, "QuotaExceeded")] {
        world
            .store
            .before(move |seen| (seen.method == Method::PUT).then(|| Instead::Answer(Reply::error(status, code))));
        for size in [0, 10, 300_000, 3 << 20] {
            let answer = world.s3.put(BUCKET, "object", noise(size, 1)).await.fails(status, code);
            assert!(answer.text().contains("the store says"), "its own words: {answer:?}");
        }
    }
    assert_eq!(world.store.keys(BUCKET), ["old"]);
}

#[tokio::test]
async fn listings_that_are_none() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    for page in [
        "",
        "junk",
        "<ListBucketResult>",
        "<Other/>",
        "<ListBucketResult><Contents><Key>k</Key><Size>many</Size></Contents></ListBucketResult>",
        "<!DOCTYPE x [<!ENTITY a 'b'>]><ListBucketResult><Name>&a;</Name></ListBucketResult>",
    ] {
        world.store.after(move |_, reply| *reply = Reply::xml(200, page));
        world.s3.list(BUCKET, &[]).await.fails(500, "InternalError");
        world.s3.ask(Method::GET, "", "").send().await.fails(500, "InternalError");
        let document = "<Delete><Object><Key>other</Key></Object></Delete>";
        let ask = world.s3.ask(Method::POST, BUCKET, "").query_text("delete").body(document);
        ask.send().await.fails(500, "InternalError");
    }
    let endless = format!("<ListBucketResult>{}", "<Contents><Key>k</Key><Size>1</Size></Contents>".repeat(250_000));
    world.store.after(move |_, reply| *reply = Reply::xml(200, endless.clone()));
    world.s3.list(BUCKET, &[]).await.fails(500, "InternalError");
}

#[tokio::test]
async fn a_list_of_buckets_without_end() {
    let world = World::new().await;
    let page = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&page);
    world.store.after(move |seen, reply| {
        if !seen.bucket.is_empty() {
            return;
        }
        let number = count.fetch_add(1, Ordering::SeqCst);
        let date = "2026-01-01T00:00:00.000Z".repeat(200);
        let entry =
            |index| format!("<Bucket><Name>b-{number}-{index}</Name><CreationDate>{date}</CreationDate></Bucket>");
        let entries: String = (0..1000).map(entry).collect();
        *reply = Reply::xml(
            200,
            format!(
                "<ListAllMyBucketsResult><Buckets>{entries}</Buckets><ContinuationToken>{number}</ContinuationToken>\
                 </ListAllMyBucketsResult>"
            ),
        );
    });
    let listing = tokio::time::timeout(Duration::from_secs(20), world.s3.ask(Method::GET, "", "").send());
    let answer = listing.await.expect("an end");
    assert_eq!(answer.status, 500, "{:.300}", answer.text());
    assert!(page.load(Ordering::SeqCst) > 1, "pages are followed");
}

#[tokio::test]
async fn the_storage_server_does_not_take_the_proxys_credentials() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    for code in ["SignatureDoesNotMatch", "InvalidAccessKeyId", "RequestTimeTooSkewed"] {
        world.store.before(move |_| Some(Instead::Answer(Reply::error(403, code))));
        world.s3.get(BUCKET, "object").await.fails(500, "InternalError");
        let large = world.s3.put(BUCKET, "object", noise(300_000, 1)).await.fails(500, "InternalError");
        assert!(!large.text().contains(code), "it is not the client's signature: {}", large.text());
    }
}

#[tokio::test]
async fn a_client_that_goes_away_frees_the_storage_server() {
    let world = World::new().await;
    world.s3.put(BUCKET, "warm", "x").await.ok();
    let (sender, body) = tokio::sync::mpsc::channel::<()>(1);
    let stream = futures_util::stream::unfold((0, body), |(step, mut body)| async move {
        if step > 3 {
            let _ = body.recv().await;
            return Some((Err::<http_body::Frame<bytes::Bytes>, _>("gone".into()), (step, body)));
        }
        Some((Ok(http_body::Frame::data(noise(100_000, step))), (step + 1, body)))
    });
    let body = http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(stream));
    let ask = world.s3.ask(Method::PUT, BUCKET, "object").header("content-length", "1000000").stream(body);
    let upload = tokio::spawn(ask.send());
    until("the upload begins", || world.store.take_log().iter().any(|seen| seen.key == "object")).await;
    drop(sender);
    assert_eq!(upload.await.expect("no panic").status, 0);
    until("the storage server sees the end", || world.store.broken_uploads() == 1).await;
    assert_eq!(world.store.keys(BUCKET), ["warm"]);
}

#[tokio::test]
async fn an_archived_object_has_no_size_on_the_storage_servers_word() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", noise(1000, 1)).await.ok();
    // As S3 does with GLACIER: HEAD tells size and class, GET is refused.
    world.store.before(|seen| {
        let refused = seen.is(Method::GET, "object");
        refused.then(|| Instead::Answer(Reply::error(403, "InvalidObjectState")))
    });
    world.store.take_log();
    for proxy in [world.s3.clone(), world.fresh().await.1] {
        let answer = proxy.head(BUCKET, "object").await.fails(403, "");
        assert!(matches!(answer.header("content-length"), "" | "0"), "no size, authenticated or not: {answer:?}");
        proxy.get(BUCKET, "object").await.fails(403, "InvalidObjectState");
        proxy.get_range(BUCKET, "object", "bytes=0-9").await.fails(403, "InvalidObjectState");
    }
    assert!(world.store.take_log().iter().all(|seen| seen.method == Method::GET), "its word is not even asked for");
}
