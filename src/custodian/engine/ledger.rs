//! Writes branch keys into the ledger, many with one call to the store.
//!
//! **Invariant:** who asked gets an answer only when the entry is durable; a branch key that is not in the ledger is not given out, and of
//! one id there is one branch key.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::custodian::store::{BRANCHES_MAX, LedgerEntry, SealedStore, StoreError};
use crate::names::BranchId;

use super::EngineError;

/// Most entries that wait.
const QUEUE: usize = 4096;
/// The longest that anyone waits.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How often a group is tried while the store is busy.
const TRIES: u32 = 3;

struct Waiting {
    entry: LedgerEntry,
    /// It was just generated, and nobody else may have its id.
    is_new: bool,
    done: oneshot::Sender<Result<Outcome, Arc<StoreError>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Written,
    /// The ledger has a branch key of that id.
    Taken,
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
        self.ask(entry, false).await.map(drop)
    }

    /// As [`Ledger::append`], for a branch key that was just generated.
    ///
    /// # Errors
    /// [`EngineError::BranchTaken`] when there is one of its id, or another one came at the same moment.
    pub(super) async fn add(&self, entry: LedgerEntry) -> Result<(), EngineError> {
        match self.ask(entry, true).await? {
            Outcome::Written => Ok(()),
            Outcome::Taken => Err(EngineError::BranchTaken),
        }
    }

    async fn ask(&self, entry: LedgerEntry, is_new: bool) -> Result<Outcome, EngineError> {
        let (done, answer) = oneshot::channel();
        let asked = async {
            self.0.send(Waiting { entry, is_new, done }).await.map_err(|_| EngineError::Halted)?;
            answer.await.map_err(|_| EngineError::Halted)?.map_err(EngineError::Ledger)
        };
        timeout(WAIT_MAX, asked).await.unwrap_or(Err(EngineError::Busy))
    }
}

async fn write(store: Arc<SealedStore>, mut queue: mpsc::Receiver<Waiting>) {
    let mut group = Vec::with_capacity(BRANCHES_MAX);
    while queue.recv_many(&mut group, BRANCHES_MAX).await > 0 {
        let waiting = group.drain(..).filter(|one| !one.done.is_closed());
        let (new, others): (Vec<Waiting>, Vec<Waiting>) = waiting.partition(|one| one.is_new);
        for (some, is_new) in [(new, true), (others, false)] {
            if !some.is_empty() {
                write_group(&store, some, is_new).await;
            }
        }
    }
}

async fn write_group(store: &SealedStore, group: Vec<Waiting>, is_new: bool) {
    let (mut entries, mut waiting) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
    let (mut ids, mut twice) = (HashSet::new(), Vec::new());
    for one in group {
        if is_new && !ids.insert(one.entry.id) {
            twice.push(one.done);
        } else {
            waiting.push((one.entry.id, one.done));
            entries.push(one.entry);
        }
    }
    twice.into_iter().for_each(|done| drop(done.send(Ok(Outcome::Taken))));
    let written = write_entries(store, &entries, is_new).await.map_err(Arc::new);
    if let Err(cause) = &written {
        tracing::error!(cause = %cause, entries = entries.len(), "the ledger of branch keys cannot be written");
    }
    // Whoever went away meanwhile has an entry for a key that nobody got: that does no harm.
    for (id, done) in waiting {
        let outcome = |taken: &HashSet<BranchId>| if taken.contains(&id) { Outcome::Taken } else { Outcome::Written };
        drop(done.send(written.as_ref().map(outcome).map_err(Arc::clone)));
    }
}

/// Gives the ids that were taken. Writing the same entry again leaves it as it is, or finds its id taken, so that it may be tried again.
async fn write_entries(
    store: &SealedStore,
    entries: &[LedgerEntry],
    is_new: bool,
) -> Result<HashSet<BranchId>, StoreError> {
    let mut tried = 1;
    loop {
        let written = match is_new {
            true => store.add_branches(entries).await,
            false => store.append_branches(entries).await.map(|()| HashSet::new()),
        };
        match written {
            Err(StoreError::Busy) if tried < TRIES => tried += 1,
            other => return other,
        }
    }
}
