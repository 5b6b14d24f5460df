//! Recording: outcomes in batches, each written together with the end of its jobs.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postrider_core::{DeliveryStatus, SubscriberId};
use postrider_queue::{Finish, JobId, Lease};
use postrider_store::StoreError;
use postrider_store::attempt::DeliveryRef;
use postrider_store::attempt::{End, Outcome};
use postrider_store::recording::Recorded;
use postrider_telemetry::context::{self, TraceParent};
use postrider_telemetry::{metric, span};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{Instrument as _, debug_span};

use crate::engine::Shared;
use crate::notice;
use crate::point::{during, point};

/// How many outcomes a batch holds at most.
const BATCH: usize = 256;

/// A batch that is smaller than this waits a moment for more: one for ten costs about what one for one does.
const FEW: usize = BATCH / 4;

/// How long few outcomes wait for those of other requests in flight while jobs wait for others of their lane to end.
const GATHER: Duration = Duration::from_millis(2);

/// How long after the last batch few outcomes are recorded while nobody waits for that.
const PACE: Duration = Duration::from_millis(10);

/// Waits while the database is away, doubling from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What came of a claimed job.
#[derive(Debug)]
pub(crate) enum Ended {
    /// There is something to record of its delivery; the context of its attempt, if traces are exported.
    Delivery(Box<Outcome>, Option<TraceParent>),
    /// There is nothing to record.
    Job(Lease, Finish),
}

impl Ended {
    fn lease(&self) -> Lease {
        match self {
            Self::Delivery(outcome, _) => outcome.lease,
            Self::Job(lease, _) => *lease,
        }
    }

    fn traced(&self) -> Option<TraceParent> {
        match self {
            Self::Delivery(_, traced) => *traced,
            Self::Job(..) => None,
        }
    }
}

/// Where outcomes go. Bounded: when the database is slow, this is what holds claiming back.
#[derive(Clone, Debug)]
pub(crate) struct Outcomes(mpsc::Sender<Ended>);

impl Outcomes {
    pub(crate) async fn send(&self, ended: Ended) {
        if self.0.send(ended).await.is_err() {
            // Its lease will expire, and another worker will take the job. Whoever ended the recorder tells.
            tracing::debug!("the recorder is gone; an outcome is lost");
        }
    }
}

/// Writes down what came of claimed jobs.
#[derive(Debug)]
pub(crate) struct Recorder {
    task: JoinHandle<()>,
}

impl Recorder {
    pub(crate) fn start(shared: &Arc<Shared>) -> (Self, Outcomes) {
        let (sender, receiver) = mpsc::channel(2 * BATCH);
        let task = tokio::spawn(record_all(Arc::clone(shared), receiver));
        (Self { task }, Outcomes(sender))
    }

    /// Waits until all is written down, once nobody else holds `outcomes`.
    pub(crate) async fn finish(&mut self, outcomes: Outcomes) {
        drop(outcomes);
        // A panic has been told of by itself.
        let _ = (&mut self.task).await;
    }

    /// Leaves the rest unwritten.
    pub(crate) fn give_up(self) {
        self.task.abort();
    }
}

async fn record_all(shared: Arc<Shared>, mut receiver: mpsc::Receiver<Ended>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut last = Instant::now();
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        if batch.len() < FEW {
            let until = if !shared.crowded.load(Ordering::Relaxed) {
                last + PACE
            } else if shared.in_flight.len() > batch.len() {
                Instant::now() + GATHER
            } else {
                last
            };
            tokio::time::sleep_until(until).await;
            while batch.len() < BATCH
                && let Ok(ended) = receiver.try_recv()
            {
                batch.push(ended);
            }
        }
        last = Instant::now();
        // What was lost is another worker's, and has been counted.
        batch.retain(|ended| shared.in_flight.recording(ended.lease()));
        let span = debug_span!("record", { span::JOBS } = batch.len());
        for attempt in batch.iter().filter_map(Ended::traced).take(span::MAX_LINKS) {
            context::add_link(&span, &attempt.to_string());
        }
        record_batch(&shared, &batch).instrument(span).await;
        shared.in_flight.forget(batch.drain(..).map(|ended| ended.lease()));
        shared.ended.notify_one();
    }
}

/// Records a batch; if the database refuses it, one by one, so that a single odd outcome harms no other.
async fn record_batch(shared: &Shared, batch: &[Ended]) {
    let Err(error) = record(shared, batch).await else { return };
    tracing::error!(
        error = &error as &dyn std::error::Error,
        jobs = batch.len(),
        "outcomes were refused; recording them one by one"
    );
    if batch.len() == 1 {
        return;
    }
    for ended in batch {
        if let Err(error) = record(shared, std::slice::from_ref(ended)).await {
            // Its lease will expire; after some rescues the job is buried and the delivery dead.
            tracing::error!(error = &error as &dyn std::error::Error, job = ?ended.lease().job, "an outcome was refused");
        }
    }
}

