//! Browser forms: stored like any upload when their policy lets them, and not at all when it does not.

use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use claviger::crypto::hmac_sha256;
use claviger::s3::operation::Access;
use http::{HeaderMap, HeaderValue, Method};
use time::OffsetDateTime;

use crate::anonymous::anonymous;
use crate::harness::client::hex;
use crate::harness::raw::Raw;
use crate::harness::store::{Instead, SPOOL};
use crate::harness::{Answer, BUCKET, Reply, S3, Setup, World, contains, noise};

const BOUNDARY: &str = "----BoundaryOfTheTest";

/// A form in the making. Each field that it gets is covered by a condition of its policy.
#[derive(Clone)]
pub(crate) struct Form {
    fields: Vec<(String, String)>,
    conditions: Vec<String>,
    expires: OffsetDateTime,
    file_name: String,
    after: String,
    end: &'static str,
}

fn stamp(at: OffsetDateTime) -> String {
    at.format(time::macros::format_description!(version = 2, "[year][month][day]T[hour][minute][second]Z"))
        .expect("formats")
}

impl Form {
    pub(crate) fn new(bucket: &str, key: &str) -> Self {
        let form = Self {
            fields: Vec::new(),
            conditions: vec![format!("{{\"bucket\": \"{bucket}\"}}"), "[\"starts-with\", \"$key\", \"\"]".into()],
            expires: OffsetDateTime::now_utc() + time::Duration::minutes(5),
            file_name: "file.txt".into(),
            after: String::new(),
            end: "--\r\n",
        };
        form.uncovered("key", key)
    }

    fn field(self, name: &str, value: &str) -> Self {
        let condition = format!("[\"eq\", \"${name}\", {value:?}]");
        self.condition(&condition).uncovered(name, value)
    }

    fn uncovered(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    fn condition(mut self, condition: &str) -> Self {
        self.conditions.push(condition.into());
        self
    }

    pub(crate) fn signed(self, s3: &S3) -> Self {
        let date = stamp(OffsetDateTime::now_utc());
        let day = &date[..8];
        let credential = format!("{}/{day}/us-east-1/s3/aws4_request", s3.access_key);
        let form = self.field("x-amz-algorithm", "AWS4-HMAC-SHA256").field("x-amz-credential", &credential);
        let form = form.field("x-amz-date", &date);
        let expires = form.expires.format(&time::format_description::well_known::Rfc3339).expect("formats");
        let policy = format!("{{\"expiration\": \"{expires}\", \"conditions\": [{}]}}", form.conditions.join(", "));
        let policy = base64::engine::general_purpose::STANDARD.encode(policy);
        let steps = [day, "us-east-1", "s3", "aws4_request"];
        let start = format!("AWS4{}", s3.secret).into_bytes();
        let key = steps.iter().fold(start, |key, step| hmac_sha256(&key, step.as_bytes()).to_vec());
        let signature = hex(&hmac_sha256(&key, policy.as_bytes()));
        form.uncovered("policy", &policy).uncovered("x-amz-signature", &signature)
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self
    }

    fn body(&self, file: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
            body.extend(format!("{head}{value}\r\n").bytes());
        }
        let name = &self.file_name;
        let head =
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
        body.extend(head.bytes());
        body.extend(file);
        body.extend(format!("\r\n{}--{BOUNDARY}{}", self.after, self.end).bytes());
        body
    }

    pub(crate) async fn send(&self, s3: &S3, bucket: &str, file: impl Into<Bytes>) -> Answer {
        self.send_with(s3, bucket, file, &[]).await
    }

    async fn send_with(
        &self,
        s3: &S3,
        bucket: &str,
        file: impl Into<Bytes>,
        further: &[(&'static str, &str)],
    ) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(&s3.host).expect("ASCII"));
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        headers.insert("content-type", HeaderValue::from_str(&kind).expect("ASCII"));
        for (name, value) in further {
            headers.insert(*name, HeaderValue::from_str(value).expect("legal"));
        }
        s3.ask(Method::POST, bucket, "").body(self.body(&file.into())).send_with(headers).await
    }
}

