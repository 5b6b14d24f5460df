//! The pacing protocol between claimer and recorder.
//!
//! A claim costs the database about the same for one job as for many, and so does a record. Both loops therefore gather
//! work while that delays nothing, and act at once when something waits for them. They run as two tasks and never wait
//! for each other directly; they exchange the signals below through [`Signals`].
//!
//! | signal | from | to | sent | effect |
//! |---|---|---|---|---|
//! | lanes full ([`ClaimPace::claimed`]) | claimer | recorder | after each claim | while set, ready jobs wait for others of their lane to finish, so the recorder waits less |
//! | jobs finished ([`Signals::jobs_finished`]) | recorder | claimer | after each batch | lanes have room: ends a wait for full lanes or for locked rows |
//! | due time ([`Signals::job_due_in`]) | recorder, claimer | claimer | with each recorded retry, and after each promotion by the worker that leads | ends a wait when the job becomes due |
//! | wake-up (`Wakeups`) | queue | claimer | on each dispatch | ends a wait, after the rest described below |
//! | free worker slot | attempt | claimer | when the recorder has accepted its outcome | lets the claimer claim |
//!
//! # Claimer
//!
//! ```text
//!            a slot is free                    jobs found, more are ready
//! [no slot] ───────────────▶ [claiming] ─────────────────────────────────▶ [no slot]
//!     ▲                        │     │
//!     │                        │     └── none found, ready ones are locked ──▶ [contended]
//!     │                        └──────── no more are ready ──────────────────▶ [idle]
//!     └── the wait of [contended] or [idle] ends ──
//! ```
//!
//! - **no slot**: if fewer than an eighth of all slots are free, waits another [`GATHER_SLOTS`] for more.
//! - **contended**: waits for *jobs finished*, at most for the rest below and at least [`REST`]'s first value.
//! - **idle**: waits for the first of: a wake-up; a due time; the moment when a lane's pause or rate lets a job through;
//!   the poll interval; and, if lanes are full, *jobs finished*. After a claim of at least [`SEVERAL`] jobs, *jobs
//!   finished* counts only [`CLAIM_INTERVAL`] after that claim began, or once all of this worker's jobs are finished: a
//!   flood of jobs in full lanes is worked off in large steps, while an ordered lane, which has one job at a time, waits
//!   for nothing.
//! - **rest**: from the second claim in a row that found nothing, the claimer rests for [`REST`], doubling. The jobs are
//!   locked by other workers or by our own recorder, or the wake-ups are about jobs that others claim. There is no rest
//!   after the first, since a single wake-up is often about a job that the claim before it found.
//!
//! # Recorder
//!
//! A batch of at least [`SMALL_BATCH`] outcomes is recorded at once. A smaller one waits for more:
//!
//! - no lane is full, so no job waits for it: until [`RECORD_INTERVAL`] after the last batch;
//! - lanes are full and other requests are in flight: for [`GATHER_OUTCOMES`];
//! - lanes are full and it holds the outcome of every job in flight: not at all.
//!
//! # Failures
//!
//! A failed claim or record is repeated with [`Backoff`], which is independent of the rest above.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

/// The most outcomes in a batch.
pub(crate) const BATCH: usize = 256;

/// A batch with fewer outcomes than this waits for more.
const SMALL_BATCH: usize = BATCH / 4;

/// How long a small batch waits for the outcomes of other requests in flight while lanes are full.
const GATHER_OUTCOMES: Duration = Duration::from_millis(2);

/// The time between small batches while no lane is full.
const RECORD_INTERVAL: Duration = Duration::from_millis(10);

/// How long freed worker slots gather before the next claim, when nearly all are taken.
const GATHER_SLOTS: Duration = Duration::from_millis(2);

/// The time from a claim of several jobs until finished jobs in full lanes cause the next one.
const CLAIM_INTERVAL: Duration = Duration::from_millis(10);

