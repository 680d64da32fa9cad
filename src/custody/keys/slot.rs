//! The current branch keys for writing of one (KEK, purpose, bucket), and who may use them until when. No I/O.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::custody::branch::{BranchKey, Material, Right, WritingKey};
use crate::custody::caller::Caller;
use crate::custody::lease::LeaseSettings;
use crate::names::{KekName, LogicalBucket, Purpose};

use super::lessor::Granted;
use super::metrics::Ages;

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SlotId {
    pub(super) kek: KekName,
    pub(super) purpose: Purpose,
    pub(super) bucket: LogicalBucket,
}

struct Lease {
    right: Arc<Right>,
    ends: Instant,
    refresh_from: Instant,
    /// Renewals in the background are let rest until then.
    quiet_until: Instant,
}

impl Lease {
    fn new(granted: Granted, settings: &LeaseSettings) -> Self {
        let (Granted { right, asked }, lease) = (granted, settings.write_lease());
        Self { right, ends: asked + lease, refresh_from: asked + settings.refresh_after(lease), quiet_until: asked }
    }

    fn is_good(&self, now: Instant) -> bool {
        now < self.ends && self.right.is_good()
    }
}

/// A branch key in use for writing, with what was written under it.
struct CurrentKey {
    material: Arc<Material>,
    born: Instant,
    objects: u64,
    bytes: u64,
    leases: HashMap<Caller, Lease>,
    /// When somebody should look whether the KEK has a newer version.
    look_from: Instant,
}

impl CurrentKey {
    fn new(granted: Granted, caller: &Caller, settings: &LeaseSettings) -> Self {
        let (material, born) = (Arc::clone(granted.right.material()), granted.asked);
        let leases = HashMap::from([(caller.clone(), Lease::new(granted, settings))]);
        let look_from = born + LeaseSettings::refresh_pause(settings.write_lease());
        Self { material, born, objects: 0, bytes: 0, leases, look_from }
    }

    fn age_s(&self) -> u64 {
        self.born.elapsed().as_secs()
    }

    /// Revoked, or at one of its limits.
    fn is_spent(&self, settings: &LeaseSettings) -> bool {
        self.material.is_revoked()
            || self.objects >= settings.write_objects_max
            || self.bytes >= settings.write_bytes_max
            || self.age_s() >= settings.write_age_max_s
    }

    /// Spent, or so near to it that a replacement is due.
    fn is_worn(&self, settings: &LeaseSettings) -> bool {
        self.is_spent(settings)
            || settings.is_worn(self.objects, settings.write_objects_max)
            || settings.is_worn(self.bytes, settings.write_bytes_max)
            || settings.is_worn(self.age_s(), settings.write_age_max_s)
    }

    /// Worn, or under a version of the KEK that is not the newest any more.
    fn is_due(&self, settings: &LeaseSettings) -> bool {
        self.material.is_outdated() || self.is_worn(settings)
    }

    /// When the key is spent of old age, however long the lease.
    fn dies(&self, settings: &LeaseSettings) -> Instant {
        self.born + Duration::from_secs(settings.write_age_max_s)
    }

    fn is_fresh_for(&self, caller: &Caller) -> bool {
        let now = Instant::now();
        self.leases.get(caller).is_some_and(|lease| lease.is_good(now) && now < lease.refresh_from)
    }

    fn take(&mut self, caller: &Caller, bytes: u64, settings: &LeaseSettings) -> Option<Taken> {
        if self.is_spent(settings) {
            return None;
        }
        let now = Instant::now();
        let (due, dies) = (self.is_due(settings), self.dies(settings));
        let lease = self.leases.get_mut(caller).filter(|lease| lease.is_good(now))?;
        let ends = lease.ends.min(dies);
        let renew = (due || now >= lease.refresh_from) && now >= lease.quiet_until;
        if renew {
            lease.quiet_until = now + LeaseSettings::refresh_pause(settings.write_lease());
        }
        let key = WritingKey::assume_generated(BranchKey::new(Arc::clone(&lease.right), ends));
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        Some(Taken { key, renew })
    }

