//! The log on disks that are full or hang.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::s3::xml::DeleteRequest;
use crate::tlog::log::MAX_ENTRY_LEN;
use crate::tlog::storage::{Published, Segment};
use crate::tlog::verify::verify;

/// A disk that can be made to be full, or to hang.
struct Faulty {
    disk: Disk,
    full: AtomicBool,
    hangs: AtomicBool,
}

struct Handle(Arc<Faulty>);

struct FaultySegment(Arc<Faulty>, Box<dyn Segment>);

impl Storage for Handle {
    fn segment(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        Ok(Box::new(FaultySegment(Arc::clone(&self.0), self.0.disk.segment(path)?)))
    }

    fn publish(&self, folder: &Path, files: &[Published]) -> io::Result<()> {
        self.0.disk.publish(folder, files)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.disk.remove(path)
    }
}

impl Segment for FaultySegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.0.full.load(Ordering::SeqCst) {
            self.1.append(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.1.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        while self.0.hangs.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.1.sync()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.1.truncate(length)
    }
}

fn settings(folder: &Path, keys: KeyForm, required: bool) -> AccessLogSettings {
    let key = SigningKey::from_seed(Secret::from_slice(&[9; 32]).expect("a seed"));
    AccessLogSettings { folder: folder.join("log"), origin: "claviger.example/proxy".into(), key, keys, required }
}

fn open(keys: KeyForm, required: bool) -> (Arc<AccessLog>, Arc<Faulty>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::assume_no_power_loss();
    let faulty = Arc::new(Faulty { disk, full: AtomicBool::new(false), hangs: AtomicBool::new(false) });
    let storage = Arc::new(Handle(Arc::clone(&faulty)));
    let log = AccessLog::open_on(storage, settings(folder.path(), keys, required)).expect("opens");
    (Arc::new(log), faulty, folder)
}

fn record() -> Record {
    Record {
        request_id: "0123".into(),
        principal: "alice".into(),
        access_key: "AKALICE".into(),
        reason: "customer-initiated",
        source: "192.0.2.7".into(),
        operation: "GetObject",
        bucket: Some("records".into()),
        key: Some("a \"name\"\n".into()),
        version: None,
        copied: None,
    }
}

fn begin() -> Entry {
    Entry { event: "begin", status: 200, bytes_in: Some(0), ..Entry::default() }
}

/// The entries of a log that verifies.
async fn entries(log: &AccessLog) -> Vec<Value> {
    log.close().await.expect("closes");
    let folder = &log.settings.folder;
    verify(folder, &log.verifier(), None).expect("whole");
    let reader = log.log().reader();
    let entries = reader.entries(0).map(|entry| entry.expect("is there").1);
    entries.map(|entry| serde_json::from_slice(&entry).expect("JSON")).collect()
}

#[test]
fn entries_keep_within_the_logs_limit_whatever_is_asked() {
    let long = |byte: char| byte.to_string().repeat(1024);
    let copied = Copied { bucket: "b".repeat(63), key: long('\u{1}'), version: Some(long('\u{1}')) };
    let worst = Record { key: Some(long('\u{1}')), version: Some(long('\u{2}')), copied: Some(copied), ..record() };
    for keys in [KeyForm::Clear, KeyForm::Hashed] {
        assert!(worst.to_json(begin(), keys).len() <= MAX_ENTRY_LEN);
        for length in [1, 960] {
            let one =
                |n: usize| format!("<Object><Key>{n:a<length$}</Key><VersionId>{n:b<length$}</VersionId></Object>");
            let document = format!("<Delete>{}</Delete>", (0..1000).map(one).collect::<String>());
            let deletes = DeleteRequest::parse(document.as_bytes()).expect("a request").objects;
            let entries = Record { key: None, copied: None, ..worst.clone() }.deletes_to_json(&deletes, 200, keys);
            assert!(entries.iter().all(|entry| entry.len() <= MAX_ENTRY_LEN));
            let named = |entry: &Vec<u8>| {
                let entry: Value = serde_json::from_slice(entry).expect("JSON");
                entry["objects"].as_array().expect("a list").len()
            };
            assert_eq!(entries.iter().map(named).sum::<usize>(), 1000);
        }
    }
}

