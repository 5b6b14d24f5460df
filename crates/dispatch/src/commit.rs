//! Writing a batch of events, all or none: a fixed number of statements, whatever the number of events
//! and subscribers.

use std::collections::HashMap;
use std::time::Instant;

use postrider_core::{AgentId, EventData, EventId, JobId, SubscriberId, TenantId, Timestamp};
use postrider_core::{DeliveryId, Envelope};
use postrider_database::{Database, Dialect, Guarded, Writes};
use postrider_queue::{LaneId, NewJob};
use postrider_store::StoreError;
use postrider_store::intake::{DeliveryRow, EventRow, KeyName, KeyRow, TakenKey};
use postrider_telemetry::context::TraceParent;
use postrider_telemetry::{context, metric, span};
use ring::digest;
use sea_orm::{ConnectionTrait, DatabaseTransaction};
use tracing::{Instrument as _, Span, debug_span, field};

use crate::dispatcher::Shared;
use crate::error::DispatchError;
use crate::event::{Dispatched, NewEvent};
use crate::known::Kinds;

type Results = Vec<Result<Dispatched, DispatchError>>;

/// An event that its transforms have seen.
pub(crate) struct Prepared {
    event: NewEvent,
    agent_id: AgentId,
    /// What the transforms made of its data; none if they left it. Kept until the event's key has
    /// been looked up: a repeat is answered as the first time, whatever hooks say of it now.
    transformed: Result<Option<EventData>, DispatchError>,
    /// The one subscriber that it goes to, whatever that asked for; if none, to all that asked for it.
    only: Option<SubscriberId>,
}

impl Prepared {
    pub(crate) fn new(shared: &Shared, event: NewEvent) -> Self {
        let agent_id = event.agent_id.clone().unwrap_or_else(|| shared.default_agent.clone());
        let transformed = shared.transforms.apply(&event.tenant, &event.event_type, &agent_id, &event.data);
        Self { event, agent_id, transformed, only: None }
    }

    pub(crate) fn only_to(self, subscriber: SubscriberId) -> Self {
        Self { only: Some(subscriber), ..self }
    }

    /// How many bytes its data has.
    pub(crate) fn size(&self) -> usize {
        self.data().as_json().len()
    }

    fn data(&self) -> &EventData {
        match &self.transformed {
            Ok(Some(data)) => data,
            Ok(None) | Err(_) => &self.event.data,
        }
    }
}

/// Writes events in a transaction of their own.
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
    let results = commit_each(shared, events).instrument(span).await;
    metrics::histogram!(metric::DISPATCH_DURATION).record(started.elapsed().as_secs_f64());
    #[allow(clippy::cast_precision_loss)] // A batch has a thousand events at most.
    metrics::histogram!(metric::DISPATCH_BATCH).record(count as f64);
    for dispatched in results.iter().flatten().filter(|dispatched| !dispatched.duplicate) {
        let label = shared.labels.value(dispatched.event_type.as_str());
        metrics::counter!(metric::EVENTS, metric::EVENT_TYPE => label).increment(1);
    }
    results
}

/// Writes events in one transaction; if the database refuses that, each in its own, so that a single
/// odd one harms no other.
async fn commit_each(shared: &Shared, events: &[Prepared]) -> Results {
    let error = match commit_all(shared, events).await {
        Ok(results) => return results,
        Err(error) => error,
    };
    if error.is_unavailable() || events.len() < 2 {
        let error = DispatchError::from(error);
        return events.iter().map(|_| Err(error.clone())).collect();
    }
    tracing::warn!(%error, events = events.len(), "a batch was refused; writing its events one by one");
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
    // One statement writes all of it, unless a key has to be taken before: then nothing else needs a transaction.
    let at_once =
        database.dialect() == Dialect::Postgres && events.iter().all(|prepared| prepared.event.key.is_none());
    let written = async {
        if at_once {
            return write_at_once(shared, database, events).await;
        }
        let transaction = database.begin().await?;
        let results = write(shared, &transaction, events).await?;
        transaction.commit().await?;
        Ok::<_, StoreError>(results)
    };
    let results = database.answered(written).await?;
    if results.iter().flatten().any(|dispatched| !dispatched.duplicate && !dispatched.jobs.is_empty()) {
        shared.store.queue().wake();
    }
    Ok(results)
}

/// Writes events in a transaction of the caller's.
pub(crate) async fn write(
    shared: &Shared,
    transaction: &DatabaseTransaction,
    events: &[Prepared],
) -> Result<Results, StoreError> {
    let kinds = kinds(events);
    let found = shared.store.subscribers_of(transaction, &kinds.all).await?;
    let (writes, results) = draft(shared, transaction, events, each(&kinds, events, &found)).await?;
    writes.execute(transaction).await?;
    Ok(results)
}

