//! Branch keys as the ledger has them: shown, moved to the newest version, confirmed at their sites.
//!
//! **Invariant:** a branch key counts as confirmed at a site only when bytes were opened, with the ledger's own context, to the very key
//! that the ledger's own wrapping holds.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::crypto;
use crate::custodian::approval::json::hex;
use crate::custodian::audit::{Action, Details, Permit, Use};
use crate::custodian::kek::{Ciphertext, Kek, KeyringError, Labels};
use crate::custodian::requester::Requester;
use crate::custodian::store::{Bound, BranchState, Confirmation, Cursor, LedgerEntry};
use crate::custody::context::BranchContext;
use crate::custody::wrapped::WrappedKey;
use crate::names::{BranchId, KekName, KekVersion};
use crate::tlog::Receipt;

use super::snapshot::Stored;
use super::{Done, Engine, EngineError};

/// Most branch keys of one call.
pub const BRANCHES_AT_ONCE_MAX: usize = 500;
/// Pages of the ledger that one call looks through.
const PAGES_MAX: u32 = 20;

/// Some branch keys of a KEK.
#[derive(Debug)]
pub struct BranchList {
    /// The branch keys.
    pub branches: Vec<BranchState>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// What became of the branch keys of a call.
#[derive(Debug)]
pub struct Each<T> {
    /// What was done for those with which it went well.
    pub done: Vec<(BranchId, T)>,
    /// Why not, for the others.
    pub failed: Vec<(BranchId, BranchFailure)>,
}

/// Why nothing was done with a branch key.
#[derive(Debug, thiserror::Error)]
pub enum BranchFailure {
    /// The ledger has none of that id under this KEK.
    #[error("the ledger has no such branch key")]
    Unknown,
    /// The ledger's entry is from before contexts were kept.
    #[error("the ledger does not tell its context; rewrap it by the Transit API, with its context")]
    WithoutContext,
    /// The site is none that has to hold it.
    #[error(
        "the custodian's `[keys]` has its bucket at: {0}; compare with the bucket's `site` in the proxy's configuration"
    )]
    Elsewhere(String),
    /// It does not open, or to another key.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// A branch key, and what is to be opened of it.
type Found<'a> = (BranchId, &'a BranchState, Ciphertext, Vec<u8>);

impl Engine {
    /// Branch keys that need a version below `before`, or all.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn branches(
        &self,
        who: &Requester,
        name: &KekName,
        before: Option<KekVersion>,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Done<BranchList>, EngineError> {
        let (_, _, receipt) = self.allow_on_branches(who, Action::Read, name, None).await?;
        let limit = limit.clamp(1, BRANCHES_AT_ONCE_MAX);
        let needed =
            |state: &BranchState| before.is_none_or(|before| state.needs(self.settings.sites_of(state)) < before);
        let mut branches = Vec::new();
        let (mut from, mut pages_left) = (after, PAGES_MAX);
        loop {
            let page = self.store.branch_states(name, from).await.inspect_err(|failed| self.halt_if_broken(failed))?;
            for state in page.branches.into_iter().filter(|state| needed(state)) {
                if branches.len() == limit {
                    let last: Option<&BranchState> = branches.last();
                    let next = last.map(|last| self.store.cursor_of(last.id));
                    return Ok(Done { value: BranchList { branches, next }, receipt, existed: true });
                }
                branches.push(state);
            }
            pages_left -= 1;
            match page.next {
                // Who asks goes on from there, also when nothing was found so far.
                Some(next) if pages_left == 0 => {
                    return Ok(Done { value: BranchList { branches, next: Some(next) }, receipt, existed: true });
                }
                Some(next) => from = Some(next),
                None => return Ok(Done { value: BranchList { branches, next: None }, receipt, existed: true }),
            }
        }
    }

