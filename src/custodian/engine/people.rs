//! People: who is shut out, what is proposed and approved.

use serde_json::json;

use crate::custodian::approval::{Approval, Proposal, Verb};
use crate::custodian::audit::{Action, Decision, Details, Use};
use crate::custodian::barrier::Kind;
use crate::custodian::grant::Grant;
use crate::custodian::requester::Requester;
use crate::custodian::revocation::Revocation;
use crate::custodian::store::{Corruption, Record, StoreError};
use crate::names::KekName;

use super::edit::{Edit, Item};
use super::gate::{Gate, Gated};
use super::keys::Tries;
use super::refresh::View;
use super::{Done, Engine, EngineError, GatedCall};

/// Most revocations.
const REVOCATIONS_MAX: usize = if cfg!(test) { 16 } else { 9_000 };
/// Most revocations by one officer, so that there is room for what others have to revoke.
const REVOCATIONS_OF_ONE_MAX: usize = REVOCATIONS_MAX / 2;

impl Engine {
    /// Shuts out a SPIFFE id, a client of a proxy, or a certificate (`certificate:` and its SHA-256 in hexadecimal). It is out here at
    /// once, also when that cannot be saved.
    ///
    /// # Errors
    /// [`EngineError`]; after [`EngineError::Store`] it is out here until the custodian is started again.
    pub async fn revoke_principal(
        &self,
        who: &Requester,
        principal: &str,
        note: &str,
    ) -> Result<Done<Revocation>, EngineError> {
        let view = self.running()?;
        let revocation = Revocation::new(principal, who.id.clone(), note, self.clock.now_unix_s())?;
        let what = Use::of_custodian(Action::Revoke).about(principal);
        let verdict = self.decide(&view, who, &what, None);
        let more = Details { detail: Some(json!({ "note": note })), ..Details::at(view.snapshot.generation) };
        let (_, receipt) = self.permit(who, &what, &verdict, more).await?;
        if let Some(stored) = view.snapshot.revocations.get(principal) {
            return Ok(Done { value: stored.value.clone(), receipt, existed: true });
        }
        let all = &view.snapshot.revocations;
        let of_one = all.values().filter(|stored| *stored.value.by() == who.id).count();
        if all.len() >= REVOCATIONS_MAX || of_one >= REVOCATIONS_OF_ONE_MAX {
            return Err(EngineError::TooMany);
        }
        let stop = self.stop_principal(principal);
        let item = Item::Revocation(principal.to_owned(), Some(revocation.clone()));
        let existed = match self.commit_noted(&what, vec![Edit { expected: 0, item }]).await {
            Ok(()) => false,
            // Someone was faster, and noted it; what the store says counts from now on.
            Err(EngineError::Store(StoreError::Conflict)) => {
                self.look().await?;
                self.resume(None, Some(principal), stop);
                true
            }
            Err(failed) => return Err(failed),
        };
        Ok(Done { value: revocation, receipt, existed })
    }