#[tokio::test]
async fn a_file_is_stored_encrypted_with_what_the_fields_say() {
    let world = World::new().await;
    for length in [0, 1000, 300_000, 3_000_000] {
        let file = noise(length, 9);
        let form = Form::new(BUCKET, "up/${filename}")
            .field("Content-Type", "text/x-test")
            .field("x-amz-meta-who", "me")
            .field("acl", "private")
            .uncovered("x-ignore-this", "1")
            .signed(&world.s3);
        let answer = form.send(&world.s3, BUCKET, file.clone()).await.ok();
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert_eq!(answer.header("location"), format!("http://{}/records/up/file.txt", world.s3.host));
        let read = world.s3.get(BUCKET, "up/file.txt").await.ok();
        assert_eq!((read.body.clone(), read.header("etag")), (file.clone(), answer.header("etag")));
        assert_eq!((read.header("content-type"), read.header("x-amz-meta-who")), ("text/x-test", "me"));
        let stored = world.store.object(BUCKET, "up/file.txt").expect("stored");
        assert!(length == 0 || !contains(&stored.body, &file[..length.min(32)]));
        let put = world.store.take_log().into_iter().find(|seen| seen.method == Method::PUT).expect("a PUT");
        assert_eq!(put.header("x-amz-acl"), Some("private"));
        assert!(put.headers.keys().all(|name| !name.as_str().starts_with("x-amz-meta-w")), "{put:?}");
    }
}

#[tokio::test]
async fn answers_as_the_form_wants_them() {
    let world = World::new().await;
    let post = |name: &'static str, value: &'static str| {
        let form = Form::new(BUCKET, "a b").field(name, value).signed(&world.s3);
        let s3 = world.s3.clone();
        async move { form.send(&s3, BUCKET, "x").await }
    };
    assert_eq!(post("success_action_status", "200").await.status, 200);
    assert_eq!(post("success_action_status", "404").await.status, 204);
    let created = post("success_action_status", "201").await;
    assert_eq!(created.status, 201);
    let (etag, text) = (created.header("etag"), created.text());
    assert!(text.contains("<Bucket>records</Bucket><Key>a b</Key>"), "{text}");
    assert!(text.contains(&etag.replace('"', "&quot;")) && text.contains("/records/a%20b</Location>"), "{text}");
    let sent = post("success_action_redirect", "https://app.example/done?a=b").await;
    let etag = sent.header("etag").replace('"', "%22");
    assert_eq!(sent.status, 303);
    let place = format!("https://app.example/done?a=b&bucket=records&key=a%20b&etag={etag}");
    assert_eq!(sent.header("location"), place);
}

#[tokio::test]
async fn tags_checksums_and_the_choice_of_a_key() {
    let world = World::new().await;
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag></TagSet></Tagging>";
    Form::new(BUCKET, "tagged").field("tagging", tags).signed(&world.s3).send(&world.s3, BUCKET, "x").await.ok();
    let put = world.store.take_log().into_iter().find(|seen| seen.method == Method::PUT).expect("a PUT");
    assert_eq!(put.header("x-amz-tagging"), Some("a=b%20c"));
    let sum = |value: &str| Form::new(BUCKET, "summed").field("x-amz-checksum-crc32", value).signed(&world.s3);
    sum("AAAAAA==").send(&world.s3, BUCKET, "x").await.fails(400, "BadDigest");
    assert!(world.store.object(BUCKET, "summed").is_none());
    assert_eq!(sum("jNwWgw==").send(&world.s3, BUCKET, "x").await.ok().header("x-amz-checksum-crc32"), "jNwWgw==");
    let key = |name: &str| {
        let form = Form::new(BUCKET, "keyed").field("x-amz-server-side-encryption", "aws:kms");
        form.field("x-amz-server-side-encryption-aws-kms-key-id", name).signed(&world.s3)
    };
    key("other").send(&world.s3, BUCKET, "x").await.fails(400, "KMS.NotFoundException");
    let answer = key("demo").send(&world.s3, BUCKET, "x").await.ok();
    assert_eq!(answer.header("x-amz-server-side-encryption-aws-kms-key-id"), "demo");
}

