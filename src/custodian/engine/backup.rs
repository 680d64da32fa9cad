//! Makes backups of KEKs, once a quorum approved for whom.
//!
//! **Invariant:** a backup is given out only after the store knows of it, so that certificates of destruction name it.

pub(super) mod restore;
pub(super) mod shares;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::crypto;
use crate::custodian::approval::json::hex;
use crate::custodian::audit::{Action, Decision, Details, Use, Verdict};
use crate::custodian::backup::{self, Audience, BACKUP_KEKS_MAX, BackedUp, BackupNote, BackupRefused, LedgerSum};
use crate::custodian::kek::Kek;
use crate::custodian::requester::Requester;
use crate::names::{KekName, KekVersion};

use super::destruction::Spares;
use super::edit::{Edit, Item};
use super::gate::{Gate, Gated};
use super::keys::Tries;
use super::refresh::View;
use super::snapshot::Stored;
use super::{Done, Engine, EngineError, GatedCall};

pub use restore::{BranchesRestored, RESTORED_BRANCHES_MAX, Restored, RestoredBranch};

/// What was made so many seconds ago is in the ledger or never will be, also where clocks differ: that much of it a backup accounts for.
const SETTLED_S: i64 = 60;
/// Most names of KEKs that an entry of the log spells out.
const NAMES_MAX: usize = 200;

/// A backup that was made.
#[derive(Debug)]
pub struct BackedUpKeks {
    /// Its text, without the branch keys of the ledger. It is encrypted.
    pub text: String,
    /// What it holds.
    pub note: BackupNote,
    /// What was asked for as part of all, and is left out because it is to be destroyed.
    pub left_out: Vec<KekName>,
}

impl View {
    /// The backups that hold the KEK, the newest first.
    pub(super) fn backups_with(&self, name: &KekName) -> Vec<&BackupNote> {
        let all = self.snapshot.backups.values().map(|stored| &stored.value);
        let mut found: Vec<&BackupNote> = all.filter(|note| note.holds(name)).collect();
        found.sort_by_key(|note| std::cmp::Reverse(note.made_unix_s));
        found
    }

    /// The newest version of a KEK that waits for being erased without the KEK.
    fn waits_through(&self, name: &KekName) -> Option<KekVersion> {
        self.destructions_of(name).filter(|one| one.is_waiting()).filter_map(|one| one.target.through).max()
    }

    /// Those that are asked for, by name, and those that are left out.
    fn selected(&self, wanted: Option<&[KekName]>) -> Result<(Vec<KekName>, Vec<KekName>), BackupRefused> {
        let is_doomed = |name: &KekName| self.is_under_way(name, Spares::Whole);
        let mut names: Vec<KekName> = match wanted {
            Some(wanted) => wanted.to_vec(),
            None => self.snapshot.keks.keys().cloned().collect(),
        };
        names.sort();
        names.dedup();
        if let (Some(unknown), Some(_)) = (names.iter().find(|name| !self.snapshot.keks.contains_key(*name)), wanted) {
            return Err(BackupRefused::UnknownKek(unknown.clone()));
        }
        let (doomed, names): (Vec<_>, Vec<_>) = names.into_iter().partition(is_doomed);
        match (wanted, doomed.first()) {
            (Some(_), Some(doomed)) => Err(BackupRefused::Doomed(doomed.clone())),
            _ if names.is_empty() => Err(BackupRefused::NoKeks),
            _ if names.len() > BACKUP_KEKS_MAX => Err(BackupRefused::TooLarge),
            _ => Ok((names, doomed)),
        }
    }
}

/// KEKs, as the log tells of them.
fn names_to_json<'a>(names: impl ExactSizeIterator<Item = &'a KekName> + Clone) -> Value {
    let all: Vec<&str> = names.clone().map(KekName::as_str).collect();
    let told: Vec<&str> = all.iter().copied().take(NAMES_MAX).collect();
    json!({ "count": all.len(), "names": told, "names_sha256": hex(&crypto::sha256(all.join("\n").as_bytes())) })
}

