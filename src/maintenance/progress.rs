//! How far a job is: counters that anyone may read while it runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

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
    /// Objects that there are in all; 0 as long as that is not known.
    pub total: AtomicU64,
    /// Objects by the class that the job puts them in.
    classes: Mutex<BTreeMap<u64, u64>>,
}

/// The counters at one moment, or of some of the objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects that the listing gave.
    pub listed: u64,
    /// Objects treated.
    pub done: u64,
    /// Objects with nothing to do.
    pub skipped: u64,
    /// Objects that somebody else wrote meanwhile.
    pub overtaken: u64,
    /// Objects that failed.
    pub failed: u64,
    /// Bytes of plaintext treated.
    pub bytes: u64,
    /// Of the objects treated: how many are in which class, of jobs that tell classes apart.
    pub classes: BTreeMap<u64, u64>,
}

impl Counts {
    /// Those of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        merge(&mut self.classes, &other.classes);
        Self {
            classes: self.classes,
            listed: self.listed.saturating_add(other.listed),
            done: self.done.saturating_add(other.done),
            skipped: self.skipped.saturating_add(other.skipped),
            overtaken: self.overtaken.saturating_add(other.overtaken),
            failed: self.failed.saturating_add(other.failed),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// With the names that reports have for them.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        let Self { listed, done, skipped, overtaken, failed, bytes, .. } = *self;
        [
            ("listed", listed),
            ("done", done),
            ("skipped", skipped),
            ("overtaken", overtaken),
            ("failed", failed),
            ("bytes", bytes),
        ]
    }
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

    /// Adds to all counters.
    pub fn add_all(&self, counts: &Counts) {
        Self::add(&self.listed, counts.listed);
        Self::add(&self.done, counts.done);
        Self::add(&self.skipped, counts.skipped);
        Self::add(&self.overtaken, counts.overtaken);
        Self::add(&self.failed, counts.failed);
        Self::add(&self.bytes, counts.bytes);
        if !counts.classes.is_empty() {
            merge(&mut self.classes.lock().unwrap_or_else(PoisonError::into_inner), &counts.classes);
        }
    }

    /// All counters now.
    pub fn counts(&self) -> Counts {
        Counts {
            listed: Self::of(&self.listed),
            done: Self::of(&self.done),
            skipped: Self::of(&self.skipped),
            overtaken: Self::of(&self.overtaken),
            failed: Self::of(&self.failed),
            bytes: Self::of(&self.bytes),
            classes: self.classes.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

fn merge(classes: &mut BTreeMap<u64, u64>, more: &BTreeMap<u64, u64>) {
    for (class, count) in more {
        let known = classes.entry(*class).or_default();
        *known = known.saturating_add(*count);
    }
}
