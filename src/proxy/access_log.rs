//! The log of record accesses: who did what to which record, in a log that nobody can quietly rewrite ([`crate::tlog`]).
//!
//! Each request of a known client has an entry, also one that was refused. It is durable before the answer goes out, and so
//! before the first byte of plaintext does. An answer that streams has two, `begin` and `end`, of which the second says how
//! far it came; every other has one, `access`. With the custodian's log, which names the same principals and request ids in
//! time, an inspector can reconcile the use of keys with the use of records.
//!
//! **Invariant:** where the log is required and cannot be written, requests are refused before they do anything.

mod entry;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use crate::crypto::SigningKey;
use crate::s3::xml::DeleteEntry;
use crate::secret::Secret;
use crate::telemetry::metrics::{Registry, Sample};
use crate::tlog::log::{Log, Settings};
use crate::tlog::note::{InvalidNote, Signer, Use, VerifierKey};
use crate::tlog::storage::{Disk, Storage};
use crate::tlog::{LogError, OpenError};

pub(super) use entry::{Copied, Counted, Counter, Ending, Entry, Record};

/// The longest that a request waits for its entry.
const DEADLINE: Duration = Duration::from_secs(1);
/// A log that failed is opened again at most this often.
const REOPEN_EVERY: Duration = Duration::from_secs(5);

/// How an entry names the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyForm {
    /// By its key.
    #[default]
    Clear,
    /// By the SHA-256 of its key, for a log that goes to people who may not know the names.
    Hashed,
}

/// Where the log lies and what stands in it.
pub struct AccessLogSettings {
    /// The folder, for this log alone. It is made if it is not there.
    pub folder: PathBuf,
    /// The log's name in its checkpoints.
    pub origin: String,
    /// What signs them. A log keeps its key for life.
    pub key: SigningKey,
    /// How entries name records.
    pub keys: KeyForm,
    /// Whether requests are refused while the log cannot be written; otherwise they are served, and the failure reported.
    pub required: bool,
}

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The origin is not a name.
    #[error("the origin does not do: it must not be empty, nor have white space or a plus")]
    Origin(#[from] InvalidNote),
    /// The folder does not do.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// An entry could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the access log failed, and could not be opened again yet")]
    Failed,
}

/// The log, open for appending.
pub struct AccessLog {
    settings: AccessLogSettings,
    storage: Arc<dyn Storage>,
    log: RwLock<Arc<Log>>,
    /// When it was last opened again; held while that is tried.
    reopened: Mutex<Instant>,
    /// The last entry was not written.
    suspect: AtomicBool,
    /// Entries under way that nobody waits for.
    late: watch::Sender<usize>,
}

impl AccessLog {
    /// Opens the log, and makes it if there is none. Blocks on the disk.
    ///
    /// # Errors
    /// [`AccessLogError`].
    pub fn open(settings: AccessLogSettings) -> Result<Self, AccessLogError> {
        Self::open_on(Arc::new(Disk::durable()), settings)
    }

    /// As [`AccessLog::open`], written through `storage`.
    ///
    /// # Errors
    /// [`AccessLogError`].
    pub fn open_on(storage: Arc<dyn Storage>, settings: AccessLogSettings) -> Result<Self, AccessLogError> {
        let log = RwLock::new(Arc::new(open_log(&storage, &settings)?));
        let (reopened, suspect, late) = (Mutex::new(Instant::now()), AtomicBool::new(false), watch::Sender::new(0));
        Ok(Self { settings, storage, log, reopened, suspect, late })
    }

    /// What its checkpoints are verified with.
    pub fn verifier(&self) -> VerifierKey {
        self.log().verifier().clone()
    }

