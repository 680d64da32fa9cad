//! What an operator reads in the log: enough to act on, and no secret.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use http::Method;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::customer_keys::{KEY, keyed};
use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply, STATE, Setup, World, noise};

thread_local! {
    /// Lines that were logged in this thread, in which the whole of a test runs; `None` when nobody listens.
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct ThisThread;

impl Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.get_or_insert_default().extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Begins to listen. One subscriber serves all threads: `tracing` may forget those of single threads while others
/// come and go.
fn listen() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let listening = dynamic_filter_fn(|_, _| LINES.with_borrow(Option::is_some));
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| ThisThread);
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(listening));
        tracing::subscriber::set_global_default(subscriber).expect("nobody else installs one");
        tracing::callsite::rebuild_interest_cache();
    });
    LINES.set(Some(Vec::new()));
}

/// What was logged since the last time.
fn heard() -> String {
    String::from_utf8_lossy(&LINES.replace(Some(Vec::new())).expect("listening")).into()
}

#[tokio::test]
async fn each_request_has_a_line_and_no_secret_is_in_any() {
    listen();
    let world = World::new().await;
    let ask = world.s3.ask(Method::PUT, BUCKET, "object").body("the very secret content");
    ask.header("x-amz-meta-note", "the very secret note").send().await.ok();
    world.s3.get(BUCKET, "object").await.ok();
    world.s3.get(BUCKET, "missing").await.fails(404, "NoSuchKey");
    let log = heard();
    for expected in
        ["operation=\"PutObject\"", "operation=\"GetObject\"", "status=404", "principal=\"akadmin\"", "request_id="]
    {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    let envelope = world.store.object(BUCKET, "object").expect("stored").envelope().to_owned();
    let secrets = ["very secret", &world.s3.secret, crate::harness::store::SECRET, "Signature=", &envelope];
    for secret in secrets {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
}

#[tokio::test]
async fn a_customer_key_is_in_no_line() {
    listen();
    let world = World::new().await;
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, KEY);
    keyed(world.s3.ask(Method::PUT, BUCKET, "object"), &KEY).body("x").send().await.ok();
    keyed(world.s3.ask(Method::GET, BUCKET, "object"), &KEY).send().await.ok();
    keyed(world.s3.ask(Method::GET, BUCKET, "object"), &[7; 32]).send().await.fails(400, "InvalidRequest");
    let twice = keyed(world.s3.ask(Method::GET, BUCKET, "object"), &KEY);
    keyed(twice, &KEY).send().await.fails(400, "InvalidArgument");
    let unsigned = keyed(world.s3.ask(Method::GET, BUCKET, "object"), &KEY).at(time::OffsetDateTime::UNIX_EPOCH);
    unsigned.send().await.fails(403, "RequestTimeTooSkewed");
    let parameter = "x-amz-server-side-encryption-customer-key";
    let shown = world.s3.ask(Method::GET, BUCKET, "object").query(parameter, &key);
    shown.send().await.fails(501, "NotImplemented");
    let log = heard();
    assert!(log.contains("operation=\"PutObject\"") && log.contains("status=403"), "{log}");
    let text = std::str::from_utf8(&KEY).expect("text");
    assert!(!log.contains(&key) && !log.contains(text), "{log}");
}

#[tokio::test]
async fn tampering_is_an_alarm_with_the_requests_id() {
    listen();
    let world = World::new().await;
    for size in [1000, 200_000] {
        world.s3.put(BUCKET, "object", noise(size, 1)).await.ok();
        world.store.tamper(BUCKET, "object", |stored| {
            let mut body = stored.body.to_vec();
            body[700] ^= 1;
            stored.body = body.into();
        });
        heard();
        let answer = world.s3.get(BUCKET, "object").await;
        let log = heard();
        let alarm = log.lines().find(|line| line.contains("ALARM")).expect("an alarm");
        let id = answer.header("x-amz-request-id");
        assert!(alarm.contains("ERROR") && id.len() == 16 && alarm.contains(id), "{alarm}");
        assert!(log.lines().any(|line| line.contains(id) && line.contains("key=\"object\"")), "{log}");
    }
}

#[tokio::test]
async fn failures_say_what_failed() {
    listen();
    let world = World::with(Setup::default()).await;
    world.store.before(|seen| (seen.bucket == STATE).then(|| Instead::Answer(Reply::error(403, "AccessDenied"))));
    world.s3.put(BUCKET, "object", "x").await.fails(503, "ServiceUnavailable");
    let log = heard();
    assert!(log.contains("WARN") && log.contains("could not be published"), "{log}");
    assert!(log.contains("AccessDenied"), "the cause of it: {log}");
    world.store.before(|_| Some(Instead::Answer(Reply::error(500, "Broken"))));
    world.s3.get(BUCKET, "object").await.fails(500, "Broken");
    let log = heard();
    assert!(log.contains("WARN") && log.contains("retrying"), "{log}");
    world.store.before(|_| Some(Instead::Answer(Reply::error(403, "InvalidAccessKeyId"))));
    world.s3.get(BUCKET, "object").await.fails(500, "InternalError");
    assert!(heard().contains("does not accept the proxy's credentials"));
}
