//! Writing some events, all or none.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use postrider_core::{SubscriberId, chain};
use postrider_database::{Database, Dialect, Guarded, Writes};
use postrider_queue::LaneId;
use postrider_store::StoreError;
use postrider_store::intake::Match;
use postrider_store::queue_ids::lane_of;
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
        let answers = if database.dialect() == Dialect::Postgres && !has_keys {
            write_in(shared, database.connection(), events).await?
        } else {
            let transaction = database.begin().await?;
            let answers = write_in(shared, &transaction, events).await?;
            transaction.commit().await?;
            answers
        };
        Ok::<_, StoreError>((answers.into_iter().map(Some).collect(), false))
    };
    let (answers, others_are_woken): (Vec<Option<Answer>>, bool) = database.answered(written).await?;
    let new = || answers.iter().flatten().flatten().filter(|dispatched| !dispatched.duplicate);
    let lanes = lanes(new());
    if others_are_woken {
        shared.store.queue().wake_here(&lanes);
    } else if !lanes.is_empty() {
        shared.store.queue().wake(&lanes);
    }
    if new().any(|dispatched| dispatched.fan_out == FanOut::Continuing) {
        shared.fan_outs.wake();
    }
    Ok(answers)
}

/// The lanes of events.
fn lanes<'a>(new: impl Iterator<Item = &'a Dispatched>) -> Vec<LaneId> {
    let subscribers: BTreeSet<SubscriberId> =
        new.flat_map(|dispatched| dispatched.subscribers.iter().copied()).collect();
    subscribers.into_iter().map(lane_of).collect()
}

/// Writes events in one statement if their cached subscribers still hold. If not, looks for their subscribers, and leaves
/// the events that have many now. Returns also whether the commit has woken the workers in other processes.
async fn write_cached(
    shared: &Shared,
    database: &Database,
    events: &[Addressed<'_>],
) -> Result<(Vec<Option<Answer>>, bool), StoreError> {
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
    let (mut writes, answers) = draft(shared, connection, events).await?;
    let new = answers.iter().flatten().filter(|dispatched| !dispatched.duplicate);
    let woken = shared.store.queue().wake_with(&lanes(new), &mut writes);
    let mut guarded = Guarded::new(writes);
    shared.store.expect_subscribers(&types.distinct, &expected, &mut guarded);
    match guarded.execute(connection).await {
        Ok(true) => return Ok((answers.into_iter().map(Some).collect(), woken)),
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
    let mut answers = write_in(shared, connection, &few).await?.into_iter();
    Ok((again.iter().map(|found| found.as_ref().and_then(|_| answers.next())).collect(), false))
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

/// Writes events over a connection, which may have a transaction.
pub(super) async fn write_in(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    events: &[Addressed<'_>],
) -> Result<Vec<Answer>, StoreError> {
    let (writes, answers) = draft(shared, connection, events).await?;
    writes.execute(connection).await?;
    Ok(answers)
}

/// Drafts the statements that write events, and the answers if they succeed. Takes the keys of the events.
async fn draft(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    events: &[Addressed<'_>],
) -> Result<(Writes, Vec<Answer>), StoreError> {
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
    Ok((writes, answers.collect()))
}