#[tokio::test]
async fn entries_name_records_by_key_or_by_hash() {
    for (keys, field, value) in
        [(KeyForm::Clear, "key", "a \"name\"\n"), (KeyForm::Hashed, "key_sha256", "b7ae7a4a0d9ba0f4c1f3a1ce1c6a5a5f")]
    {
        let (log, _, _folder) = open(keys, true);
        log.admit().await.expect("ready");
        log.write(&record(), begin()).await.expect("writes");
        let ending = Some(Ending::ClientGone);
        log.write_later(&record(), Entry { event: "end", status: 200, bytes_out: Some(7), ending, ..Entry::default() });
        let entries = entries(&log).await;
        assert_eq!(entries.len(), 2, "closing waits for what is under way");
        let [begin, end] = [&entries[0], &entries[1]];
        assert_eq!(
            (&begin["event"], &begin["principal"], &begin["access_key"]),
            (&"begin".into(), &"alice".into(), &"AKALICE".into())
        );
        assert_eq!(
            (&end["event"], &end["bytes_out"], &end["ending"]),
            (&"end".into(), &7.into(), &"client-gone".into())
        );
        assert!(begin.get("bytes_out").is_none() && begin.get("code").is_none());
        let time = begin["time"].as_str().expect("a text");
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        let other = if field == "key" { "key_sha256" } else { "key" };
        assert!(begin.get(other).is_none());
        let named = begin[field].as_str().expect("named");
        if keys == KeyForm::Clear { assert_eq!(named, value) } else { assert_eq!(named.len(), 64) }
    }
}

#[tokio::test]
async fn entries_of_copies_name_what_was_read_too() {
    for (keys, field) in [(KeyForm::Clear, "copied_key"), (KeyForm::Hashed, "copied_key_sha256")] {
        let (log, _, _folder) = open(keys, true);
        let copied = Some(Copied { bucket: "archive".into(), key: "from".into(), version: Some("3\u{7f}".into()) });
        log.write(&Record { operation: "CopyObject", copied, ..record() }, begin()).await.expect("writes");
        let entries = entries(&log).await;
        assert_eq!(entries[0]["copied_bucket"], "archive");
        assert!(entries[0]["copied_version"].as_str().is_some_and(|version| version.starts_with("sha256:")));
        let named = entries[0][field].as_str().expect("named");
        assert_eq!(named == "from", keys == KeyForm::Clear);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_what_comes_and_a_free_one_is_taken_up_again() {
    let (log, disk, _folder) = open(KeyForm::Clear, true);
    log.write(&record(), begin()).await.expect("writes");
    disk.full.store(true, Ordering::SeqCst);
    assert!(log.write(&record(), begin()).await.is_err());
    for _ in 0..3 {
        assert!(log.admit().await.is_err());
    }
    disk.full.store(false, Ordering::SeqCst);
    assert!(log.admit().await.is_err(), "a failed log is opened again only after a while");
    *log.reopened.lock().await = Instant::now() - REOPEN_EVERY;
    log.admit().await.expect("opens again");
    log.write(&record(), begin()).await.expect("writes");
    let entries = entries(&log).await;
    let events: Vec<_> = entries.iter().filter_map(|entry| entry["event"].as_str()).collect();
    assert_eq!(events, ["begin", "probe", "begin"], "the half-written one is cut off");
}

#[tokio::test]
async fn a_disk_that_is_still_full_stays_refused() {
    let (log, disk, _folder) = open(KeyForm::Clear, true);
    disk.full.store(true, Ordering::SeqCst);
    assert!(log.write(&record(), begin()).await.is_err());
    *log.reopened.lock().await = Instant::now() - REOPEN_EVERY;
    assert!(log.admit().await.is_err(), "it opens, but the probe cannot be written");
    assert!(log.admit().await.is_err());
}

#[tokio::test]
async fn a_hanging_disk_costs_a_second_and_no_more() {
    let (log, disk, _folder) = open(KeyForm::Clear, true);
    disk.hangs.store(true, Ordering::SeqCst);
    let begun = std::time::Instant::now();
    assert!(log.write(&record(), begin()).await.is_err());
    assert!(log.admit().await.is_err(), "what comes next is not let do anything first");
    assert!(begun.elapsed() < DEADLINE * 3, "{:?}", begun.elapsed());
    disk.hangs.store(false, Ordering::SeqCst);
    log.admit().await.expect("a probe comes through");
    log.write(&record(), begin()).await.expect("writes");
    entries(&log).await;
}

#[tokio::test]
async fn what_is_not_required_is_gone_without() {
    let (log, disk, _folder) = open(KeyForm::Clear, false);
    disk.full.store(true, Ordering::SeqCst);
    log.write(&record(), begin()).await.expect("served all the same");
    log.admit().await.expect("served all the same");
}
