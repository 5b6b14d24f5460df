//! The parts of the queue, each of which is on one node.

use std::num::NonZeroU16;

use postrider_queue::LaneId;

/// The keys of a partition, in the order in which the functions declare them.
const NAMES: [&str; 12] = [
    "jobs", "lanes", "ready", "leases", "ring", "owners", "shut", "full", "due", "later", "counts", "workers",
];

/// The partition that knows the workers.
pub(crate) const FIRST: usize = 0;

/// The keys of a partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) keys: [String; 12],
}

impl Partition {
    /// All partitions of a queue. The braces make a cluster keep the keys of each on one node (Redis Cluster specification,
    /// hash tags). The `1` is the version of the layout.
    pub(crate) fn all(prefix: &str, count: NonZeroU16) -> Vec<Self> {
        let partition = |number| Self { keys: NAMES.map(|name| format!("{{{prefix}:1:{number}}}:{name}")) };
        (0..count.get()).map(partition).collect()
    }
}

/// The number of the partition of a lane.
pub(crate) fn of_lane(lane: LaneId, count: usize) -> usize {
    let (high, low) = lane.0.as_u64_pair();
    // The upper half of a product with the golden ratio depends on all bits. It must never change: jobs are found by it.
    let mixed = (high ^ low.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    usize::try_from(mixed).unwrap_or_default() % count.max(1)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn lanes_are_spread_evenly_and_stay_where_they_are() {
        let mut found = [0; 16];
        for number in 0..16_000_u128 {
            found[of_lane(LaneId(Uuid::from_u128(number << 96)), 16)] += 1;
            found[of_lane(LaneId(Uuid::from_u128(number)), 16)] += 1;
        }
        assert!(found.iter().all(|count| (1_700..2_300).contains(count)), "{found:?}");
        let known = LaneId(Uuid::from_u128(0x0192_f3c4_5678_7abc_8def_0123_4567_89ab));
        assert_eq!(of_lane(known, 1024), 655);
    }
}