    /// Extends or grants a lease. Where there is no room for another caller, it is not kept.
    fn grant(&mut self, granted: Granted, caller: &Caller, settings: &LeaseSettings) {
        if self.leases.len() >= settings.write_callers_max.max(1) {
            self.forget_unusable();
        }
        if self.leases.len() < settings.write_callers_max.max(1) || self.leases.contains_key(caller) {
            let mut lease = Lease::new(granted, settings);
            // A replacement that just failed is let rest.
            if let Some(before) = self.leases.get(caller).filter(|_| self.material.is_outdated()) {
                lease.quiet_until = before.quiet_until;
            }
            self.leases.insert(caller.clone(), lease);
        }
    }

    /// Whether to look now for a newer version of the KEK: of many who renew about the same time, one does.
    fn looks(&mut self, settings: &LeaseSettings) -> bool {
        let now = Instant::now();
        let looks = now >= self.look_from && !self.material.is_outdated();
        if looks {
            self.look_from = now + LeaseSettings::refresh_pause(settings.write_lease());
        }
        looks
    }

    fn forget_unusable(&mut self) {
        let now = Instant::now();
        self.leases.retain(|_, lease| lease.is_good(now));
    }
}

/// A key for one object.
pub(super) struct Taken {
    pub(super) key: WritingKey,
    /// The holder is the one to renew the lease or replace the key.
    pub(super) renew: bool,
}

/// What has to be done so that a caller can write.
pub(super) enum Plan {
    Nothing,
    /// Ask the custodian whether the caller may use the shared key.
    Authorise(Arc<Material>),
    /// There is no shared key, or it is worn.
    Generate,
    /// The KEK has a newer version than the shared key's, under which the caller can go on until it is replaced.
    Replace(Arc<Material>),
    /// The caller may not unwrap, and its own key is due.
    GenerateOwn,
}

#[derive(Default)]
struct State {
    shared: Option<CurrentKey>,
    /// What the shared key replaced: those who have a lease on it do not wait for one on the shared key.
    previous: Option<CurrentKey>,
    own: HashMap<Caller, CurrentKey>,
}

impl State {
    /// The caller has another key, or none any more. The previous key goes with the last that has a lease on it.
    fn forget_previous_of(&mut self, caller: &Caller) {
        let Some(previous) = &mut self.previous else { return };
        previous.leases.remove(caller);
        previous.forget_unusable();
        self.previous.take_if(|previous| previous.leases.is_empty());
    }
}

