//! Writes branch keys into the ledger, many with one call to the store.
//!
//! **Invariant:** who asked gets an answer only when the entry is durable; a branch key that is not in the ledger is not given out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::custodian::store::{BRANCHES_MAX, LedgerEntry, SealedStore, StoreError};

use super::EngineError;

/// Most entries that wait.
const QUEUE: usize = 4096;
/// The longest that anyone waits.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often a group is tried while the store is busy.
const TRIES: u32 = 3;

struct Waiting {
    entry: LedgerEntry,
    done: oneshot::Sender<Result<(), Arc<StoreError>>>,
}

/// The way to the task that writes; it ends when this is dropped.
pub(super) struct Ledger(mpsc::Sender<Waiting>);

impl Ledger {
    pub(super) fn start(store: Arc<SealedStore>) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(store, queue));
        Self(sender)
    }

    /// Returns when the entry is durable.
    ///
    /// # Errors
    /// [`EngineError::Ledger`], [`EngineError::Busy`]; the entry may be there all the same, which does no harm.
    pub(super) async fn append(&self, entry: LedgerEntry) -> Result<(), EngineError> {
        let (done, answer) = oneshot::channel();
        let asked = async {
            self.0.send(Waiting { entry, done }).await.map_err(|_| EngineError::Halted)?;
            answer.await.map_err(|_| EngineError::Halted)?.map_err(EngineError::Ledger)
        };
        timeout(WAIT_MAX, asked).await.unwrap_or(Err(EngineError::Busy))
    }
}

async fn write(store: Arc<SealedStore>, mut queue: mpsc::Receiver<Waiting>) {
    let mut group = Vec::with_capacity(BRANCHES_MAX);
    while queue.recv_many(&mut group, BRANCHES_MAX).await > 0 {
        let (entries, waiting): (Vec<_>, Vec<_>) =
            group.drain(..).filter(|one| !one.done.is_closed()).map(|one| (one.entry, one.done)).unzip();
        if entries.is_empty() {
            continue;
        }
        let written = append(&store, &entries).await.map_err(Arc::new);
        if let Err(cause) = &written {
            tracing::error!(cause = %cause, entries = entries.len(), "the ledger of branch keys cannot be written");
        }
        // Whoever went away meanwhile has an entry for a key that nobody got: that does no harm.
        waiting.into_iter().for_each(|done| drop(done.send(written.clone())));
    }
}

/// Writing the same entry again leaves it as it is, so that it may be tried again.
async fn append(store: &SealedStore, entries: &[LedgerEntry]) -> Result<(), StoreError> {
    let mut tried = 1;
    loop {
        match store.append_branches(entries).await {
            Err(StoreError::Busy) if tried < TRIES => tried += 1,
            other => return other,
        }
    }
}