    /// Moves branch keys to the newest version, in the ledger first. Those that are there already are given as they are.
    ///
    /// # Errors
    /// [`EngineError`]; what was done before it stays done.
    pub async fn rewrap_branches(
        &self,
        who: &Requester,
        name: &KekName,
        ids: &[BranchId],
    ) -> Result<Done<Each<WrappedKey>>, EngineError> {
        let _turn = self.turns.take(who.certificate_sha256).await?;
        let detail = Some(of_ids(ids));
        let (kek, permit, receipt) = self.allow_on_branches(who, Action::Rewrap, name, detail).await?;
        let states = self.states(name, ids).await?;
        let mut each = Each { done: Vec::new(), failed: Vec::new() };
        let mut old: Vec<Found<'_>> = Vec::new();
        for id in ids {
            match find(&states, *id) {
                Ok((state, _)) if state.newest().wrapped.version() >= kek.value.latest() => {
                    each.done.push((*id, state.newest().wrapped.clone()));
                }
                Ok((state, context)) => old.push((*id, state, Ciphertext::of(&state.newest().wrapped), context)),
                Err(failed) => each.failed.push((*id, failed)),
            }
        }
        let items = old.iter().map(|(_, _, ciphertext, context)| (ciphertext, context.as_slice()));
        let moved = kek.value.rewrap_all(items, permit)?;
        let mut entries = Vec::with_capacity(moved.len());
        for ((id, state, ..), moved) in old.iter().zip(moved) {
            match moved {
                Ok(moved) => {
                    let entry = self.entry_after(name, state, &moved);
                    each.done.push((*id, entry.wrapped.clone()));
                    entries.push(entry);
                }
                Err(failed) => each.failed.push((*id, failed.into())),
            }
        }
        self.store.append_branches(&entries).await.map_err(|failed| EngineError::Ledger(Arc::new(failed)))?;
        // Whoever did the same a moment before has written another wrapping, and that is the one that stands.
        let ids: Vec<BranchId> = entries.iter().map(|entry| entry.id).collect();
        let standing: HashMap<BranchId, WrappedKey> =
            self.states(name, &ids).await?.iter().map(|state| (state.id, state.newest().wrapped.clone())).collect();
        for (id, wrapped) in &mut each.done {
            if let Some(standing) = standing.get(id) {
                wrapped.clone_from(standing);
            }
        }
        Ok(Done { value: each, receipt, existed: true })
    }

