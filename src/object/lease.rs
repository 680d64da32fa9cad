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

impl Lease {
    /// Leases the branch key.
    pub(super) async fn new(keys: &BranchKeys, grounds: Grounds) -> Result<Self, BranchKeyError> {
        let key = keys.for_reading(&grounds.kek, &grounds.context, &grounds.copy, &grounds.caller).await?;
        Ok(Self { key, keys: keys.clone(), grounds, renewal: Mutex::new(None) })
    }

    /// The branch key.
    pub(super) fn key(&self) -> &ReadingKey {
        &self.key
    }

    /// Ready once the next piece may be given out.
    pub(super) fn poll_good(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ReadFailure>> {
        loop {
            if self.key.is_revoked() {
                return Poll::Ready(Err(Revoked.into()));
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
            self.key = renewed?;
        }
    }
}
