//! Destroys KEKs, or their retired versions: off at once, a quorum, a waiting period, a second quorum, erased, certified.
//!
//! **Invariant:** what is erased, the tombstone and the note that its proposal was carried out are one change of the store.
//! **Invariant:** whatever schedules a destruction also writes the KEK's record, so that nobody who read the KEK before can still save it.

mod erase;

use serde_json::{Value, json};

use crate::custodian::audit::{Action, Decision, Details, Use, Verdict};
use crate::custodian::destruction::{Destruction, DestructionRefused, State, Target};
use crate::custodian::kek::{Kek, KeyringError, Labels};
use crate::custodian::requester::Requester;
use crate::names::{KekName, KekVersion};

use super::edit::{Edit, Item};
use super::gate::{Approved, Gate, Gated};
use super::keys::Tries;
use super::refresh::View;
use super::{Done, Engine, EngineError, GatedCall};

/// Which destruction of a KEK a change must not cross.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spares {
    /// Of the KEK as a whole.
    Whole,
    /// Any.
    Any,
    /// Of versions from this one on, which would be opened again.
    Versions(u32),
}

/// What is known of a target when a call about its destruction comes.
struct Found {
    view: View,
    kek: Option<(Kek, u64)>,
    /// With the version of its record.
    known: Option<(Destruction, u64)>,
    labels: Labels,
}

/// A step that may be taken: the KEK, and what was approved.
struct Step {
    kek: Kek,
    kek_version: u64,
    approved: Box<Approved>,
}

impl View {
    /// Whether the KEK was destroyed.
    pub(super) fn is_destroyed(&self, name: &KekName) -> bool {
        self.snapshot.destructions.get(name.as_str()).is_some_and(|stored| stored.value.is_erased())
    }

    /// Whether such a destruction waits.
    pub(super) fn is_under_way(&self, name: &KekName, spares: Spares) -> bool {
        let crosses = |destruction: &Destruction| match (spares, destruction.target.through) {
            (Spares::Any, _) | (Spares::Whole, None) => true,
            (Spares::Versions(from), Some(through)) => from <= through.number(),
            (Spares::Whole, Some(_)) | (Spares::Versions(_), None) => false,
        };
        self.destructions_of(name).any(|one| one.is_waiting() && crosses(one))
    }

    /// The KEK's labels, also when it was destroyed: whoever was permitted to use it hears that it is gone, not that policy says no.
    pub(super) fn labels(&self, name: &KekName) -> Labels {
        match self.snapshot.keks.get(name) {
            Some(stored) => stored.value.labels().clone(),
            None => self.destructions_of(name).next().map_or_else(Labels::default, |one| one.labels.clone()),
        }
    }

    /// Those of the KEK and of its versions.
    pub(super) fn destructions_of(&self, name: &KekName) -> impl Iterator<Item = &Destruction> {
        let all = self.snapshot.destructions.values().map(|stored| &stored.value);
        all.filter(move |one| one.target.kek == *name)
    }
}

impl Found {
    fn latest(&self) -> Option<KekVersion> {
        self.kek.as_ref().map(|(kek, _)| kek.latest())
    }

    /// The version that proposals name.
    fn proposed(&self, target: &Target) -> Option<KekVersion> {
        target.through.or(self.latest())
    }

    /// A destruction that was scheduled and not called off.
    fn standing(&self) -> Option<&Destruction> {
        let (known, _) = self.known.as_ref()?;
        (!matches!(known.state, State::Cancelled { .. })).then_some(known)
    }

    fn record_version(&self) -> u64 {
        self.known.as_ref().map_or(0, |(_, version)| *version)
    }
}

impl Target {
    /// Whether it can be destroyed, as the KEK is now.
    fn check(&self, kek: &Kek) -> Result<(), DestructionRefused> {
        let Some(through) = self.through else { return Ok(()) };
        self.check_ledger(kek)?;
        if through < kek.oldest() || through > kek.latest() {
            return Err(DestructionRefused::NoSuchVersion);
        }
        let (through, min_decryption) = (through.number(), kek.min_decryption().number());
        if through < min_decryption { Ok(()) } else { Err(DestructionRefused::NotRetired { through, min_decryption }) }
    }

    /// Whether nothing that the ledger does not know may hang on versions that are to go without the KEK.
    fn check_ledger(&self, kek: &Kek) -> Result<(), DestructionRefused> {
        let unknown = kek.restored_through().filter(|_| self.through.is_some());
        unknown.map_or(Ok(()), |through| Err(DestructionRefused::LedgerNotWhole(through)))
    }

    fn to_detail(&self) -> Value {
        json!({ "through_version": self.through.map(KekVersion::number) })
    }
}

