//! How late the lines of a watch come: the time that each of them names against our own.
//!
//! Who slows the stream down, with no gap long enough to pass for silence, would have us believe for minutes in what was true once.

use std::time::Duration;

use tokio::time::Instant;

/// Clocks drift apart by less than a thousandth.
const DRIFT: u32 = 1000;

/// Both clocks, from the greeting on.
pub(super) struct Lag {
    greeted: Instant,
    allowed: Duration,
    /// The greeting itself came so much later than the quickest line.
    ahead: Duration,
}

impl Lag {
    /// The greeting was read just now.
    pub(super) fn new(allowed: Duration) -> Self {
        Self { greeted: Instant::now(), allowed, ahead: Duration::ZERO }
    }

    /// Whether a line that is read now and was made `made` after the greeting is in time. The allowance for drift never exceeds the other:
    /// clocks that are further apart than that have the watch opened anew.
    pub(super) fn allows(&mut self, made: Duration) -> bool {
        let elapsed = self.greeted.elapsed();
        self.ahead = self.ahead.max(made.saturating_sub(elapsed));
        let late = (elapsed + self.ahead).saturating_sub(made);
        late <= self.allowed + (elapsed / DRIFT).min(self.allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Duration = Duration::from_millis(750);

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_time_is_allowed_and_what_lags_is_not() {
        let mut lag = Lag::new(ALLOWED);
        tokio::time::advance(Duration::from_secs(100)).await;
        let made = |late_ms: u64| Duration::from_secs(100) - Duration::from_millis(late_ms);
        assert!(lag.allows(made(0)) && lag.allows(made(850)));
        assert!(!lag.allows(made(851)));
    }

    #[tokio::test(start_paused = true)]
    async fn drift_is_allowed_for_only_so_much() {
        let mut lag = Lag::new(ALLOWED);
        let day = Duration::from_secs(24 * 3600);
        tokio::time::advance(day).await;
        assert!(lag.allows(day - 2 * ALLOWED));
        assert!(!lag.allows(day - 2 * ALLOWED - Duration::from_millis(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_greeting_that_was_held_back_gives_no_advantage() {
        let mut lag = Lag::new(ALLOWED);
        assert!(lag.allows(Duration::from_secs(5)));
        assert!(!lag.allows(Duration::from_secs(4)));
        assert!(lag.allows(Duration::MAX - Duration::from_secs(1)), "no overflow");
        assert!(!lag.allows(Duration::ZERO));
    }
}
