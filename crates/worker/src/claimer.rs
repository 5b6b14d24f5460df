//! Claiming: as many jobs as there are free slots, and no sooner than there may be some.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use postrider_queue::{Claim, Claimed, ClaimedJob, Finish, LeaseToken, QueueError, Wakeups};
use postrider_telemetry::{context, metric, span};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug_span, field};

use crate::attempt;
use crate::engine::Shared;
use crate::point::point;
use crate::recorder::{Ended, Outcomes};

/// How long to leave the queue alone after claims that found nothing, doubling from the first to the last: what there
/// was is locked, by other workers or by our own recorder, or the hints are about jobs that others claim. Not after the
/// first one, as a single hint is often about a job that the claim before it found.
const FRUITLESS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(8));

/// How long freed slots gather before the next claim, when nearly all are taken.
const GATHER: Duration = Duration::from_millis(2);

/// How long after the last claim the next one is made for no more than that jobs ended in lanes that had all running that
/// they may, if that claim found several: a flood of theirs is worked off in large steps, which leaves the processor to
/// others. An ordered lane, which has one at a time, waits for nothing.
const PACE: Duration = Duration::from_millis(10);
const SEVERAL: usize = 4;

/// How many due jobs are made ready at once.
const PROMOTE: u32 = 1_000;

/// Waits after failures, doubling from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(crate) struct Claimer {
    shared: Arc<Shared>,
    attempts: TaskTracker,
    outcomes: Outcomes,
    wakeups: Wakeups,
    promoted_at: Option<Instant>,
    /// What was claimed last and is being loaded, while the next claim is made; tells whether it could be.
    loading: Option<JoinHandle<bool>>,
    /// How many claims in turn have found nothing.
    fruitless: u32,
    /// Until when nothing is claimed just because jobs of full lanes ended.
    paced_until: tokio::time::Instant,
}

/// What to do after a claim.
enum Next {
    ClaimAgain,
    /// What there is, is locked.
    Contended,
    Wait {
        /// Jobs wait for others of their lane to end.
        blocked: bool,
        opens_in: Option<Duration>,
    },
}

impl Claimer {
    pub(crate) fn new(shared: &Arc<Shared>, attempts: TaskTracker, outcomes: Outcomes) -> Self {
        let wakeups = shared.store.queue().wakeups();
        Self {
            shared: Arc::clone(shared),
            attempts,
            outcomes,
            wakeups,
            promoted_at: None,
            loading: None,
            fruitless: 0,
            paced_until: tokio::time::Instant::now(),
        }
    }

