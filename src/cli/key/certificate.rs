//! `claviger key certificate`: the certificate of destruction, fetched or checked offline.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use super::destroy::{Target, known};
use crate::cli::audit::{read_bounded, verifier_key};
use crate::cli::custodian_client::{Client, CustodianFlags, plain, table};
use crate::cli::files::write_public;
use crate::cli::{Usage, runtime};
use crate::custodian::destruction::{read_certificate, signatures_left_out};
use crate::tlog::note::{MAX_NOTE_LEN, Use};

#[derive(Args)]
pub(in crate::cli) struct Arguments {
    /// The key that was destroyed; with :vN after it, its versions up to N
    #[arg(value_name = "NAME[:vN]", required_unless_present = "verify", conflicts_with = "verify")]
    target: Option<String>,
    /// Write it there, as a new file
    #[arg(long, value_name = "FILE", requires = "target")]
    out: Option<PathBuf>,
    /// Check this certificate instead, without asking any server
    #[arg(long, value_name = "FILE", requires = "key")]
    verify: Option<PathBuf>,
    /// The verifier key of the audit log of the custodian that erased; have it from its owner
    #[arg(long, env = "CLAVIGER_AUDIT_KEY", value_name = "VKEY|FILE")]
    key: Option<String>,
    #[command(flatten)]
    custodian: CustodianFlags,
}

pub(in crate::cli) fn run(arguments: &Arguments) -> Result<()> {
    match (&arguments.verify, &arguments.target) {
        (Some(file), _) => verify(file, arguments.key.as_deref().unwrap_or_default()),
        (None, Some(target)) => fetch(arguments, &Target::parse(target)?),
        (None, None) => Err(Usage("name the key, or give --verify FILE".to_owned()).into()),
    }
}

fn fetch(arguments: &Arguments, target: &Target) -> Result<()> {
    let client = Client::new(&arguments.custodian)?;
    let known = runtime()?.block_on(known(&client, target))?;
    let certificate = known.as_ref().and_then(|known| known["certificate"].as_str());
    let name = target.text();
    let certificate =
        certificate.with_context(|| format!("{name} was not destroyed, so that there is no certificate"))?;
    match &arguments.out {
        None => print!("{certificate}"),
        Some(file) => {
            write_public(file, certificate.as_bytes())?;
            println!("wrote {}; to check it: claviger key certificate --verify FILE --key VKEY", file.display());
        }
    }
    Ok(())
}

fn verify(file: &Path, key: &str) -> Result<()> {
    let key = verifier_key(key, Use::Log)?;
    let note = read_bounded(file, MAX_NOTE_LEN as u64)?;
    let certificate = read_certificate(&note, &key).with_context(|| format!("{} is not good", file.display()))?;
    print!("{}", as_text(&certificate));
    let left_out = signatures_left_out(&certificate);
    if left_out > 0 {
        eprintln!(
            "claviger: {left_out} officers' signatures were too long for it and were not checked: `claviger audit verify` finds them in the log"
        );
    }
    Ok(())
}

fn as_text(certificate: &Value) -> String {
    let text = |name: &str| plain(certificate[name].as_str().unwrap_or("-"));
    let versions = certificate["versions"].as_array().into_iter().flatten();
    let versions: Vec<String> = versions.map(|one| format!("v{}", one["version"])).collect();
    let of = if certificate["whole"] == Value::Bool(true) { "all of it" } else { "these versions alone" };
    let insecure = if certificate["insecure_wait"] == Value::Bool(true) { ", insecure" } else { "" };
    let quorum = |name: &str| {
        let approvals = certificate[name]["approvals"].as_array().into_iter().flatten();
        let officers: Vec<String> = approvals.filter_map(|one| one["officer"].as_str()).map(plain).collect();
        officers.join(", ")
    };
    let backups = certificate["backups"].as_array().into_iter().flatten();
    let backups: Vec<String> = backups.map(|one| plain(one["id"].as_str().unwrap_or("-"))).collect();
    let rows = [
        ("versions", format!("{} ({of})", versions.join(", "))),
        ("requested by", format!("{} on {}", text("requested_by"), text("requested"))),
        ("approved by", quorum("first_quorum")),
        ("waited", format!("{} s from {}{insecure}", certificate["wait_s"], text("scheduled"))),
        ("erased by", format!("{} on {}", text("erased_by"), text("erased"))),
        ("approved by", quorum("second_quorum")),
        ("lost with it", format!("{} branch keys", certificate["branch_keys_lost"])),
        (
            "in backups",
            if backups.is_empty() {
                "none is known".to_owned()
            } else {
                format!("{} known: {}", certificate["backups_known"], backups.join(", "))
            },
        ),
        ("custodian", format!("{}, audit log entry {}", text("custodian"), certificate["audit_log_index"])),
    ];
    format!("the certificate is good: {} was destroyed\n{}", text("kek"), table(rows))
}
