//! A bounded map that forgets what was not used lately.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Two generations of a hash map: what is used moves to the young one; when that is full, the old one is dropped.
/// So the least recently used go first, roughly, at constant cost.
///
/// **Invariant:** never more than `limit` entries (at least 2).
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Hash + Eq, V> Generations<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (limit / 2).max(1) }
    }

    /// The entry, which counts as used now.
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.young.remove(key);
        self.old.remove(key);
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.young.retain(&mut keep);
        self.old.retain(&mut keep);
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.young.values().chain(self.old.values())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let mut map = Generations::new(8);
        for n in 0..1000 {
            map.insert(n, n);
            assert_eq!(map.get(&0), Some(&mut 0));
            assert!(map.len() <= 8);
        }
        assert_eq!(map.get(&1), None);
        assert_eq!(map.get(&999), Some(&mut 999));
        map.remove(&999);
        assert_eq!(map.get(&999), None);
    }

    #[test]
    fn an_entry_is_in_one_generation_only() {
        let mut map = Generations::new(2);
        map.insert('a', 1);
        map.insert('b', 2);
        map.insert('a', 3);
        assert_eq!(map.len(), 2);
        map.remove(&'a');
        assert_eq!(map.get(&'a'), None);
    }
}
