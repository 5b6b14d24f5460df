//! Claiming: as many jobs as there are free worker slots, and loading what they need.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use postrider_core::chain;
use postrider_database::comes_from_trouble;
use postrider_queue::{Claim, Claimed, ClaimedJob, Duties, Finish, LaneId, LeaseToken, QueueError, Wakeups};
use postrider_store::loading::Fetched;
use postrider_telemetry::{context, metric, span};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug_span, field};

use crate::attempt;
use crate::completion::{Completion, Completions};
use crate::pace::{Backoff, ClaimPace, Found, Next, free_slots};
use crate::point::point;
use crate::reserve::{Counted, Permitted};
use crate::shared::Shared;
use crate::shares::{Allowance, Share};

/// How many jobs of a lane are claimed at most to take the place of others before the next claim: what a lane finishes in
/// 10 to 20 ms at 10,000 jobs a second. Up to this many more requests may go to a receiver that starts to fail.
const AHEAD: u32 = 192;

/// How many due jobs are promoted at once.
const PROMOTE: u32 = 1_000;

/// How often to look again whether a job may be claimed while this machine lacks what requests need.
const TROUBLED: Duration = Duration::from_millis(100);

/// The wait after claimed jobs could not be loaded. They were given back and would be claimed again at once.
const LOAD_FAILED: Duration = Duration::from_millis(100);

pub(crate) struct Claimer {
    shared: Arc<Shared>,
    attempts: TaskTracker,
    completions: Completions,
    wakeups: Wakeups,
    pace: ClaimPace,
    promoted_at: Option<Instant>,
    /// The task that loads the jobs of the last claim during the next one. Returns whether it could.
    loading: Option<JoinHandle<bool>>,
}

impl Claimer {
    pub(crate) fn new(shared: &Arc<Shared>, attempts: TaskTracker, completions: Completions) -> Self {
        let wakeups = shared.store.queue().wakeups();
        Self {
            shared: Arc::clone(shared),
            attempts,
            completions,
            wakeups,
            pace: ClaimPace::new(),
            promoted_at: None,
            loading: None,
        }
    }

