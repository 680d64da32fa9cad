//! What the custodian says of its own accord, and what becomes of leased keys when nothing is heard of it any more.
//!
//! **Invariant:** once a process watches, it uses leased keys for at most the grace after the custodian was last heard, and
//! gets no new ones beyond that.
//! **Invariant:** what one custodian told holds against the others until they must know it themselves: nothing is leased beyond that time
//! on the word of one that may not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::names::{KekName, Principal};

use super::keys::{BranchKeys, Revocation, WatchState, WeakBranchKeys};
use super::revocation::Act;

/// After a custodian told of a change, each other one over the same store knows it too, or uses no key: longer than it may go without having
/// seen its store. The one that is asked need not be the one that is watched.
pub const KNOWN_AFTER: Duration = Duration::from_millis(1500);

/// Something that the custodian changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The KEK was disabled or deleted.
    KekClosed(KekName),
    /// Which of its versions open, or some other setting of the KEK.
    KekChanged(KekName),
    /// The KEK has a new version.
    KekRotated(KekName),
    /// A client of this process may use no key any more.
    PrincipalRevoked(Principal),
    /// This process itself may use no key any more.
    Ourselves,
    /// Who may do what (a policy, a grant), or something that is not known here or was missed.
    Rules,
}

/// The custodian was not heard for longer than the grace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the custodian's watch is lost, so that nobody would tell of a revocation")]
pub struct WatchLost;

/// From when on no keys are given out, where that hangs on a watch.
#[derive(Default)]
pub(super) struct Gate {
    closes: watch::Sender<Option<Instant>>,
    /// Whether the watch is open, and when it last said something.
    heard: Mutex<(bool, Option<Instant>)>,
}

impl Gate {
    pub(super) fn check(&self) -> Result<(), WatchLost> {
        let closed = self.closes.borrow().is_some_and(|closes| closes <= Instant::now());
        if closed { Err(WatchLost) } else { Ok(()) }
    }

    /// How the watch is; `None` where keys do not hang on one.
    pub(super) fn state(&self) -> Option<WatchState> {
        self.closes.borrow().as_ref()?;
        let (connected, heard) = *self.heard();
        Some(WatchState { connected, silent_for: heard.map(|heard| heard.elapsed()) })
    }

    fn heard(&self) -> MutexGuard<'_, (bool, Option<Instant>)> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the branch keys of this process in step with the custodian, for whoever listens to it.
///
/// Until the watch is first open, no keys are given out. Dropping this is to lose the watch.
pub struct Watch {
    keys: BranchKeys,
    grace: Duration,
}

impl Watch {
    /// Over `keys`. `grace` is how long leased keys work on after the custodian was last heard.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(keys: BranchKeys, grace: Duration) -> Self {
        keys.gate().closes.send_replace(Some(Instant::now()));
        tokio::spawn(guard(keys.downgrade(), keys.gate().closes.subscribe()));
        Self { keys, grace }
    }

    /// The watch is open, for the first time or again. What happened before may have been missed, so that all leases end.
    /// The custodian says something at least every `silence`.
    pub fn opened(&self, silence: Duration) {
        self.act(Act::End, &Revocation::All);
        self.heard(silence);
    }

    /// The custodian said something, if only that it is there.
    pub fn heard(&self, silence: Duration) {
        *self.keys.gate().heard() = (true, Some(Instant::now()));
        self.keys.gate().closes.send_replace(Some(Instant::now() + silence + self.grace));
    }

    /// The custodian tells of a change.
    pub fn tell(&self, event: &Event) {
        tracing::info!(?event, "the custodian tells of a change");
        match event {
            Event::KekClosed(kek) => self.act(Act::Revoke, &Revocation::Kek(kek.clone())),
            Event::KekChanged(kek) => self.act(Act::End, &Revocation::Kek(kek.clone())),
            Event::KekRotated(kek) => self.keys.outdate(kek),
            Event::PrincipalRevoked(principal) => self.act(Act::Revoke, &Revocation::Principal(principal.clone())),
            Event::Ourselves => self.act(Act::Revoke, &Revocation::All),
            Event::Rules => self.act(Act::End, &Revocation::All),
        }
    }

    fn act(&self, act: Act, covered: &Revocation) {
        self.keys.act(act, covered, Some(Instant::now() + KNOWN_AFTER));
    }

    /// The watch broke off.
    pub fn lost(&self) {
        self.keys.gate().heard().0 = false;
        let closes = Instant::now() + self.grace;
        self.keys.gate().closes.send_if_modified(|gate| {
            let sooner = gate.is_some_and(|planned| closes < planned);
            if sooner {
                *gate = Some(closes);
            }
            sooner
        });
    }
}

/// Revokes everything each time that the grace is over. It runs on whatever becomes of the [`Watch`], as long as somebody has the keys.
async fn guard(keys: WeakBranchKeys, mut gate: watch::Receiver<Option<Instant>>) {
    while gate.changed().await.is_ok() {
        let mut closes = *gate.borrow_and_update();
        while let Some(at) = closes {
            tokio::select! {
                () = tokio::time::sleep_until(at) => {
                    tracing::error!("the custodian's watch is lost for longer than its grace: all leased keys are revoked");
                    if let Some(keys) = keys.upgrade() {
                        keys.revoke(&Revocation::All);
                    }
                    closes = None;
                }
                changed = gate.changed() => match changed {
                    Ok(()) => closes = *gate.borrow_and_update(),
                    Err(_) => return,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