impl Engine {
    /// Schedules a destruction, once that was approved. A whole KEK is switched off before anybody is asked. What is scheduled or done
    /// already is told.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn destroy(
        &self,
        who: &Requester,
        target: &Target,
        call: &GatedCall,
    ) -> Result<Done<Destruction>, EngineError> {
        Tries::until_settled(|| self.try_destroy(who, target, call)).await
    }

    async fn try_destroy(
        &self,
        who: &Requester,
        target: &Target,
        call: &GatedCall,
    ) -> Result<Done<Destruction>, EngineError> {
        let mut found = self.find(target).await?;
        let what = Use::of_kek(Action::Destroy, &target.kek, None, &found.labels);
        let verdict = self.decide(&found.view, who, &what, None);
        let fit = match &found.kek {
            _ if found.standing().is_some() || verdict.decision == Decision::Deny => false,
            Some((kek, _)) => target.check(kek).is_ok(),
            None => false,
        };
        if !fit {
            return self.tell_standing(who, &what, &verdict, target, found).await;
        }
        if target.through.is_none() && found.kek.as_ref().is_some_and(|(kek, _)| !kek.is_disabled()) {
            self.disable(who, &target.kek).await?;
            found = self.find(target).await?;
        }
        let since = match found.known.as_ref().map(|(known, _)| &known.state) {
            Some(State::Cancelled { at_unix_s, .. }) => Some(*at_unix_s),
            _ => None,
        };
        let what = Use { version: found.proposed(target), ..what };
        let record_version = found.record_version();
        let labels = found.labels.clone();
        let generation = found.view.snapshot.generation;
        let Step { mut kek, kek_version, approved } =
            self.approved_step(who, &what, &verdict, found, call, since).await?;
        let more = Details { generation, proposal: Some(approved.id()), detail: Some(target.to_detail()) };
        let (permit, receipt) = self.permit(who, &what, &verdict, more).await?;
        let (scheduled, proposal_version) = approved.executed(self.clock.now_unix_s())?;
        if target.through.is_none() {
            kek.doom(permit);
        }
        let wait = self.settings.destroy_wait;
        let destruction =
            Destruction { target: target.clone(), labels, wait, scheduled: scheduled.clone(), state: State::Waiting };
        let edits = vec![
            Edit { expected: kek_version, item: Item::Kek(target.kek.clone(), Some(kek)) },
            Edit { expected: record_version, item: Item::Destruction(destruction.clone()) },
            Edit::proposal(proposal_version, scheduled),
        ];
        self.commit_noted(&what, edits).await?;
        Ok(Done { value: destruction, receipt, existed: false })
    }

    /// What is known of the target. The KEK is read first: what changes both then shows in one of them at least.
    async fn find(&self, target: &Target) -> Result<Found, EngineError> {
        self.fresh()?;
        let kek = self.read_kek(&target.kek).await?;
        let view = self.newest().await?;
        let stored = view.snapshot.destructions.get(&target.record_name());
        let known = stored.map(|stored| (stored.value.clone(), stored.version));
        let labels = match &kek {
            Some((kek, _)) => kek.labels().clone(),
            None => view.labels(&target.kek),
        };
        Ok(Found { view, kek, known, labels })
    }

    /// Writes the call down, and answers with what was scheduled or done before; or says why nothing can be.
    async fn tell_standing(
        &self,
        who: &Requester,
        what: &Use,
        verdict: &Verdict,
        target: &Target,
        found: Found,
    ) -> Result<Done<Destruction>, EngineError> {
        let more = Details { detail: Some(target.to_detail()), ..Details::at(found.view.snapshot.generation) };
        let (_, receipt) = self.permit(who, what, verdict, more).await?;
        let destroyed = found.view.is_destroyed(&target.kek);
        // Of versions that were to go before the whole KEK did, nothing is left to be done.
        let overtaken = destroyed && found.standing().is_some_and(Destruction::is_waiting);
        if let Some(standing) = found.standing().filter(|_| !overtaken) {
            return Ok(Done { value: standing.clone(), receipt, existed: true });
        }
        if destroyed {
            return Err(DestructionRefused::Destroyed.into());
        }
        let (kek, _) = found.kek.ok_or(KeyringError::Unknown)?;
        target.check(&kek)?;
        Err(DestructionRefused::NotScheduled.into())
    }

    /// The step of `what`, if enough officers approved it; else it is proposed.
    async fn approved_step(
        &self,
        who: &Requester,
        what: &Use,
        verdict: &Verdict,
        found: Found,
        call: &GatedCall,
        since_unix_s: Option<i64>,
    ) -> Result<Step, EngineError> {
        let (kek, kek_version) = found.kek.ok_or(KeyringError::Unknown)?;
        let gated =
            Gated { call, requester: Some(&who.id), kek: what.kek.as_ref(), version: what.version, since_unix_s };
        match self.gate(&found.view, gated) {
            Gate::Open(approved) => Ok(Step { kek, kek_version, approved }),
            Gate::Closed(_) => Err(self.refuse_unapproved(who, what, verdict, gated).await),
        }
    }

    /// The destructions of a KEK and of its versions, the KEK's own first.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn destructions(&self, who: &Requester, name: &KekName) -> Result<Done<Vec<Destruction>>, EngineError> {
        let Found { view, kek, labels, .. } = self.find(&Target::whole(name)).await?;
        let what = Use::of_kek(Action::Read, name, None, &labels);
        let verdict = self.decide(&view, who, &what, None);
        let (_, receipt) = self.permit(who, &what, &verdict, Details::at(view.snapshot.generation)).await?;
        let value: Vec<Destruction> = view.destructions_of(name).cloned().collect();
        if kek.is_none() && value.is_empty() {
            return Err(KeyringError::Unknown.into());
        }
        Ok(Done { value, receipt, existed: true })
    }
}
