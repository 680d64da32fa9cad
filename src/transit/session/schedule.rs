//! When a token wants care, from its lease.

use std::time::Duration;

use tokio::time::Instant;

use super::Lease;
use crate::transit::pause::between;

/// Longest lease that is believed; also keeps times within the clock's range.
const LEASE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Shorter leases are hardly had before they end.
const LEASE_SHORT: Duration = Duration::from_secs(30);
/// The part of a lease after which it is renewed: a random one between these.
const RENEW_AFTER: (f64, f64) = (0.5, 0.75);

/// What is to be done about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Ask how long it lives.
    LookUp,
    /// Extend its lease.
    Renew,
    /// Log in anew, as it cannot be extended.
    Replace,
}

/// What is known of a token's time.
#[derive(Debug, Clone, Copy)]
pub(super) enum Schedule {
    /// It was read from a file.
    Unknown,
    Endless,
    Until {
        lease: Duration,
        renew: Instant,
        over: Instant,
        renewable: bool,
    },
}

impl Schedule {
    pub(super) fn of(lease: Lease) -> Self {
        if lease.seconds == 0 {
            return Self::Endless;
        }
        let duration = Duration::from_secs(lease.seconds).min(LEASE_MAX);
        if duration < LEASE_SHORT {
            tracing::warn!(
                lease_s = lease.seconds,
                "the custodian's token has a very short lease; give it a minute or more"
            );
        }
        let now = Instant::now();
        let renew = now + between(duration.mul_f64(RENEW_AFTER.0), duration.mul_f64(RENEW_AFTER.1));
        Self::Until { lease: duration, renew, over: now + duration, renewable: lease.renewable }
    }

    /// `None` while there is nothing to do. A token from a file cannot be replaced by us.
    pub(super) fn due(&self, from_file: bool) -> Option<Care> {
        match *self {
            Self::Unknown => from_file.then_some(Care::LookUp),
            Self::Endless => None,
            Self::Until { renew, .. } if Instant::now() < renew => None,
            Self::Until { renewable: true, .. } => Some(Care::Renew),
            Self::Until { renewable: false, .. } => (!from_file).then_some(Care::Replace),
        }
    }

    /// How long until the renewal is due. `None` if it is, or if there is none.
    pub(super) fn until_renewal(&self) -> Option<Duration> {
        match *self {
            Self::Until { renew, .. } => {
                Some(renew.saturating_duration_since(Instant::now())).filter(|due| !due.is_zero())
            }
            Self::Unknown | Self::Endless => None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Until { over, .. } if *over <= Instant::now())
    }

    /// Whether `renewed` gives clearly less than the lease before: the token nears the end of what it may be extended to.
    pub(super) fn is_running_out(&self, renewed: Lease) -> bool {
        match self {
            Self::Until { lease, .. } => renewed.seconds > 0 && Duration::from_secs(renewed.seconds) < *lease / 2,
            Self::Unknown | Self::Endless => false,
        }
    }
}