/// Writes events without keys: in one round trip if their subscribers are who they were the last time.
async fn write_at_once(
    shared: &Shared,
    database: &Database,
    events: &[Prepared],
) -> Result<Results, StoreError> {
    let connection = database.connection();
    let kinds = kinds(events);
    if let Some(found) = shared.known.of(&kinds.all) {
        let (writes, results) = draft(shared, connection, events, each(&kinds, events, &found)).await?;
        let mut guarded = Guarded::new(writes);
        shared.store.expect_subscribers(&kinds.all, &found, &mut guarded);
        match guarded.execute(&database.dedicated()).await {
            Ok(true) => return Ok(results),
            Ok(false) => {}
            Err(error) => {
                shared.known.forget_all();
                return Err(error.into());
            }
        }
    }
    let found = database.past_dead(|| shared.store.subscribers_of(connection, &kinds.all)).await?;
    shared.known.learn(&kinds.all, &found);
    let (writes, results) = draft(shared, connection, events, each(&kinds, events, &found)).await?;
    writes.execute(connection).await?;
    Ok(results)
}

fn kinds(events: &[Prepared]) -> Kinds {
    Kinds::of(events.iter().map(|Prepared { event, .. }| (&event.tenant, &event.event_type)))
}

/// The subscribers of each event, of those that were `found` of each kind.
fn each(kinds: &Kinds, events: &[Prepared], found: &[Vec<SubscriberId>]) -> Vec<Vec<SubscriberId>> {
    let places = events.iter().zip(&kinds.places);
    places.map(|(event, &place)| event.only.map_or_else(|| found[place].clone(), |only| vec![only])).collect()
}

/// What is to be written of events whose subscribers have been `found`, and what is answered then.
async fn draft(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    events: &[Prepared],
    found: Vec<Vec<SubscriberId>>,
) -> Result<(Writes, Results), StoreError> {
    let drafts: Vec<Draft<'_>> =
        events.iter().zip(found).map(|(event, found)| Draft::new(shared, event, found)).collect();
    let verdicts = judge(shared, connection, &drafts).await?;

    let mut rows = Rows::default();
    for (draft, verdict) in drafts.iter().zip(&verdicts) {
        if matches!(verdict, Verdict::New) {
            rows.add(shared, draft);
        }
    }
    let current = Span::current();
    current.record(span::SUBSCRIBERS_FOUND, rows.deliveries.len());
    current.record(span::JOBS, rows.jobs.len());
    let mut writes = Writes::new();
    shared.store.insert_with(rows.events, &rows.deliveries, &mut writes);
    shared.store.queue().enqueue_with(&rows.jobs, &mut writes);

    let answers: Vec<Dispatched> = drafts.into_iter().map(Draft::into_answer).collect();
    let results = verdicts.into_iter().enumerate().map(|(place, verdict)| match verdict {
        Verdict::New => Ok(answers[place].clone()),
        Verdict::SameAs(first) => Ok(Dispatched { duplicate: true, ..answers[first].clone() }),
        Verdict::Taken(taken) => Ok(repeat(*taken)),
        Verdict::Refused(error) => Err(error),
    });
    Ok((writes, results.collect()))
}

/// An event with all that will be written of it.
struct Draft<'a> {
    prepared: &'a Prepared,
    id: EventId,
    at: Timestamp,
    jobs: Vec<(SubscriberId, JobId)>,
}

impl<'a> Draft<'a> {
    fn new(shared: &Shared, prepared: &'a Prepared, subscribers: Vec<SubscriberId>) -> Self {
        let ids = shared.store.ids();
        Self {
            prepared,
            id: ids.next(),
            at: ids.clock().now(),
            jobs: subscribers.into_iter().map(|subscriber| (subscriber, ids.next())).collect(),
        }
    }

    /// Its key, if it has one, with the tenant whose it is.
    fn key(&self) -> Option<(&'a TenantId, &'a str)> {
        let event = &self.prepared.event;
        event.key.as_ref().map(|key| (&event.tenant, key.as_str()))
    }

