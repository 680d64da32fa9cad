//! `claviger key restore`, `backup-share` and `officer-identity`: what officers do with a backup.
//!
//! **Invariant:** identities and shares are in zeroized memory, and written only into files for this user alone, or where the user asks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::custodian_client::{Client, CustodianFlags, plain};
use crate::cli::files::write_private;
use crate::cli::{Bad, runtime};
use crate::custodian::approval::json::hex;
use crate::custodian::backup::{
    BACKUP_LEN_MAX, Backup, Identities, NewIdentity, ShareRefused, new_identity, open_share,
};
use crate::names::BranchId;

const WHAT: &str = "backups";
/// Branch keys that are sent at a time, and the most bytes of one's line.
pub(super) const PAGE: usize = 500;
const LINE_MAX: usize = 16 << 10;
/// Most bytes of a file with a share or an identity.
const SECRET_MAX: u64 = 64 << 10;

#[derive(Args)]
pub(in crate::cli) struct Restore {
    /// The backup
    file: PathBuf,
    /// An officer's age identity: opens that officer's share here, where no custodian has them. Once for each
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
    /// A share that an officer opened elsewhere, with `claviger key backup-share` or age. Once for each. Whoever has enough of them can open
    /// the keys without any custodian: have officers send theirs, with `claviger key backup-share --send`
    #[arg(long = "share-file", value_name = "FILE")]
    shares: Vec<PathBuf>,
    /// Restore although branch keys of the ledger are missing from the file
    #[arg(long)]
    incomplete_ledger: bool,
    /// Only bring the branch keys of the ledger back, of keys that were restored before
    #[arg(long, conflicts_with_all = ["identities", "shares"])]
    ledger_only: bool,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(in crate::cli) struct BackupShare {
    /// The backup
    file: PathBuf,
    /// Your age identity
    #[arg(long = "identity", value_name = "FILE", required = true)]
    identities: Vec<PathBuf>,
    /// Write the share there, as a new file for you alone; without it, to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Send the share to the custodian that is to restore, once that was approved, and show it to nobody
    #[arg(long, conflicts_with = "out")]
    send: bool,
    #[command(flatten)]
    custodian: CustodianFlags,
}

#[derive(Args)]
pub(in crate::cli) struct OfficerIdentity {
    /// The new file, for you alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Makes an identity and prints whom backups are to be encrypted to.
pub(in crate::cli) fn officer_identity(arguments: &OfficerIdentity) -> Result<()> {
    let NewIdentity { file, recipient } = new_identity();
    write_private(&arguments.out, file.as_bytes())?;
    println!("{recipient}");
    Ok(())
}

/// Opens one officer's share.
pub(in crate::cli) fn backup_share(arguments: &BackupShare) -> Result<()> {
    let BackupFile { backup, .. } = read(&arguments.file)?;
    let mut refused = ShareRefused::NotForIt;
    for path in &arguments.identities {
        match open_share(backup.shares().map(|(_, share)| share), &identities(path)?) {
            Ok(share) => {
                return match &arguments.out {
                    None if arguments.send => send(&arguments.custodian, &backup, &share),
                    Some(out) => write_private(out, share.as_bytes()),
                    None => Ok(writeln!(std::io::stdout(), "{}", share.as_str())?),
                };
            }
            Err(why) => refused = why,
        }
    }
    Err(refused).with_context(|| format!("cannot open a share of {}", arguments.file.display()))
}

/// Sends a share to the custodian.
fn send(custodian: &CustodianFlags, backup: &Backup, share: &str) -> Result<()> {
    let client = Client::new(custodian)?;
    let head = format!("{{\"backup_sha256\":\"{}\",\"share\":\"", hex(&backup.sha256()));
    let share = share_text(share).context("what was opened is no share")?;
    let mut body = Zeroizing::new(Vec::with_capacity(head.len() + share.len() + 2));
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(share.as_bytes());
    body.extend_from_slice(b"\"}");
    let answer = runtime()?.block_on(client.ours_secret("restore/share", body, WHAT))?;
    println!("sent; the custodian has {} of {} shares", answer.data["shares"], backup.note().threshold);
    Ok(())
}

/// A share as JSON takes it.
fn share_text(share: &str) -> Option<&str> {
    let share = share.trim_ascii();
    share.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)).then_some(share)
}

/// A backup's file.
struct BackupFile {
    backup: Backup,
    /// Its line.
    first: String,
    /// What stands below it.
    lines: BufReader<File>,
}

