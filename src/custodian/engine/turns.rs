//! Whose turn it is: bounds how many uses of keys run and wait at once.
//!
//! Who waits is served in order of arrival, and no certificate may have so many waiting that others starve.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::EngineError;

/// Most uses that run at once: as many as one batch of the audit log takes.
const RUNNING_MAX: usize = 1024;
/// Most uses of one certificate that run or wait.
const OF_ONE_MAX: u32 = 4096;
/// Most uses that run or wait in all.
const ALL_MAX: u32 = 65_536;
/// The longest that one waits.
const WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Waiting {
    all: u32,
    by_certificate: HashMap<[u8; 32], u32>,
}

pub(super) struct Turns {
    running: Semaphore,
    waiting: Arc<Mutex<Waiting>>,
}

/// A place among those that run or wait, given back when it is dropped.
struct Place {
    waiting: Arc<Mutex<Waiting>>,
    certificate: [u8; 32],
}

/// Leave to run, until it is dropped.
pub(super) struct Turn<'t> {
    _running: SemaphorePermit<'t>,
    _place: Place,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self { running: Semaphore::new(RUNNING_MAX), waiting: Arc::default() }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// [`EngineError::Busy`] when too many wait already, or it takes too long.
    pub(super) async fn take(&self, certificate: [u8; 32]) -> Result<Turn<'_>, EngineError> {
        let place = self.place(certificate)?;
        let running = timeout(WAIT_MAX, self.running.acquire()).await;
        let running = running.ok().and_then(Result::ok).ok_or(EngineError::Busy)?;
        Ok(Turn { _running: running, _place: place })
    }

    fn place(&self, certificate: [u8; 32]) -> Result<Place, EngineError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = waiting.by_certificate.get(&certificate).copied().unwrap_or(0);
        if waiting.all >= ALL_MAX || of_one >= OF_ONE_MAX {
            return Err(EngineError::Busy);
        }
        waiting.all += 1;
        waiting.by_certificate.insert(certificate, of_one + 1);
        Ok(Place { waiting: Arc::clone(&self.waiting), certificate })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.all -= 1;
        if let Some(of_one) = waiting.by_certificate.get_mut(&self.certificate) {
            *of_one -= 1;
            if *of_one == 0 {
                waiting.by_certificate.remove(&self.certificate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_certificate_cannot_take_all_places_and_places_come_back() {
        let turns = Turns::new();
        let places: Vec<Place> = (0..OF_ONE_MAX).map(|_| turns.place([1; 32]).expect("a place")).collect();
        assert!(matches!(turns.take([1; 32]).await, Err(EngineError::Busy)));
        assert!(turns.take([2; 32]).await.is_ok());
        drop(places);
        assert!(turns.take([1; 32]).await.is_ok());
        assert!(turns.waiting.lock().expect("not poisoned").by_certificate.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told() {
        let turns = Turns::new();
        let mut running = Vec::new();
        for _ in 0..RUNNING_MAX {
            running.push(turns.take([1; 32]).await.expect("a turn"));
        }
        assert!(matches!(turns.take([2; 32]).await, Err(EngineError::Busy)));
        running.pop();
        assert!(turns.take([2; 32]).await.is_ok());
    }
}