    /// A digest of what the caller asked for: lengths first, so that no two requests share one.
    fn hash(&self) -> [u8; 32] {
        let Prepared { event, agent_id, .. } = self.prepared;
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [event.event_type.as_str(), agent_id.as_str(), event.data.as_json()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }

    fn into_answer(self) -> Dispatched {
        let (subscribers, jobs) = self.jobs.into_iter().unzip();
        Dispatched {
            id: self.id,
            event_type: self.prepared.event.event_type.clone(),
            agent_id: self.prepared.agent_id.clone(),
            timestamp: self.at,
            subscribers,
            jobs,
            duplicate: false,
        }
    }
}

/// What becomes of a draft.
enum Verdict {
    New,
    /// An earlier one of the same batch has the same key and says the same.
    SameAs(usize),
    /// An earlier request had the same key and said the same.
    Taken(Box<TakenKey>),
    /// A hook failed, or an earlier one had the same key and said something else.
    Refused(DispatchError),
}

async fn judge(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    drafts: &[Draft<'_>],
) -> Result<Vec<Verdict>, StoreError> {
    let mut verdicts: Vec<Verdict> = drafts.iter().map(|_| Verdict::New).collect();
    judge_failed(shared, connection, drafts, &mut verdicts).await?;
    judge_keys(shared, connection, drafts, &mut verdicts).await?;
    Ok(verdicts)
}

/// An event whose hooks failed is refused, unless it repeats one that was taken.
async fn judge_failed(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    drafts: &[Draft<'_>],
    verdicts: &mut [Verdict],
) -> Result<(), StoreError> {
    let (mut places, mut names): (Vec<usize>, Vec<KeyName>) = Default::default();
    for (place, draft) in drafts.iter().enumerate() {
        let Err(error) = &draft.prepared.transformed else { continue };
        verdicts[place] = Verdict::Refused(error.clone());
        if let Some((tenant, key)) = draft.key() {
            places.push(place);
            names.push(KeyName { tenant: tenant.clone(), key: key.into() });
        }
    }
    for (place, taken) in places.into_iter().zip(shared.store.taken_keys(connection, &names).await?) {
        if let Some(taken) = taken {
            verdicts[place] = of_taken(taken, &drafts[place]);
        }
    }
    Ok(())
}

async fn judge_keys(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    drafts: &[Draft<'_>],
    verdicts: &mut [Verdict],
) -> Result<(), StoreError> {
    let mut keys: Vec<KeyRow> = Vec::new();
    // Where in `drafts` each key of `keys` is from, and where those are that repeat it.
    let mut first: HashMap<(&TenantId, &str), usize> = HashMap::new();
    let mut firsts: Vec<usize> = Vec::new();
    let mut repeats: Vec<(usize, usize)> = Vec::new();
    for (place, draft) in drafts.iter().enumerate() {
        let Some(name) = draft.key().filter(|_| draft.prepared.transformed.is_ok()) else { continue };
        if let Some(&earlier) = first.get(&name) {
            repeats.push((place, earlier));
            continue;
        }
        first.insert(name, place);
        firsts.push(place);
        keys.push(KeyRow {
            tenant: name.0.clone(),
            key: name.1.into(),
            request_hash: draft.hash(),
            event_id: draft.id,
            jobs: draft.jobs.clone(),
            created_at: draft.at,
        });
    }
    if keys.is_empty() {
        return Ok(());
    }
    let taken = shared.store.take_keys(connection, &keys).await?;
    let taken: HashMap<usize, TakenKey> =
        firsts.into_iter().zip(taken).filter_map(|(place, taken)| Some((place, taken?))).collect();
    for (&place, taken) in &taken {
        verdicts[place] = of_taken(taken.clone(), &drafts[place]);
    }
    for (place, earlier) in repeats {
        verdicts[place] = match taken.get(&earlier) {
            Some(taken) => of_taken(taken.clone(), &drafts[place]),
            None if drafts[place].hash() == drafts[earlier].hash() => Verdict::SameAs(earlier),
            None => Verdict::Refused(DispatchError::KeyConflict),
        };
    }
    Ok(())
}

fn of_taken(taken: TakenKey, draft: &Draft<'_>) -> Verdict {
    if taken.request_hash == draft.hash() {
        Verdict::Taken(Box::new(taken))
    } else {
        Verdict::Refused(DispatchError::KeyConflict)
    }
}

fn repeat(taken: TakenKey) -> Dispatched {
    let (subscribers, jobs) = taken.jobs.into_iter().unzip();
    Dispatched {
        id: taken.event_id,
        event_type: taken.event_type,
        agent_id: taken.agent_id,
        timestamp: taken.dispatched_at,
        subscribers,
        jobs,
        duplicate: true,
    }
}

/// What is written of the new events.
#[derive(Default)]
struct Rows {
    events: Vec<EventRow>,
    deliveries: Vec<DeliveryRow>,
    jobs: Vec<NewJob>,
}

impl Rows {
    fn add(&mut self, shared: &Shared, draft: &Draft<'_>) {
        let Prepared { event, agent_id, .. } = draft.prepared;
        let data = draft.prepared.data();
        let envelope = Envelope { event_type: &event.event_type, timestamp: draft.at, agent_id, data };
        // Only what is a traceparent: any other text might not even fit into a column.
        let given = event.trace.as_deref().and_then(|trace| trace.parse::<TraceParent>().ok());
        let trace = match (given, TraceParent::current()) {
            // The batch is in another request's trace, and links to this one.
            (Some(given), Some(current)) if given.trace_id() != current.trace_id() => Some(given),
            (given, current) => current.or(given),
        };
        let trace = trace.map(|trace| trace.to_string());
        for &(subscriber, job) in &draft.jobs {
            let id: DeliveryId = shared.store.ids().next();
            self.deliveries.push(DeliveryRow {
                id,
                tenant: event.tenant.clone(),
                event_id: draft.id,
                event_type: event.event_type.clone(),
                subscriber,
                job,
                created_at: draft.at,
            });
            let job = NewJob::now(postrider_queue::JobId(job.uuid()), LaneId(subscriber.uuid()), id.uuid());
            self.jobs.push(NewJob { trace: trace.clone(), ..job });
        }
        self.events.push(EventRow {
            id: draft.id,
            tenant: event.tenant.clone(),
            event_type: event.event_type.clone(),
            agent_id: agent_id.clone(),
            envelope: envelope.to_bytes().into(),
            subscribers_found: u32::try_from(draft.jobs.len()).unwrap_or(u32::MAX),
            dispatched_at: draft.at,
        });
    }
}