fn read(file: &Path) -> Result<BackupFile> {
    let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut lines = BufReader::new(opened);
    let mut first = String::new();
    let read = lines.by_ref().take(BACKUP_LEN_MAX as u64 + 2).read_line(&mut first);
    let backup = read.map_err(anyhow::Error::from).and_then(|_| Ok(Backup::parse(&first)?));
    let backup = backup.with_context(|| format!("{} is no backup", file.display()))?;
    Ok(BackupFile { backup, first, lines })
}

fn secret(file: &Path) -> Result<Zeroizing<String>> {
    let most = usize::try_from(SECRET_MAX).expect("small") + 1;
    let mut text = Zeroizing::new(String::with_capacity(most));
    let read = File::open(file).and_then(|opened| opened.take(SECRET_MAX + 1).read_to_string(&mut text));
    read.with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(text.len() < most, "{} is too long for a share or an identity", file.display());
    Ok(text)
}

fn identities(file: &Path) -> Result<Identities> {
    Identities::parse(&secret(file)?).with_context(|| format!("{} is no age identity", file.display()))
}

pub(in crate::cli) fn run(arguments: &Restore) -> Result<()> {
    let BackupFile { backup, .. } = read(&arguments.file)?;
    let mut shares = Vec::new();
    for path in &arguments.identities {
        let share = open_share(backup.shares().map(|(_, share)| share), &identities(path)?);
        shares.push(share.with_context(|| format!("{} opens no share of the backup", path.display()))?);
    }
    for path in &arguments.shares {
        shares.push(secret(path)?);
    }
    let shares: Vec<&str> = shares.iter().map(|share| share.as_str()).collect();
    let client = Client::new(&arguments.custodian)?;
    if !arguments.incomplete_ledger {
        check_ledger(&arguments.file)
            .context("to restore all the same, give --incomplete-ledger, and mind `claviger key adopt`")?;
    }
    runtime()?.block_on(from_file(&client, &arguments.file, &shares, arguments.ledger_only))
}

/// Whether the branch keys below a backup are those that its head says were in the ledger: officers approve the head.
pub(super) fn check_ledger(file: &Path) -> Result<()> {
    let BackupFile { backup, mut lines, .. } = read(file)?;
    let mut found: BTreeMap<String, Vec<(BranchId, i64)>> = BTreeMap::new();
    loop {
        let mut line = String::new();
        if lines.by_ref().take(LINE_MAX as u64 + 1).read_line(&mut line)? == 0 {
            break;
        }
        let Branch { kek, sent, created } = branch(&line).with_context(|| broken(file))?;
        let id = sent["id"].as_str().and_then(BranchId::parse).with_context(|| broken(file))?;
        found.entry(kek).or_default().extend(created.map(|created| (id, created)));
    }
    for (kek, sum) in backup.ledgers() {
        let Some(sum) = sum else {
            eprintln!("claviger: this backup does not say how many branch keys of {} there were", plain(kek));
            continue;
        };
        let held = found.remove(kek).unwrap_or_default();
        ensure!(
            sum.holds(held),
            "the lines below the backup are not the {} branch keys of {} that it was made with",
            sum.branch_keys(),
            plain(kek)
        );
    }
    Ok(())
}

/// Restores what is in `file`, or its branch keys only.
pub(super) async fn from_file(client: &Client, file: &Path, shares: &[&str], ledger_only: bool) -> Result<()> {
    let BackupFile { backup, first, lines } = read(file)?;
    let restored = if ledger_only {
        backup.note().keks.iter().map(|(name, _)| name.as_str().to_owned()).collect()
    } else {
        keks(client, &first, file, shares).await?
    };
    ledger(client, lines, &restored, file).await
}

