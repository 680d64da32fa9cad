//! A real OpenBao server: one node with raft storage and its audit file, which it writes and does not wait for the disk.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::connection::{Connection, request};
use crate::contender::{Contender, Process, free_address, until_healthy};

/// `CLAVIGER_BAO`, or what `tests/run` installed.
pub(crate) fn program() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("CLAVIGER_BAO") {
        return Some(given.into());
    }
    let installed = Path::new(option_env!("CARGO_TARGET_TMPDIR")?).with_file_name("interop-venv").join("bin/bao");
    installed.exists().then_some(installed)
}

pub(crate) async fn start(program: &Path, folder: &Path, client: &Arc<ClientConfig>) -> Result<Contender> {
    let (address, cluster) = (free_address()?, free_address()?);
    std::fs::create_dir(folder.join("raft"))?;
    let config = format!(
        r#"ui = false
log_level = "warn"
disable_mlock = true
api_addr = "https://{address}"
cluster_addr = "https://{cluster}"
storage "raft" {{
  path = "raft"
  node_id = "bench"
}}
listener "tcp" {{
  address = "{address}"
  cluster_address = "{cluster}"
  tls_cert_file = "../server.pem"
  tls_key_file = "../server.key"
  tls_client_ca_file = "../ca.pem"
}}
audit "file" "log" {{
  options {{
    file_path = "audit.log"
  }}
}}
"#
    );
    std::fs::write(folder.join("server.hcl"), config)?;
    let mut command = Command::new(program);
    command.args(["server", "-config", "server.hcl"]).current_dir(folder).env("HOME", folder);
    let process = Process::start(&mut command, folder)?;
    // Not initialised.
    until_healthy(address, client, &[501], folder).await?;
    let mut operator = Connection::open(address, client).await?;
    let mut admin = async |token: Option<&str>, path: &str, body: Value| {
        let asked = operator.done(&request("POST", path, token, &body.to_string())).await;
        asked.with_context(|| format!("OpenBao refuses {path}"))
    };
    let keys = admin(None, "sys/init", json!({"secret_shares": 1, "secret_threshold": 1})).await?;
    admin(None, "sys/unseal", json!({"key": keys["keys_base64"][0]})).await?;
    until_healthy(address, client, &[200], folder).await?;
    let root = keys["root_token"].as_str();
    admin(root, "sys/mounts/transit", json!({"type": "transit"})).await?;
    admin(root, "sys/auth/cert", json!({"type": "cert"})).await?;
    let policy = "path \"transit/*\" { capabilities = [\"update\"] }";
    admin(root, "sys/policies/acl/proxy", json!({"policy": policy})).await?;
    let ca = std::fs::read_to_string(folder.join("../ca.pem"))?;
    let role = json!({"certificate": ca, "token_policies": ["proxy"], "token_ttl": "1h"});
    admin(root, "auth/cert/certs/proxy", role).await?;
    admin(root, "transit/keys/records", json!({"derived": true})).await?;
    let login = admin(None, "auth/cert/login", json!({})).await?;
    let token = login["auth"]["client_token"].as_str().context("no token")?.to_owned();
    let contender = Contender::new("OpenBao", address, process, Some(token), client).await?;
    let written = std::fs::metadata(folder.join("audit.log")).context("OpenBao writes no audit file")?;
    anyhow::ensure!(written.len() > 0, "OpenBao's audit file is empty");
    Ok(contender)
}
