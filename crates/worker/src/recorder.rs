//! Recording: outcomes in batches, each committed together with the end of its jobs.

use std::collections::HashSet;
use std::sync::Arc;

use postrider_core::{DeliveryStatus, SubscriberId, chain};
use postrider_database::comes_from_trouble;
use postrider_queue::{Finish, JobId};
use postrider_store::StoreError;
use postrider_store::attempt::{DeliveryRef, End, Outcome};
use postrider_store::health::Notice;
use postrider_store::queue_ids::lane_of;
use postrider_store::recording::Recorded;
use postrider_telemetry::{context, metric, span};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{Instrument as _, debug_span};

use crate::completion::{Completion, Completions};
use crate::notice::notify_operators;
use crate::pace::{BATCH, Backoff, RecordPace};
use crate::point::{during, point};
use crate::shared::Shared;

/// Records what becomes of claimed jobs.
#[derive(Debug)]
pub(crate) struct Recorder {
    task: JoinHandle<()>,
}

impl Recorder {
    pub(crate) fn start(shared: &Arc<Shared>) -> (Self, Completions) {
        let (completions, receiver) = Completions::channel(2 * BATCH);
        let task = tokio::spawn(run(Arc::clone(shared), receiver));
        (Self { task }, completions)
    }

    /// Waits until everything is recorded. Returns once all clones of `completions` are dropped.
    pub(crate) async fn finish(&mut self, completions: Completions) {
        drop(completions);
        // The error is a panic, which the panic hook has printed.
        let _ = (&mut self.task).await;
    }

    /// Stops without recording the rest.
    pub(crate) fn abort(self) {
        self.task.abort();
    }
}

async fn run(shared: Arc<Shared>, mut receiver: mpsc::Receiver<Completion>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut pace = RecordPace::new();
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        if let Some(until) = pace.gather_until(&shared.signals, batch.len(), shared.in_flight.len()) {
            tokio::time::sleep_until(until).await;
            while batch.len() < BATCH
                && let Ok(completion) = receiver.try_recv()
            {
                batch.push(completion);
            }
        }
        pace.recording();
        // Jobs whose leases were lost belong to other workers, and have been counted.
        batch.retain(|completion| shared.in_flight.start_recording(completion.lease()));
        let span = debug_span!("record", { span::JOBS } = batch.len());
        for trace in batch.iter().filter_map(Completion::trace).take(span::MAX_LINKS) {
            context::add_link(&span, &trace.to_string());
        }
        record_or_split(&shared, &batch).instrument(span).await;
        let mut finished_elsewhere: Vec<_> = batch.iter().map(|completion| completion.lease().lane).collect();
        shared.in_flight.remove(batch.drain(..).map(|completion| completion.lease()));
        shared.signals.jobs_finished(shared.in_flight.len() == 0);
        finished_elsewhere.retain(|lane| !shared.store.queue().serves(*lane));
        if !finished_elsewhere.is_empty() {
            finished_elsewhere.sort_unstable();
            finished_elsewhere.dedup();
            // Their lanes have room, which only this worker knows.
            shared.store.queue().wake(&finished_elsewhere);
        }
    }
}

/// Records a batch. If the database rejects it, records it one by one, so that one bad outcome does not fail the others.
async fn record_or_split(shared: &Shared, batch: &[Completion]) {
    let Err(error) = record(shared, batch).await else { return };
    tracing::error!(
        error = %chain(&error),
        jobs = batch.len(),
        "the database rejected a batch of outcomes; recording them one by one"
    );
    if let [single] = batch {
        shared.in_flight.abandon(single.lease());
        return;
    }
    for completion in batch {
        if let Err(error) = record(shared, std::slice::from_ref(completion)).await {
            shared.in_flight.abandon(completion.lease());
            // The job's lease expires. After several rescues the job is buried and its delivery dead.
            tracing::error!(error = %chain(&error), job = ?completion.lease().job, "the database rejected an outcome");
        }
    }
}

