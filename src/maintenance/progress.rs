//! How far a job is: counters that anyone may read while it runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of a job. All of them only grow.
#[derive(Debug, Default)]
pub struct Progress {
    /// Objects that the listing gave.
    pub listed: AtomicU64,
    /// Objects treated.
    pub done: AtomicU64,
    /// Objects with nothing to do.
    pub skipped: AtomicU64,
    /// Objects that somebody else wrote meanwhile.
    pub overtaken: AtomicU64,
    /// Objects that failed.
    pub failed: AtomicU64,
    /// Bytes of plaintext treated.
    pub bytes: AtomicU64,
}

impl Progress {
    /// Adds `n` to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// A counter now.
    pub fn of(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
