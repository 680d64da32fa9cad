//! Takes KEKs in from a backup, once a quorum approved that very backup; and the ledger's branch keys after them.
//!
//! **Invariant:** what exists, or was destroyed, is not touched by a backup.
//! **Invariant:** a branch key comes into the ledger only if it opens under its KEK and context. Nobody's word is taken for the version that
//! it was generated under.
//! **Invariant:** a KEK that came from a backup bears a mark until a quorum declared its ledger whole.

use serde_json::json;

use crate::crypto;
use crate::custodian::approval::json::hex;
use crate::custodian::audit::{Action, Details, Permit, Use};
use crate::custodian::backup::{Backup, BackupRefused, Opened, Restorable};
use crate::custodian::destruction::{Destruction, DestructionRefused};
use crate::custodian::kek::{Ciphertext, Kek, KeyringError};
use crate::custodian::requester::Requester;
use crate::custodian::seal::share::Share;
use crate::custodian::store::{Bound, LedgerEntry, StoreError};
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};

use super::super::edit::{Edit, Item};
use super::super::gate::{Approved, Gate, Gated};
use super::super::keys::{KEKS_MAX, Tries};
use super::super::refresh::View;
use super::super::{Done, Engine, EngineError, GatedCall};
use super::names_to_json;
use super::shares::Sent;

/// Most KEKs that are stored with one change of the store.
const AT_ONCE: usize = 50;
/// Most branch keys of one call.
pub const RESTORED_BRANCHES_MAX: usize = 500;
/// Most wrappings of one branch key in it.
const WRAPPINGS_MAX: usize = 2;

/// What came of a backup.
#[derive(Debug, Default)]
pub struct Restored {
    /// KEKs that are here again.
    pub restored: Vec<KekName>,
    /// Those that are not, and why.
    pub refused: Vec<(KekName, EngineError)>,
    /// Which shares opened it, and who sent them.
    pub opened_with: Vec<String>,
    /// Those that do not belong with the others: on one side, somebody's is wrong.
    pub stray_shares: Vec<String>,
}

/// A branch key as a backup has it.
#[derive(Debug, Clone)]
pub struct RestoredBranch {
    /// The branch key.
    pub id: BranchId,
    /// What it is bound to.
    pub context: BranchContext,
    /// The KEK version that it was generated under, as the backup says; what counts is the oldest that the KEK has.
    pub generated: KekVersion,
    /// Its wrappings, the newest at least.
    pub wrapped: Vec<Ciphertext>,
}

/// What came of a page of branch keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BranchesRestored {
    /// How many are in the ledger now.
    pub taken: usize,
    /// Those that do not open under the KEK and their context.
    pub refused: Vec<BranchId>,
}

impl View {
    /// Why a KEK of a backup is not taken, if it is not.
    fn refuses(&self, kek: &Restorable) -> Option<EngineError> {
        let destroyed =
            |one: &Destruction| one.is_erased() && one.target.through.is_none_or(|through| kek.oldest <= through);
        if self.destructions_of(&kek.name).any(destroyed) {
            Some(DestructionRefused::Destroyed.into())
        } else if self.snapshot.keks.contains_key(&kek.name) {
            Some(KeyringError::Exists.into())
        } else if self.snapshot.keks.len() >= KEKS_MAX {
            Some(KeyringError::TooMany.into())
        } else {
            None
        }
    }
}

/// Which share it is, and who sent it, if officers sent them.
fn whose(shares: &[&Share], sent: &Sent, at: usize) -> String {
    let index = shares[at].index();
    sent.get(at).map_or_else(|| format!("share {index}"), |(officer, _)| format!("share {index} of {officer}"))
}

/// What to call those that are not at `stray`, and those that are.
fn told(shares: &[&Share], sent: &Sent, stray: &[usize]) -> (Vec<String>, Vec<String>) {
    let told = |is_stray: bool| {
        let all = (0..shares.len()).filter(move |at| stray.contains(at) == is_stray);
        all.map(|at| whose(shares, sent, at)).collect()
    };
    (told(false), told(true))
}

/// What a restoring needs, and what is known of it so far.
struct Restoring<'a> {
    who: &'a Requester,
    what: Use,
    backup: &'a Backup,
}

