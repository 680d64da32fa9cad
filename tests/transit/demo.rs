//! `claviger demo` with a real OpenBao server in the place of its own custodian.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::openbao::OpenBao;

/// Runs the demo once: it stores a sample, reads it back, and looks at what the storage server has.
async fn demo(bao: &OpenBao, name: &str) -> (Output, PathBuf) {
    let token = bao.token("1h").await;
    bao.write_private("demo-token", &token);
    let dir = bao.folder().join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
    command
        .args(["demo", "--once", "--json", "--listen", "127.0.0.1:0", "--custodian-url", &bao.url, "--dir"])
        .arg(&dir);
    command.arg("--custodian-ca-file").arg(bao.folder().join("ca.pem"));
    command.arg("--custodian-token-file").arg(bao.folder().join("demo-token"));
    let done = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await;
    let done = done.expect("no panic").expect("runs");
    for shown in [&done.stdout, &done.stderr] {
        assert!(!String::from_utf8_lossy(shown).contains(&token), "the token is shown");
    }
    (done, dir)
}

fn errors(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

#[tokio::test]
#[ignore = "needs OpenBao"]
async fn the_demo_stores_and_reads_under_a_kek_that_only_openbao_holds() {
    let bao = OpenBao::start().await;
    bao.create_kek("demo", true).await;
    // What docs/OPERATING.md gives a proxy, and no more.
    let rule = |path: &str| format!("path \"transit/{path}/demo\" {{ capabilities = [\"update\"] }}\n");
    bao.policy(&["datakey/plaintext", "decrypt", "rewrap"].map(rule).concat()).await;
    let (done, dir) = demo(&bao, "stores").await;
    assert!(done.status.success(), "{}", errors(&done));
    let show: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let read = show["application_reads"]["body_hex"].as_str().expect("a body");
    let penicillin: String = b"penicillin".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(read.contains(&penicillin), "{read}");
    assert!(!dir.join("custodian/store.db").exists(), "no KEK here");

    // The same folder again: what it wrote opens only with OpenBao's help.
    bao.policy("path \"transit/*\" { capabilities = [\"deny\"] }").await;
    let (done, _) = demo(&bao, "stores").await;
    let errors = errors(&done);
    assert_eq!(done.status.code(), Some(1), "{errors}");
    assert!(errors.contains("allows `update` on transit/datakey/plaintext/demo and transit/decrypt/demo"), "{errors}");
}

#[tokio::test]
#[ignore = "needs OpenBao"]
async fn a_kek_that_is_missing_or_ignores_context_is_refused_at_start_with_the_command_that_helps() {
    let bao = OpenBao::start().await;
    let (done, _) = demo(&bao, "missing").await;
    let missing = errors(&done);
    assert_eq!(done.status.code(), Some(1), "{missing}");
    assert!(missing.contains("or `bao write transit/keys/demo derived=true`"), "{missing}");
    assert!(missing.contains("the custodian has no such KEK"), "{missing}");

    bao.create_kek("demo", false).await;
    let (done, dir) = demo(&bao, "not-derived").await;
    let refused = errors(&done);
    assert_eq!(done.status.code(), Some(1), "{refused}");
    assert!(refused.contains("the KEK demo cannot be used; name another one"), "{refused}");
    assert!(refused.contains("bao write transit/keys/NAME derived=true"), "{refused}");
    assert!(refused.contains("ignores the context"), "{refused}");
    assert!(!dir.join("env.sh").exists(), "it was never ready");

    bao.admin("POST", "transit/keys/demo/config", &json!({"deletion_allowed": true})).await;
    bao.admin("DELETE", "transit/keys/demo", &json!({})).await;
    bao.create_kek("demo", true).await;
    let (done, _) = demo(&bao, "made-anew").await;
    assert!(done.status.success(), "{}", errors(&done));
}
