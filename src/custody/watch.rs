//! What the custodian says of its own accord, and what becomes of leased keys when nothing is heard of it any more.
//!
//! **Invariant:** once a process watches, it uses leased keys for at most the grace after the custodian was last heard, and
//! gets no new ones beyond that.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::names::{KekName, Principal};

use super::keys::{BranchKeys, Revocation};

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
pub(super) struct Gate(watch::Sender<Option<Instant>>);

impl Gate {
    pub(super) fn check(&self) -> Result<(), WatchLost> {
        let closed = self.0.borrow().is_some_and(|closes| closes <= Instant::now());
        if closed { Err(WatchLost) } else { Ok(()) }
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
        keys.gate().0.send_replace(Some(Instant::now()));
        tokio::spawn(guard(keys.clone(), keys.gate().0.subscribe()));
        Self { keys, grace }
    }

    /// The watch is open, for the first time or again. What happened before may have been missed, so that all leases end.
    /// The custodian says something at least every `silence`.
    pub fn opened(&self, silence: Duration) {
        self.keys.end_leases(&Revocation::All);
        self.heard(silence);
    }

    /// The custodian said something, if only that it is there.
    pub fn heard(&self, silence: Duration) {
        self.keys.gate().0.send_replace(Some(Instant::now() + silence + self.grace));
    }

    /// The custodian tells of a change.
    pub fn tell(&self, event: &Event) {
        tracing::info!(?event, "the custodian tells of a change");
        match event {
            Event::KekClosed(kek) => self.keys.revoke(&Revocation::Kek(kek.clone())),
            Event::KekChanged(kek) => self.keys.end_leases(&Revocation::Kek(kek.clone())),
            Event::KekRotated(kek) => self.keys.outdate(kek),
            Event::PrincipalRevoked(principal) => self.keys.revoke(&Revocation::Principal(principal.clone())),
            Event::Ourselves => self.keys.revoke(&Revocation::All),
            Event::Rules => self.keys.end_leases(&Revocation::All),
        }
    }

    /// The watch broke off.
    pub fn lost(&self) {
        let closes = Instant::now() + self.grace;
        self.keys.gate().0.send_if_modified(|gate| {
            let sooner = gate.is_some_and(|planned| closes < planned);
            if sooner {
                *gate = Some(closes);
            }
            sooner
        });
    }
}

/// Revokes everything each time that the grace is over. It runs on whatever becomes of the [`Watch`].
async fn guard(keys: BranchKeys, mut gate: watch::Receiver<Option<Instant>>) {
    while gate.changed().await.is_ok() {
        let mut closes = *gate.borrow_and_update();
        while let Some(at) = closes {
            tokio::select! {
                () = tokio::time::sleep_until(at) => {
                    tracing::error!("the custodian's watch is lost for longer than its grace: all leased keys are revoked");
                    keys.revoke(&Revocation::All);
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
