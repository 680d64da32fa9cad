//! Peers that send junk, too much, or nothing: they get an error or the end of their connection, and nobody else is harmed.

use std::time::{Duration, Instant};

use claviger::net::listener::ListenerLimits;
use http::Method;

use crate::cutting_off::reading;
use crate::harness::client::Ask;
use crate::harness::raw::{Raw, head_of};
use crate::harness::{BUCKET, LONG, Setup, World, noise};

async fn still_serves(world: &World) {
    world.s3.put(BUCKET, "still", "here").await.ok();
    assert_eq!(world.s3.get(BUCKET, "still").await.ok().text(), "here");
}

#[tokio::test]
async fn oversize_heads() {
    let world = World::new().await;
    let filler = format!("x-filler: {}\r\n", "x".repeat(1000));
    for head in [
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(200_000)),
        format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(200_000)),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", filler.repeat(120)),
        format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: 1\r\n".repeat(1000)),
    ] {
        let mut raw = Raw::connect(world.proxy.address).await;
        raw.send(head.as_bytes()).await;
        let (answer, closed) = raw.rest(LONG).await;
        // The rest of what was sent may turn the close into a reset, which takes the answer with it.
        let refused = answer.starts_with("HTTP/1.1 4") || answer.is_empty();
        assert!(refused && closed, "{}: {answer}", &head[..60]);
    }
    assert!(world.store.take_whole_log().is_empty());
    still_serves(&world).await;
}

