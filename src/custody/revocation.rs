//! Every branch key and every right to one that is alive in this process, so that an act of revoking or ending reaches also
//! those that caches let go.

mod holds;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::time::Instant;

use crate::names::{BranchId, KekName, Principal};

use super::branch::{Material, Right};
use super::caller::Caller;
use holds::Holds;

/// Acts remembered for answers still under way. An answer that is older than all of them counts as revoked.
const RECENT_MAX: usize = 1024;

/// Which branch keys stop working at once, or whose leases end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

    fn covers(&self, material: &Material, caller: &Caller) -> bool {
        match self {
            Self::Principal(principal) => *principal == caller.principal,
            Self::All | Self::Kek(_) | Self::Branch(_) => self.covers_key(material),
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

/// A point in the sequence of acts, and in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Epoch {
    acts: u64,
    at: Instant,
}

/// An act that is remembered.
struct Recent {
    act: Act,
    covered: Revocation,
    /// Custodians that are asked before may not know its cause.
    known: Option<Instant>,
    /// What they are asked before is not believed.
    held: Option<Instant>,
}

/// What an answer of a custodian is born as.
#[derive(Default)]
struct Birth {
    acts: Vec<Act>,
    until: Option<Instant>,
}

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
    recent: VecDeque<Recent>,
    /// By then, all custodians know the causes of the acts that are not remembered any more.
    forgotten: Option<Instant>,
    holds: Holds,
    keys: Register<Material>,
    rights: Register<Right>,
}

impl State {
    /// Of what was asked for at `since`. Acts since then apply to it; earlier ones, as long as whoever answered may not have known their
    /// causes, in the same way or by ending it when everybody knows them.
    fn birth(&self, since: Epoch, covers: impl Fn(&Revocation) -> bool) -> Birth {
        let missed = usize::try_from(self.epoch - since.acts).unwrap_or(usize::MAX);
        if missed > self.recent.len() {
            return Birth { acts: vec![Act::Revoke], until: None };
        }
        let later = |time: Option<Instant>| time.filter(|time| since.at < *time);
        let mut birth = Birth { acts: Vec::new(), until: later(self.forgotten) };
        for (back, recent) in self.recent.iter().rev().enumerate().filter(|(_, recent)| covers(&recent.covered)) {
            if back < missed || later(recent.held).is_some() {
                birth.acts.push(recent.act);
            } else {
                birth.until = birth.until.max(later(recent.known));
            }
        }
        birth
    }

    fn remember(&mut self, act: Act, covered: &Revocation, known: Option<Instant>) {
        self.epoch += 1;
        if self.recent.len() == RECENT_MAX {
            self.forgotten = self.forgotten.max(self.recent.pop_front().and_then(|oldest| oldest.known));
        }
        let held = match (act, known) {
            (Act::Revoke, Some(known)) => self.holds.extend(covered, known),
            _ => None,
        };
        self.recent.push_back(Recent { act, covered: covered.clone(), known, held });
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
        Epoch { acts: self.state().epoch, at: Instant::now() }
    }

    /// Takes in a key that the custodian was asked for at `since`. If it was revoked or outdated while the answer was under
    /// way, it is born so.
    pub(super) fn admit(&self, material: Material, since: Epoch) -> Arc<Material> {
        let material = Arc::new(material);
        let mut state = self.state();
        let birth = state.birth(since, |covered| covered.covers_key(&material));
        birth.acts.into_iter().for_each(|act| act.on_key(&material));
        state.keys.add(&material);
        material
    }

    /// Takes in that the custodian, asked at `since`, let `caller` use `material`. What was revoked or ended while the
    /// answer was under way is born so.
    pub(super) fn grant(&self, material: &Arc<Material>, caller: &Caller, since: Epoch) -> Arc<Right> {
        let mut state = self.state();
        let birth = state.birth(since, |covered| covered.covers(material, caller));
        let right = Arc::new(Right::new(Arc::clone(material), caller.clone(), birth.until));
        birth.acts.into_iter().for_each(|act| act.on(&right));
        state.rights.add(&right);
        right
    }

    /// Whether `caller` would be granted nothing that works, where the custodian was asked at `since`.
    pub(super) fn refuses(&self, material: &Material, caller: &Caller, since: Epoch) -> bool {
        self.state().birth(since, |covered| covered.covers(material, caller)).acts.contains(&Act::Revoke)
    }

    /// Does `act` to all that `covered` covers. Custodians that are asked before `known` may not know the cause.
    pub(super) fn act(&self, act: Act, covered: &Revocation, known: Option<Instant>) {
        let mut state = self.state();
        state.remember(act, covered, known);
        state.keys.each(|key| {
            if covered.covers_key(&key) {
                act.on_key(&key);
            }
        });
        state.rights.each(|right| {
            if covered.covers(right.material(), right.caller()) {
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
        live.act(Act::Revoke, &principal("alice"), None);
        assert_eq!(state(), [false, false, false]);
        live.act(Act::Revoke, &Revocation::Branch(BranchId::from_bytes([2; 16])), None);
        assert_eq!(state(), [false, true, false]);
        live.act(Act::Revoke, &Revocation::Kek(kek("a")), None);
        assert_eq!(state(), [true, true, false]);
        live.act(Act::Revoke, &Revocation::All, None);
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
            live.act(act, &principal("alice"), None);
            assert_eq!(good(), [false, true, false, true]);
            live.act(act, &Revocation::Kek(kek("a")), None);
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
        live.act(Act::Revoke, &Revocation::Kek(kek("a")), None);
        assert!(live.admit(material("a", 1), before).is_revoked());
        assert!(!live.admit(material("b", 1), before).is_revoked());
        assert!(!live.admit(material("a", 1), live.epoch()).is_revoked());
        let key = live.admit(material("b", 1), before);
        live.act(Act::End, &principal("alice"), None);
        let right = live.grant(&key, &fake::caller("alice"), before);
        assert_eq!((right.is_ended(), right.is_revoked()), (true, false));
        assert!(live.grant(&key, &fake::caller("bob"), before).is_good());
        assert!(live.grant(&key, &fake::caller("alice"), live.epoch()).is_good());
        for _ in 0..RECENT_MAX {
            live.act(Act::End, &Revocation::Kek(kek("c")), None);
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
        live.act(Act::Outdate, &Revocation::Kek(kek("a")), None);
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
