//! The leases that this worker holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postrider_queue::{JobId, LaneId, Lease};
use postrider_telemetry::metric;
use tokio_util::sync::CancellationToken;

/// The leases that this worker holds, from the claim until the outcome is recorded.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    jobs: Mutex<HashMap<JobId, LeasedJob>>,
}

#[derive(Debug)]
struct LeasedJob {
    lease: Lease,
    lane: LaneId,
    /// Cancels the job's attempt.
    cancel: CancellationToken,
    /// The job's outcome is being recorded. A missing lease then means that the job has finished; if it was really lost,
    /// the recorder notices.
    recording: bool,
}

impl InFlight {
    /// Adds a claimed job. The returned token is cancelled when its attempt is to be given up.
    ///
    /// If this worker still has an earlier claim on the same job, that lease was lost unnoticed. Its attempt is
    /// cancelled.
    pub(crate) fn add(&self, lease: Lease, lane: LaneId) -> CancellationToken {
        let cancel = CancellationToken::new();
        let job = LeasedJob { lease, lane, cancel: cancel.clone(), recording: false };
        if let Some(lost) = self.jobs().insert(lease.job, job) {
            lost.cancel.cancel();
            if !lost.recording {
                metrics::counter!(metric::LEASES_LOST).increment(1);
            }
        }
        cancel
    }

    /// Marks a job whose outcome is about to be recorded. Returns whether this worker still holds the lease, as far as
    /// it knows.
    pub(crate) fn start_recording(&self, lease: Lease) -> bool {
        let mut jobs = self.jobs();
        let job = jobs.get_mut(&lease.job).filter(|job| job.lease == lease);
        job.map(|job| job.recording = true).is_some()
    }

    /// Removes jobs whose outcomes are recorded.
    pub(crate) fn remove(&self, leases: impl Iterator<Item = Lease>) {
        let mut jobs = self.jobs();
        for lease in leases {
            if let Entry::Occupied(entry) = jobs.entry(lease.job)
                && entry.get().lease == lease
            {
                entry.remove();
            }
        }
    }

    /// Returns the leases to extend: all except those of jobs whose outcomes are being recorded.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.jobs().values().filter(|job| !job.recording).map(|job| job.lease).collect()
    }

    /// Removes lost leases and cancels their attempts. Returns how many of them were still in use.
    pub(crate) fn lose(&self, leases: &[Lease]) -> u64 {
        let mut jobs = self.jobs();
        let mut lost = 0;
        for lease in leases {
            if let Entry::Occupied(entry) = jobs.entry(lease.job)
                && entry.get().lease == *lease
                && !entry.get().recording
            {
                entry.remove().cancel.cancel();
                lost += 1;
            }
        }
        lost
    }

    /// Cancels all attempts. Returns the number of jobs in flight.
    pub(crate) fn cancel_all(&self) -> usize {
        let jobs = self.jobs();
        for job in jobs.values() {
            job.cancel.cancel();
        }
        jobs.len()
    }

    /// Returns the lanes with at least this many jobs in flight.
    pub(crate) fn lanes_with(&self, count: usize) -> Vec<LaneId> {
        let mut lanes: HashMap<LaneId, usize> = HashMap::new();
        for job in self.jobs().values() {
            *lanes.entry(job.lane).or_default() += 1;
        }
        lanes.into_iter().filter(|(_, jobs)| *jobs >= count).map(|(lane, _)| lane).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs().len()
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<JobId, LeasedJob>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// As after a long pause of the process, when this worker rescues the job before it notices the loss.
    #[test]
    fn a_second_claim_on_a_job_cancels_the_attempt_of_the_first() {
        let in_flight = InFlight::default();
        let old = in_flight.add(lease(1), LANE);
        let new = in_flight.add(lease(2), LANE);
        assert!(old.is_cancelled() && !new.is_cancelled());
        assert!(!in_flight.start_recording(lease(1)), "the outcome of the first is not recorded");
        in_flight.remove(iter::once(lease(1)));
        assert_eq!((in_flight.len(), in_flight.leases()), (1, vec![lease(2)]));
        assert_eq!(in_flight.lose(&[lease(1)]), 0);
    }

    #[test]
    fn a_lease_is_not_lost_while_its_outcome_is_recorded() {
        let in_flight = InFlight::default();
        let attempt = in_flight.add(lease(1), LANE);
        assert!(in_flight.start_recording(lease(1)));
        assert!(in_flight.leases().is_empty());
        assert_eq!(in_flight.lose(&[lease(1)]), 0);
        assert!(!attempt.is_cancelled());
        assert_eq!(in_flight.lanes_with(1), [LANE]);
        in_flight.remove(iter::once(lease(1)));
        assert_eq!((in_flight.len(), in_flight.lanes_with(1).len()), (0, 0));
    }

    #[test]
    fn a_lost_lease_cancels_its_attempt_and_is_counted_once() {
        let in_flight = InFlight::default();
        let attempt = in_flight.add(lease(1), LANE);
        assert_eq!((in_flight.lose(&[lease(2)]), attempt.is_cancelled()), (0, false));
        assert_eq!((in_flight.lose(&[lease(1)]), attempt.is_cancelled()), (1, true));
        assert_eq!(in_flight.lose(&[lease(1)]), 0);
    }
}
