//! Counts of deliveries, by the minute in which they were created, whenever the counted thing happens.

use std::collections::HashMap;

use postrider_database::Writes;

use super::counted::Counted;
pub(crate) use super::counted::Counts;
use super::deltas;
use super::key::Key;

/// Adds counts to `writes`.
pub(crate) fn add(counts: HashMap<Key, Counts>, writes: &mut Writes) {
    deltas::add(counts.into_iter().map(|(key, counts)| (key, counts.into())), writes);
}

impl From<Counts> for Counted {
    fn from(counts: Counts) -> Self {
        Self { counts, ..Self::default() }
    }
}
