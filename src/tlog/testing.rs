//! For the tests of logs: a key, folders that are copied, and a storage that counts, fails, hangs and dies on request.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::log::{Log, Settings};
use super::note::{Signer, Use};
use super::recover::OpenError;
use super::storage::{Disk, Published, Segment, Storage};
use super::writer::Receipt;
use super::{LogError, merkle};
use crate::crypto::SigningKey;
use crate::secret::Secret;

/// Always the same key.
pub(super) fn signer() -> Signer {
    let seed = Secret::from_slice(&[9; 32]).expect("32 bytes");
    Signer::new("example.com/audit", Use::Log, SigningKey::from_seed(seed)).expect("a name")
}

/// Checkpoints on request only.
pub(super) fn settings() -> Settings {
    Settings { checkpoint_interval: Duration::from_secs(3600), ..Settings::default() }
}

pub(super) fn open(folder: &Path) -> Result<Log, OpenError> {
    Log::open_on(Arc::new(Disk::assume_no_power_loss()), folder, signer(), &settings())
}

/// The test entry number `index`.
pub(super) fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

pub(super) fn leaf(index: u64) -> merkle::Hash {
    merkle::leaf_hash(&entry(index))
}

/// Appends entries all at once, in order: tokio's budget, which would let some overtake others, is off.
pub(super) async fn append(log: &Log, indices: std::ops::Range<u64>) -> Vec<Result<Receipt, LogError>> {
    let appends = futures_util::future::join_all(indices.map(|index| log.append(entry(index))));
    tokio::task::unconstrained(appends).await
}

/// Appends entries all at once, and they are appended.
pub(super) async fn append_all(log: &Log, indices: std::ops::Range<u64>) {
    let first = indices.start;
    for (index, receipt) in (first..).zip(append(log, indices).await) {
        assert_eq!(receipt.expect("appends"), Receipt { index, leaf: leaf(index) });
    }
}

/// Copies all of a log but its lock, as a crash at this moment would leave it.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "lock" {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// A storage that does what the tests ask for.
pub(crate) struct Faulty {
    pub(crate) disk: Disk,
    /// Syncs of segments.
    pub(crate) syncs: AtomicUsize,
    /// Each sync of a segment takes this long.
    pub(crate) sync_delay: Duration,
    /// The process is "killed" in the operation after so many; negative when it is dead.
    pub(crate) life: AtomicI64,
    /// The disk is full.
    pub(crate) full: AtomicBool,
    /// Syncs fail.
    pub(crate) broken: AtomicBool,
    /// Syncs do not return.
    pub(crate) hang: AtomicBool,
}

impl Faulty {
    pub(crate) fn new() -> Self {
        Self {
            disk: Disk::assume_no_power_loss(),
            syncs: AtomicUsize::new(0),
            sync_delay: Duration::ZERO,
            life: AtomicI64::new(i64::MAX),
            full: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            hang: AtomicBool::new(false),
        }
    }

    pub(crate) fn open(self: &Arc<Self>, folder: &Path, settings: &Settings) -> Result<Log, OpenError> {
        Log::open_on(self.storage(), folder, signer(), settings)
    }

    /// As what a log is written through.
    pub(crate) fn storage(self: &Arc<Self>) -> Arc<dyn Storage> {
        Arc::new(Handle(Arc::clone(self)))
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.life.load(Ordering::SeqCst) < 0
    }

    /// Runs an operation, or half of it when it is the one that the process dies in.
    fn live<T>(&self, whole: impl FnOnce() -> io::Result<T>, half: impl FnOnce()) -> io::Result<T> {
        let left = self.life.fetch_sub(1, Ordering::SeqCst);
        if left > 0 {
            return whole();
        }
        if left == 0 {
            half();
        }
        Err(io::Error::other("killed"))
    }
}

struct Handle(Arc<Faulty>);

impl Storage for Handle {
    fn segment(&self, path: &Path) -> io::Result<Box<dyn Segment>> {
        let segment = self.0.live(|| self.0.disk.segment(path), || ())?;
        Ok(Box::new(FaultySegment { faulty: Arc::clone(&self.0), segment }))
    }

    fn publish(&self, folder: &Path, files: &[Published]) -> io::Result<()> {
        if self.0.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let half = || self.0.disk.publish(folder, &files[..files.len() / 2]).expect("half of it works");
        self.0.live(|| self.0.disk.publish(folder, files), half)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.live(|| self.0.disk.remove(path), || ())
    }
}

struct FaultySegment {
    faulty: Arc<Faulty>,
    segment: Box<dyn Segment>,
}

impl Segment for FaultySegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { faulty, segment } = self;
        let half = &bytes[..bytes.len() / 2];
        if faulty.full.load(Ordering::SeqCst) {
            segment.append(half)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let segment = Mutex::new(segment);
        let write = |bytes: &[u8]| segment.lock().expect("not poisoned").append(bytes);
        faulty.live(|| write(bytes), || write(half).expect("half of it works"))
    }

    fn sync(&mut self) -> io::Result<()> {
        while self.faulty.hang.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(self.faulty.sync_delay);
        self.faulty.syncs.fetch_add(1, Ordering::SeqCst);
        if self.faulty.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is broken"));
        }
        let segment = &mut self.segment;
        self.faulty.live(|| segment.sync(), || ())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let segment = &mut self.segment;
        self.faulty.live(|| segment.truncate(length), || ())
    }
}
