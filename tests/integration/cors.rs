//! Pages of other origins: the storage server's CORS configuration answers, and nothing else of its answer comes through.

use claviger::s3::operation::Access;
use http::{HeaderMap, Method};

use crate::anonymous::anonymous;
use crate::harness::store::Instead;
use crate::harness::{Answer, BUCKET, Reply, STATE, Setup, World, noise};

const PAGE: &str = "https://app.example";

/// A preflight request, as browsers send it.
async fn preflight(world: &World, bucket: &str, key: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut sent = HeaderMap::new();
    sent.insert("host", world.s3.host.parse().expect("ASCII"));
    for (name, value) in headers {
        sent.insert(*name, value.parse().expect("legal"));
    }
    world.s3.ask(Method::OPTIONS, bucket, key).send_with(sent).await
}

fn asking(method: &str) -> [(&'static str, &str); 3] {
    [("origin", PAGE), ("access-control-request-method", method), ("access-control-request-headers", "x-amz-date")]
}

/// A storage server that allows GET to the page, on preflight requests and on others.
async fn world() -> World {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    world.store.before(|seen| {
        let allowed =
            seen.header("origin") == Some(PAGE) && seen.header("access-control-request-method") == Some("GET");
        (seen.method == Method::OPTIONS).then(|| {
            Instead::Answer(match allowed {
                true => Reply::new(200, "body of the store")
                    .header("access-control-allow-origin", PAGE)
                    .header("access-control-allow-methods", "GET")
                    .header("access-control-max-age", "60")
                    .header("access-control-new-thing", "x")
                    .header("set-cookie", "a=b")
                    .header("x-amz-meta-claviger", "envelope")
                    .header("vary", "Origin"),
                false => Reply::error(403, "AccessForbidden"),
            })
        })
    });
    world.store.after(|seen, reply| {
        if seen.header("origin") == Some(PAGE) {
            reply.set("access-control-allow-origin", PAGE);
            reply.set("access-control-expose-headers", "ETag");
            reply.set("vary", "Origin");
        }
    });
    world.store.take_whole_log();
    world
}

#[tokio::test]
async fn preflight_requests_are_answered_by_the_configuration() {
    let world = world().await;
    for key in ["", "object", "folder/new object"] {
        let answer = preflight(&world, BUCKET, key, &asking("GET")).await.ok();
        assert_eq!((answer.status, answer.text().as_str()), (200, ""));
        for (name, value) in [
            ("access-control-allow-origin", PAGE),
            ("access-control-allow-methods", "GET"),
            ("access-control-max-age", "60"),
            ("vary", "Origin"),
            ("set-cookie", ""),
            ("access-control-new-thing", ""),
            ("x-amz-meta-claviger", ""),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
        let seen = world.store.take_whole_log();
        let [seen] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((seen.method.clone(), seen.bucket.as_str(), seen.key.as_str()), (Method::OPTIONS, BUCKET, key));
        assert_eq!(seen.header("access-control-request-headers"), Some("x-amz-date"));
        assert!(seen.header("authorization").is_none() && seen.query.is_empty(), "{seen:?}");
    }
    preflight(&world, BUCKET, "object", &asking("PUT")).await.fails(403, "AccessForbidden");
    preflight(&world, "missing-bucket", "", &asking("PUT")).await.fails(403, "AccessForbidden");
}

#[tokio::test]
async fn what_is_no_preflight_request_goes_nowhere() {
    let world = world().await;
    for headers in [&asking("GET")[..1], &asking("GET")[1..], &[]] {
        preflight(&world, BUCKET, "object", headers).await.fails(400, "InvalidRequest");
    }
    preflight(&world, STATE, "", &asking("GET")).await.fails(404, "NoSuchBucket");
    assert!(world.store.take_whole_log().is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_know_cors_allows_nothing() {
    let world = World::new().await;
    world.store.before(|seen| (seen.method == Method::OPTIONS).then(|| Instead::Answer(Reply::new(200, ""))));
    preflight(&world, BUCKET, "object", &asking("GET")).await.fails(403, "AccessForbidden");
    world
        .store
        .before(|seen| (seen.method == Method::OPTIONS).then(|| Instead::Answer(Reply::error(501, "NotImplemented"))));
    preflight(&world, BUCKET, "object", &asking("GET")).await.fails(501, "NotImplemented");
}

#[tokio::test]
async fn answers_and_errors_carry_what_browsers_ask_for() {
    let world = world().await;
    let ask = |method: Method, key: &str| world.s3.ask(method, BUCKET, key).header("origin", PAGE);
    for answer in [
        ask(Method::GET, "object").send().await.ok(),
        ask(Method::HEAD, "object").send().await.ok(),
        ask(Method::PUT, "new").body("x").send().await.ok(),
        ask(Method::GET, "missing").send().await.fails(404, "NoSuchKey"),
        ask(Method::GET, "object").header("if-match", "\"other\"").send().await.fails(412, "PreconditionFailed"),
        ask(Method::GET, "").send().await.ok(),
        ask(Method::DELETE, "object").send().await.ok(),
    ] {
        assert_eq!(answer.header("access-control-allow-origin"), PAGE, "{answer:?}");
        assert_eq!(answer.header("access-control-expose-headers"), "ETag", "{answer:?}");
        assert_eq!(answer.header("vary"), "Origin", "{answer:?}");
    }
    let elsewhere = world.s3.ask(Method::GET, BUCKET, "missing").send().await.fails(404, "NoSuchKey");
    assert_eq!(elsewhere.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn what_everybody_may_not_says_so_to_pages() {
    let anonymous = anonymous(BUCKET, &[Access::Write]);
    let world = World::with(Setup { anonymous, ..Setup::default() }).await;
    world.store.before(|seen| {
        let refused = || Reply::error(403, "AccessDenied").header("access-control-allow-origin", PAGE);
        (seen.bucket == BUCKET).then(|| Instead::Answer(refused()))
    });
    for length in [10, 300_000] {
        let ask = world.s3.ask(Method::PUT, BUCKET, "new").header("origin", PAGE).body(noise(length, 1));
        let mut headers = ask.sign().headers;
        headers.remove("authorization");
        let answer = ask.send_with(headers).await.fails(403, "AccessDenied");
        assert_eq!(answer.header("access-control-allow-origin"), PAGE, "{answer:?}");
    }
}
