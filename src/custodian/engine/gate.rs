//! The gate before what cannot be undone: a proposal, approved by enough officers, carried out once.
//!
//! **Invariant:** the change and the note that its proposal was carried out are one change of the store.

use crate::crypto;
use crate::custodian::approval::json::hex;
use crate::custodian::approval::{Approval, PROPOSAL_LIFE_S, Proposal, ProposalDocument, ProposalState};
use crate::custodian::audit::{Action, Details, Use, Verdict};
use crate::custodian::identity::SpiffeId;
use crate::custodian::requester::Requester;
use crate::custodian::store::StoreError;
use crate::names::{KekName, KekVersion};

use super::decide::{denied, rule};
use super::edit::{Edit, Item};
use super::refresh::View;
use super::{Engine, EngineError, GatedCall};

/// Most proposals of one requester that wait for approvals.
const PENDING_MAX: usize = 32;
/// Most proposals in all.
const PROPOSALS_MAX: usize = if cfg!(test) { 80 } else { 5_000 };
/// Most proposals that are taken out in one change with what makes them void.
const WITHDRAWN_MAX: usize = 32;
/// Most settled proposals that are cleared away with a new one.
const CLEARED_MAX: usize = 32;

/// What the call is about, as the proposal has to name it.
#[derive(Clone, Copy)]
pub(super) struct Gated<'a> {
    pub(super) call: &'a GatedCall,
    /// Who proposed it; `None` if that may be anyone.
    pub(super) requester: Option<&'a SpiffeId>,
    pub(super) kek: Option<&'a KekName>,
    pub(super) version: Option<KekVersion>,
    /// When it was proposed at the earliest: what was approved before is for something that is over.
    pub(super) since_unix_s: Option<i64>,
}

/// A proposal that may be carried out, with the version of its record.
pub(super) struct Approved {
    proposal: Proposal,
    version: u64,
}

pub(super) enum Gate {
    Open(Box<Approved>),
    /// With the proposal that waits, if there is one.
    Closed(Option<String>),
}

impl Approved {
    pub(super) fn id(&self) -> String {
        self.proposal.id().to_owned()
    }

    /// The note that it was carried out, to be stored with what was.
    ///
    /// # Errors
    /// [`EngineError::Approval`] when it may not be any more.
    pub(super) fn execute(self, now_unix_s: i64) -> Result<Edit, EngineError> {
        let (proposal, version) = self.executed(now_unix_s)?;
        Ok(Edit::proposal(version, proposal))
    }

    /// The proposal as it is when it was carried out, and the version of its record.
    ///
    /// # Errors
    /// As [`Approved::execute`].
    pub(super) fn executed(mut self, now_unix_s: i64) -> Result<(Proposal, u64), EngineError> {
        let requester = self.proposal.document().requester.clone();
        self.proposal.execute(&requester, now_unix_s)?;
        Ok((self.proposal, self.version))
    }
}

impl Gated<'_> {
    fn is_of(&self, proposal: &Proposal, policy: [u8; 32]) -> bool {
        let document = proposal.document();
        let requester = self.requester.unwrap_or(&document.requester);
        proposal.is_for(self.call.method, &self.call.path, &self.call.body, requester)
            && document.kek.as_ref() == self.kek
            && document.version == self.version
            && document.policy == policy
            && self.since_unix_s.is_none_or(|since| document.created_unix_s >= since)
    }
}

impl View {
    /// Whether `required` of the officers who approved may still do so: a stolen key that was revoked decides nothing any more.
    pub(super) fn are_standing(&self, approvals: &[Approval], required: u8) -> bool {
        let stands = |approval: &&Approval| {
            let certificate = format!("certificate:{}", hex(&crypto::sha256(&approval.certificate)));
            ![approval.officer.as_str(), &certificate].into_iter().any(|name| self.is_revoked(name))
        };
        approvals.iter().filter(stands).count() >= usize::from(required)
    }

    /// By as many as it takes now, or took when it was proposed: one that waits is not let through because it is old.
    fn is_still_carried(&self, proposal: &Proposal, required_now: u8) -> bool {
        let required = proposal.document().required.max(required_now);
        proposal.is_carried_by(required) && self.are_standing(proposal.approvals(), required)
    }
}

impl Engine {
    /// Whether the call was approved.
    pub(super) fn gate(&self, view: &View, gated: Gated<'_>) -> Gate {
        let (now, policy) = (self.clock.now_unix_s(), view.snapshot.policy.value.hash());
        let required = self.settings.approvals_required;
        let mut waits = None;
        for stored in view.snapshot.proposals.values().filter(|stored| gated.is_of(&stored.value, policy)) {
            match stored.value.state(now) {
                ProposalState::Approved if view.is_still_carried(&stored.value, required) => {
                    let (proposal, version) = (stored.value.clone(), stored.version);
                    return Gate::Open(Box::new(Approved { proposal, version }));
                }
                // Others may approve in the place of those who were shut out since.
                ProposalState::Approved | ProposalState::Pending => waits = Some(stored.value.id().to_owned()),
                ProposalState::Executed | ProposalState::Vetoed | ProposalState::Expired => {}
            }
        }
        Gate::Closed(waits)
    }

    /// Writes down that the call was refused, and proposes it if nobody did.
    ///
    /// # Errors
    /// [`EngineError::Gated`] if all goes well.
    pub(super) async fn refuse_unapproved(
        &self,
        who: &Requester,
        what: &Use,
        verdict: &Verdict,
        gated: Gated<'_>,
    ) -> EngineError {
        self.try_refuse_unapproved(who, what, verdict, gated).await.unwrap_or_else(|failed| failed)
    }

