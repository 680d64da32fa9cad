//! Every branch key that is alive in this process, so that a revocation reaches also those that caches let go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::names::{BranchId, KekName};

use super::branch::Material;

/// Revocations remembered for answers still under way. An answer that is older than all of them counts as revoked.
const RECENT_MAX: usize = 1024;

/// Which branch keys stop working at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// All of them.
    All,
    /// Those under one KEK.
    Kek(KekName),
    /// One.
    Branch(BranchId),
}

impl Revocation {
    pub(super) fn covers(&self, material: &Material) -> bool {
        match self {
            Self::All => true,
            Self::Kek(kek) => kek == material.kek(),
            Self::Branch(id) => *id == material.context().id,
        }
    }
}

/// A point in the sequence of revocations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epoch(u64);

#[derive(Default)]
struct State {
    epoch: u64,
    recent: VecDeque<Revocation>,
    keys: Vec<Weak<Material>>,
    prune_at: usize,
}

/// Weak references to all live keys.
#[derive(Default)]
pub(super) struct LiveKeys(Mutex<State>);

impl LiveKeys {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be taken before the custodian is asked.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.state().epoch)
    }

    /// Takes in a key that the custodian was asked for at `since`. If it was revoked while the answer was under way, it
    /// is born revoked.
    pub(super) fn admit(&self, material: Material, since: Epoch) -> Arc<Material> {
        let material = Arc::new(material);
        let mut state = self.state();
        let missed = usize::try_from(state.epoch - since.0).unwrap_or(usize::MAX);
        if missed > state.recent.len() || state.recent.iter().rev().take(missed).any(|one| one.covers(&material)) {
            material.revoke();
        }
        if state.keys.len() >= state.prune_at {
            state.keys.retain(|key| key.strong_count() > 0);
            state.prune_at = (2 * state.keys.len()).max(64);
        }
        state.keys.push(Arc::downgrade(&material));
        material
    }

    /// Sets the flag of every key that `revocation` covers.
    pub(super) fn revoke(&self, revocation: &Revocation) {
        let mut state = self.state();
        state.epoch += 1;
        if state.recent.len() == RECENT_MAX {
            state.recent.pop_front();
        }
        state.recent.push_back(revocation.clone());
        let keys = state.keys.iter().filter_map(Weak::upgrade);
        keys.filter(|key| revocation.covers(key)).for_each(|key| key.revoke());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::fake;
    use crate::secret::Secret;

    fn material(kek: &str, id: u8) -> Material {
        let kek = KekName::new(kek).expect("legal");
        Material::new(kek, fake::context(id), fake::garbage(1), Secret::from_slice(&[id; 32]).expect("a key"))
    }

    #[test]
    fn a_revocation_covers_what_it_names() {
        let live = LiveKeys::default();
        let keys = [("a", 1), ("a", 2), ("b", 3)].map(|(kek, id)| live.admit(material(kek, id), live.epoch()));
        let state = || keys.each_ref().map(|key| key.is_revoked());
        live.revoke(&Revocation::Branch(BranchId::from_bytes([2; 16])));
        assert_eq!(state(), [false, true, false]);
        live.revoke(&Revocation::Kek(KekName::new("a").expect("legal")));
        assert_eq!(state(), [true, true, false]);
        live.revoke(&Revocation::All);
        assert_eq!(state(), [true, true, true]);
    }

    #[test]
    fn an_answer_under_way_during_its_revocation_is_born_revoked() {
        let live = LiveKeys::default();
        let before = live.epoch();
        live.revoke(&Revocation::Kek(KekName::new("a").expect("legal")));
        assert!(live.admit(material("a", 1), before).is_revoked());
        assert!(!live.admit(material("b", 1), before).is_revoked());
        assert!(!live.admit(material("a", 1), live.epoch()).is_revoked());
        for _ in 0..RECENT_MAX {
            live.revoke(&Revocation::Kek(KekName::new("c").expect("legal")));
        }
        assert!(live.admit(material("b", 1), before).is_revoked(), "too old to tell");
    }

    #[test]
    fn dead_keys_are_forgotten() {
        let live = LiveKeys::default();
        for _ in 0..10_000 {
            live.admit(material("a", 1), live.epoch());
        }
        assert!(live.state().keys.len() <= 64);
    }
}