/// A claim of at least this many jobs starts [`CLAIM_INTERVAL`].
const SEVERAL: usize = 4;

/// The rest after claims that found nothing: the first and the longest, doubling in between.
const REST: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(8));

/// The signals between claimer and recorder.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Whether the last claim left ready jobs behind because their lanes were full.
    lanes_full: AtomicBool,
    /// Notified after each recorded batch.
    finished: Notify,
    /// Whether no job was left after the last batch.
    all_finished: AtomicBool,
    due: Due,
}

impl Signals {
    /// Recorder: jobs were finished, and their lanes may have room. `all`: this worker has no other.
    pub(crate) fn jobs_finished(&self, all: bool) {
        self.all_finished.store(all, Ordering::Relaxed);
        self.finished.notify_one();
    }

    /// Claimer: waits until no job is left after a batch.
    async fn all_finished(&self) {
        while !self.all_finished.load(Ordering::Relaxed) {
            self.finished.notified().await;
        }
    }

    /// Recorder and claimer: a job becomes due after this time.
    pub(crate) fn job_due_in(&self, delay: Duration) {
        self.due.within(delay, true);
    }

    /// Claimer: after a promotion, the next job of all becomes due after this time. A worker that does not lead cares only
    /// as long as jobs that it retries itself are not due: those may be due before the leader learns of them.
    pub(crate) fn next_job_due_in(&self, delay: Duration, leads: bool) {
        if leads || self.due.has_later() {
            self.due.within(delay, false);
        }
    }

    /// Claimer: returns whether a known due time has been reached, and forgets it if so.
    pub(crate) fn take_if_due(&self) -> bool {
        self.due.take_if_reached()
    }
}

/// Claimer: waits for a free worker slot, and a moment longer for more if few are free. Returns how many are free.
pub(crate) async fn free_slots(slots: &Arc<Semaphore>, concurrency: usize) -> u32 {
    let enough = (concurrency / 8).max(1);
    if slots.available_permits() == 0 {
        // Released at once: it only shows that a slot is free.
        drop(Arc::clone(slots).acquire_owned().await);
    }
    if slots.available_permits() < enough {
        sleep(GATHER_SLOTS).await;
    }
    u32::try_from(slots.available_permits()).unwrap_or(u32::MAX).max(1)
}

/// What a claim found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) jobs: usize,
    /// Whether more jobs are ready.
    pub(crate) more: bool,
    /// Whether ready jobs wait for others of their lane to finish.
    pub(crate) lanes_full: bool,
    /// When the pause or rate of a lane lets its next job through.
    pub(crate) opens_in: Option<Duration>,
}

/// What the claimer does after a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    ClaimAgain,
    Contended,
    Idle { lanes_full: bool, opens_in: Option<Duration> },
}

/// The claimer's side of the protocol.
#[derive(Debug)]
pub(crate) struct ClaimPace {
    /// How many claims in a row have found nothing.
    empty_claims: u32,
    /// Finished jobs cause no claim before this moment.
    paced_until: Instant,
}

impl ClaimPace {
    pub(crate) fn new() -> Self {
        Self { empty_claims: 0, paced_until: Instant::now() }
    }

    /// Takes note of a claim that began at `started`, and signals to the recorder whether lanes are full.
    pub(crate) fn claimed(&mut self, signals: &Signals, started: Instant, found: Found) -> Next {
        let Found { jobs, more, lanes_full, opens_in } = found;
        signals.lanes_full.store(lanes_full, Ordering::Relaxed);
        if jobs >= SEVERAL {
            self.paced_until = started + CLAIM_INTERVAL;
        }
        self.empty_claims = if jobs > 0 { 0 } else { self.empty_claims.saturating_add(1) };
        match (more, jobs) {
            (true, 0) => Next::Contended,
            (true, _) => Next::ClaimAgain,
            (false, _) => Next::Idle { lanes_full, opens_in },
        }
    }

