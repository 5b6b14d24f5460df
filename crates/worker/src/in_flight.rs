//! The leases that this worker holds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postrider_queue::{JobId, LaneId, Lease, LeaseToken};
use postrider_telemetry::metric;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The leases that this worker holds, from the claim until the outcome is recorded.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    state: Mutex<State>,
    /// How many jobs wait for others of their lane.
    waiting: AtomicUsize,
}

/// Counts a job as waiting until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct State {
    jobs: HashMap<JobId, LeasedJob>,
    claims: HashMap<LeaseToken, ClaimInFlight>,
    lanes: HashMap<LaneId, LaneInFlight>,
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
}

/// The jobs of one lane.
#[derive(Debug, Default)]
struct LaneInFlight {
    jobs: usize,
    /// How many attempts have succeeded since the last claim.
    lately: u32,
    requests: Option<Requests>,
}

/// The requests of a lane whose limit this worker keeps.
#[derive(Debug)]
struct Requests {
    permits: Arc<Semaphore>,
    limit: usize,
    /// How many permits are too many since the limit was lowered.
    surplus: usize,
}

impl Requests {
    fn new(limit: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(limit)), limit, surplus: 0 }
    }

    fn set_limit(&mut self, limit: usize) {
        if limit >= self.limit {
            let more = limit - self.limit;
            let kept = more.min(self.surplus);
            self.surplus -= kept;
            self.permits.add_permits(more - kept);
        } else {
            let fewer = self.limit - limit;
            self.surplus += fewer - self.permits.forget_permits(fewer);
        }
        self.limit = limit;
    }
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
        let Some(permit) = self.permit.take() else { return };
        let mut state = self.in_flight.state();
        let requests = state.lanes.get_mut(&self.lane).and_then(|lane| lane.requests.as_mut());
        if let Some(requests) = requests.filter(|requests| requests.surplus > 0) {
            requests.surplus -= 1;
            permit.forget();
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
    fn leave(&mut self, lease: Lease, must_expire: bool) {
        let Lease { token, lane, .. } = lease;
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
}

impl InFlight {
    /// Adds a claimed job. The returned token is cancelled when its attempt is to be given up.
    ///
    /// If this worker still has an earlier claim on the same job, that lease was lost unnoticed. Its attempt is
    /// cancelled.
    pub(crate) fn add(&self, lease: Lease) -> CancellationToken {
        let cancel = CancellationToken::new();
        let job = LeasedJob { lease, cancel: cancel.clone(), recording: false, ended: false };
        let mut state = self.state();
        state.lanes.entry(lease.lane).or_default().jobs += 1;
        state.claims.entry(lease.token).or_default().jobs += 1;
        if let Some(lost) = state.jobs.insert(lease.job, job) {
            state.leave(lost.lease, true);
            lost.cancel.cancel();
            if !lost.recording {
                metrics::counter!(metric::LEASES_LOST).increment(1);
            }
        }
        cancel
    }

    /// Keeps these limits on requests from now on, in lanes with jobs.
    pub(crate) fn limit(&self, limits: &HashMap<LaneId, u32>) {
        let mut state = self.state();
        for (lane, limit) in limits {
            let limit = (*limit as usize).min(Semaphore::MAX_PERMITS);
            if let Some(lane) = state.lanes.get_mut(lane) {
                lane.requests.get_or_insert_with(|| Requests::new(limit)).set_limit(limit);
            }
        }
    }

    /// Waits until the lane of a job may have one more request in flight.
    pub(crate) async fn request(&self, lane: LaneId) -> RequestPermit<'_> {
        let permits = {
            let state = self.state();
            let requests = state.lanes.get(&lane).and_then(|lane| lane.requests.as_ref());
            requests.map(|requests| Arc::clone(&requests.permits))
        };
        let permit = match permits {
            Some(permits) => {
                let _waiting = Waiting::new(&self.waiting);
                // Never closed.
                permits.acquire_owned().await.ok()
            }
            None => None,
        };
        RequestPermit { in_flight: self, lane, permit }
    }

    /// Takes note that a job's attempt has ended: nothing is in flight for it any more.
    pub(crate) fn attempted(&self, lease: Lease, succeeded: bool) {
        let mut state = self.state();
        let Some(job) = state.jobs.get_mut(&lease.job).filter(|job| job.lease == lease) else { return };
        // What has failed may close the lane once it is recorded: until then it keeps its place.
        job.ended = succeeded;
        if let Some(lane) = state.lanes.get_mut(&lease.lane).filter(|_| succeeded) {
            lane.lately = lane.lately.saturating_add(1);
        }
    }

    /// Returns how many jobs wait for others of their lane.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns how many jobs the next claim takes of each lane beyond its limit: as many as have ended and are not
    /// recorded, and up to `most`, of all lanes up to `of_all`, that will take the place of others before the claim after
    /// that, going by how many succeeded since the last one.
    pub(crate) fn ahead(&self, most: u32, of_all: u32) -> HashMap<LaneId, u32> {
        let mut state = self.state();
        let lanes = state.lanes.values().filter(|lane| lane.lately > 0).count();
        let most = most.min(of_all / u32::try_from(lanes).unwrap_or(u32::MAX).max(1));
        let mut ahead: HashMap<LaneId, u32> = HashMap::new();
        for job in state.jobs.values().filter(|job| job.ended) {
            *ahead.entry(job.lease.lane).or_default() += 1;
        }
        for (id, lane) in &mut state.lanes {
            let lately = std::mem::take(&mut lane.lately).min(most);
            if lately > 0 {
                *ahead.entry(*id).or_default() += lately;
            }
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
                entry.remove();
                state.leave(lease, false);
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
                state.leave(*lease, true);
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
        in_flight.state().lanes[&LANE].requests.as_ref().unwrap().permits.available_permits()
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
            requests.push(in_flight.request(LANE).await);
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
        limited(&in_flight, 1);
        limited(&in_flight, 3);
        assert_eq!(free(&in_flight), 0);
        drop(requests);
        assert_eq!(free(&in_flight), 3);
    }

    #[test]
    fn jobs_that_have_ended_are_claimed_ahead() {
        let in_flight = InFlight::default();
        for job in 1..=6 {
            in_flight.add(lease_on(job, 1));
        }
        assert!(in_flight.ahead(2, 8).is_empty());
        for job in 1..=4 {
            in_flight.attempted(lease_on(job, 1), job > 1);
        }
        assert_eq!(in_flight.ahead(2, 8)[&LANE], 5, "three are not recorded, and two may follow soon");
        assert_eq!(in_flight.ahead(2, 8)[&LANE], 3, "none has succeeded since then");
        in_flight.remove((1..=4).map(|job| lease_on(job, 1)));
        assert!(in_flight.ahead(2, 8).is_empty());
    }
}
