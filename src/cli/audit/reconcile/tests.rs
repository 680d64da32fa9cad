//! Accesses and key uses that belong together, and those that do not.

use serde_json::Value;

use super::*;
use crate::cli::audit::Command;
use crate::cli::audit::testing::{handed_over, log_key, log_signer, text, typed};
use crate::tlog::reader::Reader;

fn at(second: u64) -> String {
    format!("2026-01-01T{:02}:{:02}:{:02}.000Z", second / 3600, second / 60 % 60, second % 60)
}

fn key_use(second: u64, behalf: &str, bucket: &str, action: &str, decision: &str) -> Value {
    json!({
        "time": at(second), "principal": "spiffe://example.org/region/us/proxy/p1", "behalf": behalf, "bucket": bucket,
        "reason": "customer-initiated", "action": action, "kek": "records", "decision": decision,
    })
}

fn access(second: u64, principal: &str, bucket: &str, operation: &str, status: u16) -> Value {
    json!({
        "time": at(second), "principal": principal, "bucket": bucket, "reason": "customer-initiated",
        "event": "access", "operation": operation, "status": status, "request_id": "r",
    })
}

fn event(name: &str, entry: Value) -> Value {
    let mut entry = entry;
    entry["event"] = name.into();
    entry
}

async fn compare(uses: Vec<Value>, accesses: Vec<Value>, more: &[&str]) -> Reconciled {
    let (custodian, proxy) = (handed_over(uses).await, handed_over(accesses).await);
    let (custodian_at, proxy_at, key) = (text(custodian.path()), text(proxy.path()), log_key());
    let words =
        ["reconcile", "--custodian", &custodian_at, "--custodian-key", &key, "--proxy", &proxy_at, "--proxy-key", &key];
    let Command::Reconcile(arguments) = typed(&[&words[..], more].concat()) else { panic!("it is reconcile") };
    let reader = |folder: &tempfile::TempDir| Reader::open(folder.path(), log_signer().verifier()).expect("opens");
    reconcile(&arguments, &reader(&custodian), &reader(&proxy)).expect("compares")
}

#[tokio::test]
async fn accesses_within_a_lease_have_their_key_use() {
    let uses = vec![
        key_use(1000, "alice", "hr", "unwrap", "allow"),
        key_use(1000, "bob", "hr", "generate", "allow"),
        key_use(2000, "carol", "hr", "unwrap", "deny"),
    ];
    let accesses = vec![
        json!({"time": at(0), "event": "probe"}),
        access(998, "alice", "hr", "GetObject", 200),
        access(1300, "alice", "hr", "GetObject", 206),
        access(1304, "alice", "hr", "GetObject", 200),
        access(4600, "bob", "hr", "PutObject", 200),
        access(4600, "bob", "hr", "ListObjectsV2", 200),
        access(2000, "carol", "hr", "GetObject", 403),
    ];
    let good = compare(uses, accesses, &[]).await;
    assert_eq!((good.accesses, good.uses, good.without_use.total, good.without_access.total), (4, 2, 0, 0));
    assert_eq!(good.as_json()["ok"], true);
}

#[tokio::test]
async fn what_failed_or_went_on_explains_key_uses_and_needs_none() {
    let uses = vec![
        key_use(1000, "alice", "hr", "unwrap", "allow"),
        key_use(1300, "alice", "hr", "unwrap", "allow"),
        key_use(1000, "bob", "hr", "unwrap", "allow"),
    ];
    let accesses = vec![
        event("begin", access(1001, "alice", "hr", "GetObject", 200)),
        event("end", access(1500, "alice", "hr", "GetObject", 200)), // it renewed its lease
        access(1001, "bob", "hr", "GetObject", 503),
        access(9000, "bob", "hr", "HeadObject", 304),
        event("end", access(9000, "bob", "hr", "GetObject", 200)),
    ];
    let good = compare(uses, accesses, &[]).await;
    assert_eq!((good.accesses, good.without_use.total, good.without_access.total), (1, 0, 0));
}

#[tokio::test]
async fn accesses_and_uses_without_their_counterpart_are_reported() {
    let uses = vec![
        key_use(1000, "alice", "hr", "unwrap", "allow"),
        key_use(9000, "alice", "hr", "unwrap", "allow"),
        key_use(9000, "mallory", "hr", "unwrap", "allow"),
    ];
    let accesses = vec![
        access(1306, "alice", "hr", "GetObject", 200), // after the lease
        access(1100, "alice", "hr", "GetObject", 200),
        access(1100, "bob", "hr", "GetObject", 200),    // another principal
        access(1100, "alice", "pay", "GetObject", 200), // another bucket
        access(900, "alice", "hr", "PutObject", 200),   // before
        json!({"operation": "GetObject", "time": at(1100)}),
    ];
    let bad = compare(uses.clone(), accesses.clone(), &[]).await;
    assert_eq!(bad.without_use.indices(), [0, 2, 3, 4]);
    assert_eq!(bad.without_access.indices(), [1, 2]);
    assert_eq!(bad.unknown, 1);
    assert_eq!(bad.as_json()["accesses_without_key_use"]["total"], 4);
    let text = bad.as_text();
    assert!(text.contains("4 record accesses without a key use") && text.contains("for mallory in hr"), "{text}");

    let window = ["--since", "2026-01-01T00:16:00Z", "--until", "2026-01-01T00:19:00Z", "--limit", "1"];
    let some = compare(uses, accesses, &window).await;
    assert_eq!((some.without_use.total, some.without_use.indices(), some.without_access.total), (2, vec![2], 0));
}

#[tokio::test]
async fn a_copy_reads_in_one_bucket_and_writes_in_another() {
    let copy = |from: &str| {
        let mut copy = access(1010, "alice", "hr", "CopyObject", 200);
        copy["copied_bucket"] = from.into();
        copy
    };
    let uses = || {
        vec![key_use(1000, "alice", "hr", "generate", "allow"), key_use(1000, "alice", "archive", "unwrap", "allow")]
    };
    let good = compare(uses(), vec![copy("archive")], &[]).await;
    assert_eq!((good.without_use.total, good.without_access.total), (0, 0));
    let bad = compare(uses(), vec![copy("payroll")], &[]).await;
    assert_eq!((bad.without_use.total, bad.without_access.total), (1, 1));
}
