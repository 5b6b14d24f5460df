//! How many worker slots the jobs of each owner take. Where there are several owners none gets all slots, so that one whose
//! receivers hang leaves room for others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The part of the slots that an owner leaves to others: one of so many, of those that the others have not taken.
const LEFT: usize = 8;

/// For how long an owner counts after its last job. One that is alone may have all slots.
const PRESENT: Duration = Duration::from_mins(10);

/// How many owners are remembered. It only matters whether there is more than one.
const REMEMBERED: usize = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Shares {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<String, usize>,
    /// When each owner last had a job.
    seen: HashMap<String, Instant>,
}

/// The slot of a job, counted for its owner until dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    owner: String,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.shares.state();
        if let Some(taken) = state.slots.get_mut(&self.owner) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                state.slots.remove(&self.owner);
            }
        }
    }
}

/// What the next claim may take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) jobs: u32,
    /// Owners that have all that they may have.
    pub(crate) full: Vec<String>,
}

impl Shares {
    /// Counts a slot for an owner.
    pub(crate) fn take(self: &Arc<Self>, owner: &str) -> Share {
        let mut guard = self.state();
        let state = &mut *guard;
        match state.slots.get_mut(owner) {
            Some(taken) => *taken += 1,
            None => drop(state.slots.insert(owner.to_owned(), 1)),
        }
        if let Some(at) = state.seen.get_mut(owner) {
            *at = Instant::now();
        } else if state.seen.len() < REMEMBERED {
            state.seen.insert(owner.to_owned(), Instant::now());
        }
        drop(guard);
        Share { shares: Arc::clone(self), owner: owner.to_owned() }
    }

    /// Returns what a claim may take with `free` of `all` slots, so that no owner gets more than it may have.
    pub(crate) fn allow(&self, all: usize, free: u32) -> Allowance {
        let mut state = self.state();
        state.seen.retain(|_, at| at.elapsed() < PRESENT);
        if state.seen.len() <= 1 {
            // Not all at once, since the claim may find the jobs of a second one.
            let jobs = u32::try_from(most(free as usize)).unwrap_or(free);
            return Allowance { jobs, full: Vec::new() };
        }
        let slots = &state.slots;
        let used: usize = slots.values().sum();
        let mut jobs = most(all.saturating_sub(used)).min(free as usize);
        let mut full = Vec::new();
        for (owner, taken) in slots {
            let room = most(all.saturating_sub(used - taken)).saturating_sub(*taken);
            if room == 0 {
                full.push(owner.clone());
            } else {
                jobs = jobs.min(room);
            }
        }
        Allowance { jobs: u32::try_from(jobs.max(1)).unwrap_or(free), full }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of the slots that others have not taken an owner may have.
fn most(left_by_others: usize) -> usize {
    (left_by_others - left_by_others / LEFT).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two owners have had a job lately.
    fn two_owners() -> Arc<Shares> {
        let shares = Arc::<Shares>::default();
        drop((shares.take("first"), shares.take("second")));
        shares
    }

    fn taken(shares: &Arc<Shares>, owner: &str, slots: usize) -> Vec<Share> {
        (0..slots).map(|_| shares.take(owner)).collect()
    }

    #[test]
    fn an_owner_leaves_an_eighth_to_others() {
        let shares = two_owners();
        assert_eq!(shares.allow(512, 512), Allowance { jobs: 448, full: vec![] });
        let first = taken(&shares, "first", 440);
        assert_eq!(shares.allow(512, 72), Allowance { jobs: 8, full: vec![] });
        let more = taken(&shares, "first", 8);
        assert_eq!(shares.allow(512, 64), Allowance { jobs: 56, full: vec!["first".to_owned()] });
        let _second = taken(&shares, "second", 56);
        let Allowance { jobs, mut full } = shares.allow(512, 8);
        full.sort();
        assert_eq!((jobs, full), (7, vec!["first".to_owned(), "second".to_owned()]));
        drop((first, more));
        assert_eq!(shares.allow(512, 456), Allowance { jobs: 392, full: vec![] });
    }

    #[test]
    fn an_owner_that_is_alone_may_have_all_slots() {
        let shares = Arc::<Shares>::default();
        let _taken = taken(&shares, "first", 500);
        assert_eq!(shares.allow(512, 12), Allowance { jobs: 11, full: vec![] });
        assert_eq!(shares.allow(512, 1), Allowance { jobs: 1, full: vec![] });
        let _other = shares.take("second");
        assert_eq!(shares.allow(512, 11).full, ["first"]);
    }

    #[test]
    fn few_slots_are_used_up() {
        let shares = two_owners();
        let _taken = taken(&shares, "first", 6);
        assert_eq!(shares.allow(7, 1), Allowance { jobs: 1, full: vec![] });
        assert_eq!(two_owners().allow(1, 1), Allowance { jobs: 1, full: vec![] });
    }
}