impl Engine {
    /// Makes a backup of `keks`, or of all of them, once that was approved.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn back_up(
        &self,
        who: &Requester,
        keks: Option<&[KekName]>,
        audience: &Audience,
        call: &GatedCall,
    ) -> Result<Done<BackedUpKeks>, EngineError> {
        Tries::until_settled(|| self.try_back_up(who, keks, audience, call)).await
    }

    async fn try_back_up(
        &self,
        who: &Requester,
        keks: Option<&[KekName]>,
        audience: &Audience,
        call: &GatedCall,
    ) -> Result<Done<BackedUpKeks>, EngineError> {
        self.fresh()?;
        let view = self.newest().await?;
        let what = Use::of_custodian(Action::Backup);
        let verdict = self.insist(&view, who, &what).await?;
        let generation = view.snapshot.generation;
        let (names, left_out) = view.selected(keks)?;
        // Backups are asked about as a whole and for each KEK, so that a policy about some KEKs holds for their copies too.
        for name in &names {
            let labels = view.snapshot.keks.get(name).map(|stored| stored.value.labels().clone()).unwrap_or_default();
            self.insist(&view, who, &Use::of_kek(Action::Backup, name, None, &labels)).await?;
        }
        let gated = Gated { call, requester: Some(&who.id), kek: None, version: None, since_unix_s: None };
        let Gate::Open(approved) = self.gate(&view, gated) else {
            return Err(self.refuse_unapproved(who, &what, &verdict, gated).await);
        };
        let detail = Some(json!({ "keks": names_to_json(names.iter()) }));
        let more = Details { generation, proposal: Some(approved.id()), detail };
        let (_, receipt) = self.permit(who, &what, &verdict, more).await?;
        let now = self.clock.now_unix_s();
        let (text, note) = self.make_backup(&view, &names, audience, now).await?;
        let edits = vec![Edit { expected: 0, item: Item::Backup(note.clone()) }, approved.execute(now)?];
        self.commit(edits).await?;
        Ok(Done { value: BackedUpKeks { text, note, left_out }, receipt, existed: false })
    }

    async fn make_backup(
        &self,
        view: &View,
        names: &[KekName],
        audience: &Audience,
        now_unix_s: i64,
    ) -> Result<(String, BackupNote), EngineError> {
        let mut copies: Vec<Arc<Stored<Kek>>> = Vec::with_capacity(names.len());
        for name in names {
            let stored = view.snapshot.keks.get(name).ok_or_else(|| BackupRefused::UnknownKek(name.clone()))?;
            copies.push(match view.waits_through(name) {
                // A copy of what is to be erased would outlive it, and the certificate may be written before this backup is known.
                Some(through) => {
                    let value = stored.value.without(through).ok_or_else(|| BackupRefused::Doomed(name.clone()))?;
                    Arc::new(Stored { value, version: stored.version, print: stored.print })
                }
                None => Arc::clone(stored),
            });
        }
        let mut keks = Vec::with_capacity(names.len());
        for (name, copy) in names.iter().zip(&copies) {
            let ledger_rows = self.store.count_branches(name).await?.iter().map(|(_, rows)| rows).sum();
            let mut branch_keys = Vec::new();
            self.each_state(name, |state| {
                branch_keys.extend(state.context().map(|_| (state.id, state.created_unix_s())));
            })
            .await?;
            let ledger = LedgerSum::of(now_unix_s.saturating_sub(SETTLED_S), branch_keys);
            keks.push(BackedUp { name, kek: &copy.value, ledger_rows, ledger });
        }
        Ok(backup::make(&keks, audience, self.audit.instance(), now_unix_s)?)
    }

    /// What is decided. A denial is written down here, an allowance with what it allows.
    async fn insist(&self, view: &View, who: &Requester, what: &Use) -> Result<Verdict, EngineError> {
        let verdict = self.decide(view, who, what, None);
        if verdict.decision == Decision::Deny {
            let _ = self.permit(who, what, &verdict, Details::at(view.snapshot.generation)).await?;
        }
        Ok(verdict)
    }
}
