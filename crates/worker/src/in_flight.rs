//! The leases that this worker holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postrider_queue::{JobId, LaneId, Lease};
use postrider_telemetry::metric;
use tokio_util::sync::CancellationToken;

/// The leases that this worker holds, from the claim until the job's end is written down.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    held: Mutex<HashMap<JobId, Held>>,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    lane: LaneId,
    give_up: CancellationToken,
    /// Its end is being written down: that its lease is gone means that it was, or will be found out there.
    recording: bool,
}

impl InFlight {
    /// Takes note of a claim. The token is cancelled when the work on it is to be given up.
    ///
    /// Another claim on the same job was lost before anyone noticed: the work under that is given up.
    pub(crate) fn hold(&self, lease: Lease, lane: LaneId) -> CancellationToken {
        let give_up = CancellationToken::new();
        let held = Held { lease, lane, give_up: give_up.clone(), recording: false };
        if let Some(lost) = self.held().insert(lease.job, held) {
            lost.give_up.cancel();
            if !lost.recording {
                metrics::counter!(metric::LEASES_LOST).increment(1);
            }
        }
        give_up
    }

    /// The end of this one is being written down. Tells whether its lease is still held, as far as
    /// this worker knows.
    pub(crate) fn recording(&self, lease: Lease) -> bool {
        let mut held = self.held();
        let entry = held.get_mut(&lease.job).filter(|entry| entry.lease == lease);
        entry.map(|entry| entry.recording = true).is_some()
    }

    /// The end of these is written down.
    pub(crate) fn forget(&self, leases: impl Iterator<Item = Lease>) {
        let mut held = self.held();
        for lease in leases {
            if let Entry::Occupied(entry) = held.entry(lease.job)
                && entry.get().lease == lease
            {
                entry.remove();
            }
        }
    }

    /// All leases held, but for those whose end is being written down.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.held().values().filter(|held| !held.recording).map(|held| held.lease).collect()
    }

    /// These leases were lost: the work is given up. Returns how many of them still mattered.
    pub(crate) fn lost(&self, leases: &[Lease]) -> u64 {
        let mut held = self.held();
        let mut lost = 0;
        for lease in leases {
            if let Entry::Occupied(entry) = held.entry(lease.job)
                && entry.get().lease == *lease
                && !entry.get().recording
            {
                entry.remove().give_up.cancel();
                lost += 1;
            }
        }
        lost
    }

    /// Gives up all work. Returns how much it was.
    pub(crate) fn abort_all(&self) -> usize {
        let held = self.held();
        for entry in held.values() {
            entry.give_up.cancel();
        }
        held.len()
    }

    /// The lanes that hold at least this many of the slots.
    pub(crate) fn lanes_with(&self, slots: usize) -> Vec<LaneId> {
        let mut lanes: HashMap<LaneId, usize> = HashMap::new();
        for held in self.held().values() {
            *lanes.entry(held.lane).or_default() += 1;
        }
        lanes.into_iter().filter(|(_, count)| *count >= slots).map(|(lane, _)| lane).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.held().len()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<JobId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use postrider_queue::LeaseToken;
    use uuid::Uuid;

    use super::*;

    fn lease(token: u128) -> Lease {
        Lease { job: JobId(Uuid::from_u128(1)), token: LeaseToken(Uuid::from_u128(token)) }
    }

    const LANE: LaneId = LaneId(Uuid::from_u128(7));

    /// As after a long pause of the process: rescued by this very worker, before it noticed the loss.
    #[test]
    fn what_is_claimed_again_is_given_up_under_its_old_lease() {
        let in_flight = InFlight::default();
        let old = in_flight.hold(lease(1), LANE);
        let new = in_flight.hold(lease(2), LANE);
        assert!(old.is_cancelled() && !new.is_cancelled());
        assert!(!in_flight.recording(lease(1)), "its outcome is nobody's any more");
        in_flight.forget(iter::once(lease(1)));
        assert_eq!((in_flight.len(), in_flight.leases()), (1, vec![lease(2)]));
        assert_eq!(in_flight.lost(&[lease(1)]), 0);
    }

    #[test]
    fn what_is_being_recorded_is_not_lost() {
        let in_flight = InFlight::default();
        let work = in_flight.hold(lease(1), LANE);
        assert!(in_flight.recording(lease(1)));
        assert!(in_flight.leases().is_empty());
        assert_eq!(in_flight.lost(&[lease(1)]), 0);
        assert!(!work.is_cancelled());
        assert_eq!(in_flight.lanes_with(1), [LANE]);
        in_flight.forget(iter::once(lease(1)));
        assert_eq!((in_flight.len(), in_flight.lanes_with(1).len()), (0, 0));
    }

    #[test]
    fn what_is_lost_is_given_up_and_counted_once() {
        let in_flight = InFlight::default();
        let work = in_flight.hold(lease(1), LANE);
        assert_eq!((in_flight.lost(&[lease(2)]), work.is_cancelled()), (0, false));
        assert_eq!((in_flight.lost(&[lease(1)]), work.is_cancelled()), (1, true));
        assert_eq!(in_flight.lost(&[lease(1)]), 0);
    }
}
