//! How many connections a listener has and had.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Clones count together.
#[derive(Debug, Clone, Default)]
pub struct ConnectionCount(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    ended: AtomicU64,
}

impl ConnectionCount {
    /// Those that there were, the ones that are open among them.
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// Those that are open.
    pub fn open(&self) -> u64 {
        let ended = self.0.ended.load(Ordering::Relaxed);
        self.accepted().saturating_sub(ended)
    }

    /// One more, open until the answer is dropped.
    pub(super) fn begin(&self) -> Counted {
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }
}

/// See [`ConnectionCount::begin`].
pub(super) struct Counted(Arc<Counts>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_open_until_it_ends() {
        let count = ConnectionCount::default();
        let (first, second) = (count.begin(), count.clone().begin());
        drop(first);
        assert_eq!((count.accepted(), count.open()), (2, 1));
        drop(second);
        assert_eq!((count.accepted(), count.open()), (2, 0));
    }
}
