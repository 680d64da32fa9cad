//! The log of record accesses: an entry for each, durable before the answer, in a log that verifies.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use claviger::crypto::SigningKey;
use claviger::proxy::access_log::{AccessLog, AccessLogSettings, KeyForm};
use claviger::s3::operation::Access;
use claviger::secret::Secret;
use claviger::tlog::reader::Reader;
use claviger::tlog::verify::verify;
use http::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::customer_keys::{KEY, keyed};
use crate::harness::proxy::{ADMIN, client, everything};
use crate::harness::raw::{Raw, head_of};
use crate::harness::store::{Instead, Seen};
use crate::harness::{BUCKET, Ending, Setup, World, noise, until};

fn open(folder: &Path) -> Arc<AccessLog> {
    let key = SigningKey::from_seed(Secret::from_slice(&[7; 32]).expect("a seed"));
    let (folder, origin) = (folder.join("log"), "claviger.example/proxy".to_owned());
    let settings = AccessLogSettings { folder, origin, key, keys: KeyForm::Clear, required: true };
    Arc::new(AccessLog::open(settings).expect("opens"))
}

async fn world() -> (World, Arc<AccessLog>, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let clients = vec![client(ADMIN, everything()), client("AKGUEST", Vec::new())];
    let setup = Setup { access_log: Some(Arc::clone(&log)), clients, ..Setup::default() };
    (World::with(setup).await, log, folder)
}

/// All entries, after the log was closed and found whole.
async fn entries(log: &AccessLog, folder: &TempDir) -> Vec<Value> {
    log.close().await.expect("closes");
    let folder = folder.path().join("log");
    verify(&folder, &log.verifier(), None).expect("whole");
    let reader = Reader::open(&folder, &log.verifier()).expect("opens");
    let entries = reader.entries(0).map(|entry| entry.expect("is there").1);
    entries.map(|entry| serde_json::from_slice(&entry).expect("JSON")).collect()
}

