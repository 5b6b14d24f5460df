//! What each lane has finished lately, which tells what it will finish soon.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use postrider_queue::LaneId;

/// What a lane finished in the last one to two spells is what it is expected to finish before the jobs of the claim after the
/// next one arrive: two claims and the pause between them take about that long.
const SPELL: Duration = Duration::from_millis(10);

/// How many jobs of each lane have succeeded lately. A lane without jobs stays known: a fast receiver may finish all of them
/// before the next claim.
#[derive(Debug, Default)]
pub(crate) struct Lately(HashMap<LaneId, Count>);

#[derive(Debug)]
struct Count {
    /// When the current spell began.
    since: Instant,
    current: u32,
    /// In the spell before.
    previous: u32,
}

impl Lately {
    /// Counts a job that has succeeded now.
    pub(crate) fn count(&mut self, lane: LaneId, now: Instant) {
        let count = self.0.entry(lane).or_insert(Count { since: now, current: 0, previous: 0 });
        count.turn(now);
        count.current = count.current.saturating_add(1);
    }

    /// Returns how many jobs of each lane have succeeded in the current spell and the one before.
    pub(crate) fn lately(&mut self, now: Instant) -> impl Iterator<Item = (LaneId, u32)> {
        self.0.retain(|_, count| {
            count.turn(now);
            count.sum() > 0
        });
        self.0.iter().map(|(lane, count)| (*lane, count.sum()))
    }
}

impl Count {
    /// Ends the current spell if it is long enough.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= SPELL {
            let previous = if passed < 2 * SPELL { self.current } else { 0 };
            *self = Self { since: now, current: 0, previous };
        }
    }

    fn sum(&self) -> u32 {
        self.current.saturating_add(self.previous)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const LANE: LaneId = LaneId(Uuid::from_u128(1));

    #[test]
    fn what_succeeded_is_forgotten_after_two_spells() {
        let start = Instant::now();
        let mut succeeded = Lately::default();
        succeeded.count(LANE, start);
        succeeded.count(LANE, start + SPELL * 9 / 10);
        let mut lately = |after| succeeded.lately(start + after).collect::<Vec<_>>();
        assert_eq!(lately(SPELL), [(LANE, 2)]);
        assert_eq!(lately(SPELL * 19 / 10), [(LANE, 2)]);
        assert_eq!(lately(2 * SPELL), []);
    }

    #[test]
    fn two_spells_are_added_unless_one_lies_between_them() {
        let start = Instant::now();
        let mut succeeded = Lately::default();
        succeeded.count(LANE, start);
        succeeded.count(LANE, start + SPELL);
        assert_eq!(succeeded.lately(start + SPELL).collect::<Vec<_>>(), [(LANE, 2)]);
        succeeded.count(LANE, start + 3 * SPELL);
        assert_eq!(succeeded.lately(start + 3 * SPELL).collect::<Vec<_>>(), [(LANE, 1)]);
    }
}
