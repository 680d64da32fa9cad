//! A backup's file, from one custodian to another, both of which answer as told.

use std::sync::{Arc, Mutex};

use super::*;
use crate::cli::custodian_client::tests::Fake;
use crate::cli::key::restore;
use crate::crypto;
use crate::custodian::approval::json::hex;

/// A page of branch keys after `after`.
fn page_after(after: &str) -> Value {
    let branch = |id: u32, context: Value| {
        json!({ "id": format!("{id:032x}"), "context": context, "generated": 1, "created": 9, "newest": 2, "ciphertext": "vault:v2:AAAA",
            "confirmed": { "main": 1 } })
    };
    match after {
        "" => json!({ "branches": [branch(1, "AAAA".into()), branch(2, Value::Null)], "next": "abc1" }),
        "abc1" => json!({ "branches": [branch(3, "BBBB".into())], "next": null }),
        other => panic!("{other}"),
    }
}

fn text() -> String {
    // Made once by `make`: of one KEK, for two officers; the file that fuzzers start from.
    include_str!("../../../../fuzz/corpus/backup/whole").to_owned()
}

async fn source() -> Fake {
    Fake::start(|call| {
        let data = match call {
            "POST /v1/sys/claviger/backup" => json!({ "backup": text(), "left_out": ["doomed"] }),
            call => {
                let query = call.strip_prefix("GET /v1/sys/claviger/keys/records/branches?limit=500").expect("a page");
                page_after(query.strip_prefix("&after=").unwrap_or_default())
            }
        };
        (200, true, json!({ "data": data }))
    })
    .await
}

#[tokio::test]
async fn a_backup_takes_the_ledger_along_page_by_page_and_brings_it_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("backup");
    let fake = source().await;
    make(&fake.client(&[]), &json!({}), &out).await.expect("makes");
    let written = std::fs::read_to_string(&out).expect("is there");
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, text().trim_end()));
    let line: Value = serde_json::from_str(lines[2]).expect("JSON");
    let expected = json!({ "kek": "records", "id": format!("{:032x}", 3), "context": "BBBB", "generated": 1,
        "created": 9, "ciphertexts": ["vault:v2:AAAA"] });
    assert_eq!(line, expected);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&out).expect("is there").permissions().mode() & 0o777, 0o600);
    }
    assert!(make(&fake.client(&[]), &json!({}), &out).await.is_err(), "nothing is overwritten");

    let fake = Fake::start(|call| {
        let data = match call {
            "POST /v1/sys/claviger/restore" => json!({ "restored": ["records"], "refused": [] }),
            "POST /v1/sys/claviger/restore/branches" => json!({ "taken": 2, "refused": [] }),
            other => panic!("{other}"),
        };
        (200, true, json!({ "data": data }))
    })
    .await;
    restore::from_file(&fake.client(&[]), &out, &["c2hhcmU=", "b3RoZXI="], false).await.expect("restores");
    let seen: Vec<(String, Value)> = fake.seen().into_iter().map(|(call, _, _, body)| (call, body)).collect();
    assert_eq!(seen[0].1, json!({ "backup": lines[0], "shares": ["c2hhcmU=", "b3RoZXI="] }));
    assert_eq!((&seen[1].1["kek"], seen[1].1["branches"].as_array().map(Vec::len)), (&json!("records"), Some(2)));
    assert_eq!(seen.len(), 2);
    restore::from_file(&fake.client(&[]), &out, &[], true).await.expect("only the ledger");
    assert_eq!(fake.seen().len(), 3);
    let bad = restore::from_file(&fake.client(&[]), &out, &["x\",\"y"], false).await;
    assert!(bad.is_err() && fake.seen().len() == 3, "what is no share is not sent");
}

#[tokio::test]
async fn what_a_custodian_says_is_not_believed_when_it_is_no_backup_or_goes_round_in_circles() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::start(|_| (200, true, json!({ "data": { "backup": "{}" } }))).await;
    let out = folder.path().join("one");
    assert!(make(&fake.client(&[]), &json!({}), &out).await.is_err() && !out.exists());
    let calls = Arc::new(Mutex::new(0));
    let count = Arc::clone(&calls);
    let fake = Fake::start(move |call| {
        *count.lock().expect("not poisoned") += 1;
        let data = if call.starts_with("POST") {
            json!({ "backup": text() })
        } else {
            json!({ "branches": [], "next": "abc" })
        };
        (200, true, json!({ "data": data }))
    })
    .await;
    let out = folder.path().join("two");
    assert!(make(&fake.client(&[]), &json!({}), &out).await.is_err() && out.exists(), "the keys are kept");
    assert_eq!(*calls.lock().expect("not poisoned"), 3);
}

#[test]
fn lines_that_were_taken_out_of_a_backup_are_missed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("backup");
    let ids: Vec<[u8; 16]> = (1u32..=2).map(|id| u128::from(id).to_be_bytes()).collect();
    let mut head: Value = serde_json::from_str(&text()).expect("JSON");
    head["keks"][0]["ledger"] = json!({ "before": "2026-01-01T00:00:00Z", "branch_keys": 2,
        "ids_sha256": hex(&crypto::sha256(ids.as_flattened())) });
    let line = |id: u32, created: i64| {
        json!({ "kek": head["keks"][0]["name"], "id": format!("{id:032x}"), "context": "AAAA", "generated": 1,
            "created": created, "ciphertexts": ["vault:v1:AAAA"] })
    };
    let check = |lines: &[Value]| {
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, format!("{head}\n{lines}")).expect("writes");
        restore::check_ledger(&file)
    };
    let later = 1_800_000_000;
    check(&[line(2, 9), line(1, 8)]).expect("all of them");
    check(&[line(1, 8), line(2, 9), line(3, later)]).expect("and one that was made meanwhile");
    for (what, lines) in [
        ("none", vec![]),
        ("one is missing", vec![line(1, 8)]),
        ("another one", vec![line(1, 8), line(3, 9)]),
        ("as if it were younger", vec![line(1, 8), line(2, later)]),
        ("one more", vec![line(1, 8), line(2, 9), line(3, 9)]),
    ] {
        assert!(check(&lines).is_err(), "{what}");
    }
}
