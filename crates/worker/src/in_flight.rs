//! The leases that this worker holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use postrider_queue::{JobId, LaneId, Lease, LeaseToken};
use postrider_telemetry::metric;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::lately::Lately;
use crate::requests::{Requests, Waiting};

/// The leases that this worker holds, from the claim until the outcome is recorded.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    state: Mutex<State>,
    /// How many jobs wait for others of their lane.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<JobId, LeasedJob>,
    claims: HashMap<LeaseToken, ClaimInFlight>,
    lanes: HashMap<LaneId, LaneInFlight>,
    succeeded: Lately,
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
    /// The job's attempt has succeeded.
    ended: bool,
    /// Of an attempt that has failed: what is recorded about it may close the lane, so until then no other request takes
    /// its place.
    permit: Option<OwnedSemaphorePermit>,
}

/// The jobs of one lane.
#[derive(Debug, Default)]
struct LaneInFlight {
    jobs: usize,
    requests: Option<Requests>,
}

/// The right to make a request to a lane's receiver.
#[derive(Debug)]
pub(crate) struct RequestPermit<'a> {
    in_flight: &'a InFlight,
    lane: LaneId,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for RequestPermit<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.in_flight.state().free(self.lane, permit);
        }
    }
}

#[derive(Debug, Default)]
struct ClaimInFlight {
    /// How many of its jobs are in flight.
    jobs: usize,
    /// The queue may still count some other job as claimed: the claim must expire.
    must_expire: bool,
}

impl State {
    fn leave(&mut self, job: LeasedJob, must_expire: bool) {
        let Lease { token, lane, .. } = job.lease;
        if let Some(permit) = job.permit {
            self.free(lane, permit);
        }
        if let Entry::Occupied(mut lane) = self.lanes.entry(lane) {
            lane.get_mut().jobs = lane.get().jobs.saturating_sub(1);
            if lane.get().jobs == 0 {
                lane.remove();
            }
        }
        let Entry::Occupied(mut claim) = self.claims.entry(token) else { return };
        claim.get_mut().must_expire |= must_expire;
        claim.get_mut().jobs = claim.get().jobs.saturating_sub(1);
        if claim.get().jobs == 0 && !claim.remove().must_expire {
            self.ended.push(token);
        }
    }

    fn free(&mut self, lane: LaneId, permit: OwnedSemaphorePermit) {
        if let Some(requests) = self.lanes.get_mut(&lane).and_then(|lane| lane.requests.as_mut()) {
            requests.free(permit);
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
        let job = LeasedJob { lease, cancel: cancel.clone(), recording: false, ended: false, permit: None };
        let mut state = self.state();
        state.lanes.entry(lease.lane).or_default().jobs += 1;
        state.claims.entry(lease.token).or_default().jobs += 1;
        if let Some(lost) = state.jobs.insert(lease.job, job) {
            lost.cancel.cancel();
            if !lost.recording {
                metrics::counter!(metric::LEASES_LOST).increment(1);
            }
            state.leave(lost, true);
        }
        cancel
    }

    /// Keeps these limits on requests from now on, in lanes with jobs.
    pub(crate) fn limit(&self, limits: &HashMap<LaneId, u32>) {
        let mut state = self.state();
        for (lane, limit) in limits {
            let limit = *limit as usize;
            if let Some(lane) = state.lanes.get_mut(lane) {
                lane.requests.get_or_insert_with(|| Requests::new(limit)).set_limit(limit);
            }
        }
    }

    /// Waits until the lane of a job may have one more request in flight. Returns `None` if the lane is closed before.
    pub(crate) async fn request(&self, lane: LaneId) -> Option<RequestPermit<'_>> {
        let turn = {
            let state = self.state();
            state.lanes.get(&lane).and_then(|lane| lane.requests.as_ref()).map(Requests::turn)
        };
        let permit = match turn {
            Some(turn) => {
                let _waiting = Waiting::new(&self.waiting);
                Some(turn.await?)
            }
            None => None,
        };
        Some(RequestPermit { in_flight: self, lane, permit })
    }

    /// Lets no job of a lane that waits for another one make its request.
    pub(crate) fn close(&self, lane: LaneId) {
        if let Some(requests) = self.state().lanes.get_mut(&lane).and_then(|lane| lane.requests.as_mut()) {
            requests.close();
        }
    }

    /// Takes note that a job's attempt has ended: nothing is in flight for it any more.
    pub(crate) fn attempted(&self, lease: Lease, succeeded: bool, permit: Option<RequestPermit<'_>>) {
        // Dropped after the state's guard, which its drop needs.
        let mut permit = permit;
        let mut state = self.state();
        let Some(job) = state.jobs.get_mut(&lease.job).filter(|job| job.lease == lease) else {
            return;
        };
        job.ended = succeeded;
        if succeeded {
            state.succeeded.count(lease.lane, Instant::now());
        } else {
            job.permit = permit.as_mut().and_then(|permit| permit.permit.take());
        }
    }

