//! Places for those who are served at once, of which one client has a part at most.
//!
//! **Invariant:** whatever one client does, there are places for others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::custodian::identity::SpiffeId;

/// Clients that are remembered before those that have no place are forgotten.
const REMEMBERED: usize = 1024;

pub(super) struct Places {
    all: Arc<Semaphore>,
    of_one: usize,
    by_client: Mutex<HashMap<SpiffeId, Arc<Semaphore>>>,
}

/// A place, until it is dropped.
pub(super) struct Place {
    _of_client: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Places {
    /// `all` of them, and for one client a `part`th.
    pub(super) fn new(all: usize, part: usize) -> Self {
        let all = all.clamp(1, Semaphore::MAX_PERMITS);
        Self { all: Arc::new(Semaphore::new(all)), of_one: (all / part).max(1), by_client: Mutex::default() }
    }

    fn of(&self, client: &SpiffeId) -> Arc<Semaphore> {
        let mut by_client = self.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if by_client.len() >= REMEMBERED {
            by_client.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = by_client.entry(client.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.of_one)));
        Arc::clone(places)
    }

    /// Waits for a place.
    pub(super) async fn take(&self, client: &SpiffeId) -> Option<Place> {
        let of_client = self.of(client).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Place { _of_client: of_client, _of_all: of_all })
    }

    /// A place, if there is one now.
    pub(super) fn try_take(&self, client: &SpiffeId) -> Option<Place> {
        let of_client = self.of(client).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place { _of_client: of_client, _of_all: of_all })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn client(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://example.org/region/us/proxy/{name}")).expect("legal")
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_cannot_take_all_places() {
        let places = Places::new(8, 2);
        let mut taken: Vec<Place> = std::iter::from_fn(|| places.try_take(&client("greedy"))).collect();
        assert_eq!(taken.len(), 4);
        let waits = Duration::from_secs(10);
        assert!(timeout(waits, places.take(&client("greedy"))).await.is_err());
        let other = timeout(waits, places.take(&client("other"))).await.expect("at once");
        assert!(other.is_some());
        taken.pop();
        assert!(places.try_take(&client("greedy")).is_some());
    }

    #[test]
    fn a_single_place_goes_to_one_after_the_other() {
        let places = Places::new(1, 4);
        let first = places.try_take(&client("a")).expect("free");
        assert!(places.try_take(&client("b")).is_none());
        drop(first);
        assert!(places.try_take(&client("b")).is_some());
    }

    #[test]
    fn clients_without_a_place_are_forgotten() {
        let places = Places::new(4, 2);
        let held = places.try_take(&client("held")).expect("free");
        for number in 0..3 * REMEMBERED {
            drop(places.try_take(&client(&number.to_string())));
        }
        assert!(places.by_client.lock().expect("not poisoned").len() <= REMEMBERED);
        let second = places.try_take(&client("held"));
        assert!(second.is_some() && places.try_take(&client("held")).is_none(), "who has a place is remembered");
        drop(held);
    }
}
