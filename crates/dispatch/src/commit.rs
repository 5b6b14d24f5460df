//! Writing events, in statements that are bounded by the deliveries that they write.
//!
//! An event with few subscribers is written with its deliveries and jobs. One with more is written with the promise to
//! make them, which the runner (`fan_out`) keeps.
//!
//! | module | what it does |
//! |---|---|
//! | `prepared` | an event after its transforms have run |
//! | `addressed` | an event and its subscribers, whose filters are asked here |
//! | `channels` | the subscribers that share a channel with an event |
//! | `candidate` | an event with its ids and subscribers |
//! | `idempotency` | decides which candidates are new, repeats or conflicts |
//! | `rows` | the rows and jobs of new events |
//! | `chunk` | writes some events, all or none |

mod addressed;
mod candidate;
mod channels;
mod chunk;
mod idempotency;
mod prepared;
mod rows;

use postrider_database::{Dialect, InTransaction};
use postrider_store::StoreError;

use self::addressed::{Addressed, Found, address};
use self::chunk::write_chunk;
use crate::error::DispatchError;
use crate::event::{Dispatched, NewEvent};
use crate::shared::Shared;
use crate::subscriber_cache::{Distinct, EventTypes};

pub(crate) use self::prepared::Prepared;

pub(crate) type Answer = Result<Dispatched, DispatchError>;

/// How many deliveries one statement writes. An event with few subscribers never has more.
pub(crate) const MAX_DELIVERIES: usize = 5_000;

/// Writes events. Each has a result of its own.
pub(crate) async fn commit(shared: &Shared, events: &[Prepared]) -> Vec<Answer> {
    let mut answers = commit_narrow(shared, events).await;
    let wide: Vec<&Prepared> = unanswered(events, &answers);
    let mut wide = commit_wide(shared, &wide).await.into_iter();
    for answer in answers.iter_mut().filter(|answer| answer.is_none()) {
        *answer = wide.next();
    }
    answers.into_iter().map(|answer| answer.unwrap_or(Err(DispatchError::Closed))).collect()
}

fn unanswered<'a>(events: &'a [Prepared], answers: &[Option<Answer>]) -> Vec<&'a Prepared> {
    events.iter().zip(answers).filter(|(_, answer)| answer.is_none()).map(|(event, _)| event).collect()
}

/// Writes the events that have few subscribers. Returns `None` for the others, which [`commit_wide`] writes.
pub(crate) async fn commit_narrow(shared: &Shared, events: &[Prepared]) -> Vec<Option<Answer>> {
    let types = event_types(events);
    let cached =
        if single_statement(shared, events) { shared.subscribers.get(&types.distinct) } else { None };
    let is_cached = cached.is_some();
    let reading = async {
        let found = match cached {
            Some(found) => found,
            None => chunk::find(shared, &types).await?,
        };
        Ok::<_, StoreError>((found, channels::find(shared, events).await?))
    };
    let all_failed = |error: StoreError| {
        let error = DispatchError::from(error);
        events.iter().map(|_| Some(Err(error.clone()))).collect()
    };
    let (found, in_channels) = match shared.store.database().answered(reading).await {
        Ok(found) => found,
        Err(error) => return all_failed(error),
    };
    let mut places = Vec::new();
    let mut few = Vec::new();
    for (place, (event, index)) in events.iter().zip(types.indexes).enumerate() {
        let matching = || channels::merged(found[index].clone(), in_channels.of(event)).map(Found::Few);
        if let Some(found) = event.only.map_or_else(matching, |only| Some(Found::Only(only))) {
            places.push(place);
            few.push((event, found));
        }
    }
    let reads = shared.store.database().reads();
    let addressed = match shared.store.database().answered(address(shared, &reads, few)).await {
        Ok(addressed) => addressed,
        Err(error) => return all_failed(error),
    };
    let mut answers: Vec<Option<Answer>> = events.iter().map(|_| None).collect();
    for (place, answer) in places.into_iter().zip(write_chunks(shared, addressed, is_cached).await) {
        answers[place] = answer;
    }
    answers
}

