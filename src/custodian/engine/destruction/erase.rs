//! Calls a destruction off, or carries it out: erases, certifies, and leaves a tombstone.

use serde_json::json;

use crate::crypto;
use crate::custodian::approval::json::hex;
use crate::custodian::audit::{Action, Decision, Details, Use, Verdict};
use crate::custodian::destruction::{
    BACKUPS_TOLD, Certified, Destruction, DestructionRefused, Lost, State, Target, certificate_text,
};
use crate::custodian::requester::Requester;

use super::super::edit::{Edit, Item};
use super::super::keys::Tries;
use super::super::refresh::View;
use super::super::{Done, Engine, EngineError, GatedCall};
use super::Step;

/// A destruction that waits, the version of its record, and what is lost with it.
struct Waiting {
    destruction: Destruction,
    record_version: u64,
    lost: Lost,
}

impl Engine {
    /// Calls a destruction off, as long as nothing was erased. A KEK stays switched off.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn cancel_destruction(&self, who: &Requester, target: &Target) -> Result<Done<Destruction>, EngineError> {
        Tries::until_settled(|| self.try_cancel(who, target)).await
    }

    async fn try_cancel(&self, who: &Requester, target: &Target) -> Result<Done<Destruction>, EngineError> {
        let found = self.find(target).await?;
        let what = Use::of_kek(Action::CancelDestruction, &target.kek, None, &found.labels);
        let verdict = self.decide(&found.view, who, &what, None);
        let more = Details { detail: Some(target.to_detail()), ..Details::at(found.view.snapshot.generation) };
        let (_, receipt) = self.permit(who, &what, &verdict, more).await?;
        let (known, version) = found.known.ok_or(DestructionRefused::NotScheduled)?;
        match known.state {
            State::Waiting => {}
            State::Cancelled { .. } => return Ok(Done { value: known, receipt, existed: true }),
            State::Erased { .. } => return Err(DestructionRefused::Destroyed.into()),
        }
        let state = State::Cancelled { by: who.id.clone(), at_unix_s: self.clock.now_unix_s() };
        let cancelled = Destruction { state, ..known };
        self.commit(vec![Edit { expected: version, item: Item::Destruction(cancelled.clone()) }]).await?;
        Ok(Done { value: cancelled, receipt, existed: false })
    }

    /// Erases what the waiting period has passed for, once a second quorum approved that, and certifies it. What is erased already is told.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn erase(
        &self,
        who: &Requester,
        target: &Target,
        call: &GatedCall,
    ) -> Result<Done<Destruction>, EngineError> {
        Tries::until_settled(|| self.try_erase(who, target, call)).await
    }

    async fn try_erase(
        &self,
        who: &Requester,
        target: &Target,
        call: &GatedCall,
    ) -> Result<Done<Destruction>, EngineError> {
        let found = self.find(target).await?;
        let what = Use::of_kek(Action::Erase, &target.kek, None, &found.labels);
        let verdict = self.decide(&found.view, who, &what, None);
        let waiting = found.known.clone().filter(|(known, _)| known.is_waiting());
        let due_unix_s = waiting.as_ref().map(|(known, _)| known.due_unix_s());
        let is_due = due_unix_s.is_some_and(|due| due <= self.clock.now_unix_s());
        let unfit =
            found.kek.as_ref().and_then(|(kek, _)| target.check_ledger(kek).err()).filter(|_| waiting.is_some());
        let is_fit = is_due && found.kek.is_some() && unfit.is_none();
        let (Some((destruction, record_version)), true, true) = (waiting, is_fit, verdict.decision == Decision::Allow)
        else {
            let told = self.tell_standing(who, &what, &verdict, target, found).await?;
            let due_unix_s = told.value.due_unix_s();
            return if told.value.is_erased() {
                Ok(told)
            } else {
                Err(unfit.filter(|_| is_due).unwrap_or(DestructionRefused::NotDue { due_unix_s }).into())
            };
        };
        let what = Use { version: found.proposed(target), ..what };
        let lost = self.lost_with(&found.view, target).await?;
        let generation = found.view.snapshot.generation;
        let step = self.approved_step(who, &what, &verdict, found, call, due_unix_s).await?;
        let waiting = Waiting { destruction, record_version, lost };
        self.carry_out(who, &what, &verdict, generation, step, waiting).await
    }

    /// Writes down, certifies and erases.
    async fn carry_out(
        &self,
        who: &Requester,
        what: &Use,
        verdict: &Verdict,
        generation: u64,
        step: Step,
        waiting: Waiting,
    ) -> Result<Done<Destruction>, EngineError> {
        let Waiting { destruction, record_version, lost } = waiting;
        let Step { mut kek, kek_version, approved } = step;
        let target = destruction.target.clone();
        let more = Details { generation, proposal: Some(approved.id()), detail: Some(target.to_detail()) };
        let (permit, receipt) = self.permit(who, what, verdict, more).await?;
        let at_unix_s = self.clock.now_unix_s();
        let info = kek.info(&target.kek);
        let (erasing, proposal_version) = approved.executed(at_unix_s)?;
        let certificate = self.certify(&Certified {
            destruction: &destruction,
            erasing: &erasing,
            kek: &info,
            instance: self.audit.instance(),
            log_index: receipt.index,
            at_unix_s,
            lost: &lost,
        })?;
        let certificate_sha256 = hex(&crypto::sha256(certificate.as_bytes()));
        let left = match target.through {
            None => None,
            Some(through) => {
                kek.erase_through(through, permit)?;
                Some(kek)
            }
        };
        let erased = Destruction { state: State::Erased { at_unix_s, certificate }, ..destruction };
        let edits = vec![
            Edit { expected: kek_version, item: Item::Kek(target.kek, left) },
            Edit { expected: record_version, item: Item::Destruction(erased.clone()) },
            Edit::proposal(proposal_version, erasing),
        ];
        let generation = self.commit(edits).await?;
        let noted = Use { action: Action::Note, ..what.clone() };
        let detail = json!({ "done": Action::Erase.as_str(), "certificate_sha256": certificate_sha256 });
        self.write_note(&noted, generation, detail).await?;
        Ok(Done { value: erased, receipt, existed: false })
    }

    /// The signed note.
    fn certify(&self, what: &Certified<'_>) -> Result<String, EngineError> {
        let text = certificate_text(what).ok_or(EngineError::CertificateTooLong)?;
        let note = self.audit.log().sign_statement(&text).map_err(|_| EngineError::CertificateTooLong)?;
        Ok(note.to_string())
    }

    /// What nothing opens any more when the target is erased.
    async fn lost_with(&self, view: &View, target: &Target) -> Result<Lost, EngineError> {
        let mut branch_keys = 0;
        self.each_state(&target.kek, |state| {
            let is_lost = state.entries.iter().all(|entry| target.covers(entry.wrapped.version()));
            branch_keys += u64::from(is_lost);
        })
        .await?;
        let backups = view.backups_with(&target.kek);
        let told = backups.iter().take(BACKUPS_TOLD).map(|note| (note.id.clone(), note.made_unix_s)).collect();
        Ok(Lost { branch_keys, backups: backups.len(), backups_told: told })
    }
}