    /// Claims until `shutdown`.
    pub(crate) async fn run(mut self, shutdown: &CancellationToken) {
        let mut backoff = BACKOFF.0;
        // A claim that has begun is seen through, so that no lease is forgotten.
        while !shutdown.is_cancelled() {
            let free = tokio::select! {
                free = self.free_slots() => free,
                () = shutdown.cancelled() => return,
            };
            match self.claim(free).await {
                Ok(next) => {
                    backoff = BACKOFF.0;
                    tokio::select! {
                        () = self.pause(next) => {}
                        () = shutdown.cancelled() => return,
                    }
                }
                Err(error) => {
                    if backoff == BACKOFF.0 {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot claim jobs; trying again"
                        );
                    }
                    tokio::select! {
                        () = tokio::time::sleep(backoff) => {}
                        () = shutdown.cancelled() => return,
                    }
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Waits until there is room for a job, and a moment longer for more room if there is little.
    async fn free_slots(&self) -> u32 {
        let slots = &self.shared.slots;
        let wanted = (self.shared.config.concurrency.get() as usize / 8).max(1);
        if slots.available_permits() == 0 {
            // The permit is given back at once: it only told that there is one.
            drop(Arc::clone(slots).acquire_owned().await);
        }
        if slots.available_permits() < wanted {
            tokio::time::sleep(GATHER).await;
        }
        u32::try_from(slots.available_permits()).unwrap_or(u32::MAX).max(1)
    }

    async fn claim(&mut self, free: u32) -> Result<Next, QueueError> {
        // Before looking, so that what comes while we look is not missed.
        self.wakeups.mark_seen();
        self.promote().await?;
        let config = &self.shared.config;
        // No lane may hold all slots of a worker, whatever its subscriber asks for.
        let too_many = (config.concurrency.get() as usize * 3 / 4).max(1);
        let token = LeaseToken(self.shared.store.ids().next_uuid());
        let skip = self.shared.in_flight.lanes_with(too_many);
        let skipped = !skip.is_empty();
        let claim = Claim {
            skip,
            lane_concurrency: config.subscriber_concurrency,
            ..Claim::new(token, free, config.lease)
        };
        let span = debug_span!("queue.claim", { span::JOBS } = field::Empty);
        let started = Instant::now();
        let database = self.shared.store.database();
        let Claimed { jobs, more, blocked, opens_in } =
            database.answered(self.shared.store.queue().claim(&claim).instrument(span.clone())).await?;
        metrics::histogram!(metric::CLAIM_DURATION).record(started.elapsed().as_secs_f64());
        span.record(span::JOBS, jobs.len());
        for trace in jobs.iter().filter_map(|job| job.trace.as_deref()).take(span::MAX_LINKS) {
            context::add_link(&span, trace);
        }
        // What was skipped waits for jobs of its lane to end, too.
        let blocked = blocked || skipped;
        self.shared.crowded.store(blocked, Ordering::Relaxed);
        let found = !jobs.is_empty();
        if jobs.len() >= SEVERAL {
            self.paced_until = (started + PACE).into();
        }
        self.fruitless = if found { 0 } else { self.fruitless.saturating_add(1) };
        if found {
            self.start(jobs).await;
        }
        Ok(match (more, found) {
            (true, true) => Next::ClaimAgain,
            (true, false) => Next::Contended,
            (false, _) => Next::Wait { blocked, opens_in },
        })
    }

    /// Makes due jobs ready: when one is known to be due, and with every poll.
    async fn promote(&mut self) -> Result<(), QueueError> {
        let poll_is_due = self.promoted_at.is_none_or(|at| at.elapsed() >= self.shared.config.poll);
        if !self.shared.due.take_if_reached() && !poll_is_due {
            return Ok(());
        }
        let promoted = {
            let store = &self.shared.store;
            store.database().answered(store.queue().promote(PROMOTE)).await?
        };
        self.promoted_at = Some(Instant::now());
        if promoted.jobs == u64::from(PROMOTE) {
            self.shared.due.within(Duration::ZERO);
        } else if let Some(next) = promoted.next_due_in {
            self.shared.due.within(next);
        }
        Ok(())
    }

    /// Has jobs loaded and worked on, while the next ones are claimed.
    async fn start(&mut self, jobs: Vec<ClaimedJob>) {
        let in_flight = &self.shared.in_flight;
        let given_up: Vec<_> = jobs.iter().map(|job| in_flight.hold(job.lease, job.lane)).collect();
        let mut slots = Vec::with_capacity(jobs.len());
        for _ in &jobs {
            slots.push(slot(&self.shared.slots).await);
        }
        point("claimed");
        if let Some(loading) = self.loading.take()
            && !loading.await.unwrap_or(false)
        {
            // What could not be loaded was given back, and would be claimed again at once.
            tokio::time::sleep(BACKOFF.0).await;
        }
        let load = load(
            Arc::clone(&self.shared),
            self.attempts.clone(),
            self.outcomes.clone(),
            jobs,
            given_up.into_iter().zip(slots).collect(),
        );
        self.loading = Some(self.attempts.spawn(load));
    }

    async fn pause(&mut self, next: Next) {
        let now = tokio::time::Instant::now();
        let rested = now + respite(self.fruitless);
        match next {
            Next::ClaimAgain => {}
            Next::Contended => tokio::select! {
                () = self.shared.ended.notified() => {}
                () = tokio::time::sleep_until(rested.max(now + FRUITLESS.0)) => {}
            },
            Next::Wait { blocked, opens_in } => {
                let poll = self.shared.config.poll;
                let hinted = async {
                    self.wakeups.woken().await;
                    tokio::time::sleep_until(rested).await;
                };
                let made_room = async {
                    self.shared.ended.notified().await;
                    tokio::time::sleep_until(self.paced_until).await;
                };
                tokio::select! {
                    () = hinted => {}
                    () = self.shared.due.reached() => {}
                    () = made_room, if blocked => {}
                    () = tokio::time::sleep(opens_in.unwrap_or(poll).min(poll)) => {}
                }
            }
        }
    }
}

/// How long to leave the queue alone after so many claims in turn that found nothing.
fn respite(fruitless: u32) -> Duration {
    let Some(doublings) = fruitless.checked_sub(2) else { return Duration::ZERO };
    FRUITLESS.0.saturating_mul(1 << doublings.min(16)).min(FRUITLESS.1)
}

/// What comes with each claimed job: the word to give it up, and its slot.
type Held = (CancellationToken, Option<OwnedSemaphorePermit>);

/// Loads claimed jobs and starts the work on them; tells whether it could.
async fn load(
    shared: Arc<Shared>,
    attempts: TaskTracker,
    outcomes: Outcomes,
    jobs: Vec<ClaimedJob>,
    held: Vec<Held>,
) -> bool {
    let loaded = match shared.store.database().answered(shared.store.load(&jobs)).await {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                jobs = jobs.len(),
                "cannot load claimed jobs; giving them back"
            );
            for job in jobs {
                outcomes.send(Ended::Job(job.lease, Finish::Release)).await;
            }
            return false;
        }
    };
    for ((job, loaded), (give_up, slot)) in jobs.into_iter().zip(loaded).zip(held) {
        let (shared, outcomes) = (Arc::clone(&shared), outcomes.clone());
        attempts.spawn(async move {
            outcomes.send(attempt::work(&shared, job, loaded, &give_up).await).await;
            // Kept until the recorder has taken the outcome: that is what holds claiming back.
            drop(slot);
        });
    }
    true
}

/// A slot. There is one: only the claimer takes any, and it claimed no more jobs than were free.
async fn slot(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(slots).acquire_owned().await.ok()
}

impl std::fmt::Debug for Claimer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claimer").finish_non_exhaustive()
    }
}
