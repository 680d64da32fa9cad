//! Whose turn it is on a connection, ours or the peer's, and since when.
//!
//! One rule serves the listener and the client: a peer that has had its turn for too long is cut off; time
//! that we ourselves take (a slow storage server behind a request, a slow application behind an upload) is
//! not the peer's fault.
//!
//! Whoever waits for the peer looks by itself from time to time: to be woken at each beginning and end would cost a small request
//! more than all that is noted here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The waiting one looks no oftener than this.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// What the counters say at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snapshot {
    /// Exchanges in which we have to act next.
    pub(crate) ours: usize,
    /// Exchanges begun and not ended.
    pub(crate) open: usize,
    /// Exchanges ever begun.
    pub(crate) begun: u64,
    /// When any of it last changed.
    pub(crate) since: Instant,
}

/// Shared by a connection and the exchanges on it.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Arc<Mutex<Snapshot>>);

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Snapshot { ours: 0, open: 0, begun: 0, since: Instant::now() })))
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        *self.lock()
    }

    /// Begins an exchange, with the turn as told.
    pub(crate) fn begin(&self, ours: bool) -> Exchange {
        let mut now = self.lock();
        now.open += 1;
        now.begun += 1;
        now.ours += usize::from(ours);
        now.since = Instant::now();
        drop(now);
        Exchange { progress: self.clone(), ours }
    }

    /// Resolves when the peer has had its turn for as long as `limit` allows in the state of that moment; `limit` is never below
    /// `shortest`, so that a state which began after a look is seen by the next one before its time is up.
    pub(crate) async fn peer_overdue(&self, shortest: Duration, limit: impl Fn(&Snapshot) -> Duration) -> Snapshot {
        loop {
            let now = self.snapshot();
            let limit = limit(&now);
            let left = limit.saturating_sub(now.since.elapsed());
            if now.ours == 0 && left.is_zero() {
                return now;
            }
            let look_after = if now.ours > 0 { limit / 4 } else { left };
            sleep(look_after.min(shortest).max(LOOK_MIN)).await;
        }
    }

    // The counters are whole at every unlock, so a poisoned lock still guards good ones.
    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request and its response. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Exchange {
    progress: Progress,
    ours: bool,
}

impl Exchange {
    /// Says whose turn it is now. Saying "the peer's" again counts as progress of the peer.
    pub(crate) fn turn(&mut self, ours: bool) {
        if self.ours && ours {
            return;
        }
        let mut now = self.progress.lock();
        now.ours = now.ours - usize::from(self.ours) + usize::from(ours);
        now.since = Instant::now();
        self.ours = ours;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut now = self.progress.lock();
        now.ours -= usize::from(self.ours);
        now.open -= 1;
        now.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn our_own_time_is_not_held_against_the_peer() {
        let progress = Progress::new();
        let mut exchange = progress.begin(true);
        let overdue = progress.peer_overdue(LIMIT, |_| LIMIT);
        tokio::pin!(overdue);
        assert!(tokio::time::timeout(LIMIT * 3, &mut overdue).await.is_err(), "it was our turn");
        exchange.turn(false);
        let turned = Instant::now();
        let snapshot = tokio::time::timeout(LIMIT * 5, overdue).await.expect("the peer's turn ran out");
        assert!(turned.elapsed() >= LIMIT);
        assert_eq!((snapshot.ours, snapshot.open, snapshot.begun), (0, 1, 1));
    }

    #[tokio::test]
    async fn a_shorter_limit_holds_as_soon_as_its_state_begins() {
        let progress = Progress::new();
        let patience = |now: &Snapshot| if now.begun == 0 { LIMIT * 1000 } else { LIMIT };
        let overdue = progress.peer_overdue(LIMIT, patience);
        tokio::pin!(overdue);
        assert!(tokio::time::timeout(LIMIT / 10, &mut overdue).await.is_err());
        drop(progress.begin(true));
        assert!(tokio::time::timeout(LIMIT * 100, overdue).await.is_ok());
    }

    #[tokio::test]
    async fn ending_an_exchange_settles_the_counters() {
        let progress = Progress::new();
        let one = progress.begin(true);
        let two = progress.begin(false);
        drop(one);
        drop(two);
        let now = progress.snapshot();
        assert_eq!((now.ours, now.open, now.begun), (0, 0, 2));
    }
}