fn shown(entry: &Value) -> String {
    let text = |name: &str| match &entry[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fields =
        ["event", "principal", "operation", "bucket", "key", "status", "code", "bytes_in", "bytes_out", "ending"];
    fields.map(text).join(" ")
}

#[tokio::test]
async fn each_access_has_its_entries() {
    let (world, log, folder) = world().await;
    let put = world.s3.put(BUCKET, "large", noise(300_000, 1)).await.ok();
    world.s3.get(BUCKET, "large").await.ok();
    world.s3.put(BUCKET, "small", "seven b").await.ok();
    world.s3.get(BUCKET, "small").await.ok();
    world.s3.get_range(BUCKET, "large", "bytes=0-9").await.ok();
    world.s3.head(BUCKET, "small").await.ok();
    world.s3.get(BUCKET, "absent").await.fails(404, "NoSuchKey");
    world.proxy.s3_as("AKGUEST").get(BUCKET, "small").await.fails(403, "AccessDenied");
    world.proxy.s3_as("AKNOBODY").get(BUCKET, "small").await.fails(403, "InvalidAccessKeyId");
    world.s3.ask(Method::DELETE, BUCKET, "small").send().await.ok();
    let entries = entries(&log, &folder).await;
    let mut lines: Vec<String> = entries.iter().map(shown).collect();
    // The end of an answer is written with nobody waiting for it.
    lines.sort();
    let mut expected = [
        "access akadmin PutObject records large 200 - 300000 0 -",
        "begin akadmin GetObject records large 200 - 0 - -",
        "end akadmin GetObject records large 200 - - 300000 complete",
        "access akadmin PutObject records small 200 - 7 0 -",
        "access akadmin GetObject records small 200 - 0 7 -",
        "begin akadmin GetObject records large 206 - 0 - -",
        "end akadmin GetObject records large 206 - - 10 complete",
        "access akadmin HeadObject records small 200 - 0 0 -",
        "access akadmin GetObject records absent 404 NoSuchKey 0 - -",
        "access akguest GetObject records small 403 AccessDenied 0 - -",
        "access akadmin DeleteObject records small 204 - 0 0 -",
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    let first = &entries[0];
    assert_eq!(first["request_id"], put.header("x-amz-request-id"));
    assert_eq!((&first["access_key"], &first["reason"]), (&ADMIN.into(), &"customer-initiated".into()));
    assert_eq!(first["source"], "127.0.0.1");
}

#[tokio::test]
async fn versions_and_what_a_batch_deletes_have_entries() {
    let (world, log, folder) = world().await;
    for key in ["one", "two"] {
        world.s3.put(BUCKET, key, "x").await.ok();
    }
    world.s3.ask(Method::HEAD, BUCKET, "one").query("versionId", "null").send().await;
    world.s3.ask(Method::DELETE, BUCKET, "one").query("versionId", "null").send().await;
    let document =
        "<Delete><Object><Key>one</Key></Object><Object><Key>two</Key><VersionId>null</VersionId></Object></Delete>";
    world.s3.ask(Method::POST, BUCKET, "").query("delete", "").body(document).send().await.ok();
    let entries = entries(&log, &folder).await;
    let of = |operation: &str| entries.iter().filter(|entry| entry["operation"] == operation).collect::<Vec<_>>();
    assert!(of("PutObject").iter().all(|entry| entry.get("version").is_none()));
    for operation in ["HeadObject", "DeleteObject"] {
        assert_eq!(
            (of(operation)[0]["key"].as_str(), of(operation)[0]["version"].as_str()),
            (Some("one"), Some("null"))
        );
    }
    let [deletes, access] = of("DeleteObjects")[..] else { panic!("two entries") };
    assert_eq!((&deletes["event"], &access["event"]), (&"deletes".into(), &"access".into()));
    assert_eq!(deletes["objects"], serde_json::json!([{ "key": "one" }, { "key": "two", "version": "null" }]));
    assert_eq!(deletes["request_id"], access["request_id"]);
    assert!(access.get("objects").is_none());
}

#[tokio::test]
async fn a_customer_key_is_in_no_entry() {
    let (world, log, folder) = world().await;
    keyed(world.s3.ask(Method::PUT, BUCKET, "object"), &KEY).body("x").send().await.ok();
    keyed(world.s3.ask(Method::GET, BUCKET, "object"), &KEY).send().await.ok();
    keyed(world.s3.ask(Method::GET, BUCKET, "object"), &[7; 32]).send().await.fails(400, "InvalidRequest");
    let entries = entries(&log, &folder).await;
    assert_eq!(entries.len(), 3);
    let shown = format!("{entries:?}");
    assert!(!shown.contains("customer-key") && !shown.contains(std::str::from_utf8(&KEY).expect("text")), "{shown}");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, KEY);
    assert!(!shown.contains(&encoded), "{shown}");
}

#[tokio::test]
async fn an_entry_is_there_before_plaintext_is_and_says_how_far_a_broken_read_came() {
    let (world, log, folder) = world().await;
    let body = noise(2 << 20, 1);
    world.s3.put(BUCKET, "object", body).await.ok();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    world.store.after(move |seen, reply| {
        if seen.is(Method::GET, "object") {
            reply.ending = Ending::WaitAfter(1 << 20, Arc::clone(&held));
        }
    });
    let come = Arc::new(AtomicUsize::new(0));
    let (s3, count) = (world.s3.clone(), Arc::clone(&come));
    let reading = tokio::spawn(async move {
        let asked = s3.ask(Method::GET, BUCKET, "object");
        asked
            .send_each(|data| {
                count.fetch_add(data.len(), Ordering::SeqCst);
            })
            .await
    });
    until("the first bytes come", || come.load(Ordering::SeqCst) > 0).await;
    let journal = std::fs::read_dir(folder.path().join("log/journal")).expect("a folder");
    let journal: Vec<u8> =
        journal.flat_map(|file| std::fs::read(file.expect("a file").path()).expect("reads")).collect();
    assert!(String::from_utf8_lossy(&journal).contains("\"event\":\"begin\""), "durable before plaintext goes out");
    world.proxy.keys.revoke(&claviger::custody::keys::Revocation::All);
    gate.add_permits(10);
    assert!(reading.await.expect("no panic").cut);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let entries = entries(&log, &folder).await;
    let end = entries.iter().find(|entry| entry["event"] == "end").expect("it ended");
    let bytes = end["bytes_out"].as_u64().expect("a number");
    assert_eq!(end["ending"], "revoked");
    assert!(bytes >= come.load(Ordering::SeqCst) as u64 && bytes < 2 << 20, "{bytes}");
}

#[tokio::test]
async fn changes_are_logged_although_their_client_hung_up() {
    let (world, log, folder) = world().await;
    world.s3.put(BUCKET, "object", "x").await.ok();
    let id = world.s3.create_upload(BUCKET, "large").await;
    let part = world.s3.upload_part((BUCKET, "large"), &id, 1, "part").await.ok().header("etag").to_owned();
    let completion = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{part}</ETag></Part></CompleteMultipartUpload>"
    );
    let asks = [
        ("PUT", world.s3.ask(Method::PUT, BUCKET, "copy").header("x-amz-copy-source", "/records/object"), ""),
        ("DELETE", world.s3.ask(Method::DELETE, BUCKET, "gone"), ""),
        ("PUT", world.s3.ask(Method::PUT, BUCKET, "small").body("four"), "four"),
        (
            "POST",
            world.s3.ask(Method::POST, BUCKET, "large").query("uploadId", &id).body(completion.clone()),
            completion.as_str(),
        ),
    ];
    let changes = |seen: &Seen| match seen.key.as_str() {
        "copy" | "small" => seen.method == Method::PUT,
        "gone" => seen.method == Method::DELETE,
        "large" => seen.method == Method::POST && seen.has("uploadId"),
        _ => false,
    };
    let held = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&held);
    world.store.before(move |seen| {
        (seen.bucket == BUCKET && changes(seen)).then(|| {
            count.fetch_add(1, Ordering::SeqCst);
            Instead::Pause(Duration::from_millis(700))
        })
    });
    let mut connections = Vec::new();
    for (method, ask, body) in &asks {
        let mut raw = Raw::connect(world.proxy.address).await;
        assert!(raw.send(head_of(method, ask, &[&format!("content-length: {}", body.len())]) + body).await);
        connections.push(raw);
    }
    until("the storage server has them all", || held.load(Ordering::SeqCst) >= asks.len()).await;
    drop(connections);
    // The drain waits for them, too.
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.proxy.stop().await;
    let lines: Vec<String> = entries(&log, &folder).await.iter().map(shown).collect();
    for expected in [
        "access akadmin CopyObject records copy 200 ",
        "access akadmin DeleteObject records gone 204 ",
        "access akadmin PutObject records small 200 ",
        "access akadmin CompleteMultipartUpload records large 200 ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}: {lines:#?}");
    }
}

