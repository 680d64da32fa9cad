//! Branch keys that are opened and that the ledger does not know: they come into it.
//!
//! After a KEK came from a backup those are in no ledger that were made later than the backup. Their wrappings are in envelopes and in the
//! directory, so that whatever opens those brings them back.
//!
//! **Invariant:** only what opened under the KEK and a branch key's context is learned, and as generated under the oldest version there is.
//! **Invariant:** of a KEK that came from a backup, no branch key is given out that the ledger does not know.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::custodian::audit::Permit;
use crate::custodian::kek::{Ciphertext, Kek};
use crate::custody::context::BranchContext;
use crate::names::{BranchId, KekName};

use super::backup::restore::entry;
use super::{Engine, EngineError};

/// Most branch keys that are remembered.
const LEARNED_MAX: usize = 1 << 16;

/// Branch keys that need not be looked for again.
#[derive(Default)]
pub(super) struct Learned(Mutex<HashSet<(KekName, BranchId)>>);

impl Learned {
    fn holds(&self, one: &(KekName, BranchId)) -> bool {
        self.0.lock().expect("nobody panics while holding it").contains(one)
    }

    fn add(&self, one: (KekName, BranchId)) {
        let mut all = self.0.lock().expect("nobody panics while holding it");
        if all.len() >= LEARNED_MAX {
            all.clear();
        }
        all.insert(one);
    }
}

impl Engine {
    /// Brings a branch key into the ledger if it is not there.
    ///
    /// # Errors
    /// [`EngineError`], where the KEK came from a backup; of others the ledger is whole, and nobody waits for it.
    pub(super) async fn learn(
        &self,
        name: &KekName,
        kek: &Kek,
        branch: &BranchContext,
        ciphertext: &Ciphertext,
        permit: &Permit,
    ) -> Result<(), EngineError> {
        let one = (name.clone(), branch.id);
        if self.learned.holds(&one) {
            return Ok(());
        }
        match self.try_learn(name, kek, branch, ciphertext, permit).await {
            Ok(true) => self.learned.add(one),
            Ok(false) => {}
            Err(failed) if kek.restored_through().is_some() => return Err(failed),
            Err(failed) => {
                tracing::warn!(cause = %failed, "it could not be looked up whether the ledger knows a branch key");
            }
        }
        Ok(())
    }

    /// Whether the ledger knows it now.
    async fn try_learn(
        &self,
        name: &KekName,
        kek: &Kek,
        branch: &BranchContext,
        ciphertext: &Ciphertext,
        permit: &Permit,
    ) -> Result<bool, EngineError> {
        let context = branch.to_bytes();
        // A KEK that ignores contexts would open it under any, and take the id from the branch key whose it is.
        if !kek.is_derived() || !kek.holds(ciphertext, &context, permit) {
            return Ok(false);
        }
        let known = self.store.branch(branch.id).await?;
        if let Some(row) = known.last() {
            let is_it =
                row.kek == *name && kek.holds_alike([ciphertext, &Ciphertext::of(&row.wrapped)], &context, permit);
            if !is_it {
                tracing::error!(kek = name.as_str(), branch = %branch.id, "the ledger has another branch key of this id");
            }
            return Ok(true);
        }
        let Some(entry) = entry(name, branch, kek.oldest(), ciphertext, self.clock.now_unix_s()) else {
            return Ok(false);
        };
        self.ledger.append(entry).await?;
        tracing::warn!(kek = name.as_str(), branch = %branch.id, "the ledger did not know a branch key; now it does");
        Ok(true)
    }
}
