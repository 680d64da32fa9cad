//! `claviger key backup`: a file with KEKs for officers, and the branch keys of the ledger below them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::legal;
use crate::cli::custodian_client::{CallError, Client, CustodianFlags, plain};
use crate::cli::files::write_private;
use crate::cli::{Usage, runtime};
use crate::custodian::backup::Backup;
use crate::names::KekName;

const WHAT: &str = "backups";
/// Branch keys that are asked for at a time.
const PAGE: usize = 500;
/// Longest cursor.
const CURSOR_MAX: usize = 256;

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// The keys; without a name, all that the custodian has
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// An officer's age recipient, as `claviger key officer-identity` or `age-keygen` prints it. Once for each officer
    #[arg(long = "to", value_name = "age1…", required = true)]
    recipients: Vec<String>,
    /// How many of the officers it takes to restore it
    #[arg(long, value_name = "M")]
    threshold: u8,
    /// The new file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    custodian: CustodianFlags,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> Result<()> {
    let names = arguments.names.iter().map(|name| legal(name)).collect::<Result<Vec<_>>>()?;
    let out = &arguments.out;
    let above = out.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // An approval is good for once: what can fail does so before.
    if out.exists() || !above.is_dir() {
        return Err(Usage(format!("{} must be a new file in a folder that is there", out.display())).into());
    }
    let mut body = json!({ "recipients": arguments.recipients, "threshold": arguments.threshold });
    if !names.is_empty() {
        body["keks"] = names.iter().map(KekName::as_str).collect();
    }
    let client = Client::new(&arguments.custodian)?;
    runtime()?.block_on(make(&client, &body, out))
}

async fn make(client: &Client, body: &Value, out: &Path) -> Result<()> {
    let answer = client.ours(Method::POST, "backup", Some(body), WHAT).await?.data;
    let text = answer["backup"].as_str().context("the custodian answered without a backup")?;
    let backup = Backup::parse(text).context("what the custodian gave is no backup")?;
    ensure!(!text.contains('\n'), "what the custodian gave is no backup of one line");
    write_private(out, format!("{text}\n").as_bytes())?;
    let note = backup.note();
    let keks: Vec<&str> = note.keks.iter().map(|(name, _)| name.as_str()).collect();
    println!("wrote backup {} of {} to {}", note.id, keks.join(", "), out.display());
    for name in answer["left_out"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("claviger: {} is to be destroyed, and is not in it", plain(name));
    }
    let kept = ledger(client, note.keks.iter().map(|(name, _)| name), out).await.with_context(|| {
        format!("{} has the keys, but not all branch keys of the ledger: keep it, and make another", out.display())
    })?;
    super::restore::check_ledger(out).context("make another backup")?;
    println!("  with {kept} branch keys of the ledger");
    println!("  to restore it, {} of its {} officers are needed", note.threshold, note.recipients.len());
    Ok(())
}

/// Adds the branch keys of `keks`, a line each, and gives their number.
async fn ledger(client: &Client, keks: impl Iterator<Item = &KekName>, out: &Path) -> Result<u64> {
    let mut file = BufWriter::new(File::options().append(true).open(out)?);
    let (mut kept, mut bare) = (0, BTreeMap::new());
    for kek in keks {
        let mut after = String::new();
        loop {
            let Some(page) = page(client, kek, &after).await? else { break };
            for branch in page["branches"].as_array().into_iter().flatten() {
                if branch["context"].is_null() {
                    *bare.entry(kek.as_str()).or_insert(0_u64) += 1;
                    continue;
                }
                let line = json!({
                    "kek": kek.as_str(),
                    "id": branch["id"],
                    "context": branch["context"],
                    "generated": branch["generated"],
                    "created": branch["created"],
                    "ciphertexts": [branch["ciphertext"]],
                });
                writeln!(file, "{line}")?;
                kept += 1;
            }
            let Some(next) = page["next"].as_str() else { break };
            let legal = next.len() <= CURSOR_MAX && next.bytes().all(|byte| byte.is_ascii_alphanumeric());
            ensure!(legal && next != after, "the custodian's pages of branch keys do not go on");
            next.clone_into(&mut after);
        }
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    for (kek, count) in bare {
        eprintln!(
            "claviger: the ledger does not know what {count} branch keys of {kek} are bound to; they are not in the backup. The proxies' \
             state bucket has them"
        );
    }
    Ok(kept)
}

/// A page of branch keys; `None` of a custodian that does not give them out.
async fn page(client: &Client, kek: &KekName, after: &str) -> Result<Option<Value>> {
    let after = if after.is_empty() { String::new() } else { format!("&after={after}") };
    let answer = client.ours(Method::GET, &format!("keys/{kek}/branches?limit={PAGE}{after}"), None, WHAT).await;
    match answer {
        Ok(answer) => Ok(Some(answer.data)),
        Err(error) if matches!(error.downcast_ref(), Some(CallError::NotFound { texts }) if !texts.is_empty()) => {
            eprintln!(
                "claviger: this custodian does not give out the branch keys of {kek}; the backup has the key alone"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
