//! Opens the audit log of one custodian, and holds log and store against each other.
//!
//! **Invariant:** a log that contradicts the store, or a store that is older than the log, is not opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::crypto::{RandomFailed, SigningKey};
use crate::custodian::barrier::Kind;
use crate::custodian::store::{
    Change, Epoch, LogEvidence, LogHead, NewRecord, SealedStore, StoreError, Verdict as Judgement,
};
use crate::secret::Secret;
use crate::tlog::checkpoint::SignedCheckpoint;
use crate::tlog::log::{Log, Settings};
use crate::tlog::merkle::Hash;
use crate::tlog::note::{InvalidNote, Signer, Use};
use crate::tlog::proof::verify_consistency;
use crate::tlog::reader::{Reader, ReaderError};
use crate::tlog::storage::{Disk, Storage};
use crate::tlog::{LogError, OpenError, ReadError};

use super::{AuditLog, entry};

/// How many of the last entries are searched for the highest generation.
const READ_BACK: u64 = 1024;
/// The longest that anyone waits for an entry.
const DEADLINE: Duration = Duration::from_secs(1);
/// As often as two custodians that make the same record may get in each other's way.
const TRIES: u32 = 3;

/// Where a custodian writes its audit log, and as whom.
#[derive(Debug, Clone)]
pub struct AuditSettings {
    /// The folder of the log. Each custodian has one of its own.
    pub folder: PathBuf,
    /// The name of this custodian among those that share a store; 1 to 128 characters.
    pub instance: String,
    /// The log's name in its checkpoints, such as `audit.example.org/custodian-1`.
    pub origin: String,
    /// The longest that an entry waits for a signed checkpoint.
    pub checkpoint_interval: Duration,
}

/// Why the audit log is not opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    /// The origin cannot be a log's name.
    #[error("the origin of the audit log is not a name of 1 to 255 characters without white space or '+'")]
    Origin(#[from] InvalidNote),
    /// The store does not give or keep the log's key.
    #[error("the audit log's key cannot be had from the store")]
    Store(#[from] StoreError),
    /// What the store has as the log's key is not one.
    #[error("what the store keeps as the audit log's key is not a key")]
    Key,
    /// No randomness on this machine.
    #[error(transparent)]
    Random(#[from] RandomFailed),
    /// The log itself does not open.
    #[error("the audit log in {} cannot be opened", folder.display())]
    Log {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The log opens and cannot be written.
    #[error("the audit log in {} cannot be written", folder.display())]
    Write {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        source: LogError,
    },
    /// The log opens and cannot be read back.
    #[error("the audit log in {} cannot be read back", folder.display())]
    ReadBack {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        source: ReaderError,
    },
    /// The store was put back.
    #[error(
        "the store is at generation {store}, but the audit log in {} names generation {log}: the store was put back to an older \
         state, so that changes such as a disabled KEK or a revoked principal are lost. Put the newest store in place. If there \
         is none, move the audit log's folder away, keep it as evidence, and make again every change that it names from \
         generation {store} on", folder.display()
    )]
    StoreIsOld {
        /// The log's folder.
        folder: PathBuf,
        /// The generation of the store.
        store: u64,
        /// The generation that the log names.
        log: u64,
    },
    /// The log was cut or put back.
    #[error(
        "the audit log in {} has {log} entries, but the store knows of {store}: the log was cut, put back to an older state or \
         moved away. Put the newest log in place; if it is lost, start this custodian under a new instance name with an empty folder",
        folder.display()
    )]
    LogIsShort {
        /// The log's folder.
        folder: PathBuf,
        /// Entries that the store knows of.
        store: u64,
        /// Entries of the log.
        log: u64,
    },
    /// The log is another one.
    #[error(
        "the first {size} entries of the audit log in {} are not those that the store knows: it is another log, or was rewritten. \
         Keep it as evidence and put the right log in place", folder.display()
    )]
    LogDiffers {
        /// The log's folder.
        folder: PathBuf,
        /// So many entries.
        size: u64,
    },
}

impl AuditLog {
    /// Opens the log with the key that `store` keeps, makes both at first, and holds them against each other.
    ///
    /// # Errors
    /// [`AuditOpenError`].
    pub async fn open(store: &SealedStore, settings: &AuditSettings) -> Result<Self, AuditOpenError> {
        Self::open_on(Arc::new(Disk::durable()), store, settings).await
    }

