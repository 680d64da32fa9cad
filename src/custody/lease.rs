//! How long branch keys are leased, and how much is kept about them.

use std::time::Duration;

/// Limits of leases and caches. [`LeaseSettings::default`] has the values that docs/OPERATING.md states.
///
/// Leases are measured on the monotonic clock, which on Linux stands still while a machine is suspended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// How long an unwrapped branch key may open data for one caller, in seconds. Hard, not sliding.
    pub read_lease_s: u64,
    /// How long a caller may write under a branch key before the custodian is asked again, in seconds.
    pub write_renew_s: u64,
    /// How old a branch key gets for writing, in seconds.
    pub write_age_max_s: u64,
    /// How many DEKs are wrapped under one branch key.
    pub write_objects_max: u64,
    /// How many bytes of data are encrypted below one branch key (the last object may go beyond).
    pub write_bytes_max: u64,
    /// From which part of a lease or limit on it is renewed in the background, in percent.
    pub refresh_percent: u32,
    /// How long it is remembered that a branch key does not exist or does not open, in seconds.
    pub not_found_s: u64,
    /// How long a denial is remembered, in seconds.
    pub denied_s: u64,
    /// How long one call to the custodian may take, queueing included, in seconds.
    pub rpc_deadline_s: u64,
    /// How long one call to the directory may take, in seconds.
    pub directory_deadline_s: u64,
    /// How many calls to the custodian are under way at once.
    pub calls_max: usize,
    /// How many branch keys are cached for reading.
    pub read_entries_max: usize,
    /// How many combinations of KEK, purpose and bucket have a current branch key for writing.
    pub write_slots_max: usize,
    /// How many callers hold a lease for writing on one of them.
    pub write_callers_max: usize,
    /// How many refusals are remembered for one bucket.
    pub refusals_per_bucket_max: usize,
    /// For how many buckets refusals are remembered.
    pub refusal_buckets_max: usize,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            read_lease_s: 300,
            write_renew_s: 3600,
            write_age_max_s: 30 * 24 * 3600,
            write_objects_max: 1 << 20,
            write_bytes_max: 1 << 40,
            refresh_percent: 80,
            not_found_s: 30,
            denied_s: 2,
            rpc_deadline_s: 2,
            directory_deadline_s: 10,
            calls_max: 128,
            read_entries_max: 65_536,
            write_slots_max: 16_384,
            write_callers_max: 65_536,
            refusals_per_bucket_max: 256,
            refusal_buckets_max: 1024,
        }
    }
}

impl LeaseSettings {
    pub(super) fn read_lease(&self) -> Duration {
        Duration::from_secs(self.read_lease_s)
    }

    pub(super) fn write_lease(&self) -> Duration {
        Duration::from_secs(self.write_renew_s)
    }

    pub(super) fn rpc_deadline(&self) -> Duration {
        Duration::from_secs(self.rpc_deadline_s)
    }

    pub(super) fn directory_deadline(&self) -> Duration {
        Duration::from_secs(self.directory_deadline_s)
    }

    /// When of `lease` the background renewal starts.
    pub(super) fn refresh_after(&self, lease: Duration) -> Duration {
        lease.saturating_mul(self.refresh_percent.min(100)) / 100
    }

    /// How long a background renewal that failed is let rest: a twentieth of the lease.
    pub(super) fn refresh_pause(lease: Duration) -> Duration {
        lease / 20
    }

    /// Whether `used` of `limit` is so much that a replacement should be prepared.
    pub(super) fn is_worn(&self, used: u64, limit: u64) -> bool {
        u128::from(used) * 100 >= u128::from(limit) * u128::from(self.refresh_percent.min(100))
    }
}
