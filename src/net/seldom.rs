//! What would be told again and again, told now and then.

use std::time::Duration;

use tokio::time::Instant;

/// Says when something may be told: at once, and then at most once in a while.
#[derive(Debug)]
pub struct Seldom {
    every: Duration,
    last: Option<Instant>,
}

impl Seldom {
    /// At most once in `every`.
    pub fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Whether to tell it now. If so, it counts as told.
    pub fn is_due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= self.every);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn at_once_and_then_once_in_a_while() {
        let every = Duration::from_secs(10);
        let mut seldom = Seldom::new(every);
        assert!(seldom.is_due() && !seldom.is_due());
        tokio::time::advance(every / 2).await;
        assert!(!seldom.is_due());
        tokio::time::advance(every / 2).await;
        assert!(seldom.is_due() && !seldom.is_due());
    }
}
