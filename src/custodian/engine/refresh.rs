//! Keeps the snapshot in memory as new as the store, and changes both.
//!
//! **Invariant:** the snapshot never goes back to an earlier generation.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::custodian::barrier::Kind;
use crate::custodian::store::{Corruption, StoreError};
use crate::names::KekName;

use super::edit::{Edit, Encoded};
use super::events::{Event, KekEvent};
use super::snapshot::Snapshot;
use super::{Engine, EngineError};

/// How often it is asked whether a change whose outcome is unknown happened, and how long is waited in between.
const READ_BACKS: u32 = 3;
const READ_BACK_PAUSE: Duration = Duration::from_millis(100);

/// What was switched off here and may not be in the store yet, or never came there.
#[derive(Clone, Default)]
pub(super) struct Stopped {
    /// How often something was stopped, which numbers the stops.
    stops: u64,
    keks: HashMap<KekName, Stop>,
    principals: HashMap<String, u64>,
}

#[derive(Clone, Copy)]
struct Stop {
    number: u64,
    /// The version of the record that was to be replaced by one that is off.
    version: u64,
}

impl Stopped {
    pub(super) fn has_kek(&self, name: &KekName) -> bool {
        self.keks.contains_key(name)
    }

    pub(super) fn has_principal(&self, name: &str) -> bool {
        self.principals.contains_key(name)
    }

    pub(super) fn has_principals(&self) -> bool {
        !self.principals.is_empty()
    }

    fn next(&mut self) -> u64 {
        self.stops += 1;
        self.stops
    }
}

/// What decisions look at.
#[derive(Clone)]
pub(super) struct View {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) stopped: Arc<Stopped>,
}

impl Engine {
    /// What decisions look at, now.
    pub(super) fn view(&self) -> View {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_view<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.view.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// As [`Engine::view`], of an engine that was not halted.
    pub(super) fn running(&self) -> Result<View, EngineError> {
        if self.halted.load(Ordering::Acquire) { Err(EngineError::Halted) } else { Ok(self.view()) }
    }

    /// As [`Engine::running`], of a store that was seen within the grace.
    pub(super) fn fresh(&self) -> Result<View, EngineError> {
        let view = self.running()?;
        if self.is_fresh() { Ok(view) } else { Err(EngineError::Stale) }
    }

    /// As [`Engine::fresh`], of the store as it is now: approvals may have come by another custodian a moment ago.
    pub(super) async fn newest(&self) -> Result<View, EngineError> {
        self.look().await?;
        self.fresh()
    }

    pub(super) fn is_fresh(&self) -> bool {
        let now_ms = self.since_start_ms(Instant::now());
        let grace_ms = u64::try_from(self.settings.store_grace.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_sub(self.seen_ms.load(Ordering::Acquire)) <= grace_ms
    }

    fn since_start_ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// Stops a KEK here and now, before the store knows.
    pub(super) fn stop_kek(&self, name: &KekName) {
        let before = self.change_view(|view| {
            let version = view.snapshot.version_of(Kind::Kek, name.as_str());
            let stopped = Arc::make_mut(&mut view.stopped);
            let number = stopped.next();
            stopped.keks.insert(name.clone(), Stop { number, version })
        });
        if before.is_none() {
            self.tell([Event::Kek { name: name.clone(), change: KekEvent::Disabled }]);
        }
    }

    /// Shuts a principal out here and now, before the store knows. Gives the number of the stop.
    pub(super) fn stop_principal(&self, principal: &str) -> u64 {
        let (number, before) = self.change_view(|view| {
            let stopped = Arc::make_mut(&mut view.stopped);
            let number = stopped.next();
            (number, stopped.principals.insert(principal.to_owned(), number))
        });
        if before.is_none() {
            self.tell([Event::Principal { principal: principal.to_owned(), revoked: true }]);
        }
        number
    }

    /// The number of the last stop until now.
    pub(super) fn last_stop(&self) -> u64 {
        self.view().stopped.stops
    }

    /// What was switched on with all formalities is not stopped any more, unless it was stopped again after the stop `through`.
    pub(super) fn resume(&self, kek: Option<&KekName>, principal: Option<&str>, through: u64) {
        self.change_view(|view| {
            let stopped = Arc::make_mut(&mut view.stopped);
            stopped.keks.retain(|name, stop| Some(name) != kek || stop.number > through);
            stopped.principals.retain(|name, number| Some(name.as_str()) != principal || *number > through);
        });
    }

    fn tell(&self, events: impl IntoIterator<Item = Event>) {
        // Without watchers nobody misses it.
        events.into_iter().for_each(|event| drop(self.events.send(event)));
    }

    /// Asks the store whether it moved on, and if so reads it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn look(&self) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.blind.load(Ordering::Acquire) {
            return Err(StoreError::TimedOut);
        }
        let began = Instant::now();
        let looked = async {
            let epoch = self.store.epoch().await?;
            if epoch.generation() > self.view().snapshot.generation {
                let _one_at_a_time = self.reloading.lock().await;
                self.reload(epoch.generation()).await?;
            }
            Ok(())
        };
        let looked = looked.await.inspect_err(|failed| self.halt_if_broken(failed));
        if looked.is_ok() {
            self.seen_ms.fetch_max(self.since_start_ms(began), Ordering::AcqRel);
        }
        looked
    }

