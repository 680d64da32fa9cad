//! The engine's clock: wall time that does not go back while the custodian runs.
//!
//! **Invariant:** setting the machine's clock back does not make anything last longer; setting it forward ends things early, as long as
//! it stands so.

#[cfg(test)]
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use time::{Duration, OffsetDateTime};

/// Wall time, but never less than the time at the start and what passed since.
pub(super) struct Clock {
    wall: OffsetDateTime,
    started: Instant,
    /// By how many seconds someone set the machine's clock off.
    #[cfg(test)]
    pub(super) set_off_s: AtomicI64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            wall: OffsetDateTime::now_utc(),
            started: Instant::now(),
            #[cfg(test)]
            set_off_s: AtomicI64::new(0),
        }
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        let at_least = Duration::try_from(self.started.elapsed()).ok().and_then(|passed| self.wall.checked_add(passed));
        self.wall_now().max(at_least.unwrap_or(self.wall))
    }

    pub(super) fn now_unix_s(&self) -> i64 {
        self.now().unix_timestamp()
    }

    #[cfg(not(test))]
    fn wall_now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    #[cfg(test)]
    fn wall_now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + Duration::seconds(self.set_off_s.load(Ordering::Relaxed))
    }
}
