//! Places for requests of which it is not known yet whose they are, or that are nobody's: forms and preflights.
//!
//! **Invariant:** one address holds a quarter of them at most, so that nobody alone takes them from everybody else.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What one address may hold is the `1 / SHARES`th part.
const SHARES: usize = 4;

/// See the module.
pub(super) struct Strangers {
    most: usize,
    most_of_one: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

/// A place, until it is dropped.
pub(super) struct Place<'a> {
    strangers: &'a Strangers,
    address: IpAddr,
}

impl Strangers {
    /// With so many places; at least one.
    pub(super) fn new(places: usize) -> Self {
        let most = places.max(1);
        Self { most, most_of_one: most.div_ceil(SHARES), held: Mutex::default() }
    }

    /// A place for a request from `peer`, if there is one.
    pub(super) fn place(&self, peer: IpAddr) -> Option<Place<'_>> {
        let (address, mut held) = (network(peer), self.held());
        let of_one = held.of.get(&address).copied().unwrap_or_default();
        if held.all >= self.most || of_one >= self.most_of_one {
            return None;
        }
        held.all += 1;
        held.of.insert(address, of_one + 1);
        Some(Place { strangers: self, address })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.strangers.held();
        held.all = held.all.saturating_sub(1);
        match held.of.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.of.remove(&self.address)),
        }
    }
}

/// Whoever has one IPv6 address has the 2^64 of its network.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn one_address_leaves_places_to_others() {
        let strangers = Strangers::new(8);
        let of_one: Vec<_> = (0..8).map_while(|_| strangers.place(address("192.0.2.1"))).collect();
        assert_eq!(of_one.len(), 2);
        assert!(strangers.place(address("::ffff:192.0.2.1")).is_none(), "the same address");
        let other = strangers.place(address("192.0.2.2")).expect("has its own share");
        drop(of_one);
        assert_eq!(strangers.held().of.len(), 1, "who holds nothing is forgotten");
        assert!(strangers.place(address("192.0.2.1")).is_some());
        drop(other);
        assert_eq!(strangers.held().all, 0);
    }

    #[test]
    fn networks_of_ipv6_are_one() {
        let strangers = Strangers::new(4);
        let _one = strangers.place(address("2001:db8::1")).expect("free");
        assert!(strangers.place(address("2001:db8::ffff:2")).is_none());
        assert!(strangers.place(address("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn all_places_together_are_bounded() {
        let strangers = Strangers::new(8);
        let held: Vec<_> = (0..100).map_while(|n| strangers.place(IpAddr::from([10, 0, 0, n]))).collect();
        assert_eq!(held.len(), 8);
        assert!(Strangers::new(0).place(address("192.0.2.1")).is_some());
    }
}