/// Records a batch, waiting while the database is unavailable.
///
/// A call may commit although it fails, if its reply is lost. Its repeat then writes nothing: the leases fence it, and
/// it finds the jobs gone as if other workers had them. We look up which of the two happened. If the commit succeeded
/// but its reply was lost, operator notifications for that batch are not sent. The state itself is correct.
async fn record(shared: &Shared, batch: &[Completion]) -> Result<(), StoreError> {
    let (mut outcomes, mut finishes): (Vec<&Outcome>, Vec<_>) = Default::default();
    for completion in batch {
        match completion {
            Completion::Delivery { outcome, .. } => outcomes.push(outcome),
            Completion::Job { lease, finish } => finishes.push((*lease, *finish)),
        }
    }
    let mut reply_lost = !record_fast(shared, &mut outcomes).await;
    if outcomes.is_empty() && finishes.is_empty() {
        return Ok(());
    }
    let mut backoff = Backoff::for_records();
    let Recorded { mut lost, notices } = loop {
        let recording = shared.store.record(outcomes.iter().copied(), &finishes, &shared.config.breaker);
        // With a deadline, because a connection may hang for ever. The pool closes it, and the next call gets another.
        let recording = shared.store.database().answered(recording);
        match during("finishing", recording).await {
            Ok(recorded) => break recorded,
            Err(error) if error.is_unavailable() => {
                if backoff.is_first() && !comes_from_trouble(&error) {
                    tracing::warn!(error = %chain(&error), "outcomes not recorded; retrying");
                }
                reply_lost = true;
                tokio::time::sleep(backoff.next()).await;
            }
            Err(error) => return Err(error),
        }
    };
    point("recorded");
    if reply_lost && !lost.is_empty() {
        let gone = lost.len();
        lost = not_recorded(shared, &outcomes, lost).await;
        let recorded = gone - lost.len();
        if recorded > 0 {
            tracing::info!(jobs = recorded, "outcomes had been recorded by a call whose reply was lost");
        }
    }
    if !lost.is_empty() {
        metrics::counter!(metric::LEASES_LOST).increment(lost.len() as u64);
        tracing::warn!(jobs = lost.len(), "leases lost; other workers have those jobs");
    }
    for outcome in outcomes.iter().filter(|outcome| !lost.contains(&outcome.lease.job)) {
        after_recording(shared, outcome);
    }
    for (_, finish) in finishes.iter().filter(|(lease, _)| !lost.contains(&lease.job)) {
        if let Finish::RetryIn(delay) = finish {
            shared.signals.job_due_in(*delay);
        }
    }
    for subscriber in notices.iter().filter_map(Notice::closes) {
        shared.in_flight.close(lane_of(subscriber));
    }
    notify_operators(shared, notices).await;
    Ok(())
}

/// Records on the fast path the outcomes that qualify for it, and leaves the others in `outcomes`, or all if it fails.
/// Returns whether the database replied.
async fn record_fast(shared: &Shared, outcomes: &mut Vec<&Outcome>) -> bool {
    // A subscriber's outcomes are judged together: one failure takes all of them off the fast path.
    let failing: HashSet<SubscriberId> = outcomes
        .iter()
        .filter(|one| !one.qualifies_for_fast_path())
        .map(|one| one.delivery.subscriber)
        .collect();
    let (fast, mut rest): (Vec<_>, Vec<_>) = outcomes
        .drain(..)
        .partition(|one| one.qualifies_for_fast_path() && !failing.contains(&one.delivery.subscriber));
    let recorded = if fast.is_empty() {
        Ok(false)
    } else {
        let recording = shared.store.database().answered(shared.store.record_fast(&fast));
        during("finishing", recording).await
    };
    if let Ok(true) = recorded {
        point("recorded");
        for outcome in fast {
            after_recording(shared, outcome);
        }
    } else {
        rest.extend(fast);
    }
    *outcomes = rest;
    if let Err(error) = &recorded {
        tracing::debug!(error = %chain(error), "outcomes not recorded on the fast path; taking the slow path");
    }
    recorded.is_ok()
}

/// Returns those of the `gone` jobs whose outcomes no earlier call has recorded.
async fn not_recorded(shared: &Shared, outcomes: &[&Outcome], gone: Vec<JobId>) -> Vec<JobId> {
    let mut lost = Vec::new();
    // One by one, because this is rare. A job without an outcome has nothing that could be lost.
    for outcome in outcomes.iter().filter(|outcome| gone.contains(&outcome.lease.job)) {
        match shared.store.database().answered(is_recorded(shared, outcome)).await {
            Ok(true) => {}
            Ok(false) => lost.push(outcome.lease.job),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "recorded outcome not looked up; its lease counts as lost");
                lost.push(outcome.lease.job);
            }
        }
    }
    lost
}

/// Returns whether this very outcome is stored.
async fn is_recorded(shared: &Shared, outcome: &Outcome) -> Result<bool, StoreError> {
    let DeliveryRef { tenant, id, .. } = &outcome.delivery;
    let Some(made) = &outcome.attempt else {
        let delivery = shared.store.delivery(tenant, *id).await?;
        return Ok(delivery.is_some_and(|delivery| {
            delivery.status == outcome.end.status()
                && delivery.job.is_some_and(|job| job.uuid() == outcome.lease.job.0)
        }));
    };
    // The attempt of another worker would have begun in the same millisecond and taken as long to the microsecond.
    shared.store.has_attempt(tenant, *id, made).await
}

/// Signals a recorded retry to the claimer, and counts the outcome.
fn after_recording(shared: &Shared, outcome: &Outcome) {
    if let End::RetryIn(delay) = outcome.end {
        shared.signals.job_due_in(delay);
    }
    count_outcome(shared, outcome);
}

fn count_outcome(shared: &Shared, outcome: &Outcome) {
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
            let next = (delivery.attempts + 2).saturating_sub(delivery.round_start);
            metrics::histogram!(metric::RETRY, metric::ATTEMPT_NUMBER => next.to_string())
                .record(delay.as_secs_f64());
        }
        End::Dead(_) => count(DeliveryStatus::Dead.as_str()),
        End::Succeeded | End::Cancelled => count(outcome.end.status().as_str()),
    }
}
