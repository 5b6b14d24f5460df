//! Writing some events, all or none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use postrider_core::chain;
use postrider_database::{Database, Dialect, Guarded, Writes};
use postrider_queue::{LaneId, NewJob};
use postrider_store::StoreError;
use postrider_store::intake::Match;
use postrider_telemetry::{context, metric, span};
use sea_orm::ConnectionTrait;
use tracing::{Instrument as _, Span, debug_span, field};

use super::Answer;
use super::addressed::{Addressed, Found, address};
use super::candidate::Candidate;
use super::idempotency::{Decision, decide, repeated_answer};
use super::rows::Rows;
use crate::error::DispatchError;
use crate::event::{Dispatched, FanOut};
use crate::shared::Shared;
use crate::subscriber_cache::EventTypes;

/// Writes events in one transaction. Each has a result of its own; `None` for an event whose cached subscribers
/// (`is_cached`) have become many.
pub(super) async fn write_chunk(
    shared: &Shared,
    events: &[Addressed<'_>],
    is_cached: bool,
) -> Vec<Option<Answer>> {
    let count = events.len();
    let started = Instant::now();
    let span = debug_span!(
        "dispatch",
        { span::EVENTS } = count,
        { span::SUBSCRIBERS_FOUND } = field::Empty,
        { span::JOBS } = field::Empty
    );
    let mut traces = events.iter().filter_map(|addressed| addressed.event.event.trace.as_deref());
    if let Some(first) = traces.next() {
        context::set_parent(&span, first);
    }
    for trace in traces.take(span::MAX_LINKS) {
        context::add_link(&span, trace);
    }
    let answers = commit_or_split(shared, events, is_cached).instrument(span).await;
    metrics::histogram!(metric::DISPATCH_DURATION).record(started.elapsed().as_secs_f64());
    #[allow(clippy::cast_precision_loss)] // A batch has a thousand events at most.
    metrics::histogram!(metric::DISPATCH_BATCH).record(count as f64);
    for dispatched in answers.iter().flatten().flatten().filter(|dispatched| !dispatched.duplicate) {
        let label = shared.labels.value(dispatched.event_type.as_str());
        metrics::counter!(metric::EVENTS, metric::EVENT_TYPE => label).increment(1);
    }
    answers
}

/// Writes events in one transaction. If the database rejects it, writes each event in its own, so that one bad event
/// does not fail the others.
async fn commit_or_split(shared: &Shared, events: &[Addressed<'_>], is_cached: bool) -> Vec<Option<Answer>> {
    let error = match commit_all(shared, events, is_cached).await {
        Ok(answers) => return answers,
        Err(error) => error,
    };
    if error.is_unavailable() || events.len() < 2 {
        let error = DispatchError::from(error);
        return events.iter().map(|_| Some(Err(error.clone()))).collect();
    }
    tracing::warn!(
        error = %chain(&error),
        events = events.len(),
        "the database rejected a batch of events; writing them one by one"
    );
    let mut answers = Vec::with_capacity(events.len());
    for event in events.chunks(1) {
        match commit_all(shared, event, is_cached).await {
            Ok(mut answer) => answers.append(&mut answer),
            Err(error) => answers.push(Some(Err(error.into()))),
        }
    }
    answers
}

async fn commit_all(
    shared: &Shared,
    events: &[Addressed<'_>],
    is_cached: bool,
) -> Result<Vec<Option<Answer>>, StoreError> {
    let database = shared.store.database();
    // On PostgreSQL one statement writes a batch, and needs no transaction around it, unless a key is taken first.
    let has_keys = events.iter().any(|addressed| addressed.event.event.key.is_some());
    let written = async {
        if is_cached {
            return write_cached(shared, database, events).await;
        }
        let (answers, jobs) = if database.dialect() == Dialect::Postgres && !has_keys {
            write_in(shared, database.connection(), events).await?
        } else {
            let transaction = database.begin().await?;
            let written = write_in(shared, &transaction, events).await?;
            transaction.commit().await?;
            written
        };
        let answers = answers.into_iter().map(Some).collect();
        Ok::<_, StoreError>(Committed { answers, jobs, others_are_woken: false })
    };
    let Committed { answers, jobs, others_are_woken } = database.answered(written).await?;
    if others_are_woken {
        shared.store.queue().wake_here(&lanes(&jobs));
    } else if !jobs.is_empty() {
        shared.store.queue().enqueued(&jobs);
    }
    let mut new = answers.iter().flatten().flatten().filter(|dispatched| !dispatched.duplicate);
    if new.any(|dispatched| dispatched.fan_out == FanOut::Continuing) {
        shared.fan_outs.wake();
    }
    Ok(answers)
}

/// What a transaction has written.
struct Committed {
    answers: Vec<Option<Answer>>,
    jobs: Vec<NewJob>,
    /// Whether the commit has woken the workers in other processes.
    others_are_woken: bool,
}

fn lanes(jobs: &[NewJob]) -> Vec<LaneId> {
    let lanes: BTreeSet<LaneId> = jobs.iter().map(|job| job.lane).collect();
    lanes.into_iter().collect()
}

/// Writes events in one statement if their cached subscribers still hold. If not, looks for their subscribers, and leaves
/// the events that have many now.
async fn write_cached(
    shared: &Shared,
    database: &Database,
    events: &[Addressed<'_>],
) -> Result<Committed, StoreError> {
    let connection = database.connection();
    let matched: Vec<_> = events.iter().filter(|addressed| addressed.event.only.is_none()).collect();
    let types = EventTypes::of(matched.iter().map(|addressed| {
        let event = &addressed.event.event;
        (event.tenant.clone(), event.event_type.clone())
    }));
    let mut expected = vec![Vec::new(); types.distinct.len()];
    for (addressed, index) in matched.iter().zip(&types.indexes) {
        if let (Some(found), true) = (&addressed.matched, expected[*index].is_empty()) {
            expected[*index] = found.to_vec();
        }
    }
    let Draft { mut writes, answers, jobs } = draft(shared, connection, events).await?;
    let others_are_woken = shared.store.queue().wake_with(&lanes(&jobs), &mut writes);
    let mut guarded = Guarded::new(writes);
    shared.store.expect_subscribers(&types.distinct, &expected, &mut guarded);
    match guarded.execute(connection).await {
        Ok(true) => {
            let answers = answers.into_iter().map(Some).collect();
            return Ok(Committed { answers, jobs, others_are_woken });
        }
        Ok(false) => {}
        Err(error) => {
            shared.subscribers.clear();
            return Err(error.into());
        }
    }
    let found = find(shared, &types).await?;
    let mut indexes = types.indexes.iter();
    let again: Vec<Option<Found>> = events
        .iter()
        .map(|addressed| match addressed.event.only {
            Some(only) => Some(Found::Only(only)),
            None => found[*indexes.next()?].clone().map(Found::Few),
        })
        .collect();
    let few = events.iter().zip(&again);
    let few = few.filter_map(|(addressed, found)| Some((addressed.event, found.clone()?))).collect();
    let few = address(shared, connection, few).await?;
    let (answers, jobs) = write_in(shared, connection, &few).await?;
    let mut answers = answers.into_iter();
    let answers = again.iter().map(|found| found.as_ref().and_then(|_| answers.next())).collect();
    Ok(Committed { answers, jobs, others_are_woken: false })
}

/// Finds the subscribers of event types, and caches them; `None` for a type that has many.
pub(super) async fn find(
    shared: &Shared,
    types: &EventTypes,
) -> Result<Vec<Option<Arc<[Match]>>>, StoreError> {
    let found = shared.store.subscribers_of(&shared.store.database().reads(), &types.distinct).await?;
    let found: Vec<Option<Arc<[Match]>>> = found.into_iter().map(|found| found.map(Into::into)).collect();
    shared.subscribers.insert(&types.distinct, &found);
    Ok(found)
}

/// Writes events over a connection, which may have a transaction. Returns also the jobs of their deliveries.
pub(super) async fn write_in(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    events: &[Addressed<'_>],
) -> Result<(Vec<Answer>, Vec<NewJob>), StoreError> {
    let Draft { writes, answers, jobs } = draft(shared, connection, events).await?;
    writes.execute(connection).await?;
    Ok((answers, jobs))
}

/// The statements that write events, and what is true once they have succeeded.
struct Draft {
    writes: Writes,
    answers: Vec<Answer>,
    jobs: Vec<NewJob>,
}

/// Drafts the statements that write events. Takes the keys of the events.
async fn draft(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    events: &[Addressed<'_>],
) -> Result<Draft, StoreError> {
    let candidates: Vec<Candidate<'_>> =
        events.iter().map(|addressed| Candidate::new(shared, addressed)).collect();
    // Before anything is locked.
    for candidate in &candidates {
        shared.store.ensure_partition(connection, candidate.id.made_at()).await?;
    }
    let decisions = decide(shared, connection, &candidates).await?;

    let mut rows = Rows::default();
    let mut found = 0;
    for (candidate, decision) in candidates.iter().zip(&decisions) {
        if matches!(decision, Decision::Write) {
            rows.add(candidate);
            found += candidate.subscribers_found();
        }
    }
    let current = Span::current();
    current.record(span::SUBSCRIBERS_FOUND, found);
    current.record(span::JOBS, rows.deliveries.jobs.len());
    let mut writes = Writes::new();
    shared.store.promise_with(&rows.promises, &mut writes);
    shared.store.insert_with(rows.events, &rows.deliveries.rows, &mut writes);
    shared.store.queue().enqueue_with(&rows.deliveries.jobs, &mut writes);

    let answers: Vec<Dispatched> = candidates.into_iter().map(Candidate::into_answer).collect();
    let answers = decisions.into_iter().enumerate().map(|(index, decision)| match decision {
        Decision::Write => Ok(answers[index].clone()),
        Decision::RepeatInBatch(first) => Ok(Dispatched { duplicate: true, ..answers[first].clone() }),
        Decision::RepeatOfStored(taken) => Ok(repeated_answer(*taken)),
        Decision::Reject(error) => Err(error),
    });
    Ok(Draft { writes, answers: answers.collect(), jobs: rows.deliveries.jobs })
}