    async fn try_refuse_unapproved(
        &self,
        who: &Requester,
        what: &Use,
        verdict: &Verdict,
        gated: Gated<'_>,
    ) -> Result<EngineError, EngineError> {
        // One at a time, so that calls at the same moment do not propose the same twice.
        let _one_at_a_time = self.proposing.lock().await;
        self.look().await?;
        let view = self.running()?;
        let (generation, policy) = (view.snapshot.generation, view.snapshot.policy.value.hash());
        let proposal = match self.gate(&view, gated) {
            Gate::Closed(None) => self.new_proposal(&view, who, gated)?,
            Gate::Closed(Some(proposal_id)) => {
                let more = Details { proposal: Some(proposal_id.clone()), ..Details::at(generation) };
                self.audit.record(who, what, &denied(policy, rule::UNAPPROVED), more).await?;
                return Ok(EngineError::Gated { proposal_id });
            }
            // It was approved meanwhile.
            Gate::Open(approved) => return Ok(EngineError::Gated { proposal_id: approved.id() }),
        };
        let proposal_id = proposal.id().to_owned();
        let more = Details { proposal: Some(proposal_id.clone()), ..Details::at(generation) };
        self.audit.record(who, what, &denied(policy, rule::UNAPPROVED), more).await?;
        let proposed = Use { action: Action::Propose, ..what.clone() }.about(&proposal_id);
        let detail = Some(proposal.document().to_json());
        let more = Details { detail, proposal: Some(proposal_id.clone()), ..Details::at(generation) };
        let _ = self.permit(who, &proposed, verdict, more).await?;
        let mut edits = self.settled(&view);
        edits.push(Edit::proposal(0, proposal));
        self.commit(edits).await?;
        Ok(EngineError::Gated { proposal_id })
    }

    fn new_proposal(&self, view: &View, who: &Requester, gated: Gated<'_>) -> Result<Proposal, EngineError> {
        let now = self.clock.now_unix_s();
        let waits = |proposal: &Proposal| {
            proposal.document().requester == who.id && proposal.state(now) == ProposalState::Pending
        };
        let proposals = &view.snapshot.proposals;
        let waiting = proposals.values().filter(|stored| waits(&stored.value)).count();
        if waiting >= PENDING_MAX || proposals.len() >= PROPOSALS_MAX {
            return Err(EngineError::TooMany);
        }
        // Or it would never count, where it comes in the same second, or by a clock that is behind.
        let created = gated.since_unix_s.map_or(now, |since| now.max(since));
        let document = ProposalDocument {
            id: ProposalDocument::random_id()?,
            requester: who.id.clone(),
            method: gated.call.method.to_owned(),
            path: gated.call.path.clone(),
            body: gated.call.body.clone(),
            kek: gated.kek.cloned(),
            version: gated.version,
            policy: view.snapshot.policy.value.hash(),
            created_unix_s: created,
            expires_unix_s: created + PROPOSAL_LIFE_S,
            required: self.settings.approvals_required,
        };
        Ok(Proposal::new(document, Some(who.key_sha256))?)
    }

    /// Adds to `edits` that the open proposals which `is_of` names go: they were for a state that is over with the change, and approvals
    /// must not be kept for the next one. Of very many, some go before it.
    ///
    /// # Errors
    /// As [`Engine::commit`].
    pub(super) async fn withdraw(
        &self,
        edits: &mut Vec<Edit>,
        is_of: impl Fn(&ProposalDocument) -> bool + Send + Sync,
    ) -> Result<(), StoreError> {
        self.look().await?;
        let (view, now) = (self.view(), self.clock.now_unix_s());
        let is_open = |proposal: &Proposal| {
            !matches!(proposal.state(now), ProposalState::Executed | ProposalState::Vetoed)
                && is_of(proposal.document())
        };
        let is_changed = |id: &str| edits.iter().any(|edit| matches!(&edit.item, Item::Proposal(of, _) if of == id));
        let open = view.snapshot.proposals.values().filter(|stored| is_open(&stored.value));
        let mut open: Vec<Edit> = open
            .filter(|stored| !is_changed(stored.value.id()))
            .map(|stored| Edit { expected: stored.version, item: Item::Proposal(stored.value.id().to_owned(), None) })
            .collect();
        while open.len() > WITHDRAWN_MAX {
            self.commit(open.split_off(open.len() - WITHDRAWN_MAX)).await?;
        }
        edits.extend(open);
        Ok(())
    }

    /// Removes some of those whose time is over, and where there are many, of those that were settled before; the log keeps them. Or one
    /// who proposes and vetoes would leave no room for others.
    fn settled(&self, view: &View) -> Vec<Edit> {
        let now = self.clock.now_unix_s();
        let crowded = view.snapshot.proposals.len() >= PROPOSALS_MAX / 2;
        let is_settled = |proposal: &Proposal| {
            crowded && matches!(proposal.state(now), ProposalState::Executed | ProposalState::Vetoed)
        };
        let is_over = |proposal: &Proposal| proposal.document().expires_unix_s <= now || is_settled(proposal);
        let over = view.snapshot.proposals.values().filter(|stored| is_over(&stored.value)).take(CLEARED_MAX);
        over.map(|stored| Edit { expected: stored.version, item: Item::Proposal(stored.value.id().to_owned(), None) })
            .collect()
    }
}