    /// Waits until there may be something to claim. `woken` returns on a wake-up of the queue.
    pub(crate) async fn wait(
        &self,
        signals: &Signals,
        next: Next,
        woken: impl Future<Output = ()>,
        poll: Duration,
    ) {
        let now = Instant::now();
        let rested = now + rest(self.empty_claims);
        match next {
            Next::ClaimAgain => {}
            Next::Contended => tokio::select! {
                () = signals.finished.notified() => {}
                () = sleep_until(rested.max(now + REST.0)) => {}
            },
            Next::Idle { lanes_full, opens_in } => {
                let hinted = async {
                    woken.await;
                    sleep_until(rested).await;
                };
                let room = async {
                    signals.finished.notified().await;
                    // With nothing left to do, larger steps gain nothing.
                    tokio::select! {
                        () = signals.all_finished() => {}
                        () = sleep_until(self.paced_until) => {}
                    }
                };
                tokio::select! {
                    () = hinted => {}
                    () = signals.due.reached() => {}
                    () = room, if lanes_full => {}
                    () = sleep(opens_in.unwrap_or(poll).min(poll)) => {}
                }
            }
        }
    }
}

/// Returns the rest after this many claims in a row that found nothing.
fn rest(empty_claims: u32) -> Duration {
    let Some(doublings) = empty_claims.checked_sub(2) else { return Duration::ZERO };
    REST.0.saturating_mul(1 << doublings.min(16)).min(REST.1)
}

/// The recorder's side of the protocol.
#[derive(Debug)]
pub(crate) struct RecordPace {
    /// When the last batch was recorded.
    last: Instant,
}

impl RecordPace {
    pub(crate) fn new() -> Self {
        Self { last: Instant::now() }
    }

    /// Returns until when a batch waits for more outcomes; `None` if it is large enough. A moment that has passed means
    /// that the batch takes only those that have arrived.
    pub(crate) fn gather_until(&self, signals: &Signals, batch: usize, in_flight: usize) -> Option<Instant> {
        if batch >= SMALL_BATCH {
            return None;
        }
        Some(if !signals.lanes_full.load(Ordering::Relaxed) {
            self.last + RECORD_INTERVAL
        } else if in_flight > batch {
            Instant::now() + GATHER_OUTCOMES
        } else {
            self.last
        })
    }

    /// Takes note that a batch is recorded now.
    pub(crate) fn recording(&mut self) {
        self.last = Instant::now();
    }
}

/// Waits between repeats of a call that fails, doubling from the first to the longest.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) const fn for_claims() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }

    pub(crate) const fn for_records() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }

    const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, next: first }
    }

    /// Returns whether no call has failed since the last success, so that an outage is logged once.
    pub(crate) fn is_first(&self) -> bool {
        self.next == self.first
    }

    /// Returns how long to wait after a failure.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.longest);
        wait
    }

    /// Takes note of a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// The earliest moment at which this worker knows a job to become due.
#[derive(Debug, Default)]
struct Due {
    next: Mutex<Option<Instant>>,
    /// The latest such moment.
    latest: Mutex<Option<Instant>>,
    /// Notified when `next` moves to an earlier moment.
    earlier: Notify,
}

impl Due {
    fn within(&self, delay: Duration, own: bool) {
        let at = Instant::now() + delay;
        if own {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            *latest = latest.max(Some(at));
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_none_or(|known| at < known) {
            *next = Some(at);
            self.earlier.notify_one();
        }
    }

    fn has_later(&self) -> bool {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at > Instant::now())
    }

    fn take_if_reached(&self) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = next.is_some_and(|at| at <= Instant::now());
        if reached {
            *next = None;
        }
        reached
    }

    /// Waits for the moment, even if it changes during the wait.
    async fn reached(&self) {
        loop {
            let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let moment = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = moment => return,
                () = self.earlier.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
