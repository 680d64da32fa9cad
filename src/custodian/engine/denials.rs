//! How many refusals of one requester are written down: so many at once, so many each second. Of further ones there is a count, and one
//! entry that tells it, or anybody with a certificate could fill the disk.
//!
//! **Invariant:** what is not written down is not done either.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::custodian::identity::SpiffeId;

/// Refusals that are written down at once.
const BURST: f64 = if cfg!(test) { 60.0 } else { 1_000.0 };
/// Refusals that are written down each second in the long run.
const PER_S: f64 = if cfg!(test) { 0.1 } else { 20.0 };
/// Requesters that are counted one by one; further ones are counted as one.
const COUNTED_MAX: usize = 4_096;

struct Bucket {
    room: f64,
    at: Instant,
    left_out: u64,
}

impl Bucket {
    fn new(at: Instant) -> Self {
        Self { room: BURST, at, left_out: 0 }
    }

    fn fill(&mut self, now: Instant) {
        self.room = (self.room + now.saturating_duration_since(self.at).as_secs_f64() * PER_S).min(BURST);
        self.at = self.at.max(now);
    }

    /// Whether it says nothing that a new one would not say.
    fn is_idle(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.room >= BURST && self.left_out == 0
    }
}

/// By requester; `None` is everyone for whom there was no place.
#[derive(Default)]
pub(super) struct Denials(Mutex<HashMap<Option<SpiffeId>, Bucket>>);

/// Refusals that were left out.
pub(super) struct LeftOut {
    /// Whose; `None` if they are several requesters'.
    pub(super) of: Option<SpiffeId>,
    pub(super) count: u64,
}

impl Denials {
    fn locked(&self) -> MutexGuard<'_, HashMap<Option<SpiffeId>, Bucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another refusal of `who` is to be written down; if not, it is counted.
    pub(super) fn has_room(&self, who: &SpiffeId, now: Instant) -> bool {
        let mut buckets = self.locked();
        let mut key = Some(who.clone());
        if !buckets.contains_key(&key) && buckets.len() >= COUNTED_MAX {
            buckets.retain(|_, bucket| !bucket.is_idle(now));
            if buckets.len() >= COUNTED_MAX {
                key = None;
            }
        }
        let bucket = buckets.entry(key).or_insert_with(|| Bucket::new(now));
        bucket.fill(now);
        if bucket.room >= 1.0 {
            bucket.room -= 1.0;
            return true;
        }
        bucket.left_out += 1;
        false
    }

    /// What was left out and can be told now: all of it at the end, else that of buckets with room.
    pub(super) fn take_left_out(&self, now: Instant, at_end: bool) -> Vec<LeftOut> {
        let mut buckets = self.locked();
        let told = buckets.iter_mut().filter_map(|(of, bucket)| {
            bucket.fill(now);
            if bucket.left_out == 0 || (bucket.room < 1.0 && !at_end) {
                return None;
            }
            bucket.room = (bucket.room - 1.0).max(0.0);
            Some(LeftOut { of: of.clone(), count: std::mem::take(&mut bucket.left_out) })
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn client(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://example.org/region/us/proxy/{name}")).expect("legal")
    }

    #[test]
    fn beyond_the_burst_they_are_counted_until_there_is_room() {
        let (denials, now) = (Denials::default(), Instant::now());
        let written = (0..200).filter(|_| denials.has_room(&client("a"), now)).count();
        assert_eq!(written, 60);
        assert!(denials.has_room(&client("b"), now), "others are not concerned");
        assert!(denials.take_left_out(now, false).is_empty());
        let later = now + Duration::from_secs(11);
        let told = denials.take_left_out(later, false);
        assert_eq!(told.iter().map(|one| (one.of.clone(), one.count)).collect::<Vec<_>>(), [(Some(client("a")), 140)]);
        assert!(denials.take_left_out(later, true).is_empty(), "it is told once");
        assert!(!denials.has_room(&client("a"), later), "that cost the room");
        assert_eq!(denials.take_left_out(later, true).len(), 1, "at the end");
    }

    #[test]
    fn requesters_are_bounded() {
        let (denials, now) = (Denials::default(), Instant::now());
        for number in 0..2 * COUNTED_MAX {
            denials.has_room(&client(&number.to_string()), now);
        }
        assert!(denials.locked().len() <= COUNTED_MAX + 1);
        assert!(!denials.has_room(&client("another"), now), "those without a place share one");
        let later = now + Duration::from_secs(1_000_000);
        denials.take_left_out(later, true);
        assert!(denials.has_room(&client("another"), later));
        assert!(denials.locked().len() < 10, "idle ones are forgotten");
    }
}
