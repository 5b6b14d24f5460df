//! The lanes that wait for their turn. Owners take turns, and so do the lanes of each owner.

use std::collections::{HashMap, HashSet, VecDeque};

use super::owners::Owner;
use crate::job::LaneId;

/// How many lanes are remembered. Searching finds others when their turn comes.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Owners with waiting lanes, in the order of their turns.
    owners: VecDeque<Owner>,
    lanes: HashMap<Owner, VecDeque<Place>>,
    known: HashSet<LaneId>,
    /// Owners that have no turn.
    aside: Vec<Owner>,
    /// How many claims have found jobs.
    claims: u64,
    /// How many lanes are dry.
    dry: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    lane: LaneId,
    /// The value of `claims` when this lane had nothing to give. It is dry until some lane has.
    dry_since: Option<u64>,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// How many lanes of this owner wait.
    pub(super) fn of(&self, owner: Owner) -> usize {
        self.lanes.get(&owner).map_or(0, VecDeque::len)
    }

    pub(super) fn contains(&self, lane: LaneId) -> bool {
        self.known.contains(&lane)
    }

    /// Gives these owners no turn from now on, and all others.
    pub(super) fn set_aside(&mut self, owners: Vec<Owner>) {
        self.aside = owners;
    }

    /// Returns whether some lanes have not had their turn since a claim last found a job.
    pub(super) fn has_unvisited(&self) -> bool {
        let unvisited_aside = |owner| {
            let lanes = self.lanes.get(owner).into_iter().flatten();
            lanes.filter(|place| place.dry_since != Some(self.claims)).count()
        };
        self.len() - self.dry > self.aside.iter().map(unvisited_aside).sum()
    }

    /// Lets a lane wait behind the others of its owner.
    pub(super) fn add(&mut self, owner: Owner, lane: LaneId) {
        self.push_back(owner, Place { lane, dry_since: None });
    }

    /// Lets a lane wait that has had its turn and had nothing to give.
    pub(super) fn add_dry(&mut self, owner: Owner, lane: LaneId) {
        self.push_back(owner, Place { lane, dry_since: Some(self.claims) });
    }

    /// Gives a lane its turn again.
    pub(super) fn put_back(&mut self, owner: Owner, lane: LaneId) {
        if !self.known.insert(lane) {
            return;
        }
        let lanes = self.lanes.entry(owner).or_default();
        if lanes.is_empty() {
            self.owners.push_front(owner);
        }
        lanes.push_front(Place { lane, dry_since: None });
    }

    /// Takes the next lane, of the owner whose turn it is.
    pub(super) fn next(&mut self) -> Option<(Owner, LaneId)> {
        let place = self.owners.iter().position(|owner| !self.aside.contains(owner))?;
        let owner = self.owners.remove(place)?;
        let lanes = self.lanes.get_mut(&owner)?;
        let place = lanes.pop_front();
        if lanes.is_empty() {
            self.lanes.remove(&owner);
        } else {
            self.owners.push_back(owner);
        }
        let Place { lane, dry_since } = place?;
        self.known.remove(&lane);
        self.dry -= usize::from(dry_since == Some(self.claims));
        Some((owner, lane))
    }

    /// Takes note that a claim found jobs: lanes that were dry may have jobs by now, too.
    pub(super) fn found_jobs(&mut self) {
        self.claims += 1;
        self.dry = 0;
    }

    fn push_back(&mut self, owner: Owner, place: Place) {
        let lanes = self.of(owner);
        // The lanes of one owner must not keep those of another out, so each owner may have one, up to twice as many in all.
        let most = if lanes == 0 { 2 * REMEMBERED } else { REMEMBERED };
        if self.len() >= most || !self.known.insert(place.lane) {
            return;
        }
        if lanes == 0 {
            self.owners.push_back(owner);
        }
        self.dry += usize::from(place.dry_since == Some(self.claims));
        self.lanes.entry(owner).or_default().push_back(place);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const WIDE: Owner = Owner::Known(1);
    const SMALL: Owner = Owner::Known(2);

    fn lane(number: u128) -> LaneId {
        LaneId(Uuid::from_u128(number))
    }

    fn taken(waiting: &mut Waiting, lanes: usize) -> Vec<LaneId> {
        (0..lanes).map_while(|_| waiting.next()).map(|(_, lane)| lane).collect()
    }

    #[test]
    fn owners_take_turns_in_any_order_of_arrival() {
        let mut waiting = Waiting::default();
        for number in 1..=100 {
            waiting.add(WIDE, lane(number));
        }
        waiting.add(SMALL, lane(200));
        waiting.add(SMALL, lane(201));
        assert_eq!(taken(&mut waiting, 5), [1, 200, 2, 201, 3].map(lane));
        assert_eq!((waiting.of(WIDE), waiting.of(SMALL)), (97, 0));
    }

    #[test]
    fn the_lanes_of_one_owner_do_not_keep_another_out() {
        let mut waiting = Waiting::default();
        for number in 0..20_000 {
            waiting.add(WIDE, lane(number));
        }
        assert_eq!(waiting.of(WIDE), REMEMBERED);
        waiting.add(SMALL, lane(30_000));
        waiting.add(SMALL, lane(30_001));
        assert_eq!(waiting.of(SMALL), 1);
        for number in 40_000..60_000 {
            waiting.add(Owner::Known(number), lane(u128::from(number)));
        }
        assert_eq!(waiting.len(), 2 * REMEMBERED, "there is an end, also with many owners");
    }

    #[test]
    fn a_lane_that_is_put_back_has_the_next_turn() {
        let mut waiting = Waiting::default();
        for number in 1..=3 {
            waiting.add(WIDE, lane(number));
        }
        waiting.add(SMALL, lane(9));
        assert_eq!(taken(&mut waiting, 2), [1, 9].map(lane));
        waiting.put_back(SMALL, lane(9));
        waiting.put_back(WIDE, lane(1));
        assert_eq!(taken(&mut waiting, 4), [9, 1, 2, 3].map(lane));
    }

    #[test]
    fn owners_that_are_set_aside_have_no_turn_until_they_return() {
        let mut waiting = Waiting::default();
        waiting.add(WIDE, lane(1));
        waiting.add_dry(WIDE, lane(2));
        waiting.add(SMALL, lane(3));
        waiting.set_aside(vec![WIDE]);
        assert!(waiting.has_unvisited());
        assert_eq!(taken(&mut waiting, 9), [lane(3)]);
        assert!(!waiting.has_unvisited());
        waiting.set_aside(Vec::new());
        assert!(waiting.has_unvisited());
        assert_eq!(taken(&mut waiting, 9), [1, 2].map(lane));
    }

    #[test]
    fn lanes_with_nothing_to_give_are_visited_again_after_others_had_jobs() {
        let mut waiting = Waiting::default();
        waiting.add_dry(WIDE, lane(1));
        assert!(!waiting.has_unvisited());
        waiting.add(SMALL, lane(2));
        assert!(waiting.has_unvisited());
        waiting.found_jobs();
        assert_eq!(taken(&mut waiting, 1), [lane(1)]);
        waiting.add_dry(WIDE, lane(1));
        assert!(waiting.has_unvisited());
        assert_eq!(taken(&mut waiting, 2), [2, 1].map(lane));
        assert!(!waiting.has_unvisited());
        assert_eq!(taken(&mut waiting, 1), []);
    }
}
