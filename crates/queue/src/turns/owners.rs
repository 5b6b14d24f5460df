//! Which lane belongs to whom, as far as this process has seen it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::job::LaneId;

/// An owner of lanes: a hash of its name. Two owners with the same hash would share their turns, which does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    Known(u64),
    /// That of lanes that no claim or search has looked at yet, so they all share its turns. It does not last for long.
    Unknown,
}

/// How many lanes each of the two maps has.
const REMEMBERED: usize = 30_000;

/// A cache of two generations: when the newer one is full, it becomes the older one.
#[derive(Debug, Default)]
pub(super) struct Owners {
    hasher: RandomState,
    newer: HashMap<LaneId, u64>,
    older: HashMap<LaneId, u64>,
}

impl Owners {
    pub(super) fn of(&self, lane: LaneId) -> Owner {
        self.newer
            .get(&lane)
            .or_else(|| self.older.get(&lane))
            .map_or(Owner::Unknown, |&owner| Owner::Known(owner))
    }

    pub(super) fn learn(&mut self, lane: LaneId, owner: &str) {
        if self.newer.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(lane, self.hasher.hash_one(owner));
    }

    pub(super) fn named(&self, owner: &str) -> Owner {
        Owner::Known(self.hasher.hash_one(owner))
    }
}
