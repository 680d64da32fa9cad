//! How fast requests go out: at most so many in a second, evenly spread, and how many there were.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The pace of one client of a storage server.
pub(super) struct Pace {
    /// The time from one request to the next; zero: as fast as it goes.
    interval: Duration,
    /// When the next request may go.
    next: Mutex<Instant>,
    sent: AtomicU64,
}

impl Pace {
    /// At most `max_s` requests in a second.
    pub(super) fn new(max_s: Option<u32>) -> Self {
        let interval = max_s.filter(|most| *most > 0).map(|most| Duration::from_secs(1) / most).unwrap_or_default();
        Self { interval, next: Mutex::new(Instant::now()), sent: AtomicU64::new(0) }
    }

    /// Waits until it is this request's turn. A turn that was waited for and not taken is lost.
    pub(super) async fn turn(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if self.interval.is_zero() {
            return;
        }
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + self.interval;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }

    /// Requests so far, each attempt counted.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_requests_than_allowed() {
        let pace = Pace::new(Some(10));
        // Quiet times are not saved up.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        futures_util::future::join_all((0..31).map(|_| pace.turn())).await;
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(3000) && took < Duration::from_millis(3100), "{took:?}");
        assert_eq!(pace.sent(), 31);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_waits() {
        let (pace, begun) = (Pace::new(None), Instant::now());
        for _ in 0..1000 {
            pace.turn().await;
        }
        assert!(begun.elapsed().is_zero());
        assert_eq!(pace.sent(), 1000);
    }
}
