//! Conditional requests hold for the ETags that clients see.

use http::Method;

use crate::harness::{BUCKET, World, noise};

#[tokio::test]
async fn reads_by_etag() {
    let world = World::new().await;
    for size in [0, 1000, 200_000] {
        let etag = world.s3.put(BUCKET, "object", noise(size, 1)).await.ok().header("etag").to_owned();
        let listed = world.s3.list(BUCKET, &[]).await.ok().text();
        assert!(listed.contains(etag.trim_matches('"')), "{listed}");
        for method in [Method::GET, Method::HEAD] {
            let ask = |name: &str, value: &str| {
                let ask = world.s3.ask(method.clone(), BUCKET, "object").header(name, value).send();
                async move { ask.await.status }
            };
            for same in [etag.as_str(), etag.trim_matches('"'), "*", &format!("\"other\", {etag}")] {
                assert_eq!(ask("if-match", same).await, 200, "{method} {size} If-Match {same}");
                assert_eq!(ask("if-none-match", same).await, 304, "{method} {size} If-None-Match {same}");
            }
            for other in ["\"other\"", "\"00000000000000000000000000000000-0\"", &etag.replace("-0\"", "\"")] {
                let bare = !other.contains("-0") && other.len() > 30;
                assert_eq!(ask("if-match", other).await, if bare { 200 } else { 412 }, "{method} {size} {other}");
            }
        }
        let answer = world.s3.ask(Method::GET, BUCKET, "object").header("if-none-match", &etag).send().await;
        assert_eq!((answer.header("etag"), answer.body.len()), (etag.as_str(), 0));
    }
}

#[tokio::test]
async fn ranges_by_etag_cold_and_warm() {
    let world = World::new().await;
    let body = noise(200_000, 1);
    let etag = world.s3.put(BUCKET, "object", body.clone()).await.ok().header("etag").to_owned();
    for _ in 0..2 {
        let ask = |value: &str| {
            let ask = world.s3.ask(Method::GET, BUCKET, "object").header("range", "bytes=10-19");
            ask.header("if-match", value).send()
        };
        ask("\"other\"").await.fails(412, "PreconditionFailed");
        assert!(*ask(&etag).await.ok().body == body[10..20]);
    }
}

#[tokio::test]
async fn reads_by_date() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    for (name, past, future) in [("if-modified-since", 200, 304), ("if-unmodified-since", 412, 200)] {
        for (date, status) in [("Sun, 09 Sep 2001 01:46:40 GMT", past), ("Fri, 01 Jan 2100 00:00:00 GMT", future)] {
            let answer = world.s3.ask(Method::GET, BUCKET, "object").header(name, date).send().await;
            assert_eq!(answer.status, status, "{name} {date}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn writes_by_etag() {
    let world = World::new().await;
    for size in [10, 200_000] {
        let put = |name: &str, value: &str| {
            let ask = world.s3.ask(Method::PUT, BUCKET, "object").body(noise(size, 1)).header(name, value);
            ask.send()
        };
        let etag = put("if-none-match", "*").await.ok().header("etag").to_owned();
        put("if-none-match", "*").await.fails(412, "PreconditionFailed");
        put("if-match", "\"other\"").await.fails(412, "PreconditionFailed");
        let second = put("if-match", &etag).await.ok().header("etag").to_owned();
        put("if-match", &etag).await.fails(412, "PreconditionFailed");
        let delete = |value: &str| world.s3.ask(Method::DELETE, BUCKET, "object").header("if-match", value).send();
        delete(&etag).await.fails(412, "PreconditionFailed");
        delete(&second).await.ok();
        assert!(world.store.keys(BUCKET).is_empty());
    }
}
