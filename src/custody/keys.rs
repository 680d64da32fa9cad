//! Branch keys for reading and writing, leased from the custodian and cached as long as the leases run.
//!
//! When the custodian cannot be reached, what is leased works until its lease ends, and nothing new starts.
//!
//! **Invariant:** every lease was granted by the custodian to the very caller (principal and reason) who uses it.
//! **Invariant:** a branch key stands in the directory before anything is wrapped under it.
//! **Invariant:** a KEK that does not derive by context opens nothing.

mod flight;
mod generations;
mod leased;
mod lessor;
mod metrics;
mod reading;
mod refusals;
mod slot;
#[cfg(test)]
mod tests;
mod writing;

use std::sync::{Arc, Weak};

use tokio::time::Instant;

use crate::names::{KekName, LogicalBucket, Purpose, WriterDomain};

pub use super::revocation::Revocation;
pub use metrics::{KeyMetrics, WatchState};

use super::branch::{ReadingKey, WritingKey};
use super::caller::Caller;
use super::context::BranchContext;
use super::derivation::DerivationError;
use super::directory::{Directory, DirectoryError};
use super::lease::LeaseSettings;
use super::revocation::Act;
use super::watch::{Gate, WatchLost};
use super::wrapped::WrappedKey;
use super::{Custodian, CustodyError};

/// Why there is no branch key. It is shared by all who waited for the same answer, hence cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BranchKeyError {
    /// The custodian refused or failed.
    #[error(transparent)]
    Custody(Arc<CustodyError>),
    /// The directory could not be read, or the new branch key not be published there.
    #[error(transparent)]
    Directory(Arc<DirectoryError>),
    /// The directory did not answer in time.
    #[error("the branch-key directory did not answer in time")]
    DirectoryTimeout,
    /// The KEK version of the branch key is no longer opened, and the directory has no newer wrapping.
    #[error("the branch key is under a retired KEK version and the directory has no newer copy")]
    NotInDirectory,
    /// The KEK is refused, because it does not bind branch keys to their context.
    #[error("the KEK does not derive by context and is refused")]
    NotDerived,
    /// The key was revoked while it was being fetched.
    #[error("the branch key was revoked while it was fetched")]
    Revoked,
    /// Too many are waiting for a new branch key for the same bucket, or the task that fetched it ended.
    #[error("the branch key was not ready in time")]
    NotReady,
}

impl BranchKeyError {
    /// Whether the same request may succeed later without anyone changing policy or data.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Custody(error) => error.is_transient(),
            Self::Directory(_) | Self::DirectoryTimeout | Self::Revoked | Self::NotReady => true,
            Self::NotInDirectory | Self::NotDerived => false,
        }
    }

    /// The custodian's answer, where it was the custodian who said no.
    pub fn custody(&self) -> Option<&CustodyError> {
        if let Self::Custody(error) = self { Some(error) } else { None }
    }
}

impl From<CustodyError> for BranchKeyError {
    fn from(error: CustodyError) -> Self {
        Self::Custody(Arc::new(error))
    }
}

impl From<WatchLost> for BranchKeyError {
    fn from(error: WatchLost) -> Self {
        CustodyError::Unreachable(error.into()).into()
    }
}

impl From<DirectoryError> for BranchKeyError {
    fn from(error: DirectoryError) -> Self {
        Self::Directory(Arc::new(error))
    }
}

impl From<DerivationError> for BranchKeyError {
    fn from(error: DerivationError) -> Self {
        match error {
            DerivationError::NotDerived | DerivationError::NotOpened => Self::NotDerived,
            DerivationError::WriteOnly => CustodyError::Denied.into(),
            DerivationError::Custody(error) => error.into(),
        }
    }
}

/// The branch keys of this process. Cloning it is cheap and shares them.
#[derive(Clone)]
pub struct BranchKeys {
    lessor: Arc<lessor::Lessor>,
    reading: Arc<reading::ReadCache>,
    writing: Arc<writing::WriteCache>,
}

impl BranchKeys {
    /// Without any lease yet. `writer` is the domain that keys generated here are marked with.
    pub fn new(
        custodian: Arc<dyn Custodian>,
        directory: Arc<dyn Directory>,
        settings: LeaseSettings,
        writer: WriterDomain,
    ) -> Self {
        Self::metered(custodian, directory, settings, writer, KeyMetrics::default())
    }

    /// As [`BranchKeys::new`], counted in `metrics`.
    pub fn metered(
        custodian: Arc<dyn Custodian>,
        directory: Arc<dyn Directory>,
        settings: LeaseSettings,
        writer: WriterDomain,
        metrics: KeyMetrics,
    ) -> Self {
        let lessor = Arc::new(lessor::Lessor::new(custodian, directory, settings, writer, metrics));
        let reading = Arc::new(reading::ReadCache::new(Arc::clone(&lessor)));
        let writing = Arc::new(writing::WriteCache::new(Arc::clone(&lessor)));
        Self { lessor, reading, writing }
    }

    /// The domain that keys generated here are marked with.
    pub fn writer(&self) -> &WriterDomain {
        &self.lessor.writer
    }

