//! Several addresses of one custodian: stay with the last good one, go on to the next when it fails.
//!
//! **Invariant:** a call asks each address at most once, so an outage multiplies requests by no more than their number.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::custody::CustodyError;
use crate::net::client::ResponseBody;
use crate::net::tls::ClientTls;

use super::error::TransitError;
use super::exchange::{Call, Exchange};
use super::refusal::Failed;
use super::settings::{Address, SettingsError, TransitSettings};

/// A failure that is older says nothing of now: who is given no requests because of it would never find out.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// The addresses and the client that asks them.
pub(super) struct Failover {
    exchange: Exchange,
    candidates: Vec<Candidate>,
    last_good: AtomicUsize,
}

struct Candidate {
    address: Address,
    /// So that the log has one line when it fails and one when it is back, not one for each request.
    failing: AtomicBool,
    failed_last: Mutex<Option<Instant>>,
}

impl fmt::Debug for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.candidates.iter().map(|candidate| candidate.address.to_string());
        f.debug_list().entries(addresses).finish()
    }
}

impl Failover {
    pub(super) fn new(settings: &TransitSettings) -> Result<Self, SettingsError> {
        settings.check()?;
        let candidate = |address: &Address| Candidate {
            address: address.clone(),
            failing: AtomicBool::new(false),
            failed_last: Mutex::new(None),
        };
        let candidates = settings.addresses.iter().map(candidate).collect();
        Ok(Self { exchange: Exchange::new(settings)?, candidates, last_good: AtomicUsize::new(0) })
    }

    /// Whether some address did not fail when it was last asked, or was not asked for a while.
    pub(super) fn answers(&self) -> bool {
        self.candidates.iter().any(|candidate| !candidate.fails())
    }

    /// How many addresses there are.
    pub(super) fn addresses(&self) -> usize {
        self.candidates.len()
    }

    pub(super) fn tls(&self) -> &ClientTls {
        self.exchange.tls()
    }

    /// It changes with our certificates.
    pub(super) fn generation(&self) -> u64 {
        self.exchange.generation()
    }

    /// Opens an endless answer at one address, which has `limit` to begin it.
    pub(super) async fn open(
        &self,
        index: usize,
        call: &Call<'_>,
        limit: Duration,
    ) -> Result<ResponseBody, CustodyError> {
        let candidate = &self.candidates[index % self.candidates.len()];
        let opened = self.exchange.open(&candidate.address, call, limit).await;
        opened.map_err(|failed| failed.error)
    }

    /// Sends `call` to the last good address and on to the others until one settles it. What is left of the time until
    /// `deadline` is shared out evenly over the addresses not yet asked, so that a silent one leaves time for the rest.
    pub(super) async fn call(&self, call: &Call<'_>, deadline: Instant) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let (begun, first) = (Instant::now(), self.last_good.load(Ordering::Relaxed));
        let mut told = None;
        for (asked, left) in (1..=self.candidates.len()).rev().enumerate() {
            let index = (first + asked) % self.candidates.len();
            let candidate = &self.candidates[index];
            let share = deadline.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
            match self.exchange.send(&candidate.address, call, share).await {
                Err(Failed { error, elsewhere: true }) => {
                    candidate.failed(&error);
                    told = Some(more_telling(told, error));
                }
                settled => {
                    candidate.answered();
                    self.last_good.store(index, Ordering::Relaxed);
                    return settled.map_err(|failed| failed.error);
                }
            }
        }
        let none = || TransitError::Deadline { limit: deadline.saturating_duration_since(begun) }.unreachable();
        Err(told.unwrap_or_else(none))
    }
}

/// Of what two addresses said, what says more about the custodian as a whole.
fn more_telling(before: Option<CustodyError>, now: CustodyError) -> CustodyError {
    let weight = |error: &CustodyError| match error {
        CustodyError::VersionUnknown => 3,
        CustodyError::Sealed => 2,
        CustodyError::Unreachable(_) => 1,
        _ => 0,
    };
    match before {
        Some(before) if weight(&before) >= weight(&now) => before,
        _ => now,
    }
}

impl Candidate {
    fn failed(&self, error: &CustodyError) {
        // It does answer; it only lags.
        let lags = matches!(error, CustodyError::VersionUnknown);
        if !lags {
            *self.failed_last() = Some(Instant::now());
        }
        if !lags && !self.failing.swap(true, Ordering::Relaxed) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(custodian = %self.address, %error, cause, "the custodian fails; other addresses are tried");
        }
    }

    fn failed_last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed_last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fails(&self) -> bool {
        let lately = || self.failed_last().is_some_and(|last| last.elapsed() < FORGIVEN_AFTER);
        self.failing.load(Ordering::Relaxed) && lately()
    }

    fn answered(&self) {
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(custodian = %self.address, "the custodian answers again");
        }
    }
}
