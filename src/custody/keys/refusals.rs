//! What was refused lately, so that asking again costs the custodian nothing.
//!
//! **Invariant:** kept apart from the keys and bounded for each bucket: a flood of made-up branch keys in one bucket takes no
//! room from good entries, nor from other buckets.

use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use crate::custody::CustodyError;
use crate::custody::lease::LeaseSettings;
use crate::names::LogicalBucket;

use super::BranchKeyError;
use super::generations::Generations;

struct Refusal {
    until: Instant,
    error: BranchKeyError,
}

pub(super) struct Refusals<K> {
    buckets: Generations<LogicalBucket, Generations<K, Refusal>>,
    per_bucket_max: usize,
    not_found: Duration,
    denied: Duration,
}

impl<K: Hash + Eq> Refusals<K> {
    pub(super) fn new(settings: &LeaseSettings) -> Self {
        Self {
            buckets: Generations::new(settings.refusal_buckets_max),
            per_bucket_max: settings.refusals_per_bucket_max,
            not_found: Duration::from_secs(settings.not_found_s),
            denied: Duration::from_secs(settings.denied_s),
        }
    }

    pub(super) fn of(&mut self, bucket: &LogicalBucket, key: &K) -> Option<BranchKeyError> {
        let refusals = self.buckets.get(bucket)?;
        let refusal = refusals.get(key)?;
        if refusal.until > Instant::now() {
            return Some(refusal.error.clone());
        }
        refusals.remove(key);
        None
    }

    /// Remembers `error`, if it is a refusal and not a failure.
    pub(super) fn remember(&mut self, bucket: &LogicalBucket, key: K, error: &BranchKeyError) {
        let Some(keep) = self.keep(error) else { return };
        let refusal = Refusal { until: Instant::now() + keep, error: error.clone() };
        if self.buckets.get(bucket).is_none() {
            self.buckets.insert(bucket.clone(), Generations::new(self.per_bucket_max));
        }
        if let Some(refusals) = self.buckets.get(bucket) {
            refusals.insert(key, refusal);
        }
    }

    fn keep(&self, error: &BranchKeyError) -> Option<Duration> {
        match error {
            BranchKeyError::NotInDirectory => Some(self.not_found),
            BranchKeyError::Custody(error) => match **error {
                CustodyError::UnknownKek | CustodyError::NotAuthentic | CustodyError::VersionTooOld => {
                    Some(self.not_found)
                }
                CustodyError::Denied | CustodyError::Disabled | CustodyError::VersionUnknown => Some(self.denied),
                CustodyError::Unreachable(_)
                | CustodyError::Sealed
                | CustodyError::Malformed(_)
                | CustodyError::Random(_) => None,
            },
            BranchKeyError::Directory(_)
            | BranchKeyError::DirectoryTimeout
            | BranchKeyError::NotDerived
            | BranchKeyError::Revoked
            | BranchKeyError::NotReady => None,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.buckets.values().map(Generations::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_are_bounded_per_bucket_and_end_by_themselves() {
        let settings = LeaseSettings { refusals_per_bucket_max: 16, ..LeaseSettings::default() };
        let mut refusals = Refusals::new(&settings);
        let [quiet, flooded] = ["quiet", "flooded"].map(|name| LogicalBucket::new(name).expect("legal"));
        refusals.remember(&quiet, 0, &CustodyError::NotAuthentic.into());
        refusals.remember(&quiet, 1, &CustodyError::Denied.into());
        refusals.remember(&quiet, 2, &CustodyError::Sealed.into());
        for n in 0..1000 {
            refusals.remember(&flooded, n, &CustodyError::NotAuthentic.into());
        }
        assert!(refusals.len() <= 2 + 16);
        let mut known = |key| refusals.of(&quiet, &key).is_some();
        assert_eq!([known(0), known(1), known(2)], [true, true, false]);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!([known(0), known(1)], [true, false]);
        tokio::time::advance(Duration::from_secs(28)).await;
        assert!(!known(0));
    }
}
