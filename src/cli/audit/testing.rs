//! Logs for the tests of the commands, and ways to tamper with them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Command;
use crate::crypto::SigningKey;
use crate::secret::Secret;
use crate::tlog::checkpoint::SignedCheckpoint;
use crate::tlog::log::{Log, Settings};
use crate::tlog::note::{Signer, Use};
use crate::tlog::reader::Reader;
use crate::tlog::storage::{Disk, Storage as _};
use crate::tlog::tile::{Content, Tile, push_entry};

pub(super) fn signer(name: &str, usage: Use, seed: u8) -> Signer {
    let seed = Secret::from_slice(&[seed; 32]).expect("32 bytes");
    Signer::new(name, usage, SigningKey::from_seed(seed)).expect("a name")
}

pub(super) fn log_signer() -> Signer {
    signer("claviger.example/one", Use::Log, 7)
}

/// The key of [`log_signer`], as text.
pub(super) fn log_key() -> String {
    log_signer().verifier().to_string()
}

pub(super) fn open(folder: &Path) -> Log {
    let settings = Settings { checkpoint_interval: Duration::from_secs(3600), ..Settings::default() };
    Log::open_on(Arc::new(Disk::assume_no_power_loss()), folder, log_signer(), &settings).expect("opens")
}

/// The entry number `index`, a minute after the one before.
pub(super) fn entry(index: u64) -> Value {
    let (hour, minute) = (index / 60, index % 60);
    json!({
        "time": format!("2026-01-01T{hour:02}:{minute:02}:00.000Z"),
        "principal": "spiffe://example.org/region/us/proxy/p1",
        "behalf": if index.is_multiple_of(2) { "alice" } else { "bob" },
        "reason": "customer-initiated",
        "action": if index.is_multiple_of(3) { "generate" } else { "unwrap" },
        "kek": "records",
        "decision": if index % 10 == 9 { "deny" } else { "allow" },
        "number": index,
    })
}

/// Appends `entries` and publishes them.
pub(super) async fn append(log: &Log, entries: impl IntoIterator<Item = Value>) -> SignedCheckpoint {
    for entry in entries {
        log.append(entry.to_string().into_bytes()).await.expect("appends");
    }
    log.publish().await.expect("publishes")
}

/// A log in a folder, without its journal, as it is handed to an inspector.
pub(super) async fn handed_over(entries: impl IntoIterator<Item = Value>) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let log = open(folder.path());
    append(&log, entries).await;
    log.close().await.expect("closes");
    fs::remove_dir_all(folder.path().join("journal")).expect("removes");
    folder
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// A copy of the log, with the entries that `change` makes of its own.
pub(super) fn with_entries(folder: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> TempDir {
    let copied = tempfile::tempdir().expect("a folder");
    copy(folder, copied.path());
    let reader = Reader::open(folder, log_signer().verifier()).expect("opens");
    let size = reader.checkpoint().checkpoint().size();
    let mut entries: Vec<Vec<u8>> = reader.entries(0).map(|entry| entry.expect("reads").1).collect();
    change(&mut entries);
    let disk = Disk::assume_no_power_loss();
    disk.remove(&copied.path().join("tile/entries")).expect("removes");
    for (index, entries) in (0..).zip(entries.chunks(256)) {
        let mut bundle = Vec::new();
        entries.iter().for_each(|entry| push_entry(&mut bundle, entry).expect("short"));
        // The last bundle keeps the name that the checkpoint's size gives it.
        let tile = Tile::of_size(Content::Entries, index, size).expect("not empty");
        disk.publish(copied.path(), &[(tile.to_string(), bundle)]).expect("writes");
    }
    copied
}

pub(super) fn text(path: &Path) -> String {
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// A command as it is typed after `claviger audit`.
pub(super) fn typed(words: &[&str]) -> Command {
    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }
    Line::try_parse_from(["audit"].iter().chain(words)).unwrap_or_else(|error| panic!("{error}")).command
}