    /// Reads the store unless somebody did meanwhile. The caller holds `reloading`.
    async fn reload(&self, generation: u64) -> Result<(), StoreError> {
        let before = self.view().snapshot;
        if before.generation >= generation {
            return Ok(());
        }
        let next = Snapshot::load(&self.store, Some(&before)).await?;
        self.replace(&before, next);
        Ok(())
    }

    fn replace(&self, before: &Snapshot, next: Snapshot) {
        let events = next.events_since(before);
        let next = Arc::new(next);
        self.change_view(|view| {
            view.snapshot = Arc::clone(&next);
            // One that was off already when it was stopped may be switched on meanwhile: its stop is not saved by that.
            let is_off = |name: &KekName, stop: &Stop| {
                let stored = next.keks.get(name);
                stored.is_none_or(|stored| stored.value.is_disabled() && stored.version != stop.version)
            };
            let saved = view.stopped.keks.iter().any(|(name, stop)| is_off(name, stop))
                || view.stopped.principals.keys().any(|name| next.revocations.contains_key(name));
            if saved {
                let stopped = Arc::make_mut(&mut view.stopped);
                stopped.keks.retain(|name, stop| !is_off(name, stop));
                stopped.principals.retain(|name, _| !next.revocations.contains_key(name));
            }
        });
        self.tell(events);
    }

    /// Changes the store and then the snapshot, and gives the generation with the change.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a record is not as expected any more: nothing was changed. [`StoreError`].
    pub(super) async fn commit(&self, edits: Vec<Edit>) -> Result<u64, StoreError> {
        let encoded: Vec<Encoded> = edits.iter().map(Edit::encode).collect();
        let changes: Vec<_> = encoded.iter().map(Encoded::change).collect();
        let generation = match self.store.change(&changes).await {
            Ok(epoch) => Some(epoch.generation()),
            Err(failed) if failed.outcome_is_unknown() => {
                if !self.happened(&encoded).await {
                    return Err(failed);
                }
                None
            }
            Err(failed) => {
                self.halt_if_broken(&failed);
                return Err(failed);
            }
        };
        let _one_at_a_time = self.reloading.lock().await;
        let before = self.view().snapshot;
        let Some(generation) = generation else {
            self.reload(u64::MAX).await.inspect_err(|failed| self.halt_if_broken(failed))?;
            return Ok(self.view().snapshot.generation);
        };
        // An edit of what was not here as it was there is not made here either: what the store accounts for counts.
        let was_here = |one: &Encoded| before.version_of(one.kind, &one.name) == one.expected;
        if generation == before.generation + 1 && encoded.iter().all(was_here) {
            let next = before.after(generation, edits, &encoded);
            self.replace(&before, next);
        } else if let Err(failed) = self.reload(generation).await {
            // It is in the store; the next look brings it here.
            self.halt_if_broken(&failed);
        }
        Ok(generation)
    }

    /// Whether what was tried is in the store. Keys and signatures in it make sure that it is not someone else's.
    async fn happened(&self, tried: &[Encoded]) -> bool {
        for _ in 0..READ_BACKS {
            sleep(READ_BACK_PAUSE).await;
            let mut all = true;
            let mut read = true;
            for one in tried {
                match self.store.get(one.kind, &one.name).await {
                    Ok(found) => {
                        let found = found.map(|record| (record.version, record.body));
                        let wanted = one.body.as_ref().map(|body| (one.expected + 1, body.clone()));
                        all &= found == wanted;
                    }
                    Err(_) => read = false,
                }
            }
            if read {
                return all;
            }
        }
        false
    }

    /// After this nothing is done until someone looked.
    pub(super) fn halt_if_broken(&self, failed: &StoreError) {
        let broken = match failed {
            StoreError::RolledBack { .. } => true,
            StoreError::Corrupt(what) => *what != Corruption::Seals,
            _ => false,
        };
        if broken && !self.halted.swap(true, Ordering::AcqRel) {
            tracing::error!(
                cause = %failed,
                "the store went back or was altered while the custodian ran; everything is refused until it is started again"
            );
        }
    }

    /// Looks at the store at each interval until the engine is dropped.
    pub(super) async fn keep_looking(engine: Weak<Self>, interval: Duration) {
        let mut was_well = true;
        loop {
            sleep(interval).await;
            let Some(engine) = engine.upgrade() else { return };
            let looked = engine.look().await;
            if looked.is_ok() {
                engine.adopt_offered().await;
            }
            match looked {
                Ok(()) if !was_well => {
                    tracing::info!("the store is back");
                    was_well = true;
                }
                Err(failed) if was_well => {
                    tracing::warn!(cause = %failed, "the store is out of sight");
                    was_well = false;
                }
                _ => {}
            }
        }
    }

    /// Notes in the store how far the log is, at each interval until the engine is dropped.
    pub(super) async fn keep_noting(engine: Weak<Self>, interval: Duration) {
        loop {
            sleep(interval).await;
            let Some(engine) = engine.upgrade() else { return };
            if engine.halted.load(Ordering::Acquire) {
                continue;
            }
            engine.drop_stale_shares(&engine.view());
            if let Err(failed) = engine.tell_left_out(false).await {
                tracing::warn!(cause = %failed, "the audit log could not be told how many refusals were left out");
            }
            if let Err(failed) = engine.audit.note(&engine.store).await {
                engine.halt_if_broken(&failed);
                tracing::warn!(cause = %failed, "the store could not be told how far the audit log is");
            }
        }
    }
}