#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
    /// Held while a shared key is generated, so that there is only one.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key for an object of `bytes` bytes, if the caller has a lease on one that is not spent. It is counted.
    pub(super) fn take(&self, caller: &Caller, bytes: u64, settings: &LeaseSettings) -> Option<Taken> {
        let mut state = self.state();
        let own = state.own.get_mut(caller).and_then(|own| own.take(caller, bytes, settings));
        let shared = own.or_else(|| state.shared.as_mut()?.take(caller, bytes, settings));
        shared.or_else(|| state.previous.as_mut()?.take(caller, bytes, settings))
    }

    pub(super) fn plan(&self, caller: &Caller, settings: &LeaseSettings) -> Plan {
        let mut state = self.state();
        let now = Instant::now();
        state.own.retain(|_, own| !own.is_spent(settings) && own.leases.values().any(|lease| lease.is_good(now)));
        if let Some(own) = state.own.get(caller) {
            let good = own.is_fresh_for(caller) && !own.is_due(settings);
            return if good { Plan::Nothing } else { Plan::GenerateOwn };
        }
        match &state.shared {
            Some(shared) if shared.is_worn(settings) => Plan::Generate,
            // Who has no lease waits for one on this key, which is the sooner.
            Some(shared)
                if shared.material.is_outdated()
                    && shared.leases.get(caller).is_some_and(|lease| lease.is_good(now)) =>
            {
                Plan::Replace(Arc::clone(&shared.material))
            }
            Some(shared) if shared.is_fresh_for(caller) => Plan::Nothing,
            Some(shared) => Plan::Authorise(Arc::clone(&shared.material)),
            None => Plan::Generate,
        }
    }

    pub(super) fn put_shared(&self, granted: Granted, caller: &Caller, settings: &LeaseSettings) {
        let mut state = self.state();
        let previous = state.shared.replace(CurrentKey::new(granted, caller, settings));
        state.previous = previous.filter(|previous| !previous.is_spent(settings));
        if let Some(previous) = &mut state.previous {
            let now = Instant::now();
            previous.leases.values_mut().for_each(|lease| lease.quiet_until = now);
        }
        state.forget_previous_of(caller);
    }

    pub(super) fn put_own(&self, granted: Granted, caller: &Caller, settings: &LeaseSettings) {
        let mut state = self.state();
        state.forget_previous_of(caller);
        if let Some(shared) = &mut state.shared {
            shared.leases.remove(caller);
        }
        if state.own.len() < settings.write_callers_max.max(1) || state.own.contains_key(caller) {
            state.own.insert(caller.clone(), CurrentKey::new(granted, caller, settings));
        }
    }

    /// The custodian granted the shared key to `caller`; without effect if it is another one by now. True when the caller is
    /// the one to look for a newer version of the KEK.
    pub(super) fn grant(&self, granted: Granted, caller: &Caller, settings: &LeaseSettings) -> bool {
        let mut state = self.state();
        let shared = state.shared.as_mut().filter(|shared| Arc::ptr_eq(&shared.material, granted.right.material()));
        let Some(shared) = shared else { return false };
        shared.grant(granted, caller, settings);
        let looks = shared.looks(settings);
        state.forget_previous_of(caller);
        looks
    }

    /// The caller has lost what it had here: also uploads under way ask again before their end.
    pub(super) fn withdraw(&self, caller: &Caller) {
        let mut state = self.state();
        let own = state.own.remove(caller);
        for lease in own.iter().flat_map(|own| own.leases.values()) {
            lease.right.end();
        }
        let State { shared, previous, .. } = &mut *state;
        for key in shared.iter_mut().chain(previous) {
            if let Some(lease) = key.leases.remove(caller) {
                lease.right.end();
            }
        }
        state.forget_previous_of(caller);
    }

    /// The shared key is of no more use, nor is what it replaced.
    pub(super) fn drop_shared(&self, material: &Arc<Material>) {
        let mut state = self.state();
        if state.shared.take_if(|shared| Arc::ptr_eq(&shared.material, material)).is_some() {
            state.previous = None;
        }
    }

    /// Adds the ages of the leases that are good.
    pub(super) fn tally(&self, settings: &LeaseSettings, ages: &mut Ages) {
        let (state, now, lease) = (self.state(), Instant::now(), settings.write_lease());
        let keys = state.shared.iter().chain(&state.previous).chain(state.own.values());
        for good in keys.flat_map(|key| key.leases.values()).filter(|lease| lease.is_good(now)) {
            ages.add(lease.saturating_sub(good.ends.saturating_duration_since(now)));
        }
    }

    pub(super) fn forget_unusable(&self) {
        let mut state = self.state();
        state.shared.take_if(|shared| shared.material.is_revoked());
        if let Some(shared) = &mut state.shared {
            shared.forget_unusable();
        }
        if let Some(previous) = &mut state.previous {
            previous.forget_unusable();
        }
        state.previous.take_if(|previous| previous.leases.is_empty());
        let now = Instant::now();
        state.own.retain(|_, own| own.leases.values().any(|lease| lease.is_good(now)));
    }
}