/// Has the KEKs restored, and tells which were.
async fn keks(client: &Client, backup: &str, file: &Path, shares: &[&str]) -> Result<Vec<String>> {
    let body = body(backup.trim_end(), shares)?;
    let answer = client.ours_secret("restore", body, WHAT).await.with_context(|| {
        let file = file.display();
        format!("{file} was not restored: once that is approved, each officer runs `claviger key backup-share {file} --identity FILE --send`")
    })?;
    let texts = |name: &str| answer.data[name].as_array().cloned().unwrap_or_default();
    let restored: Vec<String> = texts("restored").iter().filter_map(Value::as_str).map(plain).collect();
    for name in &restored {
        println!("restored {name}");
    }
    if !restored.is_empty() {
        eprintln!(
            "claviger: no version of these keys is retired or destroyed before their ledger is whole: `claviger key adopt`, \
             then `claviger key declare-whole`"
        );
    }
    let shares = |name: &str| texts(name).iter().filter_map(Value::as_str).map(plain).collect::<Vec<_>>().join(", ");
    let stray = shares("stray_shares");
    if !stray.is_empty() {
        let opened_with = shares("opened_with");
        eprintln!(
            "claviger: left out: {stray}. It does not belong with what opened the backup: {opened_with}. Ask who sent a wrong one"
        );
    }
    for one in texts("refused") {
        let text = |name: &str| plain(one[name].as_str().unwrap_or("-"));
        eprintln!("claviger: {} was not restored: {}", text("kek"), text("error"));
    }
    if restored.is_empty() { Err(Bad.into()) } else { Ok(restored) }
}

/// `{"backup": text, "shares": […]}`, in one zeroized piece that never moves.
fn body(text: &str, shares: &[&str]) -> Result<Zeroizing<Vec<u8>>> {
    let text = serde_json::to_string(text)?;
    let length: usize = shares.iter().map(|share| share.len() + 3).sum();
    let mut body = Zeroizing::new(Vec::with_capacity(text.len() + length + 32));
    body.extend_from_slice(b"{\"backup\":");
    body.extend_from_slice(text.as_bytes());
    body.extend_from_slice(b",\"shares\":[");
    for (index, share) in shares.iter().enumerate() {
        let share = share_text(share).with_context(|| format!("share {} is no share", index + 1))?;
        body.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
        body.extend_from_slice(share.as_bytes());
        body.push(b'"');
    }
    body.extend_from_slice(b"]}");
    Ok(body)
}

/// Brings the branch keys of `keks` back.
async fn ledger(client: &Client, lines: BufReader<File>, keks: &[String], file: &Path) -> Result<()> {
    let mut counts = Counts::default();
    let mut page: (String, Vec<Value>) = Default::default();
    let mut lines = lines;
    loop {
        let mut line = String::new();
        let read = lines.by_ref().take(LINE_MAX as u64 + 1).read_line(&mut line)?;
        let branch = if read == 0 { None } else { Some(branch(&line).with_context(|| broken(file))?) };
        let same = branch.as_ref().is_some_and(|branch| branch.kek == page.0);
        if (!same || page.1.len() >= PAGE) && !page.1.is_empty() {
            counts.send(client, &page.0, &std::mem::take(&mut page.1)).await.with_context(|| {
                format!(
                    "not all branch keys came back; to go on: claviger key restore {} --ledger-only",
                    file.display()
                )
            })?;
        }
        let Some(Branch { kek, sent, .. }) = branch else { break };
        if keks.contains(&kek) {
            page.1.push(sent);
        }
        page.0 = kek;
    }
    println!("  {} branch keys are in the ledger again", counts.taken);
    if counts.refused > 0 {
        eprintln!("claviger: {} branch keys do not open under their key and were left out", counts.refused);
        return Err(Bad.into());
    }
    Ok(())
}

fn broken(file: &Path) -> String {
    format!("a line with a branch key in {} is broken", file.display())
}

/// A line.
struct Branch {
    kek: String,
    /// What the custodian is sent of it.
    sent: Value,
    /// When it came into the ledger, in seconds since 1970.
    created: Option<i64>,
}

fn branch(line: &str) -> Result<Branch> {
    let mut sent: Value = serde_json::from_str(line)?;
    let mut take = |name: &str| sent.as_object_mut().and_then(|fields| fields.remove(name));
    let (kek, created) = (take("kek"), take("created"));
    let kek = kek.as_ref().and_then(Value::as_str).context("it names no key")?.to_owned();
    Ok(Branch { kek, sent, created: created.as_ref().and_then(Value::as_i64) })
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) taken: u64,
    pub(super) refused: usize,
}

impl Counts {
    pub(super) async fn send(&mut self, client: &Client, kek: &str, branches: &[Value]) -> Result<()> {
        let body = json!({ "kek": kek, "branches": branches });
        let answer = client.ours(Method::POST, "restore/branches", Some(&body), WHAT).await?.data;
        self.taken += answer["taken"].as_u64().unwrap_or_default();
        self.refused += answer["refused"].as_array().map_or(0, Vec::len);
        Ok(())
    }
}