impl Engine {
    /// Takes the KEKs of a backup in, once its restoring was approved: those that neither exist nor were destroyed. Where no shares come with
    /// it, those count that [officers sent](Self::give_share). When the custodian ends in the middle of many KEKs, some are here, and the rest takes another approval.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn restore_backup(
        &self,
        who: &Requester,
        backup: Option<(&Backup, &[&str])>,
        call: &GatedCall,
    ) -> Result<Done<Restored>, EngineError> {
        Tries::until_settled(|| self.try_restore(who, backup, call)).await
    }

    async fn try_restore(
        &self,
        who: &Requester,
        backup: Option<(&Backup, &[&str])>,
        call: &GatedCall,
    ) -> Result<Done<Restored>, EngineError> {
        self.fresh()?;
        let view = self.newest().await?;
        let what = Use::of_custodian(Action::RestoreBackup);
        let verdict = self.insist(&view, who, &what).await?;
        let generation = view.snapshot.generation;
        let gated = Gated { call, requester: Some(&who.id), kek: None, version: None, since_unix_s: None };
        let Gate::Open(approved) = self.gate(&view, gated) else {
            return Err(self.refuse_unapproved(who, &what, &verdict, gated).await);
        };
        let proposal = approved.id();
        let (backup, shares) = backup.ok_or(BackupRefused::NothingSent)?;
        let sent = if shares.is_empty() { self.sent_shares(call, backup) } else { Sent::new() };
        let given = backup.read_shares(shares.iter().copied())?;
        let shares: Vec<&Share> = given.iter().chain(sent.iter().map(|(_, share)| &**share)).collect();
        backup.need_enough(&shares)?;
        let note = backup.note();
        let what = what.about(&note.id);
        let detail = json!({
            "backup_sha256": hex(&backup.sha256()),
            "keks": names_to_json(note.keks.iter().map(|(name, _)| name)),
        });
        let more = Details { generation, proposal: Some(proposal), detail: Some(detail) };
        let (_, receipt) = self.permit(who, &what, &verdict, more).await?;
        // One at a time: trying may take seconds of a core.
        let opening = self.shares.opening().await;
        let Opened { keks, stray } = backup.open(&shares).await.map_err(|refused| match refused {
            BackupRefused::NotAuthentic if !sent.is_empty() => {
                let (all, _) = told(&shares, &sent, &[]);
                BackupRefused::SentNotAuthentic { threshold: note.threshold, sent: all.join(", ") }
            }
            refused => refused,
        })?;
        drop(opening);
        // Meanwhile an approval may have ended, or the custodian been sealed.
        let view = self.newest().await?;
        let Gate::Open(approved) = self.gate(&view, gated) else {
            return Err(self.refuse_unapproved(who, &what, &verdict, gated).await);
        };
        let (opened_with, stray_shares) = told(&shares, &sent, &stray);
        if !stray_shares.is_empty() {
            let noted = Use { action: Action::Note, ..what.clone() };
            let detail = json!({ "opened_with": opened_with, "stray_shares": stray_shares });
            self.write_note(&noted, view.snapshot.generation, detail).await?;
        }
        let value = self.take_in(&Restoring { who, what, backup }, &keks, *approved).await?;
        self.drop_shares(call);
        Ok(Done { value: Restored { opened_with, stray_shares, ..value }, receipt, existed: false })
    }

    /// Stores what may be stored, some at a time; the first time together with the note that the proposal was carried out.
    async fn take_in(
        &self,
        restoring: &Restoring<'_>,
        keks: &[Restorable],
        approved: Approved,
    ) -> Result<Restored, EngineError> {
        let (now, mut done, mut approved) = (self.clock.now_unix_s(), Restored::default(), Some(approved));
        for some in keks.chunks(AT_ONCE) {
            let mut tries = Tries::default();
            loop {
                let view = self.fresh()?;
                let (mut edits, mut taken, mut refused) = (Vec::new(), Vec::new(), Vec::new());
                for kek in some {
                    match self.may_take(&view, restoring, kek).await {
                        Ok(()) => {
                            let item = Item::Kek(kek.name.clone(), Some(kek.kek()));
                            edits.push(Edit { expected: 0, item });
                            taken.push(kek.name.clone());
                        }
                        Err(why) => refused.push((kek.name.clone(), why)),
                    }
                }
                if !edits.is_empty()
                    && let Some(approved) = approved.take()
                {
                    edits.push(approved.execute(now)?);
                    edits.extend(self.note_backup(&view, restoring.backup));
                    // Whoever was first has carried it out: ask for approval again.
                    self.commit(edits).await?;
                } else if !edits.is_empty()
                    && let Err(failed) = self.commit(edits).await
                {
                    tries.again(failed.into()).await?;
                    self.look().await?;
                    continue;
                }
                done.restored.extend(taken);
                done.refused.extend(refused);
                break;
            }
        }
        Ok(done)
    }

    /// It holds what is here now, and certificates are to name it.
    fn note_backup(&self, view: &View, backup: &Backup) -> Option<Edit> {
        let note = backup.note().clone();
        let known = view.snapshot.backups.contains_key(&note.id);
        (!known).then_some(Edit { expected: 0, item: Item::Backup(note) })
    }

    async fn may_take(&self, view: &View, restoring: &Restoring<'_>, kek: &Restorable) -> Result<(), EngineError> {
        if let Some(why) = view.refuses(kek) {
            return Err(why);
        }
        let Restoring { who, what, .. } = restoring;
        let of_kek = Use { subject: what.subject.clone(), ..Use::of_kek(what.action, &kek.name, None, &kek.labels) };
        self.insist(view, who, &of_kek).await.map(drop)
    }

    /// Takes branch keys of one KEK into the ledger, each that opens under the KEK and its context. The KEK may be switched off.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn restore_branches(
        &self,
        who: &Requester,
        name: &KekName,
        branches: &[RestoredBranch],
    ) -> Result<Done<BranchesRestored>, EngineError> {
        let view = self.fresh()?;
        let found = self.read_kek(name).await?;
        let labels = found.as_ref().map(|(kek, _)| kek.labels().clone()).unwrap_or_default();
        let what = Use::of_kek(Action::RestoreBackup, name, None, &labels);
        let verdict = self.decide(&view, who, &what, None);
        let ids: Vec<u8> = branches.iter().flat_map(|one| *one.id.as_bytes()).collect();
        let detail = json!({ "branch_keys": branches.len(), "ids_sha256": hex(&crypto::sha256(&ids)) });
        let more = Details { detail: Some(detail), ..Details::at(view.snapshot.generation) };
        let (permit, receipt) = self.permit(who, &what, &verdict, more).await?;
        let (kek, _) = found.ok_or(KeyringError::Unknown)?;
        let (mut value, mut entries) = (BranchesRestored::default(), Vec::new());
        for branch in branches.iter().take(RESTORED_BRANCHES_MAX) {
            match self.ledger_entries(name, &kek, branch, &entries, &permit).await? {
                Some(rows) => {
                    value.taken += 1;
                    entries.extend(rows);
                }
                None => value.refused.push(branch.id),
            }
        }
        self.store.append_branches(&entries).await.inspect_err(|failed| self.halt_if_broken(failed))?;
        Ok(Done { value, receipt, existed: false })
    }

    /// The rows of a branch key; `None` if it does not open, or if the ledger, or the call `before` it, has another one of its id.
    async fn ledger_entries(
        &self,
        name: &KekName,
        kek: &Kek,
        branch: &RestoredBranch,
        before: &[LedgerEntry],
        permit: &Permit,
    ) -> Result<Option<Vec<LedgerEntry>>, StoreError> {
        let mut known = self.store.branch(branch.id).await?;
        known.extend(before.iter().filter(|entry| entry.id == branch.id).cloned());
        let context = branch.context.to_bytes();
        let opens = |wrapped: &Ciphertext| {
            let alike = |row: &LedgerEntry| kek.holds_alike([wrapped, &Ciphertext::of(&row.wrapped)], &context, permit);
            kek.holds(wrapped, &context, permit) && known.last().is_none_or(alike)
        };
        let sound = branch.context.id == branch.id
            && kek.is_derived()
            && (1..=WRAPPINGS_MAX).contains(&branch.wrapped.len())
            && branch.generated <= kek.latest()
            && branch.wrapped.iter().all(opens)
            && known.iter().all(|row| row.kek == *name && row.is_bound_to(&branch.context));
        let now = self.clock.now_unix_s();
        // Envelopes may have it under any version that the KEK still has.
        let generated = known.iter().map(LedgerEntry::generated).min().unwrap_or(kek.oldest());
        let entry = |wrapped: &Ciphertext| entry(name, &branch.context, generated, wrapped, now);
        Ok(sound.then(|| branch.wrapped.iter().filter_map(entry).collect()))
    }
}

/// A row of the ledger about a branch key that it did not know.
pub(in crate::custodian::engine) fn entry(
    kek: &KekName,
    context: &BranchContext,
    generated: KekVersion,
    wrapped: &Ciphertext,
    created_unix_s: i64,
) -> Option<LedgerEntry> {
    let wrapped = WrappedKey::new(wrapped.version(), wrapped.bytes().to_vec()).ok()?;
    let generated = generated.min(wrapped.version());
    let bound = Bound::To { context: context.clone(), generated };
    Some(LedgerEntry { id: context.id, kek: kek.clone(), wrapped, bound, created_unix_s })
}
