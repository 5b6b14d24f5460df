//! A bounded cache that forgets what has not been used for longest.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// A map of two generations. What is used moves to the young one; when that is full, the old one is forgotten.
#[derive(Debug)]
pub(crate) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// How many entries a generation has.
    most: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Generations<K, V> {
    /// A cache of up to twice `most` entries.
    pub(crate) fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.clone(), value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.most {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let mut cache = Generations::new(10);
        cache.insert(0, "used");
        for number in 1..1000 {
            cache.insert(number, "unused");
            assert_eq!(cache.get(&0), Some("used"), "{number}");
            assert!(cache.young.len() + cache.old.len() <= 20);
        }
        assert_eq!(cache.get(&1), None);
    }
}