    /// Lets a principal in again, once that was approved.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn reinstate(&self, who: &Requester, principal: &str, call: &GatedCall) -> Result<Done<()>, EngineError> {
        let (mut tries, through) = (Tries::default(), self.last_stop());
        loop {
            match self.try_reinstate(who, principal, call).await {
                Err(failed) => tries.again(failed).await?,
                Ok(done) => {
                    self.resume(None, Some(principal), through);
                    return Ok(done);
                }
            }
        }
    }

    async fn try_reinstate(&self, who: &Requester, principal: &str, call: &GatedCall) -> Result<Done<()>, EngineError> {
        let view = self.newest().await?;
        let what = Use::of_custodian(Action::Reinstate).about(principal);
        let verdict = self.decide(&view, who, &what, None);
        let stored = view.snapshot.revocations.get(principal);
        // What was approved in the second of the revocation or before was for an earlier one.
        let since_unix_s = stored.map(|stored| stored.value.at_unix_s().saturating_add(1));
        let gated = Gated { call, requester: Some(&who.id), kek: None, version: None, since_unix_s };
        let mut approved = None;
        if verdict.decision == Decision::Allow && stored.is_some() {
            match self.gate(&view, gated) {
                Gate::Open(open) => approved = Some(open),
                Gate::Closed(_) => return Err(self.refuse_unapproved(who, &what, &verdict, gated).await),
            }
        }
        let proposal = approved.as_ref().map(|approved| approved.id());
        let more = Details { proposal, ..Details::at(view.snapshot.generation) };
        let (_, receipt) = self.permit(who, &what, &verdict, more).await?;
        let (Some(stored), Some(approved)) = (stored, approved) else { return Err(EngineError::NoSuchRevocation) };
        let item = Item::Revocation(principal.to_owned(), None);
        let edits = vec![Edit { expected: stored.version, item }, approved.execute(self.clock.now_unix_s())?];
        self.commit(edits).await?;
        Ok(Done { value: (), receipt, existed: true })
    }

    /// All who are shut out.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn revocations(&self, who: &Requester) -> Result<Done<Vec<Revocation>>, EngineError> {
        let receipt = self.authorise(who, Action::ReadRevocations, None).await?;
        let view = self.running()?;
        let value = view.snapshot.revocations.values().map(|stored| stored.value.clone()).collect();
        Ok(Done { value, receipt, existed: true })
    }

    /// All proposals that are kept.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn proposals(&self, who: &Requester) -> Result<Done<Vec<Proposal>>, EngineError> {
        let receipt = self.authorise(who, Action::ReadProposals, None).await?;
        let view = self.running()?;
        let value = view.snapshot.proposals.values().map(|stored| stored.value.clone()).collect();
        Ok(Done { value, receipt, existed: true })
    }

    /// One proposal.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn proposal(&self, who: &Requester, id: &str) -> Result<Done<Proposal>, EngineError> {
        let receipt = self.authorise(who, Action::ReadProposals, Some(id)).await?;
        let stored = self.running()?.snapshot.proposals.get(id).cloned().ok_or(EngineError::NoSuchProposal)?;
        Ok(Done { value: stored.value.clone(), receipt, existed: true })
    }

    /// Takes in an officer's approval.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn approve(&self, who: &Requester, id: &str, approval: Approval) -> Result<Done<Proposal>, EngineError> {
        self.vote(who, id, &approval, Verb::Approve).await
    }

    /// Takes in an officer's veto.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn veto(&self, who: &Requester, id: &str, veto: Approval) -> Result<Done<Proposal>, EngineError> {
        self.vote(who, id, &veto, Verb::Veto).await
    }

    async fn vote(
        &self,
        who: &Requester,
        id: &str,
        approval: &Approval,
        verb: Verb,
    ) -> Result<Done<Proposal>, EngineError> {
        Tries::until_settled(|| self.try_vote(who, id, approval, verb)).await
    }

    async fn try_vote(
        &self,
        who: &Requester,
        id: &str,
        approval: &Approval,
        verb: Verb,
    ) -> Result<Done<Proposal>, EngineError> {
        let view = self.fresh()?;
        let found = self.read(Kind::Proposal, id).await?;
        let found = found.map(|record| parse_proposal(&record)).transpose()?;
        let action = match verb {
            Verb::Approve => Action::Approve,
            Verb::Veto => Action::Veto,
        };
        let kek = found.as_ref().and_then(|(proposal, _)| proposal.document().kek.as_ref());
        let what = of_kek_or_custodian(&view, action, kek).about(id);
        let verdict = self.decide(&view, who, &what, None);
        // Checked before it is written down, so that the log has only approvals that count.
        let voted = found.map(|(mut proposal, version)| {
            let now = self.clock.now_unix_s();
            let voted = match verb {
                Verb::Approve => proposal.approve(who, approval.clone(), now),
                Verb::Veto => proposal.veto(who, approval.clone(), now),
            };
            voted.map(|()| (proposal, version))
        });
        let counts = matches!(voted, Some(Ok(_)));
        let hash = voted.as_ref().and_then(|voted| voted.as_ref().ok()).map(|(proposal, _)| proposal.hash());
        let detail = hash.map(|hash| vote_to_json(&hash, approval));
        let generation = view.snapshot.generation;
        let more = Details { generation, proposal: counts.then(|| id.to_owned()), detail };
        let (_, receipt) = self.permit(who, &what, &verdict, more).await?;
        let (proposal, version) = voted.ok_or(EngineError::NoSuchProposal)??;
        let edits = vec![Edit::proposal(version, proposal.clone())];
        match verb {
            Verb::Approve => drop(self.commit(edits).await?),
            Verb::Veto => self.commit_noted(&what, edits).await?,
        }
        Ok(Done { value: proposal, receipt, existed: true })
    }

    /// Asks to be told of changes as they happen.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn watch(
        &self,
        who: &Requester,
    ) -> Result<Done<tokio::sync::broadcast::Receiver<super::Event>>, EngineError> {
        // Subscribed first: what changes after the decision is told.
        let events = self.events.subscribe();
        let receipt = self.authorise(who, Action::Watch, None).await?;
        Ok(Done { value: events, receipt, existed: true })
    }
}

/// A use of the KEK that it is about, or of the custodian if it is about none.
pub(super) fn of_kek_or_custodian(view: &View, action: Action, kek: Option<&KekName>) -> Use {
    let Some(name) = kek else { return Use::of_custodian(action) };
    let labels = view.snapshot.keks.get(name).map(|stored| stored.value.labels().clone()).unwrap_or_default();
    Use::of_kek(action, name, None, &labels)
}

fn parse_proposal(record: &Record) -> Result<(Proposal, u64), StoreError> {
    let proposal = Proposal::parse(&record.body).map_err(|_| StoreError::Corrupt(Corruption::Row))?;
    Ok((proposal, record.version))
}

pub(super) fn parse_grant(record: &Record) -> Result<(Grant, u64), StoreError> {
    let grant = Grant::parse(&record.body).map_err(|_| StoreError::Corrupt(Corruption::Row))?;
    Ok((grant, record.version))
}

/// What the log keeps of an approval: enough to check it without the custodian.
pub(super) fn vote_to_json(hash: &[u8; 32], approval: &Approval) -> serde_json::Value {
    let mut value = approval.to_json();
    value["hash"] = crate::custodian::approval::json::hex(hash).into();
    value
}
