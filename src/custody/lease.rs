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

/// A setting that would make leases useless or endless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{setting} must be {expected}")]
pub struct InvalidLease {
    /// The field's name.
    pub setting: &'static str,
    /// What it must be.
    pub expected: &'static str,
}

impl LeaseSettings {
    /// Whether the settings can be used: nothing is zero, and renewal comes before the end.
    ///
    /// # Errors
    /// [`InvalidLease`] for the first that is wrong.
    pub fn check(&self) -> Result<(), InvalidLease> {
        let positive = [
            ("read_lease_s", self.read_lease_s > 0),
            ("write_renew_s", self.write_renew_s > 0),
            ("write_age_max_s", self.write_age_max_s > 0),
            ("write_objects_max", self.write_objects_max > 0),
            ("write_bytes_max", self.write_bytes_max > 0),
            ("rpc_deadline_s", self.rpc_deadline_s > 0),
            ("directory_deadline_s", self.directory_deadline_s > 0),
            ("calls_max", self.calls_max > 0),
            ("read_entries_max", self.read_entries_max > 0),
            ("write_slots_max", self.write_slots_max > 0),
            ("write_callers_max", self.write_callers_max > 0),
            ("refusals_per_bucket_max", self.refusals_per_bucket_max > 0),
            ("refusal_buckets_max", self.refusal_buckets_max > 0),
        ];
        if let Some((setting, _)) = positive.into_iter().find(|(_, positive)| !positive) {
            return Err(InvalidLease { setting, expected: "more than 0" });
        }
        let day = 24 * 3600;
        for (setting, value, most, expected) in [
            ("read_lease_s", self.read_lease_s, day, "at most a day"),
            ("write_renew_s", self.write_renew_s, day, "at most a day"),
            ("write_age_max_s", self.write_age_max_s, 366 * day, "at most a year"),
            ("not_found_s", self.not_found_s, day, "at most a day"),
            ("denied_s", self.denied_s, day, "at most a day"),
            ("rpc_deadline_s", self.rpc_deadline_s, 60, "at most a minute"),
            ("directory_deadline_s", self.directory_deadline_s, 60, "at most a minute"),
            ("refresh_percent", self.refresh_percent.into(), 99, "at most 99"),
        ] {
            if value > most {
                return Err(InvalidLease { setting, expected });
            }
        }
        Ok(())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_usable_and_useless_settings_are_named() {
        let good = LeaseSettings::default();
        assert_eq!(good.check(), Ok(()));
        let named = |settings: LeaseSettings| settings.check().err().map(|error| error.setting);
        assert_eq!(named(LeaseSettings { read_lease_s: 0, ..good.clone() }), Some("read_lease_s"));
        assert_eq!(named(LeaseSettings { read_lease_s: u64::MAX, ..good.clone() }), Some("read_lease_s"));
        assert_eq!(named(LeaseSettings { refresh_percent: 100, ..good.clone() }), Some("refresh_percent"));
        assert_eq!(named(LeaseSettings { write_objects_max: 0, ..good }), Some("write_objects_max"));
    }
}