/// Records a batch, waiting for a database that is away.
///
/// A call that failed may have been heard all the same: its commit went through, and the answer did not. Its repeat
/// writes nothing then, since the leases fence it: it finds the jobs gone, as if other workers had them. Which of the
/// two it was is looked up. What a call that was not heard of had to tell to operators stays untold: the event is
/// lost, not the fact.
async fn record(shared: &Shared, batch: &[Ended]) -> Result<(), StoreError> {
    let (mut outcomes, mut others): (Vec<&Outcome>, Vec<_>) = Default::default();
    for ended in batch {
        match ended {
            Ended::Delivery(outcome, _) => outcomes.push(outcome),
            Ended::Job(lease, finish) => others.push((*lease, *finish)),
        }
    }
    let mut unheard = !record_fast(shared, &mut outcomes).await;
    if outcomes.is_empty() && others.is_empty() {
        return Ok(());
    }
    let mut backoff = BACKOFF.0;
    let Recorded { mut lost, notices } = loop {
        let recording = shared.store.record(outcomes.iter().copied(), &others, &shared.config.breaker);
        // A connection may hang for ever; the pool closes it, and the next call gets another one.
        let recording = shared.store.database().answered(recording);
        match during("finishing", recording).await {
            Ok(recorded) => break recorded,
            Err(error) if error.is_unavailable() => {
                if backoff == BACKOFF.0 {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot record outcomes; trying again"
                    );
                }
                unheard = true;
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF.1);
            }
            Err(error) => return Err(error),
        }
    };
    point("recorded");
    if unheard && !lost.is_empty() {
        let gone = lost.len();
        lost = really_lost(shared, &outcomes, lost).await;
        let recorded = gone - lost.len();
        if recorded > 0 {
            tracing::info!(jobs = recorded, "outcomes had been recorded, though that was not heard of");
        }
    }
    if !lost.is_empty() {
        metrics::counter!(metric::LEASES_LOST).increment(lost.len() as u64);
        tracing::warn!(jobs = lost.len(), "leases were lost; other workers have those jobs");
    }
    for outcome in outcomes.iter().filter(|outcome| !lost.contains(&outcome.lease.job)) {
        tell(shared, outcome);
    }
    for (_, finish) in others.iter().filter(|(lease, _)| !lost.contains(&lease.job)) {
        if let Finish::RetryIn(delay) = finish {
            shared.due.within(*delay);
        }
    }
    notice::tell(shared, notices).await;
    Ok(())
}

/// Records those that are well, which most are, and leaves the others, or all. Tells whether the database was heard of.
async fn record_fast(shared: &Shared, outcomes: &mut Vec<&Outcome>) -> bool {
    // What came of a subscriber's attempts is judged together.
    let failing: HashSet<SubscriberId> = outcomes
        .iter()
        .filter(|one| !one.qualifies_for_fast_path())
        .map(|one| one.delivery.subscriber)
        .collect();
    let (well, mut rest): (Vec<_>, Vec<_>) = outcomes
        .drain(..)
        .partition(|one| one.qualifies_for_fast_path() && !failing.contains(&one.delivery.subscriber));
    let recorded = if well.is_empty() {
        Ok(false)
    } else {
        let recording = shared.store.database().answered(shared.store.record_fast(&well));
        during("finishing", recording).await
    };
    if let Ok(true) = recorded {
        point("recorded");
        for outcome in well {
            tell(shared, outcome);
        }
    } else {
        rest.extend(well);
    }
    *outcomes = rest;
    if let Err(error) = &recorded {
        tracing::debug!(
            error = error as &dyn std::error::Error,
            "cannot record outcomes at once; trying again"
        );
    }
    recorded.is_ok()
}

/// Of the jobs that a repeated call found gone, those whose outcomes the calls before it did not write.
async fn really_lost(shared: &Shared, outcomes: &[&Outcome], gone: Vec<JobId>) -> Vec<JobId> {
    let mut lost = Vec::new();
    // One by one: this is rare. Of jobs without an outcome there is nothing that could have been lost.
    for outcome in outcomes.iter().filter(|outcome| gone.contains(&outcome.lease.job)) {
        match shared.store.database().answered(is_recorded(shared, outcome)).await {
            Ok(true) => {}
            Ok(false) => lost.push(outcome.lease.job),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot see whether an outcome was recorded; it counts as lost"
                );
                lost.push(outcome.lease.job);
            }
        }
    }
    lost
}

/// Whether this very outcome is written down.
async fn is_recorded(shared: &Shared, outcome: &Outcome) -> Result<bool, StoreError> {
    let DeliveryRef { tenant, id, .. } = &outcome.delivery;
    let Some(made) = &outcome.attempt else {
        let delivery = shared.store.delivery(tenant, *id).await?;
        return Ok(delivery.is_some_and(|delivery| {
            delivery.status == outcome.end.status()
                && delivery.job.is_some_and(|job| job.uuid() == outcome.lease.job.0)
        }));
    };
    // No other worker's attempt at it began in the same millisecond and took as long to the microsecond.
    let attempts = shared.store.attempts(tenant, *id).await?;
    Ok(attempts.iter().any(|attempt| {
        attempt.started_at.millis() == made.started_at.millis()
            && attempt.duration.as_micros() == made.duration.as_micros()
    }))
}

/// Counts what is now written down.
fn tell(shared: &Shared, outcome: &Outcome) {
    let delivery = &outcome.delivery;
    let label = shared.labels.value(delivery.event_type.as_str());
    let count = |status: &'static str| {
        metrics::counter!(metric::DELIVERIES, metric::EVENT_TYPE => label.clone(), metric::STATUS => status)
            .increment(1);
    };
    if outcome.attempt.is_some() && outcome.end != End::Succeeded {
        count("failed");
    }
    match outcome.end {
        End::RetryIn(delay) => {
            shared.due.within(delay);
            let next = (delivery.attempts + 2).saturating_sub(delivery.round_start);
            metrics::histogram!(metric::RETRY, metric::ATTEMPT_NUMBER => next.to_string())
                .record(delay.as_secs_f64());
        }
        End::Dead(_) => count(DeliveryStatus::Dead.as_str()),
        End::Succeeded | End::Cancelled => count(outcome.end.status().as_str()),
    }
}
