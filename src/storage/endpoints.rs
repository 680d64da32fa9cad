//! The addresses of one storage cluster: which of them is asked first, and which are left alone for a while.
//!
//! An address that could not be reached, or was silent, is asked last. In the background it is looked at again, at growing
//! intervals, until it answers: no client's request finds that out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use super::error::StorageError;
use super::settings::Endpoint;

/// The first pause before an address is looked at again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long an address has to answer when it is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// What an address is asked then. Whatever the answer, it is there.
pub(super) const LOOK_METHOD: Method = Method::HEAD;

/// See the module.
pub(super) struct Endpoints(Vec<Place>);

struct Place {
    endpoint: Endpoint,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    /// Failures in a row.
    failures: u32,
    /// When it is looked at next, if it is down.
    look_at: Option<Instant>,
}

impl Endpoints {
    /// In the order of preference. At least one.
    pub(super) fn new(first: Endpoint, further: Vec<Endpoint>) -> Self {
        let place = |endpoint| Place { endpoint, health: Mutex::default() };
        Self(std::iter::once(first).chain(further).map(place).collect())
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, index: usize) -> &Endpoint {
        &self.0[index].endpoint
    }

    fn health(&self, index: usize) -> MutexGuard<'_, Health> {
        self.0[index].health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_up(&self, index: usize) -> bool {
        self.health(index).look_at.is_none()
    }

    /// Whether none of them was there when last asked.
    pub(super) fn all_down(&self) -> bool {
        (0..self.count()).all(|index| !self.is_up(index))
    }

    /// Which one to ask next, after those in `asked`: the first that is up and was not asked, else one that was not asked, else
    /// the first that is up. `None` when all were asked and none is up.
    pub(super) fn next(&self, asked: &[usize]) -> Option<usize> {
        let all = || 0..self.count();
        let fresh = |index: &usize| !asked.contains(index);
        let up = |index: &usize| self.is_up(*index);
        all().find(|index| fresh(index) && up(index)).or_else(|| all().find(fresh)).or_else(|| all().find(up))
    }

    /// Whether there is one that is not in `asked`.
    pub(super) fn has_another(&self, asked: &[usize]) -> bool {
        (0..self.count()).any(|index| !asked.contains(&index))
    }

    /// One that is down and due to be looked at. Whoever gets it looks at it.
    pub(super) fn due(&self) -> Option<usize> {
        let now = Instant::now();
        (0..self.count()).find(|index| {
            let mut health = self.health(*index);
            let due = health.look_at.is_some_and(|at| at <= now);
            if due {
                health.look_at = Some(now + LOOK + pause(health.failures));
            }
            due
        })
    }

    /// It answered.
    pub(super) fn is_there(&self, index: usize) {
        let was = std::mem::take(&mut *self.health(index));
        if was.look_at.is_some() {
            tracing::info!(server = %self.get(index), "the storage server's address answers again");
        }
    }

    /// It could not be reached, or was silent.
    pub(super) fn is_gone(&self, index: usize) {
        let mut health = self.health(index);
        health.failures = health.failures.saturating_add(1);
        let was_up = health.look_at.is_none();
        health.look_at = Some(Instant::now() + pause(health.failures));
        drop(health);
        if was_up && self.count() > 1 {
            tracing::warn!(server = %self.get(index), "the storage server's address does not answer; others are asked first");
        }
    }
}

fn pause(failures: u32) -> Duration {
    PAUSE.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE.1)
}

/// Whether the outcome says that nobody is there, or a gateway says it.
pub(super) fn tells_of_absence(outcome: Result<StatusCode, &StorageError>) -> bool {
    match outcome {
        Ok(status) => status == StatusCode::BAD_GATEWAY || status == StatusCode::GATEWAY_TIMEOUT,
        Err(StorageError::Unreachable(_) | StorageError::Timeout { .. } | StorageError::Broken(_)) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Endpoints {
        let endpoint = |port: u16| Endpoint::parse(&format!("http://127.0.0.1:{port}"), false).expect("loopback");
        Endpoints::new(endpoint(1), vec![endpoint(2), endpoint(3)])
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_is_up_is_preferred_and_each_is_asked_once_first() {
        let endpoints = three();
        assert_eq!(endpoints.next(&[]), Some(0));
        endpoints.is_gone(0);
        assert_eq!(endpoints.next(&[]), Some(1));
        assert_eq!(endpoints.next(&[1]), Some(2));
        assert_eq!(endpoints.next(&[1, 2]), Some(0), "the one that is down, as the last");
        assert_eq!(endpoints.next(&[1, 2, 0]), Some(1), "all were asked");
        endpoints.is_gone(1);
        endpoints.is_gone(2);
        assert!(endpoints.all_down());
        assert_eq!(endpoints.next(&[]), Some(0), "better than nothing");
        assert_eq!(endpoints.next(&[0, 1, 2]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_down_is_looked_at_by_one_at_a_time_and_ever_more_rarely() {
        let endpoints = three();
        endpoints.is_gone(1);
        assert_eq!(endpoints.due(), None);
        tokio::time::sleep(PAUSE.0).await;
        assert_eq!((endpoints.due(), endpoints.due()), (Some(1), None));
        for _ in 0..10 {
            endpoints.is_gone(1);
        }
        tokio::time::sleep(PAUSE.1 / 2).await;
        assert_eq!(endpoints.due(), None);
        tokio::time::sleep(PAUSE.1).await;
        assert_eq!(endpoints.due(), Some(1));
        endpoints.is_there(1);
        assert!(!endpoints.all_down() && endpoints.next(&[0]) == Some(1));
    }
}
