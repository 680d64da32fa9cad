//! SSE-C: only who brings the key that an object was stored with can read it, and the key stays nowhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use md5::{Digest as _, Md5};

use crate::harness::client::Ask;
use crate::harness::{Answer, BUCKET, World, contains, noise};

pub(crate) const KEY: [u8; 32] = *b"a key that the client keeps; 32b";
const OTHER: [u8; 32] = *b"another key that is none of ours";
const PREFIX: &str = "x-amz-server-side-encryption-customer";

/// `ask` with the three headers of a customer key.
pub(crate) fn keyed(ask: Ask, key: &[u8; 32]) -> Ask {
    let ask = ask.header(&format!("{PREFIX}-algorithm"), "AES256");
    let ask = ask.header(&format!("{PREFIX}-key"), &STANDARD.encode(key));
    ask.header(&format!("{PREFIX}-key-md5"), &STANDARD.encode(Md5::digest(key)))
}

fn says_so(answer: &Answer) {
    assert_eq!(answer.header(&format!("{PREFIX}-algorithm")), "AES256", "{answer:?}");
    assert_eq!(answer.header(&format!("{PREFIX}-key-md5")), STANDARD.encode(Md5::digest(KEY)));
    for none in ["x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"] {
        assert!(!answer.headers.contains_key(none), "{none}: {answer:?}");
    }
}

/// Requests for `key` of every kind, with their names.
fn reads(world: &World, key: &str, etag: &str) -> Vec<(&'static str, Ask)> {
    let ask = |method| world.s3.ask(method, BUCKET, key);
    vec![
        ("GET", ask(Method::GET)),
        ("HEAD", ask(Method::HEAD)),
        ("a range", ask(Method::GET).header("range", "bytes=-3")),
        ("a range once more", ask(Method::GET).header("range", "bytes=1-2")),
        ("HEAD of a range", ask(Method::HEAD).header("range", "bytes=0-0")),
        ("a part", ask(Method::GET).query("partNumber", "1")),
        ("on a condition", ask(Method::GET).header("if-match", etag)),
        ("on another condition", ask(Method::GET).header("if-none-match", "\"other\"")),
        ("HEAD on a condition", ask(Method::HEAD).header("if-match", etag)),
    ]
}

#[tokio::test]
async fn only_the_key_that_it_was_stored_with_opens_an_object() {
    let world = World::new().await;
    for size in [0, 1000, 65_536, 300_000] {
        let body = noise(size, size as u64);
        let stored = keyed(world.s3.ask(Method::PUT, BUCKET, "object"), &KEY).body(body.clone()).send().await.ok();
        says_so(&stored);
        let etag = stored.header("etag").to_owned();
        // Twice: what was remembered of a read opens nothing either.
        for _ in 0..2 {
            for (what, ask) in reads(&world, "object", &etag) {
                let head = what.starts_with("HEAD");
                let refused = ask.send().await;
                assert_eq!(refused.status, 400, "{what} of {size} without a key: {refused:?}");
                assert!(head || refused.code() == "InvalidRequest", "{what}: {refused:?}");
            }
            for (what, ask) in reads(&world, "object", &etag) {
                let head = what.starts_with("HEAD");
                let refused = keyed(ask, &OTHER).send().await;
                assert_eq!(refused.status, 400, "{what} of {size} with another key: {refused:?}");
                assert!(head || refused.code() == "InvalidRequest", "{what}: {refused:?}");
            }
            for (what, ask) in reads(&world, "object", &etag) {
                let answer = keyed(ask, &KEY).send().await;
                if size == 0 && what.contains("range") {
                    assert_eq!(answer.status, 416, "{what}: {answer:?}");
                    continue;
                }
                says_so(&answer.ok());
            }
        }
        let got = keyed(world.s3.ask(Method::GET, BUCKET, "object"), &KEY).send().await.ok();
        assert!(got.body == body, "{size}");
    }
}

