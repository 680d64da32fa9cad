//! How long nothing is believed that contradicts a revocation.
//!
//! **Invariant:** whoever tells of the same revocation again and again keeps nobody out for longer than [`HELD_MAX`] in [`HELD_MAX`] and [`REST`].

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Revocation;

/// The longest time that a revocation holds against what custodians say, however often it is told.
const HELD_MAX: Duration = Duration::from_secs(5);
/// Before it may do so again.
const REST: Duration = Duration::from_secs(60);
/// Most that are known at a time. Others do not hold; what they cover is leased for moments only.
const HOLDS_MAX: usize = 1024;

/// When each was first told of.
#[derive(Default)]
pub(super) struct Holds(HashMap<Revocation, Instant>);

impl Holds {
    /// Until when `covered`, that was just told, holds: until `known` or sooner. `None` if it was told too often.
    pub(super) fn extend(&mut self, covered: &Revocation, known: Instant) -> Option<Instant> {
        let now = Instant::now();
        if self.0.len() >= HOLDS_MAX {
            self.0.retain(|_, first| now < *first + HELD_MAX + REST);
        }
        let room = self.0.len() < HOLDS_MAX;
        let first = match self.0.get(covered) {
            Some(first) if now < *first + HELD_MAX + REST => *first,
            None if !room => return None,
            _ => now,
        };
        self.0.insert(covered.clone(), first);
        let ends = first + HELD_MAX;
        (now < ends).then(|| known.min(ends))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::names::{KekName, Principal};

    const KNOWN: Duration = Duration::from_secs(1);

    fn extend(holds: &mut Holds, covered: &Revocation) -> Option<Duration> {
        holds.extend(covered, Instant::now() + KNOWN).map(|until| until - Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_again_and_again_holds_for_a_few_seconds() {
        let mut holds = Holds::default();
        let [one, other] = ["a", "b"].map(|name| Revocation::Kek(KekName::new(name).expect("legal")));
        let mut held = Duration::ZERO;
        for _ in 0..640 {
            held += extend(&mut holds, &one).unwrap_or_default().min(KNOWN / 10);
            advance(KNOWN / 10).await;
        }
        assert_eq!(held, HELD_MAX);
        assert_eq!(extend(&mut holds, &other), Some(KNOWN), "each has its own time");
        advance(Duration::from_secs(1)).await;
        assert_eq!(extend(&mut holds, &one), Some(KNOWN));
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_hold() {
        let mut holds = Holds::default();
        let told = |n: usize| Revocation::Principal(Principal::new(&format!("p{n}")).expect("legal"));
        assert_eq!((0..2 * HOLDS_MAX).filter(|n| extend(&mut holds, &told(*n)).is_some()).count(), HOLDS_MAX);
        advance(HELD_MAX + REST).await;
        assert_eq!(extend(&mut holds, &told(HOLDS_MAX)), Some(KNOWN));
        assert_eq!(holds.0.len(), 1);
    }
}
