//! Every branch key and every right to one that is alive in this process, so that an act of revoking or ending reaches also
//! those that caches let go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::names::{BranchId, KekName, Principal};

use super::branch::{Material, Right};
use super::caller::Caller;

/// Acts remembered for answers still under way. An answer that is older than all of them counts as revoked.
const RECENT_MAX: usize = 1024;

/// Which branch keys stop working at once, or whose leases end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// All of them.
    All,
    /// Those under one KEK.
    Kek(KekName),
    /// One.
    Branch(BranchId),
    /// What was leased to one caller, whatever its reason. Others go on with the same keys.
    Principal(Principal),
}

impl Revocation {
    fn covers_key(&self, material: &Material) -> bool {
        match self {
            Self::All => true,
            Self::Kek(kek) => kek == material.kek(),
            Self::Branch(id) => *id == material.context().id,
            Self::Principal(_) => false,
        }
    }

    fn covers(&self, right: &Right) -> bool {
        match self {
            Self::Principal(principal) => *principal == right.caller().principal,
            Self::All | Self::Kek(_) | Self::Branch(_) => self.covers_key(right.material()),
        }
    }
}

/// What is done to what a [`Revocation`] covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// It works no more.
    Revoke,
    /// The custodian has to be asked again.
    End,
    /// Its KEK has a newer version.
    Outdate,
}

/// A point in the sequence of acts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epoch(u64);

/// Weak references, dropped when what they refer to is gone.
struct Register<T> {
    held: Vec<Weak<T>>,
    prune_at: usize,
}

impl<T> Default for Register<T> {
    fn default() -> Self {
        Self { held: Vec::new(), prune_at: 0 }
    }
}

impl<T> Register<T> {
    fn add(&mut self, one: &Arc<T>) {
        if self.held.len() >= self.prune_at {
            self.held.retain(|one| one.strong_count() > 0);
            self.prune_at = (2 * self.held.len()).max(64);
        }
        self.held.push(Arc::downgrade(one));
    }

    fn each(&self, act: impl FnMut(Arc<T>)) {
        self.held.iter().filter_map(Weak::upgrade).for_each(act);
    }
}

#[derive(Default)]
struct State {
    epoch: u64,
    recent: VecDeque<(Act, Revocation)>,
    keys: Register<Material>,
    rights: Register<Right>,
}

impl State {
    /// The acts since `since`; `None` when some of them are forgotten.
    fn missed(&self, since: Epoch) -> Option<impl Iterator<Item = &(Act, Revocation)>> {
        let missed = usize::try_from(self.epoch - since.0).unwrap_or(usize::MAX);
        (missed <= self.recent.len()).then(|| self.recent.iter().rev().take(missed))
    }
}

/// Weak references to all live keys and rights.
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

    /// Takes in a key that the custodian was asked for at `since`. If it was revoked or outdated while the answer was under
    /// way, it is born so.
    pub(super) fn admit(&self, material: Material, since: Epoch) -> Arc<Material> {
        let material = Arc::new(material);
        let mut state = self.state();
        match state.missed(since) {
            None => material.revoke(),
            Some(missed) => {
                missed.filter(|(_, covered)| covered.covers_key(&material)).for_each(|(act, _)| act.on_key(&material));
            }
        }
        state.keys.add(&material);
        material
    }

    /// Takes in that the custodian, asked at `since`, let `caller` use `material`. What was revoked or ended while the
    /// answer was under way is born so.
    pub(super) fn grant(&self, material: &Arc<Material>, caller: &Caller, since: Epoch) -> Arc<Right> {
        let right = Arc::new(Right::new(Arc::clone(material), caller.clone()));
        let mut state = self.state();
        match state.missed(since) {
            None => right.revoke(),
            Some(missed) => missed.filter(|(_, covered)| covered.covers(&right)).for_each(|(act, _)| act.on(&right)),
        }
        state.rights.add(&right);
        right
    }

    /// Does `act` to all that `covered` covers.
    pub(super) fn act(&self, act: Act, covered: &Revocation) {
        let mut state = self.state();
        state.epoch += 1;
        if state.recent.len() == RECENT_MAX {
            state.recent.pop_front();
        }
        state.recent.push_back((act, covered.clone()));
        state.keys.each(|key| {
            if covered.covers_key(&key) {
                act.on_key(&key);
            }
        });
        state.rights.each(|right| {
            if covered.covers(&right) {
                act.on(&right);
            }
        });
    }
}

impl Act {
    fn on(self, right: &Right) {
        match self {
            Self::Revoke => right.revoke(),
            Self::End => right.end(),
            Self::Outdate => {}
        }
    }