#[tokio::test]
async fn ten_thousand_junk_requests() {
    let world = World::new().await;
    let begun = Instant::now();
    let junk: [&[u8]; 12] = [
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /%zz/%00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /records/key?%zz=%ff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PUT /records/key HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"PUT /records/key HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"PUT /records/key HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nauthorization: AWS4-HMAC-SHA256 \xff\xfe\r\n\r\n",
        b"GET http://elsewhere/records/key HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    // A hundred connections at a time, each closed by either side after one request.
    for round in 0..100 {
        let one = |number: usize| {
            let (address, junk) = (world.proxy.address, junk[(round + number) % junk.len()]);
            async move {
                let mut raw = Raw::connect(address).await;
                raw.send(junk).await;
                raw.rest(Duration::from_millis(20)).await.0
            }
        };
        let answers = futures_util::future::join_all((0..100).map(one)).await;
        assert!(answers.iter().all(|answer| !answer.contains("HTTP/1.1 2")), "{answers:?}");
    }
    assert!(begun.elapsed() < 2 * LONG, "{:?}", begun.elapsed());
    assert!(world.store.take_whole_log().is_empty());
    still_serves(&world).await;
}

/// Where two peers could disagree about a body's end, a second request could hide in it.
#[tokio::test]
async fn a_request_hidden_in_the_body_of_another() {
    let world = World::new().await;
    world.s3.put(BUCKET, "victim", "x").await.ok();
    let hidden = head_of("DELETE", &world.s3.ask(Method::DELETE, BUCKET, "victim"), &[]);
    for lines in [
        &["content-length: 5", "transfer-encoding: chunked"][..],
        &["transfer-encoding: chunked", "content-length: 5"],
        &["transfer-encoding: identity", "content-length: 5"],
        &["transfer-encoding: chunked, identity", "content-length: 5"],
        &["content-length: 5", "content-length: 500"],
        &["content-length: 5, 500"],
        &["content-length: +5"],
    ] {
        let ask = world.s3.ask(Method::PUT, BUCKET, "object").payload("UNSIGNED-PAYLOAD");
        let body = format!("5\r\nhello\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
        let mut raw = Raw::connect(world.proxy.address).await;
        raw.send(head_of("PUT", &ask, lines) + &body).await;
        let (answer, _) = raw.rest(Duration::from_millis(300)).await;
        assert!(!answer.contains("HTTP/1.1 2"), "{lines:?}: {answer}");
        assert_eq!(world.store.keys(BUCKET), ["victim"], "{lines:?}");
    }
    let mut raw = Raw::connect(world.proxy.address).await;
    raw.send(hidden).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 204"), "sent openly, it works");
}

fn short_limits() -> Setup {
    let header_timeout = Duration::from_millis(500);
    let limits = ListenerLimits { header_timeout, handshake_timeout: header_timeout, ..ListenerLimits::default() };
    Setup { limits, body_timeout: header_timeout, ..Setup::default() }
}

#[tokio::test]
async fn slow_loris() {
    for tls in [false, true] {
        let world = World::with(Setup { tls, ..short_limits() }).await;
        let begun = Instant::now();
        let mut silent = Raw::connect(world.proxy.address).await;
        let mut slow = Raw::connect(world.proxy.address).await;
        let trickle = async {
            for byte in b"GET /records/object HTTP/1.1\r\nhost: x\r\nx-slow: 1234567890123456789012345678901234567890" {
                if !slow.send([*byte]).await {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            slow.rest(LONG).await
        };
        let (trickled, (_, closed)) = tokio::join!(trickle, silent.rest(LONG));
        assert!(trickled.1 && closed && begun.elapsed() < LONG, "{:?}", begun.elapsed());
        still_serves(&world).await;
    }
}

#[tokio::test]
async fn a_body_that_trickles_to_a_stop() {
    let world = World::with(short_limits()).await;
    for size in [1000, 200_000] {
        let ask = world.s3.ask(Method::PUT, BUCKET, "object").payload("UNSIGNED-PAYLOAD");
        let mut raw = Raw::connect(world.proxy.address).await;
        raw.send(head_of("PUT", &ask, &[&format!("content-length: {size}")])).await;
        for _ in 0..4 {
            raw.send(noise(10, 1)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (answer, _) = raw.rest(LONG).await;
        assert!(answer.contains("<Code>RequestTimeout</Code>"), "{answer}");
    }
    assert!(world.store.keys(BUCKET).is_empty());
}

#[tokio::test]
async fn documents_that_are_none() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    let entity = "<!DOCTYPE d [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><Delete><Object><Key>&b;</Key></Object></Delete>";
    let deep = "<Delete>".repeat(10_000);
    let entry = "<Object><Key>k</Key></Object>";
    let many = format!("<Delete>{}</Delete>", entry.repeat(1001));
    let documents = [
        "",
        "<",
        "<Delete>",
        "<Delete></Delete>",
        "<Delete><Object></Object></Delete>",
        "<Delete><Object><Key>object</Key></Object>",
        "<Delete><Object><Key>object</Key></Object></Delet>",
        "<Delete><Object><Key>object</Key></Object></Delete><Delete/>",
        "<Other><Object><Key>object</Key></Object></Other>",
        "<Delete><Object><Key>object</Key><NewThing/></Object></Delete>",
        "<Delete><Object><Key>object</Key><Size>x</Size></Object></Delete>",
        "{\"Delete\": []}",
        "\u{0}",
        entity,
        &deep,
        &many,
    ];
    for document in documents {
        let ask = world.s3.ask(Method::POST, BUCKET, "").query_text("delete").body(document.to_owned());
        let answer = ask.send().await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "MalformedXML"), "{:.60}: {answer:?}", document);
    }
    for document in ["<CreateBucketConfiguration>", "<Other/>", "junk"] {
        world.s3.ask(Method::PUT, "new-bucket", "").body(document).send().await.fails(400, "MalformedXML");
    }
    assert_eq!(world.store.keys(BUCKET), ["object"]);
    assert!(world.store.keys("new-bucket").is_empty());
}

#[tokio::test]
async fn numbers_at_their_limits() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    for size in [0, 1 << 30, 5 << 40, u64::MAX / 2, u64::MAX] {
        let document = format!("<Delete><Object><Key>other</Key><Size>{size}</Size></Object></Delete>");
        let answer = world.s3.ask(Method::POST, BUCKET, "").query_text("delete").body(document).send().await;
        assert!(answer.status == 200 || answer.status == 400, "{size}: {answer:?}");
    }
    for range in ["bytes=0-18446744073709551615", "bytes=18446744073709551615-", "bytes=-18446744073709551615"] {
        let answer = world.s3.get_range(BUCKET, "object", range).await;
        assert!(matches!(answer.status, 206 | 416), "{range}: {answer:?}");
    }
    for most in ["0", "1", "1000", "1001", "2147483647"] {
        world.s3.list(BUCKET, &[("list-type", "2"), ("max-keys", most)]).await.ok();
    }
    for most in ["x", "99999999999999999999", "1.5"] {
        world.s3.list(BUCKET, &[("list-type", "2"), ("max-keys", most)]).await.fails(400, "InvalidArgument");
    }
}

/// Sends a body without end to an operation with a small document, and gives what came back.
async fn flood(world: &World, method: &str, ask: Ask) -> String {
    let ask = ask.payload("UNSIGNED-PAYLOAD");
    let mut raw = Raw::connect(world.proxy.address).await;
    raw.send(head_of(method, &ask, &["content-length: 4000000000"])).await;
    let piece = noise(64 << 10, 1);
    for _ in 0..40 {
        if !raw.send(&piece).await {
            break;
        }
    }
    raw.rest(LONG).await.0
}

#[tokio::test]
async fn huge_bodies_where_a_small_document_belongs() {
    let world = World::new().await;
    for (method, ask) in [
        ("POST", world.s3.ask(Method::POST, BUCKET, "").query_text("delete")),
        ("PUT", world.s3.ask(Method::PUT, BUCKET, "").query_text("policy")),
        ("PUT", world.s3.ask(Method::PUT, "new-bucket", "")),
        ("PUT", world.s3.ask(Method::PUT, BUCKET, "object").query_text("tagging")),
    ] {
        let answer = flood(&world, method, ask).await;
        assert!(answer.contains("<Code>MaxMessageLengthExceeded</Code>"), "{answer}");
    }
    assert!(world.store.take_log().is_empty());
}

#[tokio::test]
async fn more_requests_than_are_served_at_a_time_are_told_to_slow_down() {
    let world = World::with(Setup { max_requests: 1, ..Setup::default() }).await;
    let ask = world.s3.ask(Method::PUT, BUCKET, "object").payload("UNSIGNED-PAYLOAD");
    let mut raw = Raw::connect(world.proxy.address).await;
    raw.send(head_of("PUT", &ask, &["content-length: 10", "expect: 100-continue"])).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 100"));
    let refused = world.s3.get(BUCKET, "object").await.fails(503, "SlowDown");
    assert!(!refused.header("retry-after").is_empty());
    raw.send("0123456789").await;
    assert!(raw.head().await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.s3.get(BUCKET, "object").await.ok().text(), "0123456789");
}

#[tokio::test]
async fn an_answer_that_streams_holds_its_place_until_it_was_sent() {
    let world = World::with(Setup { max_requests: 1, ..Setup::default() }).await;
    let (body, gate, running) = reading(&world).await;
    world.s3.head(BUCKET, "object").await.fails(503, "");
    world.s3.list(BUCKET, &[]).await.fails(503, "SlowDown");
    gate.add_permits(10);
    assert!(running.await.expect("no panic").ok().body == body);
    for _ in 0..2 {
        // The place is free once the connection is done with the body, also when the client has hung up.
        let begun = Instant::now();
        while world.s3.list(BUCKET, &[]).await.status != 200 {
            assert!(begun.elapsed() < LONG, "the place stays taken");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (_, _gate, running) = reading(&world).await;
        running.abort();
    }
}