#[tokio::test]
async fn a_policy_that_is_not_met_stores_nothing() {
    let world = World::new().await;
    let (s3, good) = (&world.s3, || Form::new(BUCKET, "key"));
    let other = S3 { secret: "another secret that is long".into(), ..s3.clone() };
    let nobody = S3 { access_key: "AKNOBODY".into(), ..s3.clone() };
    let mut expired = good();
    expired.expires = OffsetDateTime::now_utc() - time::Duration::minutes(1);
    let changed = |name: &str, value: &str| good().signed(s3).without(name).uncovered(name, value);
    for (what, form, status, code) in [
        ("another secret", good().signed(&other), 403, "SignatureDoesNotMatch"),
        ("an unknown key", good().signed(&nobody), 403, "InvalidAccessKeyId"),
        ("expired", expired.signed(s3), 403, "AccessDenied"),
        ("an uncovered field", good().uncovered("acl", "public-read").signed(s3), 403, "AccessDenied"),
        ("a field that is missing", good().condition("{\"acl\": \"private\"}").signed(s3), 403, "AccessDenied"),
        ("another bucket", Form::new("elsewhere", "key").signed(s3), 403, "AccessDenied"),
        ("another policy", changed("policy", "e30="), 403, "SignatureDoesNotMatch"),
        ("no policy", good().signed(s3).without("policy"), 400, "InvalidArgument"),
        ("no signature", good().signed(s3).without("x-amz-signature"), 400, "InvalidArgument"),
        ("no policy that is one", good().condition("{}").signed(s3), 400, "InvalidPolicyDocument"),
        ("too long", good().condition("[\"content-length-range\", 0, 3]").signed(s3), 400, "EntityTooLarge"),
        ("too short", good().condition("[\"content-length-range\", 5, 9]").signed(s3), 400, "EntityTooSmall"),
        ("nobody's", good(), 403, "AccessDenied"),
        ("no key", good().without("key").signed(s3), 400, "InvalidArgument"),
        ("a key out of the bucket", Form::new(BUCKET, "../claviger-state/x").signed(s3), 400, "InvalidArgument"),
        ("a field twice", good().signed(s3).uncovered("Key", "other"), 400, "InvalidArgument"),
        ("a copy", good().field("x-amz-copy-source", "/records/a").signed(s3), 400, "InvalidArgument"),
        (
            "version 2",
            good().uncovered("AWSAccessKeyId", "AKADMIN").uncovered("signature", "c2ln"),
            400,
            "InvalidRequest",
        ),
        ("a session", good().field("x-amz-security-token", "t").signed(s3), 400, "InvalidToken"),
        ("a website", good().field("x-amz-website-redirect-location", "/x").signed(s3), 501, "NotImplemented"),
    ] {
        let answer = form.send(s3, BUCKET, "four").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {answer:?}");
    }
    let large = good().condition("[\"content-length-range\", 0, 2000000]").signed(s3);
    large.send(s3, BUCKET, noise(2_000_001, 1)).await.fails(400, "EntityTooLarge");
    let signed = [("authorization", "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=b, Signature=c")];
    good().signed(s3).send_with(s3, BUCKET, "x", &signed).await.fails(400, "InvalidArgument");
    assert!(world.store.take_whole_log().is_empty(), "something was asked of the storage server");
}

#[tokio::test]
async fn what_a_client_may_not_put_it_may_not_post() {
    use claviger::object::access::{BucketPattern, Grant};
    let grants = vec![Grant { buckets: vec![BucketPattern::All], access: vec![Access::Write] }];
    let reads = vec![Grant { buckets: vec![BucketPattern::All], access: vec![Access::Read] }];
    let clients =
        vec![crate::harness::proxy::client("AKWRITE", grants), crate::harness::proxy::client("AKREAD", reads)];
    let world = World::with(Setup { clients, ..Setup::default() }).await;
    let (writer, reader) = (world.proxy.s3_as("AKWRITE"), world.proxy.s3_as("AKREAD"));
    Form::new(BUCKET, "key").signed(&reader).send(&reader, BUCKET, "x").await.fails(403, "AccessDenied");
    let public = Form::new(BUCKET, "key").field("acl", "public-read").signed(&writer);
    public.send(&writer, BUCKET, "x").await.fails(403, "AccessDenied");
    assert!(world.store.take_whole_log().is_empty());
    assert_eq!(Form::new(BUCKET, "key").signed(&writer).send(&writer, BUCKET, "x").await.status, 204);
}

