//! A custodian that is killed in the middle of its writes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::database::{put, seals, settings};
use crate::custodian::seal::RootKey;
use crate::custodian::store::session::{Column, Field};
use crate::custodian::store::sql::Mode;
use crate::custodian::store::{Kind, SealedStore, SqlStore, create_sqlite, open_sqlite};

const WRITER: &str = "custodian::store::tests::crash::a_writer_that_never_stops";
const FILE: &str = "CLAVIGER_TEST_STORE";

fn root() -> RootKey {
    RootKey::of(&[0x42; 32])
}

#[tokio::test]
async fn kill_9_leaves_a_whole_store_with_all_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let store: Arc<SqlStore> = Arc::new(create_sqlite(&path, settings()).await.expect("makes"));
    SealedStore::create(store.clone(), &root(), &seals(&root()).await).await.expect("makes");
    crate::custodian::store::Store::close(&*store).await;
    for round in 0..6u64 {
        let mut writer = Command::new(std::env::current_exe().expect("this test"))
            .env(FILE, &path)
            .args(["--exact", WRITER, "--ignored", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        let lines = BufReader::new(writer.stdout.take().expect("piped")).lines();
        let mut acknowledged = lines.filter_map(|line| line.expect("text").strip_prefix("done ")?.parse::<u64>().ok());
        let mut last = acknowledged.nth(5).expect("writes");
        std::thread::sleep(Duration::from_millis(7 * round));
        writer.kill().expect("kills");
        writer.wait().expect("is dead");
        // What was said before it died.
        last = acknowledged.last().unwrap_or(last);

        let store = Arc::new(open_sqlite(&path, settings()).await.expect("opens"));
        let check = store.call(Mode::Single, |session| {
            session.fetch(
                "SELECT COUNT(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
                Vec::new(),
                &[Column::Int],
                1024,
            )
        });
        assert!(matches!(check.await.expect("checks")[0][0], Field::Int(0)), "round {round}");
        let sealed = SealedStore::open(store.clone(), &root()).await.expect("is whole");
        let listing = sealed.list(Kind::Grant).await.expect("is whole");
        assert!(listing.epoch.generation() >= last, "round {round}: an acknowledged change is gone");
        assert_eq!(listing.records.len() % 3, 0, "round {round}: half a change");
        crate::custodian::store::Store::close(&*store).await;
    }
}

#[tokio::test]
#[ignore = "run by kill_9_leaves_a_whole_store_with_all_that_was_acknowledged"]
async fn a_writer_that_never_stops() {
    let path = PathBuf::from(std::env::var_os(FILE).expect("set by the outer test"));
    let store = Arc::new(open_sqlite(&path, settings()).await.expect("opens"));
    let sealed = SealedStore::open(store, &root()).await.expect("opens");
    let mut out = std::io::stdout();
    loop {
        let number = sealed.epoch().await.expect("reads").generation();
        let names = ["a", "b", "c"].map(|letter| format!("{letter}{number}"));
        let changes = names.each_ref().map(|name| put(name, 0, &[7; 3000]));
        let epoch = sealed.change(&changes).await.expect("writes");
        writeln!(out, "done {}", epoch.generation()).and_then(|()| out.flush()).expect("the outer test listens");
    }
}