    fn on_key(self, key: &Material) {
        match self {
            Self::Revoke => key.revoke(),
            Self::End => {}
            Self::Outdate => key.outdate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::fake;
    use crate::secret::Secret;

    fn kek(name: &str) -> KekName {
        KekName::new(name).expect("legal")
    }

    fn material(name: &str, id: u8) -> Material {
        let secret = Secret::from_slice(&[id; 32]).expect("a key");
        Material::new(kek(name), fake::context(id), fake::garbage(1), secret)
    }

    fn principal(name: &str) -> Revocation {
        Revocation::Principal(fake::caller(name).principal)
    }

    #[test]
    fn a_revocation_covers_what_it_names() {
        let live = LiveKeys::default();
        let keys = [("a", 1), ("a", 2), ("b", 3)].map(|(kek, id)| live.admit(material(kek, id), live.epoch()));
        let state = || keys.each_ref().map(|key| key.is_revoked());
        live.act(Act::Revoke, &principal("alice"));
        assert_eq!(state(), [false, false, false]);
        live.act(Act::Revoke, &Revocation::Branch(BranchId::from_bytes([2; 16])));
        assert_eq!(state(), [false, true, false]);
        live.act(Act::Revoke, &Revocation::Kek(kek("a")));
        assert_eq!(state(), [true, true, false]);
        live.act(Act::Revoke, &Revocation::All);
        assert_eq!(state(), [true, true, true]);
    }

    #[test]
    fn rights_end_or_are_revoked_by_key_and_by_caller() {
        for act in [Act::End, Act::Revoke] {
            let live = LiveKeys::default();
            let keys = [("a", 1), ("b", 2)].map(|(kek, id)| live.admit(material(kek, id), live.epoch()));
            let rights = [(0, "alice"), (0, "bob"), (1, "alice"), (1, "bob")];
            let rights = rights.map(|(key, name)| live.grant(&keys[key], &fake::caller(name), live.epoch()));
            let good = || rights.each_ref().map(|right| right.is_good());
            live.act(act, &principal("alice"));
            assert_eq!(good(), [false, true, false, true]);
            live.act(act, &Revocation::Kek(kek("a")));
            assert_eq!(good(), [false, false, false, true]);
            assert_eq!(rights[0].is_revoked(), act == Act::Revoke);
            assert_eq!(keys[0].is_revoked(), act == Act::Revoke, "to end a lease is not to revoke its key");
            assert!(!keys[1].is_revoked());
        }
    }

    #[test]
    fn an_answer_under_way_during_its_revocation_is_born_revoked() {
        let live = LiveKeys::default();
        let before = live.epoch();
        live.act(Act::Revoke, &Revocation::Kek(kek("a")));
        assert!(live.admit(material("a", 1), before).is_revoked());
        assert!(!live.admit(material("b", 1), before).is_revoked());
        assert!(!live.admit(material("a", 1), live.epoch()).is_revoked());
        let key = live.admit(material("b", 1), before);
        live.act(Act::End, &principal("alice"));
        let right = live.grant(&key, &fake::caller("alice"), before);
        assert_eq!((right.is_ended(), right.is_revoked()), (true, false));
        assert!(live.grant(&key, &fake::caller("bob"), before).is_good());
        assert!(live.grant(&key, &fake::caller("alice"), live.epoch()).is_good());
        for _ in 0..RECENT_MAX {
            live.act(Act::End, &Revocation::Kek(kek("c")));
        }
        assert!(live.admit(material("b", 1), before).is_revoked(), "too old to tell");
        assert!(live.grant(&key, &fake::caller("bob"), before).is_revoked(), "too old to tell");
    }

    #[test]
    fn a_key_generated_during_a_rotation_counts_as_older() {
        let live = LiveKeys::default();
        let before = live.epoch();
        let key = live.admit(material("a", 1), before);
        let right = live.grant(&key, &fake::caller("alice"), before);
        live.act(Act::Outdate, &Revocation::Kek(kek("a")));
        assert!(key.is_outdated() && right.is_good(), "it works on");
        assert!(live.admit(material("a", 2), before).is_outdated());
        assert!(!live.admit(material("b", 3), before).is_outdated());
        assert!(!live.admit(material("a", 4), live.epoch()).is_outdated());
        assert!(live.grant(&key, &fake::caller("bob"), before).is_good());
    }

    #[test]
    fn dead_keys_are_forgotten() {
        let live = LiveKeys::default();
        for _ in 0..10_000 {
            let key = live.admit(material("a", 1), live.epoch());
            live.grant(&key, &fake::caller("alice"), live.epoch());
        }
        let state = live.state();
        assert!(state.keys.held.len() <= 64 && state.rights.held.len() <= 64);
    }
}
