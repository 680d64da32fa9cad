//! Whether this process should be given requests.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// Why there should be none.
pub type Obstacle = &'static str;
/// Something that readiness hangs on, or else what is in the way.
pub type Check = Box<dyn Fn() -> Result<(), Obstacle> + Send + Sync>;

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

/// Where this process is in its life, and what else readiness hangs on.
pub struct Health {
    stage: AtomicU8,
    checks: Vec<Check>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Health {
    /// Of a process that starts, and is ready when it serves and all of `checks` hold.
    pub fn new(checks: Vec<Check>) -> Self {
        Self { stage: AtomicU8::new(STARTING), checks }
    }

    /// It listens from now on, unless it already drains.
    pub fn serves(&self) {
        let _ = self.stage.compare_exchange(STARTING, SERVING, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// It takes no further requests soon.
    pub fn drains(&self) {
        self.stage.store(DRAINING, Ordering::Relaxed);
    }

    /// What is in the way of serving requests; nothing if it is ready.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let stage = match self.stage.load(Ordering::Relaxed) {
            STARTING => Some("starting"),
            SERVING => None,
            _ => Some("draining"),
        };
        stage.into_iter().chain(self.checks.iter().filter_map(|check| check().err())).collect()
    }

    /// Whether nothing is.
    pub fn is_ready(&self) -> bool {
        self.obstacles().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn it_is_ready_between_start_and_drain_while_all_checks_hold() {
        let well = Arc::new(AtomicBool::new(true));
        let looked = Arc::clone(&well);
        let check: Check = Box::new(move || if looked.load(Ordering::Relaxed) { Ok(()) } else { Err("unwell") });
        let health = Health::new(vec![check]);
        assert_eq!(health.obstacles(), ["starting"]);
        health.serves();
        assert!(health.is_ready());
        well.store(false, Ordering::Relaxed);
        assert_eq!(health.obstacles(), ["unwell"]);
        health.drains();
        health.serves();
        assert_eq!(health.obstacles(), ["draining", "unwell"]);
        well.store(true, Ordering::Relaxed);
        assert!(!health.is_ready(), "a drain is not taken back");
    }
}
