//! How many files and sockets the process may have open, and what fits into that.
//!
//! **Invariant:** clients take no descriptors that logs, the store and connections to servers need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For everything that is not a client's: files, logs, the store, connections to the custodian.
const RESERVED: u64 = 128;

/// What clients may take at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Connections.
    pub(super) connections: usize,
    /// Requests. As many connections to each server may be open at once: in use, or idle after a request to it.
    pub(super) requests: usize,
    /// Servers that requests go to.
    pub(super) servers: usize,
}

impl Room {
    /// As much of this as the process may have open, after that was raised as far as it is needed and allowed. Less is told.
    pub(super) fn fitted(self) -> Self {
        let limit = raise(self.needs());
        let fitted = self.within(limit);
        if fitted != self {
            tracing::warn!(
                limit,
                needed = self.needs(),
                connections = fitted.connections,
                requests = fitted.requests,
                "this process may open so few files that it takes fewer connections and requests at a time: raise `ulimit -n` or LimitNOFILE"
            );
        }
        fitted
    }

    fn needs(self) -> u64 {
        RESERVED + self.connections as u64 + self.requests as u64 * self.servers as u64
    }

    fn within(self, limit: u64) -> Self {
        let (there, wanted) = (limit.saturating_sub(RESERVED), self.needs() - RESERVED);
        if there >= wanted {
            return self;
        }
        let share = |of: usize| usize::try_from(u128::from(there) * of as u128 / u128::from(wanted)).unwrap_or(of);
        Self { connections: share(self.connections).max(1), requests: share(self.requests).max(1), ..self }
    }
}

/// Raises the limit to `needed`, or as near to it as is allowed; gives what it is then.
fn raise(needed: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(now) = current.filter(|now| *now < needed) else { return current.unwrap_or(u64::MAX) };
    let wanted = maximum.map_or(needed, |maximum| needed.min(maximum));
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => wanted,
        Err(_) => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Room = Room { connections: 1000, requests: 500, servers: 1 };

    #[test]
    fn what_fits_is_left_as_it_is_and_what_does_not_is_shared_out() {
        assert_eq!(WANTED.within(u64::MAX), WANTED);
        assert_eq!(WANTED.within(WANTED.needs()), WANTED);
        assert_eq!(WANTED.within(WANTED.needs() - 15), Room { connections: 990, requests: 495, servers: 1 });
        let three = Room { servers: 3, ..WANTED };
        assert_eq!(three.within(three.needs() - 25), Room { connections: 990, requests: 495, servers: 3 });
        for (wanted, limit) in (0..3000).flat_map(|limit| [(WANTED, limit), (three, limit)]) {
            let Room { connections, requests, servers } = wanted.within(limit);
            assert!(connections >= 1 && requests >= 1, "{limit}");
            let taken = (connections + requests * servers) as u64 + RESERVED;
            assert!(taken <= limit.max(RESERVED + 1 + servers as u64), "{limit}");
        }
        let alone = Room { connections: 1000, requests: 0, servers: 0 };
        assert_eq!(alone.within(RESERVED + 10).connections, 10);
    }

    #[test]
    fn the_limit_is_raised_no_further_than_needed() {
        let before = getrlimit(Resource::Nofile);
        let now = before.current.unwrap_or(u64::MAX);
        assert_eq!(raise(1), now);
        let maximum = before.maximum.unwrap_or(u64::MAX);
        assert_eq!(raise(now.saturating_add(1)), now.saturating_add(1).min(maximum));
        setrlimit(Resource::Nofile, before).expect("it was so before");
    }
}
