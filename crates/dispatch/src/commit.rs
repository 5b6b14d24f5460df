//! Writing a batch of events, all or none: a fixed number of statements, however many events and subscribers.
//!
//! | module | what it does |
//! |---|---|
//! | `prepared` | an event after its transforms have run |
//! | `candidate` | an event with its ids and subscribers |
//! | `idempotency` | decides which candidates are new, repeats or conflicts |
//! | `rows` | the rows and jobs of new events |

mod candidate;
mod idempotency;
mod prepared;
mod rows;

use std::collections::BTreeSet;
use std::time::Instant;

use postrider_core::{SubscriberId, chain};
use postrider_database::{Database, Dialect, Guarded, InTransaction, Writes};
use postrider_store::StoreError;
use postrider_store::queue_ids::lane_of;
use postrider_telemetry::{context, metric, span};
use sea_orm::ConnectionTrait;
use tracing::{Instrument as _, Span, debug_span, field};

use self::candidate::Candidate;
use self::idempotency::{Decision, decide, repeated_answer};
use self::rows::Rows;
use crate::error::DispatchError;
use crate::event::Dispatched;
use crate::shared::Shared;
use crate::subscriber_cache::EventTypes;

pub(crate) use self::prepared::Prepared;

type Results = Vec<Result<Dispatched, DispatchError>>;

/// Writes events in a transaction of their own. Each event has a result of its own.
pub(crate) async fn commit(shared: &Shared, events: &[Prepared]) -> Results {
    let count = events.len();
    let started = Instant::now();
    let span = debug_span!(
        "dispatch",
        { span::EVENTS } = count,
        { span::SUBSCRIBERS_FOUND } = field::Empty,
        { span::JOBS } = field::Empty
    );
    let mut traces = events.iter().filter_map(|prepared| prepared.event.trace.as_deref());
    if let Some(first) = traces.next() {
        context::set_parent(&span, first);
    }
    for trace in traces.take(span::MAX_LINKS) {
        context::add_link(&span, trace);
    }
    let results = commit_or_split(shared, events).instrument(span).await;
    metrics::histogram!(metric::DISPATCH_DURATION).record(started.elapsed().as_secs_f64());
    #[allow(clippy::cast_precision_loss)] // A batch has a thousand events at most.
    metrics::histogram!(metric::DISPATCH_BATCH).record(count as f64);
    for dispatched in results.iter().flatten().filter(|dispatched| !dispatched.duplicate) {
        let label = shared.labels.value(dispatched.event_type.as_str());
        metrics::counter!(metric::EVENTS, metric::EVENT_TYPE => label).increment(1);
    }
    results
}

/// Writes events in one transaction. If the database rejects it, writes each event in its own, so that one bad event
/// does not fail the others.
async fn commit_or_split(shared: &Shared, events: &[Prepared]) -> Results {
    let error = match commit_all(shared, events).await {
        Ok(results) => return results,
        Err(error) => error,
    };
    if error.is_unavailable() || events.len() < 2 {
        let error = DispatchError::from(error);
        return events.iter().map(|_| Err(error.clone())).collect();
    }
    tracing::warn!(
        error = %chain(&error),
        events = events.len(),
        "the database rejected a batch of events; writing them one by one"
    );
    let mut results = Vec::with_capacity(events.len());
    for event in events.chunks(1) {
        match commit_all(shared, event).await {
            Ok(mut result) => results.append(&mut result),
            Err(error) => results.push(Err(error.into())),
        }
    }
    results
}

async fn commit_all(shared: &Shared, events: &[Prepared]) -> Result<Results, StoreError> {
    let database = shared.store.database();
    // On PostgreSQL one statement writes a batch, and needs no transaction around it, unless a key is taken first.
    let single_statement =
        database.dialect() == Dialect::Postgres && events.iter().all(|prepared| prepared.event.key.is_none());
    let written = async {
        if single_statement {
            return write_single_statement(shared, database, events).await;
        }
        let transaction = database.begin().await?;
        let results = write(shared, &transaction, events).await?;
        transaction.commit().await?;
        Ok::<_, StoreError>(results)
    };
    let results = database.answered(written).await?;
    let new = results.iter().flatten().filter(|dispatched| !dispatched.duplicate);
    let subscribers: BTreeSet<SubscriberId> = new.flat_map(|new| new.subscribers.iter().copied()).collect();
    if !subscribers.is_empty() {
        shared.store.queue().wake(&subscribers.into_iter().map(lane_of).collect::<Vec<_>>());
    }
    Ok(results)
}

