//! The policy in force, and how another takes its place: offered by the file, approved by officers, adopted by the custodian.
//!
//! **Invariant:** the policy in force is the one in the store. A file that differs is only an offer, except for the very first.

use std::sync::{Arc, PoisonError};

use serde_json::json;

use crate::custodian::approval::canonical_json;
use crate::custodian::approval::json::hex;
use crate::custodian::audit::{Action, AuditLog, Details, Use};
use crate::custodian::barrier::Kind;
use crate::custodian::policy::Policy;
use crate::custodian::requester::Requester;
use crate::custodian::store::{SealedStore, StoreError};

use super::decide::allowed_itself;
use super::edit::{Edit, Item};
use super::gate::{Gate, Gated};
use super::keys::Tries;
use super::{Done, Engine, EngineError, GatedCall};

/// Most bytes of a policy that the store takes.
pub const POLICY_LEN_MAX: usize = 240 * 1024;

/// What became of a policy that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// It is the one in force.
    InForce,
    /// Officers have to approve it.
    Proposed {
        /// What they have to approve.
        proposal_id: String,
    },
}

fn call(policy: &Policy) -> GatedCall {
    let body = canonical_json(&json!({ "policy_sha256": hex(&policy.hash()) }));
    GatedCall { method: "PUT", path: "/v1/sys/claviger/policy".to_owned(), body }
}

/// Makes `text` the policy of a store that has none, and writes that down.
pub(super) async fn found(
    store: &SealedStore,
    audit: &AuditLog,
    itself: &Requester,
    text: &str,
) -> Result<(), EngineError> {
    if store.get(Kind::Policy, super::edit::POLICY_NAME).await?.is_some() {
        return Ok(());
    }
    let policy = checked(text)?;
    let generation = store.epoch().await?.generation();
    let what = Use::of_custodian(Action::ChangePolicy).about(&hex(&policy.hash()));
    audit.record(itself, &what, &allowed_itself(policy.hash()), Details::at(generation)).await?;
    let edit = Edit { expected: 0, item: Item::Policy(policy) }.encode();
    match store.change(&[edit.change()]).await {
        // Another custodian was faster: its policy is in force.
        Ok(_) | Err(StoreError::Conflict) => Ok(()),
        Err(failed) => Err(failed.into()),
    }
}

fn checked(text: &str) -> Result<Policy, EngineError> {
    if text.len() > POLICY_LEN_MAX {
        return Err(EngineError::PolicyTooLong);
    }
    Ok(Policy::parse(text)?)
}

impl Engine {
    /// The hash and the text of the policy in force.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn policy(&self, who: &Requester) -> Result<Done<([u8; 32], String)>, EngineError> {
        let receipt = self.authorise(who, Action::ReadPolicy, None).await?;
        let view = self.running()?;
        let policy = &view.snapshot.policy.value;
        Ok(Done { value: (policy.hash(), policy.text().to_owned()), receipt, existed: true })
    }

    /// The policy file says something else, or the same: proposes it once, if it is right and not in force.
    ///
    /// # Errors
    /// [`EngineError::Policy`] for one that is not right: the one in force stays. [`EngineError`].
    pub async fn offer_policy(&self, text: &str) -> Result<Offer, EngineError> {
        let policy = Arc::new(checked(text)?);
        let in_force = self.fresh()?.snapshot.policy.value.hash() == policy.hash();
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = (!in_force).then(|| Arc::clone(&policy));
        if in_force {
            return Ok(Offer::InForce);
        }
        match self.adopt(&policy, true).await {
            Ok(()) => Ok(Offer::InForce),
            Err(EngineError::Gated { proposal_id }) => Ok(Offer::Proposed { proposal_id }),
            Err(failed) => Err(failed),
        }
    }

    /// Puts the offered policy in force if it was approved meanwhile.
    pub(super) async fn adopt_offered(&self) {
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(policy) = offered else { return };
        if self.view().snapshot.policy.value.hash() != policy.hash() {
            match self.adopt(&policy, false).await {
                Ok(()) => {}
                Err(EngineError::Gated { .. }) => return,
                Err(failed) => {
                    tracing::warn!(cause = %failed, "the approved policy could not be put in force; it is tried again");
                    return;
                }
            }
        }
        let mut offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        if offered.as_ref().is_some_and(|offered| Arc::ptr_eq(offered, &policy)) {
            *offered = None;
        }
    }

    /// Puts `policy` in force if it was approved; proposes it if not, where it may.
    async fn adopt(&self, policy: &Policy, may_propose: bool) -> Result<(), EngineError> {
        let (itself, call) = (self.itself()?, call(policy));
        // Any custodian of the store may have proposed it.
        let gated = Gated { call: &call, requester: None, kek: None, version: None, since_unix_s: None };
        let mut tries = Tries::default();
        while let Err(failed) = self.try_adopt(policy, &itself, gated, may_propose).await {
            tries.again(failed).await?;
        }
        tracing::info!(policy = hex(&policy.hash()), "an approved policy is in force");
        Ok(())
    }

    async fn try_adopt(
        &self,
        policy: &Policy,
        itself: &Requester,
        gated: Gated<'_>,
        may_propose: bool,
    ) -> Result<(), EngineError> {
        let view = self.fresh()?;
        let in_force = &view.snapshot.policy;
        let what = Use::of_custodian(Action::ChangePolicy).about(&hex(&policy.hash()));
        let verdict = allowed_itself(in_force.value.hash());
        let approved = match self.gate(&view, gated) {
            Gate::Open(approved) => approved,
            Gate::Closed(Some(proposal_id)) => return Err(EngineError::Gated { proposal_id }),
            Gate::Closed(None) if !may_propose => {
                return Err(EngineError::Gated { proposal_id: String::new() });
            }
            Gate::Closed(None) => return Err(self.refuse_unapproved(itself, &what, &verdict, gated).await),
        };
        let more = Details { proposal: Some(approved.id()), ..Details::at(view.snapshot.generation) };
        let _ = self.permit(itself, &what, &verdict, more).await?;
        let next = Policy::parse(policy.text())?;
        let edits = vec![
            Edit { expected: in_force.version, item: Item::Policy(next) },
            approved.execute(self.clock.now_unix_s())?,
        ];
        self.commit_noted(&what, edits).await
    }
}
