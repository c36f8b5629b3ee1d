//! A map that grows without moving what is in it.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use crate::policy::{FEW, Parts};

/// How many things have room in the first tier, where nobody says how many there will be.
const FIRST: usize = 1_024;
/// How many times as much has room in the next.
const FACTOR: usize = 8;

/// A map in tiers, each with room for eight times as many as the one before.
///
/// Growing, a hash map hashes all that it has anew: with half a million host names that would be a tenth of a second at
/// once. Here a full one stays as it is. Whoever knows how many there will be has one tier, and a look-up is that of one
/// map. Hashes are seeded: whoever writes a policy cannot have all of its names fall together.
#[derive(Debug)]
pub(super) struct Tiers<K, V>(Vec<HashMap<K, V, foldhash::fast::RandomState>>);

impl<K, V> Default for Tiers<K, V> {
    fn default() -> Self {
        Tiers(Vec::new())
    }
}

impl<K: Eq + Hash, V> Tiers<K, V> {
    /// Makes room for so many.
    pub(super) fn reserve(&mut self, count: usize) {
        self.0.push(HashMap::with_capacity_and_hasher(count, Default::default()));
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.iter().find_map(|tier| tier.get(key))
    }

    /// Puts `value` at `key`; gives what was there.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(known) = self.0.iter_mut().find_map(|tier| tier.get_mut(&key)) {
            return Some(std::mem::replace(known, value));
        }
        match self.0.last() {
            Some(last) if last.len() < last.capacity() => {}
            last => self.reserve(last.map_or(FIRST, |last| FACTOR * last.capacity()).max(FIRST)),
        }
        self.0.last_mut().and_then(|last| last.insert(key, value))
    }

    /// Gives `parts` all of it.
    pub(super) fn into_parts(self, parts: &mut Parts)
    where
        K: 'static,
        V: 'static,
    {
        for tier in self.0 {
            parts.add(tier, FEW);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found_however_much_it_is() {
        for reserved in [0, 1, 1_000] {
            let mut map = Tiers::default();
            map.reserve(reserved);
            for i in 0..10_000 {
                assert_eq!(map.insert(i, i), None);
            }
            assert_eq!(map.insert(7, 70), Some(7));
            assert_eq!((map.get(&7), map.get(&9_999), map.get(&10_000)), (Some(&70), Some(&9_999), None));
            assert!(map.0.iter().all(|tier| tier.len() <= tier.capacity()));
            assert!(map.0.len() > 1);
        }
    }
}