/// Writes events in the caller's transaction.
pub(crate) async fn write(
    shared: &Shared,
    transaction: &impl InTransaction,
    events: &[Prepared],
) -> Result<Results, StoreError> {
    let types = event_types(events);
    let found = shared.store.subscribers_of(transaction, &types.distinct).await?;
    let (writes, results) = draft(shared, transaction, events, recipients(&types, events, &found)).await?;
    writes.execute(transaction).await?;
    Ok(results)
}

/// Writes events without keys: in one round trip if the cached lists of subscribers still hold.
async fn write_single_statement(
    shared: &Shared,
    database: &Database,
    events: &[Prepared],
) -> Result<Results, StoreError> {
    let connection = database.connection();
    let types = event_types(events);
    if let Some(found) = shared.subscribers.get(&types.distinct) {
        let (writes, results) = draft(shared, connection, events, recipients(&types, events, &found)).await?;
        let mut guarded = Guarded::new(writes);
        shared.store.expect_subscribers(&types.distinct, &found, &mut guarded);
        match guarded.execute(connection).await {
            Ok(true) => return Ok(results),
            Ok(false) => {}
            Err(error) => {
                shared.subscribers.clear();
                return Err(error.into());
            }
        }
    }
    let found = shared.store.subscribers_of(&database.reads(), &types.distinct).await?;
    shared.subscribers.insert(&types.distinct, &found);
    let (writes, results) = draft(shared, connection, events, recipients(&types, events, &found)).await?;
    writes.execute(connection).await?;
    Ok(results)
}

fn event_types(events: &[Prepared]) -> EventTypes {
    EventTypes::of(events.iter().map(|Prepared { event, .. }| (&event.tenant, &event.event_type)))
}

/// Returns the subscribers of each event, given those that were `found` for each event type.
fn recipients(
    types: &EventTypes,
    events: &[Prepared],
    found: &[Vec<SubscriberId>],
) -> Vec<Vec<SubscriberId>> {
    let indexes = events.iter().zip(&types.indexes);
    indexes
        .map(|(event, &index)| event.only.map_or_else(|| found[index].clone(), |only| vec![only]))
        .collect()
}

/// Drafts the statements that write events with their recipients, and the answers if they succeed.
async fn draft(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    events: &[Prepared],
    recipients: Vec<Vec<SubscriberId>>,
) -> Result<(Writes, Results), StoreError> {
    let candidates: Vec<Candidate<'_>> =
        events.iter().zip(recipients).map(|(event, found)| Candidate::new(shared, event, found)).collect();
    let decisions = decide(shared, connection, &candidates).await?;

    let mut rows = Rows::default();
    for (candidate, decision) in candidates.iter().zip(&decisions) {
        if matches!(decision, Decision::Write) {
            rows.add(shared, candidate);
        }
    }
    let current = Span::current();
    current.record(span::SUBSCRIBERS_FOUND, rows.deliveries.len());
    current.record(span::JOBS, rows.jobs.len());
    let mut writes = Writes::new();
    shared.store.insert_with(rows.events, &rows.deliveries, &mut writes);
    shared.store.queue().enqueue_with(&rows.jobs, &mut writes);

    let answers: Vec<Dispatched> = candidates.into_iter().map(Candidate::into_answer).collect();
    let results = decisions.into_iter().enumerate().map(|(index, decision)| match decision {
        Decision::Write => Ok(answers[index].clone()),
        Decision::RepeatInBatch(first) => Ok(Dispatched { duplicate: true, ..answers[first].clone() }),
        Decision::RepeatOfStored(taken) => Ok(repeated_answer(*taken)),
        Decision::Reject(error) => Err(error),
    });
    Ok((writes, results.collect()))
}