    /// As [`AuditLog::open`], written through `storage`.
    ///
    /// # Errors
    /// [`AuditOpenError`].
    pub async fn open_on(
        storage: Arc<dyn Storage>,
        store: &SealedStore,
        settings: &AuditSettings,
    ) -> Result<Self, AuditOpenError> {
        let signer = Signer::new(&settings.origin, Use::Log, key(store, &settings.instance).await?)?;
        let folder = settings.folder.clone();
        let tuned =
            Settings { checkpoint_interval: settings.checkpoint_interval, deadline: DEADLINE, ..Settings::default() };
        let opened = {
            let folder = folder.clone();
            let open = move || Log::open_on(storage, &folder, signer, &tuned);
            tokio::task::spawn_blocking(open).await.map_err(|lost| OpenError::Write(std::io::Error::other(lost)))
        };
        let log = opened
            .and_then(|opened| opened)
            .map_err(|source| AuditOpenError::Log { folder: folder.clone(), source })?;
        let published = log.publish().await;
        let published = published.map_err(|source| AuditOpenError::Write { folder: folder.clone(), source })?;
        let epoch = store.epoch().await?;
        let reader = log.reader();
        judge(&epoch, &settings.instance, &published, &reader, &folder)?;
        write_verifier(&folder, &log);
        Ok(Self { log: Arc::new(log), instance: settings.instance.clone(), decisions: None })
    }

    /// Tells the store how far the log is. What was noted once, the log must have for ever.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note(&self, store: &SealedStore) -> Result<(), StoreError> {
        store.note_log(&self.instance, self.head()).await.map(drop)
    }
}

/// Leaves the public key beside the folder, for auditors. Without it they ask the custodian.
fn write_verifier(folder: &Path, log: &Log) {
    let path = folder.with_extension("vkey");
    let text = format!("{}\n", log.verifier());
    if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return;
    }
    if let Err(cause) = std::fs::write(&path, text) {
        tracing::warn!(path = %path.display(), %cause, "the audit log's public key could not be written");
    }
}

/// The log's key: the record of the instance, made when it is first asked for.
async fn key(store: &SealedStore, instance: &str) -> Result<SigningKey, AuditOpenError> {
    for _ in 0..TRIES {
        // It is written once, so that there is no older version that could be put in its place.
        if let Some(record) = store.get(Kind::Instance, instance).await? {
            let seed = Secret::from_slice(&record.body).map_err(|_| AuditOpenError::Key)?;
            return Ok(SigningKey::from_seed(seed));
        }
        let key = SigningKey::generate()?;
        let body = key.seed().expose().as_slice();
        let new = NewRecord { kind: Kind::Instance, name: instance, expected: 0, state: 0, expires_unix_s: None, body };
        match store.change(&[Change::Put(new)]).await {
            Ok(_) => return Ok(key),
            Err(StoreError::Conflict) => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Err(StoreError::Busy.into())
}

fn judge(
    epoch: &Epoch,
    instance: &str,
    signed: &SignedCheckpoint,
    reader: &Reader,
    folder: &Path,
) -> Result<(), AuditOpenError> {
    let unreadable = |source| AuditOpenError::ReadBack { folder: folder.to_owned(), source };
    let (size, root) = (signed.checkpoint().size(), signed.checkpoint().root());
    let generation = highest_generation(reader, size).map_err(|failed| unreadable(failed.into()))?;
    let known = epoch.log_head(instance);
    let is_beginning = known.map(|known| is_beginning(reader, known, size, root)).transpose().map_err(unreadable)?;
    let root_at =
        |at: u64| known.filter(|known| known.size == at && is_beginning == Some(true)).map(|known| known.root);
    let folder = folder.to_owned();
    match epoch.judge(instance, &LogEvidence { generation, size, root_at: &root_at }) {
        Judgement::Agree => Ok(()),
        Judgement::StoreIsOld { store, log } => Err(AuditOpenError::StoreIsOld { folder, store, log }),
        Judgement::LogIsShort { store, log } => Err(AuditOpenError::LogIsShort { folder, store, log }),
        Judgement::LogDiffers { size } => Err(AuditOpenError::LogDiffers { folder, size }),
    }
}

fn highest_generation(reader: &Reader, size: u64) -> Result<u64, ReadError> {
    let mut highest = 0;
    for read in reader.entries(size.saturating_sub(READ_BACK)) {
        let (_, entry) = read?;
        highest = highest.max(entry::generation(&entry).unwrap_or(0));
    }
    Ok(highest)
}

/// Whether the log that the store knows is the beginning of this one.
fn is_beginning(reader: &Reader, known: LogHead, size: u64, root: &Hash) -> Result<bool, ReaderError> {
    if known.size > size {
        return Ok(false);
    }
    let proof = reader.prove_consistency(known.size)?;
    Ok(verify_consistency(&proof, (known.size, &Hash(known.root)), (size, root)).is_ok())
}
