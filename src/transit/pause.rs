//! Pauses between attempts: growing, and random so that many proxies do not act in step.

use std::time::Duration;

use tokio::time::Instant;

use crate::crypto::random_array;

/// Says when the next attempt may begin. Each attempt begins a pause, twice as long as the last up to a cap, which only a
/// success takes back: an attempt that is given up half-way counts too.
#[derive(Debug)]
pub(super) struct Backoff {
    base: Duration,
    cap: Duration,
    attempts: u32,
    until: Option<Instant>,
}

impl Backoff {
    pub(super) fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, attempts: 0, until: None }
    }

    pub(super) fn may_try(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }

    /// An attempt begins now.
    pub(super) fn begin(&mut self) {
        let most = self.base.saturating_mul(1 << self.attempts.min(16)).min(self.cap);
        self.attempts = self.attempts.saturating_add(1);
        self.until = Some(Instant::now() + between(most / 2, most));
    }

    /// Begins an attempt, and waits out the pause that comes with it.
    pub(super) async fn wait(&mut self) {
        self.begin();
        if let Some(until) = self.until {
            tokio::time::sleep_until(until).await;
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.attempts = 0;
        self.until = None;
    }
}

/// A random time from `least` to `most`; `most` if there is no randomness to be had.
pub(super) fn between(least: Duration, most: Duration) -> Duration {
    let Ok(random) = random_array::<4>() else { return most };
    let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
    least + most.saturating_sub(least).mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_the_cap_and_end_with_a_success() {
        let (base, cap) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut backoff = Backoff::new(base, cap);
        assert!(backoff.may_try());
        for attempt in 0..40 {
            backoff.begin();
            assert!(!backoff.may_try());
            let most = base.saturating_mul(1 << attempt.min(6)).min(cap);
            tokio::time::advance(most / 2 - Duration::from_millis(1)).await;
            assert!(!backoff.may_try(), "after half of it, attempt {attempt}");
            tokio::time::advance(most / 2 + Duration::from_millis(2)).await;
            assert!(backoff.may_try(), "after all of it, attempt {attempt}");
        }
        backoff.begin();
        backoff.succeeded();
        assert!(backoff.may_try());
    }
}