/// Writes events after counting their subscribers, which takes time if there are many.
pub(crate) async fn commit_wide(shared: &Shared, events: &[&Prepared]) -> Vec<Answer> {
    let asked = Distinct::of(events.iter().map(|prepared| channels::asked(prepared)));
    let counted = async {
        let mut audiences = Vec::with_capacity(asked.distinct.len());
        for (event_type, channels) in &asked.distinct {
            let reads = shared.store.database().reads();
            let (tenant, name) = event_type;
            let counted = shared.store.audience_of(&reads, tenant, name, channels.as_ref());
            let audience = shared.store.database().answered(counted).await?;
            if channels.is_none() {
                shared.subscribers.insert_counted(event_type, &audience);
            }
            audiences.push(audience);
        }
        Ok::<_, StoreError>(audiences)
    };
    let addressing = async {
        let audiences = counted.await?;
        let found = events.iter().zip(&asked.indexes);
        let found = found.map(|(event, index)| (*event, Found::from(audiences[*index].clone()))).collect();
        let reads = shared.store.database().reads();
        shared.store.database().answered(address(shared, &reads, found)).await
    };
    let addressed = match addressing.await {
        Ok(addressed) => addressed,
        Err(error) => {
            let error = DispatchError::from(error);
            return events.iter().map(|_| Err(error.clone())).collect();
        }
    };
    let answers = write_chunks(shared, addressed, false).await;
    // Only events whose subscribers were cached can be left for later.
    answers.into_iter().map(|answer| answer.unwrap_or(Err(DispatchError::Closed))).collect()
}

/// Writes an event in the caller's transaction.
pub(crate) async fn write_in(
    shared: &Shared,
    transaction: &impl InTransaction,
    event: &Prepared,
) -> Result<Answer, StoreError> {
    let (tenant, event_type) = (&event.event.tenant, &event.event.event_type);
    let found = if let Some(only) = event.only {
        Some(Found::Only(only))
    } else {
        let types = event_types([event]);
        let found = shared.store.subscribers_of(transaction, &types.distinct).await?.pop().flatten();
        let found = found.map(Into::into);
        let few = if let Some(channels) = channels::asked(event).1 {
            let asked = [(tenant.clone(), event_type.clone(), channels)];
            let others = shared.store.subscribers_in_channels(transaction, &asked).await?.pop().flatten();
            channels::merged(found, Some(&others))
        } else {
            found
        };
        few.map(Found::Few)
    };
    let found = if let Some(found) = found {
        found
    } else {
        let channels = event.event.channels.as_ref();
        shared.store.audience_of(transaction, tenant, event_type, channels).await?.into()
    };
    let addressed = address(shared, transaction, vec![(event, found)]).await?;
    // The caller wakes workers after its commit. A queue outside the database hears of the jobs within a second.
    let (mut answers, _jobs) = chunk::write_in(shared, transaction, &addressed).await?;
    Ok(answers.pop().unwrap_or(Err(DispatchError::Closed)))
}

/// Writes events chunk by chunk. When the database is unavailable, the chunks that follow are not tried.
async fn write_chunks(shared: &Shared, events: Vec<Addressed<'_>>, is_cached: bool) -> Vec<Option<Answer>> {
    let mut answers = Vec::with_capacity(events.len());
    let mut rest = &events[..];
    while !rest.is_empty() {
        let (chunk, others) = rest.split_at(length_of_chunk(rest));
        rest = others;
        let written = write_chunk(shared, chunk, is_cached).await;
        let failed = written.iter().flatten().find_map(|answer| match answer {
            Err(error) if error.is_unavailable() => Some(error.clone()),
            _ => None,
        });
        answers.extend(written);
        if let Some(error) = failed {
            answers.extend(rest.iter().map(|_| Some(Err(error.clone()))));
            break;
        }
    }
    answers
}

/// Returns how many of these events one statement writes: at least one.
fn length_of_chunk(events: &[Addressed<'_>]) -> usize {
    let mut deliveries = 0;
    let fits = |event: &&Addressed<'_>| {
        deliveries += event.deliveries();
        deliveries <= MAX_DELIVERIES
    };
    events.iter().take_while(fits).count().max(1)
}

/// Returns whether one statement can write these events and check their cached subscribers. With a key, which is taken first,
/// they need a transaction, and the subscribers of channels are not cached.
fn single_statement(shared: &Shared, events: &[Prepared]) -> bool {
    let on_postgres = shared.store.database().dialect() == Dialect::Postgres;
    let is_plain = |event: &NewEvent| event.key.is_none() && event.channels.is_none();
    on_postgres && events.iter().all(|prepared| is_plain(&prepared.event))
}

fn event_types<'a>(events: impl IntoIterator<Item = &'a Prepared>) -> EventTypes {
    EventTypes::of(
        events.into_iter().map(|Prepared { event, .. }| (event.tenant.clone(), event.event_type.clone())),
    )
}