    /// Waits for entries under way, and publishes all. After that nothing can be written.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn close(&self) -> Result<(), LogError> {
        let mut late = self.late.subscribe();
        // What does not come in time is lost to the log, as at a crash.
        let _ = timeout(DEADLINE, late.wait_for(|late| *late == 0)).await;
        self.log().close().await.map(drop)
    }

    /// Whether the last entry was written.
    pub fn is_well(&self) -> bool {
        !self.suspect.load(Ordering::Relaxed) && self.log().failure().is_none()
    }

    /// Has it shown how it is.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        let log = Arc::downgrade(self);
        registry.read_gauges("claviger_access_log_well", "Whether the last entry of the access log was written", {
            let log = log.clone();
            move || log.upgrade().map(|log| Sample::from(log.is_well()))
        });
        let help = "How long the oldest entry of the access log waits for a checkpoint that has it";
        registry.read_gauges("claviger_access_log_lag_seconds", help, move || {
            log.upgrade().map(|log| Sample::from(log.log().lag().oldest.unwrap_or_default()))
        });
    }

    fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a request may go on to where it does something. A log that failed is opened again, one that did not answer is
    /// tried first.
    pub(super) async fn admit(&self) -> Result<(), Unwritten> {
        let ready = async {
            if self.log().failure().is_some() {
                self.reopen().await?;
            }
            if self.suspect.load(Ordering::Relaxed) {
                self.append(Entry::probe()).await?;
            }
            Ok(())
        };
        self.unless_optional(ready.await)
    }

    /// Makes the entry durable.
    pub(super) async fn write(&self, record: &Record, entry: Entry) -> Result<(), Unwritten> {
        let written = self.append(record.to_json(entry, self.settings.keys)).await;
        self.unless_optional(written)
    }

    /// Makes entries durable that say what a DeleteObjects was asked to delete; none for other requests.
    pub(super) async fn write_deletes(
        &self,
        record: &Record,
        deletes: &[DeleteEntry],
        status: u16,
    ) -> Result<(), Unwritten> {
        let entries = record.deletes_to_json(deletes, status, self.settings.keys);
        let written = try_join_all(entries.into_iter().map(|entry| self.append(entry))).await;
        self.unless_optional(written.map(drop))
    }

    /// Writes the entry, with nobody waiting for it.
    pub(super) fn write_later(self: &Arc<Self>, record: &Record, entry: Entry) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (log, entry) = (Arc::clone(self), record.to_json(entry, self.settings.keys));
        self.late.send_modify(|late| *late += 1);
        let done = Late(Arc::clone(self));
        runtime.spawn(async move {
            if let Err(error) = log.append(entry).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an access ended without its entry in the log"
                );
            }
            drop(done);
        });
    }

    async fn append(&self, entry: Vec<u8>) -> Result<(), Unwritten> {
        let written = self.log().append(entry).await;
        self.suspect.store(written.is_err(), Ordering::Relaxed);
        Ok(written.map(drop)?)
    }

    fn unless_optional(&self, written: Result<(), Unwritten>) -> Result<(), Unwritten> {
        match written {
            Err(error) if !self.settings.required => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(error, "the access log cannot be written; it is not required, and requests are served");
                Ok(())
            }
            written => written,
        }
    }

    /// Lets go of the log and opens it anew, if that was not tried a moment ago.
    async fn reopen(&self) -> Result<(), Unwritten> {
        let Ok(mut reopened) = self.reopened.try_lock() else { return Err(Unwritten::Failed) };
        if reopened.elapsed() < REOPEN_EVERY {
            return Err(Unwritten::Failed);
        }
        *reopened = Instant::now();
        // It failed already; this waits until it has let go of the folder.
        let _ = self.log().close().await;
        let opened = timeout(DEADLINE, self.open_in_background()).await.map_err(|_| Unwritten::Failed)?;
        let log = opened.ok_or(Unwritten::Failed)?;
        *self.log.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(log);
        // Whether it can be written, an entry has to show.
        self.suspect.store(true, Ordering::Relaxed);
        tracing::info!("the access log is open again");
        Ok(())
    }

    async fn open_in_background(&self) -> Option<Log> {
        let storage = Arc::clone(&self.storage);
        let settings = self.settings.copy();
        let opened = tokio::task::spawn_blocking(move || open_log(&storage, &settings)).await.ok()?;
        let failed = |error: &AccessLogError| {
            tracing::error!(error = error as &dyn std::error::Error, "the access log cannot be opened again");
        };
        opened.inspect_err(failed).ok()
    }
}

impl AccessLogSettings {
    fn copy(&self) -> Self {
        let Self { folder, origin, key, keys, required } = self;
        let (folder, origin, key) = (folder.clone(), origin.clone(), same_key(key));
        Self { folder, origin, key, keys: *keys, required: *required }
    }
}

/// Counts one entry off, however its task ends.
struct Late(Arc<AccessLog>);

impl Drop for Late {
    fn drop(&mut self) {
        self.0.late.send_modify(|late| *late -= 1);
    }
}

fn same_key(key: &SigningKey) -> SigningKey {
    SigningKey::from_seed(Secret::from_slice(key.seed().expose()).expect("the seed of a key is one"))
}

fn open_log(storage: &Arc<dyn Storage>, settings: &AccessLogSettings) -> Result<Log, AccessLogError> {
    let signer = Signer::new(&settings.origin, Use::Log, same_key(&settings.key))?;
    let how = Settings { deadline: DEADLINE, ..Settings::default() };
    Ok(Log::open_on(Arc::clone(storage), &settings.folder, signer, &how)?)
}
