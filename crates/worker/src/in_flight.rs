//! The leases that this worker holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use postrider_queue::{JobId, LaneId, Lease, LeaseToken};
use postrider_telemetry::metric;
use tokio_util::sync::CancellationToken;

/// The leases that this worker holds, from the claim until the outcome is recorded.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<JobId, LeasedJob>,
    claims: HashMap<LeaseToken, ClaimInFlight>,
    /// Claims whose jobs have all been recorded.
    ended: Vec<LeaseToken>,
}

#[derive(Debug)]
struct LeasedJob {
    lease: Lease,
    /// Cancels the job's attempt.
    cancel: CancellationToken,
    /// The job's outcome is being recorded. A missing lease then means that the job has finished; if it was really lost,
    /// the recorder notices.
    recording: bool,
}

#[derive(Debug, Default)]
struct ClaimInFlight {
    /// How many of its jobs are in flight.
    jobs: usize,
    /// The queue may still count some other job as claimed: the claim must expire.
    must_expire: bool,
}

impl State {
    fn leave(&mut self, token: LeaseToken, must_expire: bool) {
        let Entry::Occupied(mut claim) = self.claims.entry(token) else { return };
        claim.get_mut().must_expire |= must_expire;
        claim.get_mut().jobs = claim.get().jobs.saturating_sub(1);
        if claim.get().jobs == 0 && !claim.remove().must_expire {
            self.ended.push(token);
        }
    }
}

impl InFlight {
    /// Adds a claimed job. The returned token is cancelled when its attempt is to be given up.
    ///
    /// If this worker still has an earlier claim on the same job, that lease was lost unnoticed. Its attempt is
    /// cancelled.
    pub(crate) fn add(&self, lease: Lease) -> CancellationToken {
        let cancel = CancellationToken::new();
        let job = LeasedJob { lease, cancel: cancel.clone(), recording: false };
        let mut state = self.state();
        state.claims.entry(lease.token).or_default().jobs += 1;
        if let Some(lost) = state.jobs.insert(lease.job, job) {
            state.leave(lost.lease.token, true);
            lost.cancel.cancel();
            if !lost.recording {
                metrics::counter!(metric::LEASES_LOST).increment(1);
            }
        }
        cancel
    }

    /// Returns the claims whose jobs have all been recorded since the last call.
    pub(crate) fn take_ended(&self) -> Vec<LeaseToken> {
        std::mem::take(&mut self.state().ended)
    }

    /// Marks a job whose outcome could not be recorded: its lease expires.
    pub(crate) fn abandon(&self, lease: Lease) {
        if let Some(claim) = self.state().claims.get_mut(&lease.token) {
            claim.must_expire = true;
        }
    }

    /// Marks a job whose outcome is about to be recorded. Returns whether this worker still holds the lease, as far as
    /// it knows.
    pub(crate) fn start_recording(&self, lease: Lease) -> bool {
        let mut state = self.state();
        let job = state.jobs.get_mut(&lease.job).filter(|job| job.lease == lease);
        job.map(|job| job.recording = true).is_some()
    }

    /// Removes jobs whose outcomes are recorded.
    pub(crate) fn remove(&self, leases: impl Iterator<Item = Lease>) {
        let mut state = self.state();
        for lease in leases {
            if let Entry::Occupied(entry) = state.jobs.entry(lease.job)
                && entry.get().lease == lease
            {
                entry.remove();
                state.leave(lease.token, false);
            }
        }
    }

    /// Returns the leases to extend: all except those of jobs whose outcomes are being recorded.
    pub(crate) fn leases(&self) -> Vec<Lease> {
        self.state().jobs.values().filter(|job| !job.recording).map(|job| job.lease).collect()
    }

    /// Removes lost leases and cancels their attempts. Returns how many of them were still in use.
    pub(crate) fn lose(&self, leases: &[Lease]) -> u64 {
        let mut state = self.state();
        let mut lost = 0;
        for lease in leases {
            if let Entry::Occupied(entry) = state.jobs.entry(lease.job)
                && entry.get().lease == *lease
                && !entry.get().recording
            {
                entry.remove().cancel.cancel();
                state.leave(lease.token, true);
                lost += 1;
            }
        }
        lost
    }

    /// Cancels all attempts. Returns the number of jobs in flight.
    pub(crate) fn cancel_all(&self) -> usize {
        let state = self.state();
        for job in state.jobs.values() {
            job.cancel.cancel();
        }
        state.jobs.len()
    }

    /// Returns the lanes with at least this many jobs in flight.
    pub(crate) fn lanes_with(&self, count: usize) -> Vec<LaneId> {
        let mut lanes: HashMap<LaneId, usize> = HashMap::new();
        for job in self.state().jobs.values() {
            *lanes.entry(job.lease.lane).or_default() += 1;
        }
        lanes.into_iter().filter(|(_, jobs)| *jobs >= count).map(|(lane, _)| lane).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.state().jobs.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use postrider_queue::Place;
    use uuid::Uuid;

    use super::*;

    fn lease(token: u128) -> Lease {
        lease_on(1, token)
    }

    fn lease_on(job: u128, token: u128) -> Lease {
        let (job, token) = (JobId(Uuid::from_u128(job)), LeaseToken(Uuid::from_u128(token)));
        Lease { job, token, lane: LANE, place: Place::default() }
    }

    const LANE: LaneId = LaneId(Uuid::from_u128(7));

    /// As after a long pause of the process, when this worker rescues the job before it notices the loss.
    #[test]
    fn a_second_claim_on_a_job_cancels_the_attempt_of_the_first() {
        let in_flight = InFlight::default();
        let old = in_flight.add(lease(1));
        let new = in_flight.add(lease(2));
        assert!(old.is_cancelled() && !new.is_cancelled());
        assert!(!in_flight.start_recording(lease(1)), "the outcome of the first is not recorded");
        in_flight.remove(iter::once(lease(1)));
        assert_eq!((in_flight.len(), in_flight.leases()), (1, vec![lease(2)]));
        assert_eq!(in_flight.lose(&[lease(1)]), 0);
    }

    #[test]
    fn a_lease_is_not_lost_while_its_outcome_is_recorded() {
        let in_flight = InFlight::default();
        let attempt = in_flight.add(lease(1));
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
        let attempt = in_flight.add(lease(1));
        assert_eq!((in_flight.lose(&[lease(2)]), attempt.is_cancelled()), (0, false));
        assert_eq!((in_flight.lose(&[lease(1)]), attempt.is_cancelled()), (1, true));
        assert_eq!(in_flight.lose(&[lease(1)]), 0);
    }

    #[test]
    fn a_claim_has_ended_when_all_its_jobs_are_recorded() {
        let in_flight = InFlight::default();
        for (job, token) in [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3)] {
            in_flight.add(lease_on(job, token));
        }
        in_flight.remove(iter::once(lease_on(1, 1)));
        assert_eq!(in_flight.take_ended(), []);
        in_flight.remove(iter::once(lease_on(2, 1)));
        assert_eq!(in_flight.take_ended(), [LeaseToken(Uuid::from_u128(1))]);
        in_flight.abandon(lease_on(3, 2));
        in_flight.lose(&[lease_on(4, 3)]);
        in_flight.remove([lease_on(3, 2), lease_on(5, 3)].into_iter());
        assert_eq!(in_flight.take_ended(), [], "these claims expire, so that their jobs are rescued");
    }
}
