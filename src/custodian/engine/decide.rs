//! Decides, and has the decision written down.
//!
//! **Invariant:** a revoked principal, certificate or client is denied before any policy is asked.

use std::cell::LazyCell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use serde_json::{Value, json};

use crate::crypto::RandomFailed;
use crate::custodian::audit::{Action, Decision, Details, Permit, Use, Verdict};
use crate::custodian::requester::{Requester, random_request_id};
use crate::custodian::revocation;
use crate::custody::reason::Reason;
use crate::names::KekName;
use crate::tlog::Receipt;

use super::denials::LeftOut;
use super::edit::Edit;
use super::refresh::View;
use super::{Engine, EngineError, EngineSettings};

/// The fixed rules, as the log names them.
pub(super) mod rule {
    /// The requester, its certificate or its client is revoked.
    pub(in crate::custodian::engine) const REVOKED: &str = "revoked";
    /// Branch keys are generated for the requester's own writer domain only.
    pub(in crate::custodian::engine) const WRITER_DOMAIN: &str = "writer domain";
    /// Branch keys are made by the custodian alone.
    pub(in crate::custodian::engine) const BRANCH_CONTEXT: &str = "branch context";
    /// Two people have to approve first.
    pub(in crate::custodian::engine) const UNAPPROVED: &str = "approval required";
    /// Branch keys hang on what would be taken away.
    pub(in crate::custodian::engine) const STILL_NEEDED: &str = "still needed";
    /// The KEK came from a backup, and nobody knows whether its ledger is whole.
    pub(in crate::custodian::engine) const NOT_WHOLE: &str = "ledger not whole";
}

impl View {
    /// Whether `who`, its certificate or its client may do nothing any more.
    pub(super) fn is_shut_out(&self, who: &Requester) -> bool {
        if self.snapshot.revocations.is_empty() && !self.stopped.has_principals() {
            return false;
        }
        revocation::principals(who).iter().any(|name| self.is_revoked(name))
    }

    /// Whether that principal or certificate is shut out.
    pub(super) fn is_revoked(&self, name: &str) -> bool {
        self.snapshot.revocations.contains_key(name) || self.stopped.has_principal(name)
    }

    /// Whether the KEK was switched off here and the store may not know.
    pub(super) fn is_stopped(&self, name: &KekName) -> bool {
        self.stopped.has_kek(name)
    }
}

impl Engine {
    /// What the fixed rules, then the policy say. `fixed` is a rule that was found broken already.
    pub(super) fn decide(&self, view: &View, who: &Requester, what: &Use, fixed: Option<&'static str>) -> Verdict {
        let policy = &view.snapshot.policy.value;
        let broken = if view.is_shut_out(who) { Some(rule::REVOKED) } else { fixed };
        if let Some(rule) = broken {
            return denied(policy.hash(), rule);
        }
        let now = self.clock.now();
        // For whom it asks is the proxy's word alone: a grant for a client opens nothing to a proxy that may not do it by itself.
        let of_itself = LazyCell::new(|| {
            let alone = Requester { behalf: None, ..who.clone() };
            policy.decide(&alone, what, None, now).decision == Decision::Allow
        });
        let covering = view.snapshot.grants.iter().find(|(_, grant)| {
            let grant = &grant.value;
            grant.covers(who, what, now.unix_timestamp())
                && view.are_standing(grant.approvals(), grant.document().required)
                && (grant.is_for(&who.id) || *of_itself)
        });
        policy.decide(who, what, covering.map(|(id, _)| id.as_str()), now)
    }

    /// Writes the decision down, and gives leave for what is allowed.
    ///
    /// # Errors
    /// [`EngineError::Denied`], [`EngineError::DeniedTooOften`], [`EngineError::Audit`].
    pub(super) async fn permit(
        &self,
        who: &Requester,
        what: &Use,
        verdict: &Verdict,
        more: Details,
    ) -> Result<(Permit, Receipt), EngineError> {
        if verdict.decision == Decision::Deny {
            if !self.denials.has_room(&who.id, Instant::now()) {
                return Err(EngineError::DeniedTooOften);
            }
            self.tell_left_out(false).await?;
        }
        let (permit, receipt) = self.audit.record(who, what, verdict, more).await?;
        Ok((permit.ok_or(EngineError::Denied)?, receipt))
    }

    /// Decides about what concerns no key, such as reading the audit log, and writes it down. For calls that others act on.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn authorise(
        &self,
        who: &Requester,
        action: Action,
        subject: Option<&str>,
    ) -> Result<Receipt, EngineError> {
        let view = self.fresh()?;
        let what = Use { subject: subject.map(str::to_owned), ..Use::of_custodian(action) };
        let verdict = self.decide(&view, who, &what, None);
        Ok(self.permit(who, &what, &verdict, Details::at(view.snapshot.generation)).await?.1)
    }

    /// As [`Engine::commit`], for what takes something away: notes that the store has it, so that a store without it is known to be old.
    ///
    /// # Errors
    /// [`EngineError::Audit`]: the change was made, and may be asked for again. [`EngineError`].
    pub(super) async fn commit_noted(&self, what: &Use, edits: Vec<Edit>) -> Result<(), EngineError> {
        let generation = self.commit(edits).await?;
        let noted = Use { action: Action::Note, ..what.clone() };
        self.write_note(&noted, generation, json!({ "done": what.action.as_str() })).await
    }

    /// Writes down how many refusals were left out, where there is room again, or at the end.
    ///
    /// # Errors
    /// [`EngineError::Audit`].
    pub(super) async fn tell_left_out(&self, at_end: bool) -> Result<(), EngineError> {
        for LeftOut { of, count } in self.denials.take_left_out(Instant::now(), at_end) {
            let what = Use { subject: of.map(|id| id.as_str().to_owned()), ..Use::of_custodian(Action::Note) };
            let generation = self.view().snapshot.generation;
            self.write_note(&what, generation, json!({ "left_out": count })).await?;
        }
        Ok(())
    }

    /// Writes down what the custodian has to tell of itself.
    pub(super) async fn write_note(&self, what: &Use, generation: u64, detail: Value) -> Result<(), EngineError> {
        let verdict = allowed_itself(self.policy_hash());
        let more = Details { detail: Some(detail), ..Details::at(generation) };
        self.audit.record(&self.itself()?, what, &verdict, more).await?;
        Ok(())
    }

    /// The custodian as a requester, for what it does of itself.
    pub(super) fn itself(&self) -> Result<Requester, RandomFailed> {
        self.settings.itself()
    }
}

impl EngineSettings {
    pub(super) fn itself(&self) -> Result<Requester, RandomFailed> {
        Ok(Requester {
            id: self.identity.clone(),
            certificate_sha256: [0; 32],
            key_sha256: [0; 32],
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            reason: Reason::SystemOperation,
            behalf: None,
            request_id: random_request_id()?,
            for_request: None,
        })
    }
}

/// Denied by a fixed rule.
pub(super) fn denied(policy: [u8; 32], rule: &'static str) -> Verdict {
    Verdict { decision: Decision::Deny, policy, rules: Vec::new(), grant: None, denied_by: Some(rule) }
}

/// Allowed because the custodian itself does it.
pub(super) fn allowed_itself(policy: [u8; 32]) -> Verdict {
    Verdict { decision: Decision::Allow, policy, rules: Vec::new(), grant: None, denied_by: None }
}