#[tokio::test]
async fn without_the_log_nothing_is_done_and_nothing_given_out() {
    let (world, log, _folder) = world().await;
    world.s3.put(BUCKET, "object", noise(300_000, 1)).await.ok();
    world.store.take_log();
    // A log that is closed takes no entries, as one on a full disk.
    log.close().await.expect("closes");
    let begun = Instant::now();
    for _ in 0..2 {
        let refused = world.s3.get(BUCKET, "object").await.fails(503, "ServiceUnavailable");
        assert!(refused.header("retry-after").parse::<u32>().is_ok());
    }
    world.store.take_log();
    world.s3.put(BUCKET, "new", "x").await.fails(503, "ServiceUnavailable");
    world.s3.ask(Method::DELETE, BUCKET, "object").send().await.fails(503, "ServiceUnavailable");
    world.s3.list(BUCKET, &[]).await.fails(503, "ServiceUnavailable");
    assert!(world.store.take_log().is_empty(), "the storage server is not asked");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(world.store.keys(BUCKET), ["object"]);
}

#[tokio::test]
async fn what_nobody_signed_is_logged_as_nobodys() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    let anonymous = crate::anonymous::anonymous(BUCKET, &[Access::Read]);
    let world = World::with(Setup { access_log: Some(Arc::clone(&log)), anonymous, ..Setup::default() }).await;
    world.store.everybody_may(|_| true);
    for method in [Method::GET, Method::PUT] {
        let ask = world.s3.ask(method, BUCKET, "object");
        let mut headers = ask.sign().headers;
        headers.remove("authorization");
        ask.send_with(headers).await;
    }
    crate::forms::Form::new(BUCKET, "form").signed(&world.s3).send(&world.s3, BUCKET, "four").await.ok();
    let entries = entries(&log, &folder).await;
    let shown: Vec<String> = entries.iter().map(shown).collect();
    assert_eq!(shown[0], "access anonymous GetObject records object 404 NoSuchKey 0 - -");
    assert_eq!(shown[1], "access anonymous PutObject records object 403 AccessDenied 0 - -");
    assert!(shown[2].starts_with("access akadmin PostObject records form 204 - "), "{shown:?}");
    assert_eq!(entries[0]["access_key"], "-");
}
