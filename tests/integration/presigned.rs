//! Presigned URLs, for every method: they open what they name, for whoever has them, and nothing else.

use bytes::Bytes;
use claviger::s3::sigv4::{Credentials, SigningTarget, presign};
use claviger::secret::SecretBytes;
use http::{HeaderMap, HeaderValue, Method};
use time::OffsetDateTime;

use crate::harness::{Answer, BUCKET, S3, STATE, World, noise};

/// Sends as somebody who has only the URL. `query` is encoded already.
pub(crate) async fn by_url(s3: &S3, method: Method, bucket: &str, key: &str, query: &str, body: Bytes) -> Answer {
    let ask = s3.ask(method.clone(), bucket, key);
    let path = ask.target();
    let signed = url(s3, &method, &path, query, &[]);
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_str(&s3.host).expect("ASCII"));
    ask.presigned(&signed).body(body).send_with(headers).await
}

/// The query of a URL for `method`, with these headers signed.
fn url(s3: &S3, method: &Method, path: &str, query: &str, signed: &[(&'static str, &str)]) -> String {
    let secret = SecretBytes::new(s3.secret.clone().into()).expect("not empty");
    let credentials = Credentials { access_key: s3.access_key.clone(), secret: secret.into(), session_token: None };
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_str(&s3.host).expect("ASCII"));
    for (name, value) in signed {
        headers.insert(*name, HeaderValue::from_str(value).expect("ASCII"));
    }
    let target = SigningTarget { method: method.as_str(), raw_path: path, raw_query: Some(query) };
    presign(&credentials, "us-east-1", OffsetDateTime::now_utc(), 60, &target, &headers).expect("signs")
}

#[tokio::test]
async fn every_method() {
    let world = World::new().await;
    let ask = |method: Method, key: &'static str, query: &'static str, body: Bytes| {
        let s3 = world.s3.clone();
        async move { by_url(&s3, method, BUCKET, key, query, body).await }
    };
    for length in [5, 300_000] {
        let body = noise(length, 3);
        ask(Method::PUT, "object", "", body.clone()).await.ok();
        assert_eq!(ask(Method::GET, "object", "", Bytes::new()).await.ok().body, body);
        let head = ask(Method::HEAD, "object", "", Bytes::new()).await.ok();
        assert_eq!(head.header("content-length"), length.to_string());
    }
    let typed = ask(Method::GET, "object", "response-content-type=text%2Fcsv", Bytes::new()).await.ok();
    assert_eq!(typed.header("content-type"), "text/csv");
    let listing = ask(Method::GET, "", "list-type=2&prefix=obj", Bytes::new()).await.ok().text();
    assert!(listing.contains("<Key>object</Key><") && listing.contains("<Size>300000</Size>"), "{listing}");
    // Headers may have moved into the URL.
    ask(Method::PUT, "meta", "x-amz-meta-who=me&x-amz-acl=private", Bytes::from_static(b"x")).await.ok();
    assert_eq!(world.s3.head(BUCKET, "meta").await.ok().header("x-amz-meta-who"), "me");
    let delete = "<Delete><Object><Key>meta</Key></Object></Delete>";
    ask(Method::POST, "", "delete=", delete.into()).await.ok();
    assert_eq!(ask(Method::DELETE, "object", "", Bytes::new()).await.status, 204);
    assert!(world.store.keys(BUCKET).is_empty());
}

#[tokio::test]
async fn uploads_in_parts_are_taken_for_what_they_are() {
    let world = World::new().await;
    world.store.take_whole_log();
    // What becomes of them is for other tests; here, that each passes authentication as the operation that it is.
    for (method, query, body) in [
        (Method::POST, "uploads=", Bytes::new()),
        (Method::PUT, "partNumber=1&uploadId=none", Bytes::from_static(b"x")),
        (Method::GET, "uploadId=none", Bytes::new()),
        (Method::POST, "uploadId=none", Bytes::from_static(b"<CompleteMultipartUpload/>")),
        (Method::DELETE, "uploadId=none", Bytes::new()),
    ] {
        let answer = by_url(&world.s3, method.clone(), BUCKET, "object", query, body).await;
        assert!(![403, 412, 405].contains(&answer.status), "{method} {query}: {answer:?}");
    }
    assert!(world.store.object(BUCKET, "object").is_none());
}

#[tokio::test]
async fn a_url_is_for_one_method_one_place_and_the_headers_it_names() {
    let world = World::new().await;
    world.s3.put(BUCKET, "object", "mine").await.ok();
    world.store.take_whole_log();
    let mut host = HeaderMap::new();
    host.insert("host", HeaderValue::from_str(&world.s3.host).expect("ASCII"));
    let signed = url(&world.s3, &Method::GET, "/records/object", "", &[]);
    for (method, key) in
        [(Method::PUT, "object"), (Method::DELETE, "object"), (Method::HEAD, "object"), (Method::GET, "other")]
    {
        let answer = world.s3.ask(method, BUCKET, key).presigned(&signed).body("x").send_with(host.clone()).await;
        assert_eq!(answer.status, 403, "{answer:?}");
    }
    for more in ["&versionId=1", "&x-amz-acl=public-read", "&response-content-type=text%2Fhtml"] {
        let ask = world.s3.ask(Method::GET, BUCKET, "object").presigned(&(signed.clone() + more));
        ask.send_with(host.clone()).await.fails(403, "SignatureDoesNotMatch");
    }
    let mut with_more = host.clone();
    with_more.insert("x-amz-meta-a", HeaderValue::from_static("b"));
    let put = url(&world.s3, &Method::PUT, "/records/new", "", &[]);
    let ask = || world.s3.ask(Method::PUT, BUCKET, "new").presigned(&put).body("x");
    ask().send_with(with_more).await.fails(403, "AccessDenied");
    let bound = url(&world.s3, &Method::PUT, "/records/new", "", &[("content-type", "text/plain")]);
    let ask = || world.s3.ask(Method::PUT, BUCKET, "new").presigned(&bound).body("x");
    ask().send_with(host.clone()).await.fails(403, "SignatureDoesNotMatch");
    let mut typed = host.clone();
    typed.insert("content-type", HeaderValue::from_static("text/html"));
    ask().send_with(typed.clone()).await.fails(403, "SignatureDoesNotMatch");
    assert!(world.store.take_whole_log().is_empty());
    typed.insert("content-type", HeaderValue::from_static("text/plain"));
    ask().send_with(typed).await.ok();
}

#[tokio::test]
async fn the_state_bucket_has_none() {
    let world = World::new().await;
    for (method, key) in
        [(Method::GET, "branch/x"), (Method::PUT, "branch/x"), (Method::DELETE, "branch/x"), (Method::GET, "")]
    {
        let answer = by_url(&world.s3, method, STATE, key, "", Bytes::new()).await;
        answer.fails(404, "NoSuchBucket");
    }
    assert!(world.store.take_whole_log().is_empty());
}
