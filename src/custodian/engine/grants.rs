//! Access grants: asked for, approved, ended.

use serde_json::Value;

use crate::custodian::approval::{Approval, Verb};
use crate::custodian::audit::{Action, Decision, Details, Use, Verdict};
use crate::custodian::barrier::Kind;
use crate::custodian::grant::{Grant, GrantDocument, GrantState, NewGrant};
use crate::custodian::requester::Requester;
use crate::names::KekName;
use crate::tlog::Receipt;

use super::edit::{Edit, Item};
use super::keys::Tries;
use super::people::{of_kek_or_custodian, parse_grant, vote_to_json};
use super::refresh::View;
use super::{Done, Engine, EngineError};

/// Most grants of one requester that wait for approvals.
const REQUESTED_MAX: usize = 32;
/// Most grants in all.
const GRANTS_MAX: usize = if cfg!(test) { 80 } else { 2_000 };
/// Most ended grants that are cleared away with a new one.
const CLEARED_MAX: usize = 32;
/// How long an ended grant is kept, in seconds, unless there are many; the log keeps it for ever.
const KEPT_S: i64 = 30 * 24 * 3600;

impl Engine {
    /// Asks for a grant.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn request_grant(&self, who: &Requester, wanted: NewGrant) -> Result<Done<Grant>, EngineError> {
        let view = self.fresh()?;
        let now = self.clock.now_unix_s();
        let document = GrantDocument {
            id: GrantDocument::random_id()?,
            wanted,
            requested_by: who.id.clone(),
            requested_unix_s: now,
            required: self.settings.grant_approvals_required,
        };
        let grant = Grant::new(document, Some(who.key_sha256))?;
        let detail = Some(grant.document().to_json());
        let receipt = self.permit_grant(&view, who, Action::RequestGrant, Some(&grant), grant.id(), detail).await?;
        let waits =
            |grant: &Grant| grant.document().requested_by == who.id && grant.state(now) == GrantState::Requested;
        let grants = &view.snapshot.grants;
        if grants.len() >= GRANTS_MAX || grants.values().filter(|one| waits(&one.value)).count() >= REQUESTED_MAX {
            return Err(EngineError::TooMany);
        }
        let mut edits = ended(&view, now);
        edits.push(Edit { expected: 0, item: Item::Grant(grant.id().to_owned(), Some(grant.clone())) });
        self.commit(edits).await?;
        Ok(Done { value: grant, receipt, existed: false })
    }

    /// Takes in an officer's approval; with the last one needed, the grant is in force.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn approve_grant(
        &self,
        who: &Requester,
        id: &str,
        approval: Approval,
    ) -> Result<Done<Grant>, EngineError> {
        let detail = |grant: &Grant| Some(vote_to_json(&grant.hash(), &approval));
        self.change_grant(who, id, Action::ApproveGrant, detail, |grant, now| {
            Ok(grant.approve(who, approval.clone(), now)?)
        })
        .await
    }

    /// Ends a grant, or refuses a request for one. An officer who refuses may sign that.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn end_grant(
        &self,
        who: &Requester,
        id: &str,
        veto: Option<Approval>,
    ) -> Result<Done<Grant>, EngineError> {
        let veto = veto.filter(|veto| veto.verb == Verb::Veto);
        let detail = |grant: &Grant| veto.as_ref().map(|veto| vote_to_json(&grant.hash(), veto));
        self.change_grant(who, id, Action::EndGrant, detail, |grant, now| {
            match &veto {
                Some(veto) => grant.deny(who, veto.clone(), now)?,
                None => grant.revoke(&who.id, now)?,
            }
            Ok(())
        })
        .await
    }

    /// All grants that are kept.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn grants(&self, who: &Requester) -> Result<Done<Vec<Grant>>, EngineError> {
        let receipt = self.authorise(who, Action::ReadGrants, None).await?;
        let view = self.running()?;
        let value = view.snapshot.grants.values().map(|stored| stored.value.clone()).collect();
        Ok(Done { value, receipt, existed: true })
    }

    async fn change_grant(
        &self,
        who: &Requester,
        id: &str,
        action: Action,
        detail: impl Fn(&Grant) -> Option<Value> + Sync,
        apply: impl Fn(&mut Grant, i64) -> Result<(), EngineError> + Sync,
    ) -> Result<Done<Grant>, EngineError> {
        Tries::until_settled(|| self.try_change_grant(who, id, action, &detail, &apply)).await
    }

    async fn try_change_grant(
        &self,
        who: &Requester,
        id: &str,
        action: Action,
        detail: &(impl Fn(&Grant) -> Option<Value> + Sync),
        apply: &(impl Fn(&mut Grant, i64) -> Result<(), EngineError> + Sync),
    ) -> Result<Done<Grant>, EngineError> {
        let view = self.fresh()?;
        let found = self.read(Kind::Grant, id).await?;
        let found = found.map(|record| parse_grant(&record)).transpose()?;
        let changed = found.map(|(grant, version)| {
            let mut next = grant.clone();
            let applied = apply(&mut next, self.clock.now_unix_s());
            (grant, next, version, applied)
        });
        let grant = changed.as_ref().map(|(grant, ..)| grant);
        let told = changed.as_ref().filter(|(.., applied)| applied.is_ok()).and_then(|(_, next, ..)| detail(next));
        let receipt = self.permit_grant(&view, who, action, grant, id, told).await?;
        let (_, next, version, applied) = changed.ok_or(EngineError::NoSuchGrant)?;
        applied?;
        let item = Item::Grant(id.to_owned(), Some(next.clone()));
        let edits = vec![Edit { expected: version, item }];
        if action == Action::EndGrant {
            self.commit_noted(&Use::of_custodian(action).about(id), edits).await?;
        } else {
            self.commit(edits).await?;
        }
        Ok(Done { value: next, receipt, existed: true })
    }

    /// Policy has to allow it for each of the grant's KEKs. The log gets one entry: of the first that is denied, or of the first.
    async fn permit_grant(
        &self,
        view: &View,
        who: &Requester,
        action: Action,
        grant: Option<&Grant>,
        id: &str,
        detail: Option<Value>,
    ) -> Result<Receipt, EngineError> {
        let keks: Vec<Option<&KekName>> = match grant {
            Some(grant) => grant.document().wanted.keks.iter().map(Some).collect(),
            None => vec![None],
        };
        let decided = |kek: Option<&KekName>| {
            let what = of_kek_or_custodian(view, action, kek).about(id);
            let verdict = self.decide(view, who, &what, None);
            (what, verdict)
        };
        let mut decisions: Vec<(Use, Verdict)> = keks.into_iter().map(decided).collect();
        let first = decisions.iter().position(|(_, verdict)| verdict.decision == Decision::Deny).unwrap_or(0);
        let (what, verdict) = decisions.swap_remove(first);
        let more = Details { detail, ..Details::at(view.snapshot.generation) };
        Ok(self.permit(who, &what, &verdict, more).await?.1)
    }
}

/// Removes some of those that ended long ago, or ended at all where there are many: or one who asks and takes it back would leave no
/// room for others.
fn ended(view: &View, now: i64) -> Vec<Edit> {
    let kept_s = if view.snapshot.grants.len() >= GRANTS_MAX / 2 { 0 } else { KEPT_S };
    let is_over = |grant: &Grant| {
        let over = !matches!(grant.state(now), GrantState::Requested | GrantState::Active);
        over && grant.document().requested_unix_s.saturating_add(kept_s) <= now
    };
    let over = view.snapshot.grants.values().filter(|stored| is_over(&stored.value)).take(CLEARED_MAX);
    over.map(|stored| Edit { expected: stored.version, item: Item::Grant(stored.value.id().to_owned(), None) })
        .collect()
}