#[tokio::test]
async fn a_key_for_an_object_without_one_is_refused() {
    let world = World::new().await;
    for size in [0, 1000, 300_000] {
        let etag = world.s3.put(BUCKET, "object", noise(size, 1)).await.ok().header("etag").to_owned();
        for (what, ask) in reads(&world, "object", &etag) {
            let refused = keyed(ask, &KEY).send().await;
            assert_eq!(refused.status, 400, "{what} of {size}: {refused:?}");
            assert!(what.starts_with("HEAD") || refused.code() == "InvalidRequest", "{what}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn headers_about_a_key_that_make_no_sense_store_nothing() {
    let world = World::new().await;
    let put = || world.s3.ask(Method::PUT, BUCKET, "object").body("x");
    let (key, md5) = (STANDARD.encode(KEY), STANDARD.encode(Md5::digest(OTHER)));
    let wrong = put().header(&format!("{PREFIX}-algorithm"), "AES256").header(&format!("{PREFIX}-key"), &key);
    wrong.header(&format!("{PREFIX}-key-md5"), &md5).send().await.fails(400, "InvalidArgument");
    put().header(&format!("{PREFIX}-algorithm"), "AES256").send().await.fails(400, "InvalidArgument");
    put().header(&format!("{PREFIX}-key"), &key).send().await.fails(400, "InvalidArgument");
    keyed(put(), &KEY).header("x-amz-server-side-encryption", "aws:kms").send().await.fails(400, "InvalidArgument");
    // A key in the query is in every log on the way: it counts as a header only, which has to be signed.
    let shown = put().query(&format!("{PREFIX}-key"), &key).send().await.fails(501, "NotImplemented");
    assert!(!shown.text().contains(&key), "{shown:?}");
    assert!(world.store.keys(BUCKET).is_empty());
}

#[tokio::test]
async fn a_key_in_a_presigned_url_counts_only_as_a_signed_header() {
    use claviger::s3::sigv4::{Credentials, SigningTarget, presign};
    let world = World::new().await;
    keyed(world.s3.ask(Method::PUT, BUCKET, "object"), &KEY).body("secret").send().await.ok();
    let secret = claviger::secret::SecretBytes::new(world.s3.secret.clone().into()).expect("not empty");
    let credentials =
        Credentials { access_key: world.s3.access_key.clone(), secret: secret.into(), session_token: None };
    let signed = keyed(world.s3.ask(Method::GET, BUCKET, "object"), &KEY).sign().headers;
    let mut headers = http::HeaderMap::new();
    headers.insert("host", world.s3.host.parse().expect("ASCII"));
    let own = signed.iter().filter(|(name, _)| name.as_str().starts_with(PREFIX));
    let own: Vec<_> = own.map(|(name, value)| (name.clone(), value.clone())).collect();
    let get = |signs: bool| {
        let mut headers = headers.clone();
        if signs {
            headers.extend(own.clone());
        }
        let target = SigningTarget { method: "GET", raw_path: "/records/object", raw_query: None };
        let now = time::OffsetDateTime::now_utc();
        let query = presign(&credentials, "us-east-1", now, 60, &target, &headers).expect("signs");
        if !signs {
            headers.extend(own.clone());
        }
        let ask = world.s3.ask(Method::GET, BUCKET, "object").presigned(&query);
        async move { ask.send_with(headers).await }
    };
    assert_eq!(get(true).await.ok().text(), "secret");
    get(false).await.fails(403, "AccessDenied");
}

#[tokio::test]
async fn the_key_reaches_neither_storage_server_nor_answer() {
    let world = World::new().await;
    let mut answers = Vec::new();
    for size in [0, 1000, 300_000] {
        let put = keyed(world.s3.ask(Method::PUT, BUCKET, "object"), &KEY).body(noise(size, 1)).send().await.ok();
        let etag = put.header("etag").to_owned();
        answers.push(put);
        for key in [&KEY, &OTHER] {
            for (_, ask) in reads(&world, "object", &etag) {
                answers.push(keyed(ask, key).send().await);
            }
        }
        let ask = |method| keyed(world.s3.ask(method, BUCKET, "object"), &KEY);
        answers.push(ask(Method::GET).query("tagging", "").send().await);
        answers.push(ask(Method::DELETE).send().await);
        answers.push(ask(Method::GET).send().await);
        keyed(world.s3.ask(Method::PUT, BUCKET, &format!("kept-{size}")), &KEY).body(noise(size, 2)).send().await.ok();
    }
    let needles = [KEY.to_vec(), STANDARD.encode(KEY).into(), STANDARD.encode(Md5::digest(KEY)).into()];
    let shows = |haystack: &[u8], needles: &[Vec<u8>]| needles.iter().any(|needle| contains(haystack, needle));
    for answer in &answers {
        // Its MD5 they repeat, as S3's do.
        let shown = format!("{:?}", answer.headers);
        assert!(!shows(shown.as_bytes(), &needles[..2]) && !shows(&answer.body, &needles[..2]), "{answer:?}");
    }
    assert!(shows(format!("{answers:?}").as_bytes(), &needles[2..]), "the search finds what is there");
    let log = world.store.take_whole_log();
    assert!(log.len() > 50, "{}", log.len());
    for seen in log {
        let seen = format!("{seen:?}");
        assert!(!shows(seen.as_bytes(), &needles) && !seen.contains("customer"), "{seen}");
    }
    let mut objects = 0;
    for (name, object) in world.store.buckets().values().flatten() {
        let headers = format!("{name} {:?}", object.headers);
        assert!(!shows(headers.as_bytes(), &needles) && !shows(&object.body, &needles), "{headers}");
        objects += 1;
    }
    assert!(objects >= 4, "three objects and a branch key");
}