#[tokio::test]
async fn what_follows_the_file_counts_for_nothing() {
    let world = World::new().await;
    let mut form = Form::new(BUCKET, "key").signed(&world.s3);
    form.after = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"acl\"\r\n\r\npublic-read\r\n");
    for end in ["--\r\n", "--"] {
        form.end = end;
        form.send(&world.s3, BUCKET, "short").await.ok();
        assert_eq!(world.s3.get(BUCKET, "key").await.ok().text(), "short");
    }
    let put = world.store.take_log().into_iter().find(|seen| seen.method == Method::PUT).expect("a PUT");
    assert!(put.header("x-amz-acl").is_none());
    // The length of a long file is known only if it comes last, and the form ends as browsers end it.
    let refused = |form: Form| {
        let s3 = world.s3.clone();
        async move { form.send(&s3, BUCKET, noise(2_000_000, 1)).await.fails(400, "MalformedPOSTRequest") }
    };
    let before = world.store.broken_uploads();
    for end in ["--\r\n", "--"] {
        refused(Form { end, ..form.clone() }).await;
    }
    refused(Form { after: String::new(), end: "--", ..form.clone() }).await;
    refused(Form { after: String::new(), end: "--\r\nmore", ..form.clone() }).await;
    refused(Form { after: String::new(), end: "\r\n", ..form.clone() }).await;
    assert_eq!(world.s3.get(BUCKET, "key").await.ok().text(), "short", "nothing else was stored");
    assert!(world.store.broken_uploads() > before, "uploads were cut off");
}

#[tokio::test]
async fn long_files_stream() {
    let world = World::new().await;
    world.store.create(SPOOL);
    let file = noise(20 << 20, 4);
    Form::new(SPOOL, "large").signed(&world.s3).send(&world.s3, SPOOL, file.clone()).await.ok();
    assert_eq!(world.s3.get(SPOOL, "large").await.ok().body, file);
}

#[tokio::test]
async fn forms_that_are_none() {
    let world = World::new().await;
    let form = Form::new(BUCKET, "key").signed(&world.s3);
    let post = |kind: &'static str, body: Vec<u8>| {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(&world.s3.host).expect("ASCII"));
        headers.insert("content-type", HeaderValue::from_static(kind));
        let ask = world.s3.ask(Method::POST, BUCKET, "").body(body);
        async move { ask.send_with(headers).await }
    };
    let whole = form.body(b"x");
    post("multipart/form-data", whole.clone()).await.fails(400, "MalformedPOSTRequest");
    post("multipart/form-data; boundary=other", whole.clone()).await.fails(400, "MalformedPOSTRequest");
    post("text/plain", whole.clone()).await.fails(403, "AccessDenied");
    let kind = "multipart/form-data; boundary=----BoundaryOfTheTest";
    post(kind, whole[..whole.len() / 2].to_vec()).await.fails(400, "IncompleteBody");
    assert_eq!(post(kind, Vec::new()).await.status, 400);
    let fieldless = format!("--{BOUNDARY}--\r\n").into_bytes();
    post(kind, fieldless).await.fails(400, "IncorrectNumberOfFilesInPostRequest");
    let long = form.clone().uncovered("x-ignore-long", &"x".repeat(21 << 10));
    long.send(&world.s3, BUCKET, "x").await.fails(400, "MaxPostPreDataLengthExceededError");
    world.s3.ask(Method::POST, BUCKET, "").body("x").send().await.fails(412, "PreconditionFailed");
    assert!(world.store.take_whole_log().is_empty());
}

