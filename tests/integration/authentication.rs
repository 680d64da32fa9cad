//! Who does not prove who they are gets nothing, and nothing goes to the storage server for them.

use http::Method;
use time::{Duration, OffsetDateTime};

use crate::harness::client::Ask;
use crate::harness::{BUCKET, S3, World, noise};

/// Every method, as `s3` asks.
fn asks(s3: &S3) -> Vec<Ask> {
    let of = |method: Method| s3.ask(method, BUCKET, "object");
    let document = "<Delete><Object><Key>object</Key></Object></Delete>";
    vec![
        of(Method::GET),
        of(Method::PUT).body("stranger"),
        of(Method::PUT).body(noise(300_000, 1)),
        of(Method::DELETE),
        s3.ask(Method::GET, BUCKET, ""),
        s3.ask(Method::GET, "", ""),
        s3.ask(Method::PUT, "new-bucket", ""),
        s3.ask(Method::DELETE, BUCKET, ""),
        s3.ask(Method::POST, BUCKET, "").query_text("delete").body(document),
    ]
}

async fn world() -> World {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "mine").await.ok();
    world.store.take_whole_log();
    world
}

#[track_caller]
fn untouched(world: &World) {
    assert!(world.store.take_whole_log().is_empty(), "a request reached the storage server");
    assert_eq!(world.store.keys(BUCKET), ["object"]);
}

#[tokio::test]
async fn a_wrong_secret() {
    let world = world().await;
    let s3 = S3 { secret: "another secret".into(), ..world.s3.clone() };
    for ask in asks(&s3) {
        ask.send().await.fails(403, "SignatureDoesNotMatch");
    }
    untouched(&world);
    for ask in asks(&world.s3).into_iter().take(1) {
        assert_eq!(ask.send().await.ok().text(), "mine");
    }
}

#[tokio::test]
async fn an_unknown_access_key() {
    let world = world().await;
    let s3 = S3 { access_key: "AKNOBODY".into(), ..world.s3.clone() };
    for ask in asks(&s3) {
        ask.send().await.fails(403, "InvalidAccessKeyId");
    }
    untouched(&world);
}

#[tokio::test]
async fn no_signature_at_all() {
    let world = world().await;
    for ask in asks(&world.s3) {
        let mut headers = ask.sign().headers;
        headers.remove("authorization");
        ask.send_with(headers).await.fails(403, "AccessDenied");
    }
    untouched(&world);
}

#[tokio::test]
async fn a_clock_that_is_off() {
    let world = world().await;
    for skew in [Duration::minutes(20), Duration::minutes(-20), Duration::days(-400)] {
        for ask in asks(&world.s3) {
            ask.at(OffsetDateTime::now_utc() + skew).send().await.fails(403, "RequestTimeTooSkewed");
        }
    }
    untouched(&world);
    let early = world.s3.ask(Method::GET, BUCKET, "object").at(OffsetDateTime::now_utc() - Duration::minutes(10));
    early.send().await.ok();
}

#[tokio::test]
async fn a_signature_for_something_else() {
    let world = world().await;
    let signed = world.s3.ask(Method::GET, BUCKET, "object").sign().headers;
    for ask in [
        world.s3.ask(Method::GET, BUCKET, "other"),
        world.s3.ask(Method::DELETE, BUCKET, "object"),
        world.s3.ask(Method::GET, BUCKET, ""),
        world.s3.ask(Method::GET, BUCKET, "object").query_text("acl"),
    ] {
        ask.send_with(signed.clone()).await.fails(403, "SignatureDoesNotMatch");
    }
    let mut with_more = signed.clone();
    with_more.insert("x-amz-acl", http::HeaderValue::from_static("public-read"));
    world.s3.ask(Method::GET, BUCKET, "object").send_with(with_more).await.fails(403, "AccessDenied");
    untouched(&world);
    world.s3.ask(Method::GET, BUCKET, "object").send_with(signed).await.ok();
}

#[tokio::test]
async fn junk_for_a_signature() {
    let world = world().await;
    for junk in [
        "",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=,SignedHeaders=,Signature=",
        "AWS AKADMIN:c2lnbmF0dXJl",
        "Bearer token",
        "Basic dXNlcjpwYXNz",
        "AWS4-HMAC-SHA256 Credential=AKADMIN/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=zz",
    ] {
        let ask = world.s3.ask(Method::GET, BUCKET, "object");
        let mut headers = ask.sign().headers;
        headers.insert("authorization", http::HeaderValue::from_str(junk).expect("ASCII"));
        let answer = ask.send_with(headers).await;
        assert!((400..500).contains(&answer.status) && !answer.code().is_empty(), "{junk:?}: {answer:?}");
    }
    untouched(&world);
}

#[tokio::test]
async fn a_presigned_url_opens_what_it_names_until_it_expires() {
    use claviger::s3::sigv4::{Credentials, SigningTarget, presign};
    use claviger::secret::SecretBytes;
    let world = world().await;
    let secret = SecretBytes::new(world.s3.secret.clone().into()).expect("not empty");
    let credentials =
        Credentials { access_key: world.s3.access_key.clone(), secret: secret.into(), session_token: None };
    let mut headers = http::HeaderMap::new();
    headers.insert("host", world.s3.host.parse().expect("ASCII"));
    let url = |path: &'static str, at: OffsetDateTime| {
        let target = SigningTarget { method: "GET", raw_path: path, raw_query: None };
        let query = presign(&credentials, "us-east-1", at, 60, &target, &headers).expect("signs");
        let headers = headers.clone();
        let ask = world.s3.ask(Method::GET, BUCKET, "object").presigned(&query);
        async move { ask.send_with(headers).await }
    };
    assert_eq!(url("/records/object", OffsetDateTime::now_utc()).await.ok().text(), "mine");
    url("/records/object", OffsetDateTime::now_utc() - Duration::minutes(5)).await.fails(403, "AccessDenied");
    url("/records/other", OffsetDateTime::now_utc()).await.fails(403, "SignatureDoesNotMatch");
}