    /// The branch key to wrap a new object's DEK under, of about `bytes_estimate` bytes of data.
    ///
    /// There is one current branch key per (KEK, purpose, bucket), shared by all callers who may use it, so that rotation
    /// has thousands of branch keys to rewrap and not millions. A caller may use it after the custodian unwrapped it for
    /// that caller, and for an hour from then. A caller who is denied that (write-only) gets a branch key of its own each
    /// hour, if it may generate. Whether a caller may write to the bucket at all is the front's decision, before this.
    ///
    /// # Errors
    /// [`BranchKeyError`]. Nothing was wrapped then; a key that could not be published is not used.
    pub async fn for_writing(
        &self,
        kek: &KekName,
        purpose: Purpose,
        bucket: &LogicalBucket,
        caller: &Caller,
        bytes_estimate: u64,
    ) -> Result<WritingKey, BranchKeyError> {
        self.lessor.gate.check()?;
        let id = slot::SlotId { kek: kek.clone(), purpose, bucket: bucket.clone() };
        self.writing.key(id, caller, bytes_estimate).await
    }

    /// The branch key that an envelope names, to unwrap its DEK with: from memory, from `envelope_copy`, or, if the
    /// custodian says that its KEK version is too old, from the directory.
    ///
    /// `context` has the bucket from routing and the writer that the bucket accepts; `kek` was checked against the bucket's
    /// list. When the key is in memory, `envelope_copy` is not looked at: (KEK, context) determine the branch key, so another
    /// copy is either the same key or garbage, and the DEK's own authentication decides about the object.
    ///
    /// # Errors
    /// [`BranchKeyError`]; refusals are remembered for this very copy only, so that a forged copy shuts nobody out.
    pub async fn for_reading(
        &self,
        kek: &KekName,
        context: &BranchContext,
        envelope_copy: &WrappedKey,
        caller: &Caller,
    ) -> Result<ReadingKey, BranchKeyError> {
        self.lessor.gate.check()?;
        let id = reading::ReadId { kek: kek.clone(), context: context.clone(), caller: caller.clone() };
        self.reading.key(id, envelope_copy).await
    }

    /// Whether the holder of `key`, whose lease is [not good any more](super::branch::BranchKey::is_usable), may still write under that KEK.
    ///
    /// # Errors
    /// [`BranchKeyError`]: no, or nobody knows.
    pub async fn may_still_write(&self, key: &WritingKey) -> Result<(), BranchKeyError> {
        let BranchContext { purpose, bucket, .. } = key.context();
        self.for_writing(key.kek(), *purpose, bucket, key.caller(), 0).await.map(drop)
    }

    /// Makes all that `revocation` covers unusable now, also in streams under way, and drops it from memory.
    pub fn revoke(&self, revocation: &Revocation) {
        self.act(Act::Revoke, revocation, None);
        tracing::info!(?revocation, "branch keys revoked");
    }

    /// Ends all leases that `covered` covers now, because what the custodian once allowed may be denied by now: it is asked
    /// again before the next use. Streams under way go on if it then says yes.
    pub fn end_leases(&self, covered: &Revocation) {
        self.act(Act::End, covered, None);
        tracing::debug!(?covered, "leases ended; the custodian is asked again");
    }

    /// `kek` has a newer version: keys for writing under it are replaced at the next write, in the background. Whoever has one
    /// goes on with it meanwhile.
    pub fn outdate(&self, kek: &KekName) {
        self.lessor.outdate(kek);
    }

    /// Custodians that are asked before `known` may not know the cause.
    pub(super) fn act(&self, act: Act, covered: &Revocation, known: Option<Instant>) {
        self.lessor.act(act, covered, known);
        self.reading.forget_unusable();
        self.writing.forget_unusable();
    }

    /// Whether keys are given out, as far as that hangs on the watch over the custodian.
    ///
    /// # Errors
    /// [`WatchLost`].
    pub fn are_given_out(&self) -> Result<(), WatchLost> {
        self.lessor.gate.check()
    }

    fn tally(&self) -> metrics::Tally {
        let mut tally = metrics::Tally { watch: self.lessor.gate.state(), ..metrics::Tally::default() };
        self.reading.tally(&mut tally);
        self.writing.tally(&mut tally);
        tally
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.lessor.gate
    }

    /// The same, without keeping them.
    pub(super) fn downgrade(&self) -> WeakBranchKeys {
        let Self { lessor, reading, writing } = self;
        WeakBranchKeys {
            lessor: Arc::downgrade(lessor),
            reading: Arc::downgrade(reading),
            writing: Arc::downgrade(writing),
        }
    }
}

/// The branch keys of this process, as long as somebody else has them.
pub(super) struct WeakBranchKeys {
    lessor: Weak<lessor::Lessor>,
    reading: Weak<reading::ReadCache>,
    writing: Weak<writing::WriteCache>,
}

impl WeakBranchKeys {
    pub(super) fn upgrade(&self) -> Option<BranchKeys> {
        let (lessor, reading) = (self.lessor.upgrade()?, self.reading.upgrade()?);
        Some(BranchKeys { lessor, reading, writing: self.writing.upgrade()? })
    }
}