    /// Claims until `shutdown`. A claim that has begun runs to its end, so that no lease is forgotten.
    pub(crate) async fn run(mut self, shutdown: &CancellationToken) {
        let concurrency = self.shared.config.concurrency.get() as usize;
        let mut backoff = Backoff::for_claims();
        while !shutdown.is_cancelled() {
            let free = tokio::select! {
                free = free_slots(&self.shared.slots, concurrency) => free,
                () = shutdown.cancelled() => return,
            };
            let Some(free) = self.allowed(free, concurrency) else {
                tokio::select! {
                    () = tokio::time::sleep(TROUBLED) => continue,
                    () = shutdown.cancelled() => return,
                }
            };
            match self.claim(free).await {
                Ok(next) => {
                    backoff.reset();
                    tokio::select! {
                        () = self.wait(next) => {}
                        () = shutdown.cancelled() => return,
                    }
                }
                Err(error) => {
                    if backoff.is_first() && !comes_from_trouble(&error) {
                        tracing::warn!(error = %chain(&error), "claim failed; retrying");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next()) => {}
                        () = shutdown.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Returns how many jobs to claim if so many slots are free: fewer while this machine lacks what requests need.
    fn allowed(&self, free: u32, concurrency: usize) -> Option<u32> {
        let limit = self.shared.trouble.limit(concurrency);
        if limit >= concurrency {
            return Some(free);
        }
        let busy = concurrency.saturating_sub(free as usize);
        let allowed = u32::try_from(limit.saturating_sub(busy)).unwrap_or(free);
        (allowed > 0).then_some(allowed.min(free))
    }

    async fn wait(&mut self, next: Next) {
        let Shared { signals, config, presence, .. } = &*self.shared;
        let poll = match presence.duties() {
            Duties { look_every: None, .. } => config.poll,
            Duties { serves: true, look_every: Some(often), .. } => often.min(config.poll),
            Duties { serves: false, look_every: Some(often), .. } => often,
        };
        self.pace.wait(signals, next, self.wakeups.woken(), poll).await;
    }

    async fn claim(&mut self, free: u32) -> Result<Next, QueueError> {
        // Before the claim, so that a wake-up during the claim is not missed.
        self.wakeups.mark_seen();
        self.promote().await?;
        let config = &self.shared.config;
        // No lane may take all slots of a worker, whatever its subscriber's policy allows.
        let most_of_the_slots = (config.concurrency.get() as usize * 3 / 4).max(1);
        let token = LeaseToken(self.shared.store.ids().next_uuid());
        let mut skip: HashSet<LaneId> =
            self.shared.in_flight.lanes_with(most_of_the_slots).into_iter().collect();
        let Allowance { jobs, full } = self.shared.shares.allow(config.concurrency.get() as usize, free);
        let Permitted { jobs, skip: hanging, may_follow } =
            self.shared.reserve.permit(config.concurrency.get() as usize, jobs);
        skip.extend(hanging);
        let skipped = !skip.is_empty() || !full.is_empty();
        let claim = Claim {
            skip,
            skip_owners: full,
            lane_concurrency: config.subscriber_concurrency,
            worker: Some(self.shared.presence.id()),
            ahead: self.shared.in_flight.ahead(AHEAD, config.concurrency.get() / 8 * 3),
            ended: self.shared.in_flight.take_ended(),
            ..Claim::new(token, jobs, config.lease)
        };
        let span = debug_span!("queue.claim", { span::JOBS } = field::Empty);
        let started = Instant::now();
        let database = self.shared.store.database();
        let claiming = self.shared.store.claim(&claim).instrument(span.clone());
        let (claimed, fetched) = database.answered(claiming).await?;
        let Claimed { jobs, more, blocked, limits, opens_in } = claimed;
        metrics::histogram!(metric::CLAIM_DURATION).record(started.elapsed().as_secs_f64());
        span.record(span::JOBS, jobs.len());
        for trace in jobs.iter().filter_map(|job| job.trace.as_deref()).take(span::MAX_LINKS) {
            context::add_link(&span, trace);
        }
        // The jobs of skipped lanes also wait for others of their lane to finish.
        let found = Found { jobs: jobs.len(), more, lanes_full: blocked || skipped, opens_in };
        let next = self.pace.claimed(&self.shared.signals, started, found);
        if jobs.is_empty() {
            self.shared.in_flight.limit(&limits);
            if may_follow {
                return Ok(Next::ClaimAgain);
            }
        } else {
            self.start(jobs, &limits, fetched).await;
        }
        Ok(next)
    }

    /// Promotes due jobs: when one is known to be due, and once per poll interval in the worker that leads.
    async fn promote(&mut self) -> Result<(), QueueError> {
        let Shared { store, signals, config, presence, .. } = &*self.shared;
        let leads = presence.duties().leads;
        let poll_is_due = leads && self.promoted_at.is_none_or(|at| at.elapsed() >= config.poll);
        if !signals.take_if_due() && !poll_is_due {
            return Ok(());
        }
        let promoted = store.database().answered(store.queue().promote(PROMOTE)).await?;
        self.promoted_at = Some(Instant::now());
        if promoted.jobs == u64::from(PROMOTE) {
            signals.job_due_in(Duration::ZERO);
        } else if let Some(next) = promoted.next_due_in {
            signals.next_job_due_in(next, leads);
        }
        Ok(())
    }

    /// Loads claimed jobs, unless their claim has done so, and starts their attempts, in a task that runs during the next
    /// claim.
    async fn start(
        &mut self,
        jobs: Vec<ClaimedJob>,
        limits: &HashMap<LaneId, u32>,
        fetched: Option<Fetched>,
    ) {
        let in_flight = &self.shared.in_flight;
        let cancels: Vec<_> = jobs.iter().map(|job| in_flight.add(job.lease)).collect();
        in_flight.limit(limits);
        let mut slots = Vec::with_capacity(jobs.len());
        for job in &jobs {
            let slot = take_slot(&self.shared.slots).await;
            slots.push((slot, self.shared.shares.take(&job.owner), self.shared.reserve.take(job.lease.lane)));
        }
        point("claimed");
        if let Some(loading) = self.loading.take()
            && !loading.await.unwrap_or(false)
        {
            tokio::time::sleep(LOAD_FAILED).await;
        }
        let load = load(
            Arc::clone(&self.shared),
            self.attempts.clone(),
            self.completions.clone(),
            (jobs, fetched),
            cancels.into_iter().zip(slots).collect(),
        );
        self.loading = Some(self.attempts.spawn(load));
    }
}

/// What belongs to a claimed job: the token that cancels its attempt, and its worker slot.
type Resources = (CancellationToken, (Option<OwnedSemaphorePermit>, Share, Counted));

/// Loads claimed jobs and starts their attempts. Returns whether it could; if not, it gives the jobs back.
async fn load(
    shared: Arc<Shared>,
    attempts: TaskTracker,
    completions: Completions,
    (jobs, fetched): (Vec<ClaimedJob>, Option<Fetched>),
    resources: Vec<Resources>,
) -> bool {
    let loaded = match &fetched {
        Some(fetched) => shared.store.database().answered(shared.store.loaded(&jobs, fetched)).await,
        None => shared.store.database().answered(shared.store.load(&jobs)).await,
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::warn!(
                error = %chain(&error),
                jobs = jobs.len(),
                "claimed jobs not loaded; giving them back to the queue"
            );
            for job in jobs {
                let completion = Completion::Job { lease: job.lease, finish: Finish::Release };
                completions.send(completion).await;
            }
            return false;
        }
    };
    for ((job, loaded), (cancel, slot)) in jobs.into_iter().zip(loaded).zip(resources) {
        let (shared, completions) = (Arc::clone(&shared), completions.clone());
        attempts.spawn(async move {
            let (completion, permit) = attempt::run(&shared, job, loaded, &cancel).await;
            shared.in_flight.attempted(completion.lease(), completion.has_succeeded(), permit);
            slot.2.ended(completion.has_timed_out());
            completions.send(completion).await;
            // Released only now that the recorder has accepted the outcome, so that a slow recorder slows claiming.
            drop(slot);
        });
    }
    true
}

/// Takes a worker slot. It is free: only the claimer takes slots, and it claims no more jobs than there are free ones.
async fn take_slot(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(slots).acquire_owned().await.ok()
}

impl std::fmt::Debug for Claimer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claimer").finish_non_exhaustive()
    }
}