    /// Returns how many jobs wait for others of their lane.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns how many jobs the next claim takes of each lane beyond its limit: as many as have ended and are not
    /// recorded, and up to `most`, of all lanes up to `of_all`, that will take the place of others before the claim after
    /// that, going by how many succeeded lately.
    pub(crate) fn ahead(&self, most: u32, of_all: u32) -> HashMap<LaneId, u32> {
        let mut state = self.state();
        let lately: Vec<_> = state.succeeded.lately(Instant::now()).collect();
        let most = most.min(of_all / u32::try_from(lately.len()).unwrap_or(u32::MAX).max(1));
        let mut ahead: HashMap<_, _> =
            lately.into_iter().map(|(lane, count)| (lane, count.min(most))).collect();
        for job in state.jobs.values().filter(|job| job.ended) {
            *ahead.entry(job.lease.lane).or_default() += 1;
        }
        ahead
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
                let job = entry.remove();
                state.leave(job, false);
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
                let job = entry.remove();
                job.cancel.cancel();
                state.leave(job, true);
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

    fn limited(in_flight: &InFlight, limit: u32) {
        in_flight.limit(&HashMap::from([(LANE, limit)]));
    }

    fn free(in_flight: &InFlight) -> usize {
        in_flight.state().lanes[&LANE].requests.as_ref().unwrap().free_now()
    }

    #[tokio::test]
    async fn a_lane_has_no_more_requests_than_its_limit() {
        let in_flight = InFlight::default();
        for job in 1..=5 {
            in_flight.add(lease_on(job, 1));
        }
        limited(&in_flight, 3);
        let mut requests = Vec::new();
        for _ in 0..3 {
            requests.push(in_flight.request(LANE).await.unwrap());
        }
        assert_eq!(free(&in_flight), 0);
        limited(&in_flight, 1);
        requests.truncate(1);
        assert_eq!(free(&in_flight), 0, "the one that is left is all that is allowed");
        limited(&in_flight, 2);
        assert_eq!(free(&in_flight), 1);
        requests.clear();
        assert_eq!(free(&in_flight), 2);
        in_flight.remove((1..=5).map(|job| lease_on(job, 1)));
        assert!(in_flight.state().lanes.is_empty());
    }

    #[tokio::test]
    async fn a_raised_limit_makes_up_for_what_was_taken_away() {
        let in_flight = InFlight::default();
        in_flight.add(lease(1));
        limited(&in_flight, 4);
        let requests =
            [in_flight.request(LANE).await, in_flight.request(LANE).await, in_flight.request(LANE).await];
        assert!(requests.iter().all(Option::is_some));
        limited(&in_flight, 1);
        limited(&in_flight, 3);
        assert_eq!(free(&in_flight), 0);
        drop(requests);
        assert_eq!(free(&in_flight), 3);
    }

    #[tokio::test]
    async fn a_failed_request_keeps_its_place_until_it_is_recorded() {
        let in_flight = InFlight::default();
        for job in 1..=3 {
            in_flight.add(lease_on(job, 1));
        }
        limited(&in_flight, 1);
        for (job, succeeded) in [(1, true), (2, false)] {
            let request = in_flight.request(LANE).await;
            in_flight.attempted(lease_on(job, 1), succeeded, request);
            assert_eq!(free(&in_flight), usize::from(succeeded));
        }
        in_flight.remove(iter::once(lease_on(2, 1)));
        assert_eq!(free(&in_flight), 1);
    }

    #[tokio::test]
    async fn jobs_that_wait_in_a_lane_that_is_closed_make_no_request() {
        let in_flight = InFlight::default();
        for job in 1..=2 {
            in_flight.add(lease_on(job, 1));
        }
        limited(&in_flight, 1);
        let request = in_flight.request(LANE).await;
        let closed = async {
            tokio::task::yield_now().await;
            in_flight.close(LANE);
        };
        let (waited, ()) = tokio::join!(in_flight.request(LANE), closed);
        assert!(request.is_some() && waited.is_none());
        drop(request);
        assert!(in_flight.request(LANE).await.is_some(), "those that come later are not concerned");
    }

    #[test]
    fn jobs_that_have_ended_are_claimed_ahead() {
        let in_flight = InFlight::default();
        for job in 1..=6 {
            in_flight.add(lease_on(job, 1));
        }
        assert!(in_flight.ahead(2, 8).is_empty());
        for job in 1..=4 {
            in_flight.attempted(lease_on(job, 1), job > 1, None);
        }
        assert_eq!(in_flight.ahead(2, 8)[&LANE], 5, "three are not recorded, and two may follow soon");
        in_flight.remove((1..=6).map(|job| lease_on(job, 1)));
        assert_eq!(in_flight.ahead(2, 8)[&LANE], 2, "also if the lane had nothing left for a moment");
    }
}
