//! The right to go on decrypting: a branch key's lease, renewed for as long as a stream runs.
//!
//! **Invariant:** nothing is given out after a revocation, nor beyond the end of a lease that the custodian did not renew.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::custody::branch::{ReadingKey, Revoked};
use crate::custody::caller::Caller;
use crate::custody::context::BranchContext;
use crate::custody::keys::{BranchKeyError, BranchKeys};
use crate::custody::wrapped::WrappedKey;
use crate::names::KekName;

use super::answer::ReadFailure;
use super::error::Error;
use super::plaintext::UploadError;

type Renewal = BoxFuture<'static, Result<ReadingKey, BranchKeyError>>;

/// What a lease is for: with it the custodian is asked again.
#[derive(Clone)]
pub(super) struct Grounds {
    pub(super) kek: KekName,
    pub(super) context: BranchContext,
    pub(super) copy: WrappedKey,
    pub(super) caller: Caller,
}

/// A leased branch key, and what is needed to renew it.
pub(super) struct Lease {
    key: ReadingKey,
    keys: BranchKeys,
    grounds: Grounds,
    /// The mutex makes it shareable between threads; it is only ever reached exclusively.
    renewal: Mutex<Option<Renewal>>,
}

/// Why a lease does not go on.
#[derive(Debug)]
pub(super) enum LeaseLost {
    Revoked(Revoked),
    NotRenewed(BranchKeyError),
}

impl From<LeaseLost> for ReadFailure {
    fn from(lost: LeaseLost) -> Self {
        match lost {
            LeaseLost::Revoked(revoked) => Self::Revoked(revoked),
            LeaseLost::NotRenewed(error) => Self::Lease(error),
        }
    }
}

impl From<LeaseLost> for Error {
    fn from(lost: LeaseLost) -> Self {
        match lost {
            LeaseLost::Revoked(revoked) => Self::Revoked(revoked),
            LeaseLost::NotRenewed(error) => Self::Key(error),
        }
    }
}

impl From<LeaseLost> for UploadError {
    fn from(lost: LeaseLost) -> Self {
        match lost {
            LeaseLost::Revoked(revoked) => Self::Revoked(revoked),
            LeaseLost::NotRenewed(error) => Self::Lease(error),
        }
    }
}

impl Lease {
    /// Leases the branch key.
    pub(super) async fn new(keys: &BranchKeys, grounds: Grounds) -> Result<Self, BranchKeyError> {
        let key = keys.for_reading(&grounds.kek, &grounds.context, &grounds.copy, &grounds.caller).await?;
        Ok(Self { key, keys: keys.clone(), grounds, renewal: Mutex::new(None) })
    }

    /// The same lease once more, for a further stream.
    pub(super) fn share(&self) -> Self {
        let (key, keys, grounds) = (self.key.clone(), self.keys.clone(), self.grounds.clone());
        Self { key, keys, grounds, renewal: Mutex::new(None) }
    }

    /// Waits until it is good, or found to be lost.
    pub(super) async fn good(&mut self) -> Result<(), LeaseLost> {
        std::future::poll_fn(|context| self.poll_good(context)).await
    }

    /// The branch key.
    pub(super) fn key(&self) -> &ReadingKey {
        &self.key
    }

    /// A denial revokes what the caller holds before the renewal that asked tells of it.
    fn why_revoked(&mut self, context: &mut Context<'_>) -> LeaseLost {
        let slot = self.renewal.get_mut().unwrap_or_else(PoisonError::into_inner);
        match slot.take().map(|mut renewal| renewal.poll_unpin(context)) {
            Some(Poll::Ready(Err(error))) => LeaseLost::NotRenewed(error),
            _ => LeaseLost::Revoked(Revoked),
        }
    }

    /// Ready once the next piece may be given out.
    pub(super) fn poll_good(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LeaseLost>> {
        loop {
            if self.key.is_revoked() {
                return Poll::Ready(Err(self.why_revoked(context)));
            }
            if self.key.is_usable() {
                return Poll::Ready(Ok(()));
            }
            let slot = self.renewal.get_mut().unwrap_or_else(PoisonError::into_inner);
            let renewal = slot.get_or_insert_with(|| {
                let (keys, grounds) = (self.keys.clone(), self.grounds.clone());
                async move { keys.for_reading(&grounds.kek, &grounds.context, &grounds.copy, &grounds.caller).await }
                    .boxed()
            });
            let renewed = ready!(renewal.poll_unpin(context));
            *slot = None;
            self.key = renewed.map_err(LeaseLost::NotRenewed)?;
        }
    }
}
