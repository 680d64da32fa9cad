//! One request in flight per key: whoever asks for the same meanwhile waits for the same answer.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::telemetry::request_id::carried;

type Running<K, T> = HashMap<K, watch::Receiver<Option<T>>>;

/// Requests under way. Each runs as a task of its own, so that a caller who goes away takes nothing from the others.
pub(super) struct Flights<K, T>(Arc<Mutex<Running<K, T>>>);

/// Takes the key off the list, also when the task panics.
struct Landing<K: Hash + Eq, T>(Arc<Mutex<Running<K, T>>>, K);

fn lock<K, T>(running: &Mutex<Running<K, T>>) -> MutexGuard<'_, Running<K, T>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Hash + Eq, T> Drop for Landing<K, T> {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
    }
}

impl<K, T> Flights<K, T>
where
    K: Hash + Eq + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(HashMap::new())))
    }

    /// Starts `work` for `key` unless it is under way.
    pub(super) fn start<W: Future<Output = T> + Send + 'static>(
        &self,
        key: K,
        work: impl FnOnce() -> W,
    ) -> watch::Receiver<Option<T>> {
        let mut running = lock(&self.0);
        if let Some(answer) = running.get(&key) {
            return answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        running.insert(key.clone(), answer.clone());
        let landing = Landing(Arc::clone(&self.0), key);
        let work = work();
        // As part of the request that was first to ask.
        tokio::spawn(carried(async move {
            let value = work.await;
            // Off the list first: who comes after the answer starts anew and finds what the work left in the cache.
            drop(landing);
            sender.send_replace(Some(value));
        }));
        answer
    }

    /// The answer of the request for `key`, started if need be; `None` when its task ended without one.
    pub(super) async fn join<W: Future<Output = T> + Send + 'static>(
        &self,
        key: K,
        work: impl FnOnce() -> W,
    ) -> Option<T> {
        let mut answer = self.start(key, work);
        let value = answer.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_poisons_nobody() {
        let flights = Arc::new(Flights::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let ask = || {
            let (flights, runs) = (Arc::clone(&flights), Arc::clone(&runs));
            async move {
                let work = || async move {
                    runs.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    7
                };
                flights.join("key", work).await
            }
        };
        let leader = tokio::spawn(ask());
        let follower = tokio::spawn(ask());
        tokio::time::sleep(Duration::from_millis(500)).await;
        leader.abort();
        assert_eq!(follower.await.expect("joins"), Some(7));
        assert_eq!(runs.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_panic_ends_the_flight_and_the_next_starts_anew() {
        let flights = Flights::new();
        let lost: Option<u8> = flights.join("key", || async { panic!("on purpose") }).await;
        assert_eq!(lost, None);
        assert_eq!(flights.join("key", || async { 1 }).await, Some(1));
    }
}