    /// Notes what was read back from `site`: bytes that open to the branch key, or `None` where nothing good is there.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn confirm_branches(
        &self,
        who: &Requester,
        name: &KekName,
        site: &str,
        read: &[(BranchId, Option<WrappedKey>)],
    ) -> Result<Done<Each<()>>, EngineError> {
        let _turn = self.turns.take(who.certificate_sha256).await?;
        let ids: Vec<BranchId> = read.iter().map(|(id, _)| *id).collect();
        let mut detail = of_ids(&ids);
        detail["site"] = site.into();
        let (kek, permit, receipt) = self.allow_on_branches(who, Action::Rewrap, name, Some(detail)).await?;
        if !self.settings.all_sites().iter().any(|known| known == site) {
            return Err(EngineError::NoSuchSite);
        }
        let states = self.states(name, &ids).await?;
        let mut each = Each { done: Vec::new(), failed: Vec::new() };
        let (mut writes, mut to_open) = (Vec::new(), Vec::new());
        for (id, wrapped) in read {
            match (find(&states, *id), wrapped) {
                // It would not count; whoever reads it back here goes by another configuration.
                (Ok((state, _)), _) if !self.settings.sites_of(state).iter().any(|known| known == site) => {
                    let sites = self.settings.sites_of(state).join(", ");
                    each.failed.push((*id, BranchFailure::Elsewhere(sites)));
                }
                (Ok(_), None) => writes.push((*id, None)),
                (Ok((state, context)), Some(wrapped)) => to_open.push((*id, state, Ciphertext::of(wrapped), context)),
                (Err(failed), _) => each.failed.push((*id, failed)),
            }
        }
        let ours: Vec<Ciphertext> =
            to_open.iter().map(|(_, state, ..)| Ciphertext::of(&state.newest().wrapped)).collect();
        let items = to_open.iter().zip(&ours).map(|((_, _, theirs, context), ours)| (ours, theirs, context.as_slice()));
        let compared = kek.value.hold_the_same(items, permit)?;
        let at_unix_s = self.clock.now_unix_s();
        for ((id, _, theirs, _), same) in to_open.iter().zip(compared) {
            match same {
                Ok(()) => {
                    writes.push((*id, Some(Confirmation { version: theirs.version(), at_unix_s })));
                    each.done.push((*id, ()));
                }
                // Another custodian may know the version already: nothing is known about what lies there.
                Err(failed @ KeyringError::VersionUnknown) => each.failed.push((*id, failed.into())),
                // What lies there does not do: it is as if nothing lay there.
                Err(failed) => {
                    writes.push((*id, None));
                    each.failed.push((*id, failed.into()));
                }
            }
        }
        self.store.confirm_branches(name, site, &writes).await?;
        Ok(Done { value: each, receipt, existed: true })
    }

    async fn states(&self, name: &KekName, ids: &[BranchId]) -> Result<Vec<BranchState>, EngineError> {
        let states = self.store.branch_states_of(name, ids).await;
        Ok(states.inspect_err(|failed| self.halt_if_broken(failed))?)
    }

    fn entry_after(&self, name: &KekName, state: &BranchState, moved: &Ciphertext) -> LedgerEntry {
        let wrapped = WrappedKey::new(moved.version(), moved.bytes().to_vec());
        let wrapped = wrapped.expect("a branch key of the ledger is short, and so is its new wrapping");
        let context = state.context().expect("only such are rewrapped").clone();
        let bound = Bound::To { context, generated: state.generated() };
        LedgerEntry { id: state.id, kek: name.clone(), wrapped, bound, created_unix_s: self.clock.now_unix_s() }
    }

    /// Decides and writes down, as for any use of a KEK, but for many branch keys at once.
    pub(super) async fn allow_on_branches(
        &self,
        who: &Requester,
        action: Action,
        name: &KekName,
        detail: Option<Value>,
    ) -> Result<(Arc<Stored<Kek>>, Permit, Receipt), EngineError> {
        let view = self.fresh()?;
        let none = Labels::default();
        let stored = view.snapshot.keks.get(name);
        let latest = stored.map(|stored| stored.value.latest());
        let what = Use::of_kek(action, name, latest, stored.map_or(&none, |stored| stored.value.labels()));
        let verdict = self.decide(&view, who, &what, None);
        let more = Details { detail, ..Details::at(view.snapshot.generation) };
        drop(view);
        let (permit, receipt) = self.permit(who, &what, &verdict, more).await?;
        // The log was waited for: what was switched off meanwhile is off.
        let view = self.fresh()?;
        if view.is_shut_out(who) {
            return Err(EngineError::Denied);
        }
        if action != Action::Read && view.is_stopped(name) {
            return Err(KeyringError::Disabled.into());
        }
        let kek = view.snapshot.keks.get(name).cloned().ok_or(KeyringError::Unknown)?;
        Ok((kek, permit, receipt))
    }
}

/// What the log tells of many.
fn of_ids(ids: &[BranchId]) -> Value {
    let all: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
    json!({ "branch_keys": ids.len(), "ids_sha256": hex(&crypto::sha256(&all)) })
}

/// A branch key of the ledger, and the bytes of its context.
fn find(states: &[BranchState], id: BranchId) -> Result<(&BranchState, Vec<u8>), BranchFailure> {
    let state = states.iter().find(|state| state.id == id).ok_or(BranchFailure::Unknown)?;
    let context: &BranchContext = state.context().ok_or(BranchFailure::WithoutContext)?;
    Ok((state, context.to_bytes()))
}