#[tokio::test]
async fn nobodys_forms_where_everybody_may_write() {
    let world = World::with(Setup { anonymous: anonymous(BUCKET, &[Access::Write]), ..Setup::default() }).await;
    let form = Form::new(BUCKET, "key").uncovered("acl", "private");
    form.send(&world.s3, BUCKET, "x").await.fails(403, "AccessDenied");
    world.store.everybody_may(|seen| seen.bucket == BUCKET && seen.method == Method::PUT);
    world.store.take_log();
    assert_eq!(form.send(&world.s3, BUCKET, "x").await.status, 204);
    assert!(world.store.take_log().iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(world.s3.get(BUCKET, "key").await.ok().text(), "x");
    form.clone()
        .uncovered("x-claviger-reason", "customer-support")
        .send(&world.s3, BUCKET, "x")
        .await
        .fails(400, "InvalidRequest");
}

#[tokio::test]
async fn pages_of_other_origins_may_read_the_answer() {
    let world = World::new().await;
    world.store.before(|seen| {
        let allowed = seen.header("access-control-request-method") == Some("POST");
        (seen.method == Method::OPTIONS).then(|| {
            Instead::Answer(match allowed {
                true => Reply::new(200, "").header("access-control-allow-origin", "https://app.example"),
                false => Reply::error(403, "AccessForbidden"),
            })
        })
    });
    let origin = [("origin", "https://app.example")];
    let form = Form::new(BUCKET, "key").signed(&world.s3);
    let answer = form.send_with(&world.s3, BUCKET, "x", &origin).await.ok();
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example");
    let refused = form.uncovered("acl", "private").send_with(&world.s3, BUCKET, "x", &origin).await;
    assert_eq!(refused.fails(403, "AccessDenied").header("access-control-allow-origin"), "https://app.example");
    assert_eq!(world.store.keys(BUCKET), ["key"]);
}

/// Who fills a share of them from one address does not keep others from theirs.
#[tokio::test]
async fn hostile_forms_from_one_address_leave_room_for_another() {
    let world = World::with(Setup { max_requests: 64, ..Setup::default() }).await;
    let head = format!(
        "POST /{BUCKET} HTTP/1.1\r\nhost: {}\r\ncontent-length: 1000\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n",
        world.s3.host
    );
    let mut holding = Vec::new();
    loop {
        let mut raw = Raw::connect_from([127, 0, 0, 2], world.proxy.address).await;
        assert!(raw.send(&head).await);
        if !raw.is_silent(Duration::from_secs(2)).await {
            assert!(raw.head().await.starts_with("HTTP/1.1 503"));
            break;
        }
        holding.push(raw);
    }
    assert!((2..8).contains(&holding.len()), "a quarter of eight, not all: {}", holding.len());
    Form::new(BUCKET, "form").signed(&world.s3).send(&world.s3, BUCKET, "x").await.ok();
}

/// Whoever has no key may hold some of the requests, not all.
#[tokio::test]
async fn hostile_forms_that_do_not_go_on_leave_room_for_others() {
    let world = World::with(Setup { max_requests: 8, ..Setup::default() }).await;
    let head = format!(
        "POST /{BUCKET} HTTP/1.1\r\nhost: {}\r\ncontent-length: 1000\r\n\
         content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n--{BOUNDARY}\r\n",
        world.s3.host
    );
    let mut silent = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::connect(world.proxy.address).await;
        assert!(raw.send(&head).await);
        silent.push(raw);
    }
    let form = Form::new(BUCKET, "form").signed(&world.s3);
    let mut last = form.send(&world.s3, BUCKET, "x").await;
    for _ in 0..50 {
        if last.status == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        last = form.send(&world.s3, BUCKET, "x").await;
    }
    last = last.fails(503, "SlowDown");
    world.s3.put(BUCKET, "object", "x").await.ok();
    drop(silent);
    for _ in 0..50 {
        last = form.send(&world.s3, BUCKET, "x").await;
        if last.status == 204 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    last.ok();
}
