//! What an operator reads in the log: enough to act on, and no secret.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use http::Method;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::store::Instead;
use crate::harness::{BUCKET, Reply, STATE, Setup, World, noise};

/// Lines that were logged in this thread, in which the whole test runs.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))).into()
    }

    fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
        let guard = tracing::subscriber::set_default(subscriber.with_writer(lines.clone()).finish());
        (lines, guard)
    }
}

#[tokio::test]
async fn each_request_has_a_line_and_no_secret_is_in_any() {
    let (lines, _guard) = Lines::listen();
    let world = World::new().await;
    let ask = world.s3.ask(Method::PUT, BUCKET, "object").body("the very secret content");
    ask.header("x-amz-meta-note", "the very secret note").send().await.ok();
    world.s3.get(BUCKET, "object").await.ok();
    world.s3.get(BUCKET, "missing").await.fails(404, "NoSuchKey");
    let log = lines.take();
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
async fn tampering_is_an_alarm_with_the_requests_id() {
    let (lines, _guard) = Lines::listen();
    let world = World::new().await;
    for size in [1000, 200_000] {
        world.s3.put(BUCKET, "object", noise(size, 1)).await.ok();
        world.store.tamper(BUCKET, "object", |stored| {
            let mut body = stored.body.to_vec();
            body[700] ^= 1;
            stored.body = body.into();
        });
        lines.take();
        let answer = world.s3.get(BUCKET, "object").await;
        let log = lines.take();
        let alarm = log.lines().find(|line| line.contains("ALARM")).expect("an alarm");
        let id = answer.header("x-amz-request-id");
        assert!(alarm.contains("ERROR") && id.len() == 16 && alarm.contains(id), "{alarm}");
        assert!(log.lines().any(|line| line.contains(id) && line.contains("key=\"object\"")), "{log}");
    }
}

#[tokio::test]
async fn failures_say_what_failed() {
    let (lines, _guard) = Lines::listen();
    let world = World::with(Setup::default()).await;
    world.store.before(|seen| (seen.bucket == STATE).then(|| Instead::Answer(Reply::error(403, "AccessDenied"))));
    world.s3.put(BUCKET, "object", "x").await.fails(503, "ServiceUnavailable");
    let log = lines.take();
    assert!(log.contains("WARN") && log.contains("could not be published"), "{log}");
    assert!(log.contains("AccessDenied"), "the cause of it: {log}");
    world.store.before(|_| Some(Instead::Answer(Reply::error(500, "Broken"))));
    world.s3.get(BUCKET, "object").await.fails(500, "Broken");
    let log = lines.take();
    assert!(log.contains("WARN") && log.contains("retrying"), "{log}");
    world.store.before(|_| Some(Instead::Answer(Reply::error(403, "InvalidAccessKeyId"))));
    world.s3.get(BUCKET, "object").await.fails(500, "InternalError");
    assert!(lines.take().contains("does not accept the proxy's credentials"));
}
