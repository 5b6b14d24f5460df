//! Writing down a batch of events with their deliveries.
//!
//! Each step is one statement, whatever the number of events and subscribers.

use std::collections::HashMap;

use bytes::Bytes;
use postrider_core::{AgentId, DeliveryId, EventId, EventType, JobId, SubscriberId, TenantId, Timestamp};
use postrider_database::{Batch, Column, Dialect, Guarded, Kind, Writes};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use crate::row::{column, parse};
use crate::{Store, StoreError, rollup};

/// An event to be written down.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// Its id.
    pub id: EventId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its type.
    pub event_type: EventType,
    /// Who emitted it.
    pub agent_id: AgentId,
    /// The body that every subscriber gets.
    pub envelope: Bytes,
    /// How many subscribers it has.
    pub subscribers_found: u32,
    /// When it was dispatched.
    pub dispatched_at: Timestamp,
}

/// A delivery to be written down.
#[derive(Clone, Debug)]
pub struct DeliveryRow {
    /// Its id.
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What is delivered.
    pub event_id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// To whom.
    pub subscriber: SubscriberId,
    /// The job that will work on it.
    pub job: JobId,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An idempotency key to be taken.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// Whose it is.
    pub tenant: TenantId,
    /// The key.
    pub key: String,
    /// A digest of the request: the same key with another one is a conflict.
    pub request_hash: [u8; 32],
    /// The event that it stands for.
    pub event_id: EventId,
    /// The first answer's subscribers and jobs.
    pub jobs: Vec<(SubscriberId, JobId)>,
    /// When it was taken.
    pub created_at: Timestamp,
}

/// Which idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// Whose it is.
    pub tenant: TenantId,
    /// The key.
    pub key: String,
}

/// A key that an earlier request took.
#[derive(Clone, Debug)]
pub struct TakenKey {
    /// A digest of that request.
    pub request_hash: Vec<u8>,
    /// The event that it made.
    pub event_id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// Who emitted it.
    pub agent_id: AgentId,
    /// When it was dispatched.
    pub dispatched_at: Timestamp,
    /// Its subscribers and jobs.
    pub jobs: Vec<(SubscriberId, JobId)>,
}

impl Store {
    /// The active subscribers of each of these event types, in the order of their creation.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn subscribers_of(
        &self,
        connection: &impl ConnectionTrait,
        events: &[(TenantId, EventType)],
    ) -> Result<Vec<Vec<SubscriberId>>, StoreError> {
        const PATTERN: &[Column] = &[
            Column::new("place", Kind::Int),
            Column::new("tenant", Kind::Text),
            Column::new("pattern", Kind::Text),
        ];
        let mut input = Batch::new(PATTERN);
        for (place, (tenant, event)) in (0_i32..).zip(events) {
            for pattern in event.matching_patterns() {
                input.push([place.into(), tenant.as_str().into(), pattern.as_str().into()]);
            }
        }
        let joined = match Dialect::of(connection) {
            Dialect::Postgres => ACTIVE,
            Dialect::Sqlite => {
                "JOIN subscriptions ON subscriptions.tenant = input.tenant AND subscriptions.pattern = input.pattern \
                JOIN subscribers ON subscribers.id = subscriptions.subscriber_id AND subscribers.active"
            }
        };
        // Distinct: a subscriber may ask for `order.*` and `order.created` both.
        let sql = format!(
            "SELECT DISTINCT input.place, subscribers.id FROM input {joined} ORDER BY input.place, subscribers.id"
        );
        let mut found = vec![Vec::new(); events.len()];
        for row in input.query(connection, &sql, []).await? {
            let place = place(column::<i32>(&row, "place")?);
            if let Some(subscribers) = found.get_mut(place) {
                subscribers.push(SubscriberId::from_uuid(column(&row, "id")?));
            }
        }
        Ok(found)
    }

    /// Expects that these event types have the active subscribers that [`Store::subscribers_of`] has found of each.
    pub fn expect_subscribers(
        &self,
        events: &[(TenantId, EventType)],
        found: &[Vec<SubscriberId>],
        guarded: &mut Guarded,
    ) {
        const PATTERN: &[Column] = &[
            Column::new("place", Kind::Int),
            Column::new("tenant", Kind::Text),
            Column::new("pattern", Kind::Text),
            Column::new("found", Kind::Text),
        ];
        let mut input = Batch::new(PATTERN);
        for (place, ((tenant, event), found)) in (0_i32..).zip(events.iter().zip(found)) {
            let mut ids: Vec<String> = found.iter().map(|id| id.uuid().to_string()).collect();
            ids.sort_unstable();
            let ids = ids.join(",");
            for pattern in event.matching_patterns() {
                input.push([
                    place.into(),
                    tenant.as_str().into(),
                    pattern.as_str().into(),
                    ids.as_str().into(),
                ]);
            }
        }
        let condition = format!(
            "NOT EXISTS (SELECT 1 FROM (SELECT DISTINCT place, found FROM input) AS event WHERE found <> coalesce(( \
                SELECT string_agg(DISTINCT subscribers.id::text COLLATE \"C\", ',' ORDER BY subscribers.id::text COLLATE \"C\") \
                FROM input {ACTIVE} WHERE input.place = event.place \
            ), ''))"
        );
        guarded.expect(input, condition);
    }

    /// Takes idempotency keys. For each one the answer is `None` if it is taken now, or what an
    /// earlier request made of it. No key may occur twice in `keys`.
    ///
    /// When the same key is being taken by another transaction, this waits for its end.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn take_keys(
        &self,
        connection: &impl ConnectionTrait,
        keys: &[KeyRow],
    ) -> Result<Vec<Option<TakenKey>>, StoreError> {
        const KEY: &[Column] = &[
            Column::new("place", Kind::Int),
            Column::new("tenant", Kind::Text),
            Column::new("key", Kind::Text),
            Column::new("request_hash", Kind::Bytes),
            Column::new("event_id", Kind::Uuid),
            Column::new("jobs", Kind::Bytes),
            Column::new("created_at", Kind::Big),
        ];
        // In one order everywhere, so that two transactions with the same keys do not deadlock.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|&place| (&keys[place].tenant, &keys[place].key));
        let mut input = Batch::new(KEY);
        for &place in &order {
            let key = &keys[place];
            input.push([
                i32::try_from(place).unwrap_or(i32::MAX).into(),
                key.tenant.as_str().into(),
                key.key.as_str().into(),
                key.request_hash.to_vec().into(),
                key.event_id.uuid().into(),
                pack(&key.jobs).into(),
                key.created_at.millis().into(),
            ]);
        }
        let sql = "INSERT INTO idempotency_keys (tenant, key, request_hash, event_id, jobs, created_at) \
            SELECT tenant, key, request_hash, event_id, jobs, created_at FROM input WHERE true \
            ON CONFLICT (tenant, key) DO NOTHING RETURNING event_id";
        let ours: Vec<Uuid> = input
            .query(connection, sql, [])
            .await?
            .iter()
            .map(|row| column(row, "event_id"))
            .collect::<Result<_, _>>()?;
        let mut taken = vec![None; keys.len()];
        if ours.len() == keys.len() {
            return Ok(taken);
        }
        let others: Vec<usize> =
            (0..keys.len()).filter(|&place| !ours.contains(&keys[place].event_id.uuid())).collect();
        let names: Vec<KeyName> = others
            .iter()
            .map(|&place| KeyName { tenant: keys[place].tenant.clone(), key: keys[place].key.clone() })
            .collect();
        for (place, held) in others.into_iter().zip(self.taken_keys(connection, &names).await?) {
            taken[place] = held;
        }
        Ok(taken)
    }

    /// What earlier requests made of these keys; none for a key that is free.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn taken_keys(
        &self,
        connection: &impl ConnectionTrait,
        names: &[KeyName],
    ) -> Result<Vec<Option<TakenKey>>, StoreError> {
        const NAME: &[Column] = &[
            Column::new("place", Kind::Int),
            Column::new("tenant", Kind::Text),
            Column::new("key", Kind::Text),
        ];
        let mut taken = vec![None; names.len()];
        let mut input = Batch::new(NAME);
        for (place, name) in (0_i32..).zip(names) {
            input.push([place.into(), name.tenant.as_str().into(), name.key.as_str().into()]);
        }
        let dialect = Dialect::of(connection);
        let keys = dialect.look_up(
            "idempotency_keys",
            "idempotency_keys.tenant = input.tenant AND idempotency_keys.key = input.key",
        );
        let events = dialect.look_up("events", "events.id = idempotency_keys.event_id");
        let sql = format!(
            "SELECT input.place, request_hash, event_id, jobs, event_type, agent_id, dispatched_at \
            FROM input {keys} {events}"
        );
        for row in input.query(connection, &sql, []).await? {
            let place = place(column::<i32>(&row, "place")?);
            if let Some(slot) = taken.get_mut(place) {
                *slot = Some(TakenKey {
                    request_hash: column(&row, "request_hash")?,
                    event_id: EventId::from_uuid(column(&row, "event_id")?),
                    event_type: parse(&column::<String>(&row, "event_type")?, "events", "event_type")?,
                    agent_id: parse(&column::<String>(&row, "agent_id")?, "events", "agent_id")?,
                    dispatched_at: Timestamp::from_millis(column(&row, "dispatched_at")?),
                    jobs: unpack(&column::<Vec<u8>>(&row, "jobs")?),
                });
            }
        }
        Ok(taken)
    }

    /// Adds to `writes` what writes down events and their deliveries, and counts them.
    pub fn insert_with(&self, events: Vec<EventRow>, deliveries: &[DeliveryRow], writes: &mut Writes) {
        const EVENT: &[Column] = &[
            Column::new("id", Kind::Uuid),
            Column::new("tenant", Kind::Text),
            Column::new("event_type", Kind::Text),
            Column::new("agent_id", Kind::Text),
            Column::new("envelope", Kind::Bytes),
            Column::new("subscribers_found", Kind::Int),
            Column::new("dispatched_at", Kind::Big),
        ];
        const DELIVERY: &[Column] = &[
            Column::new("id", Kind::Uuid),
            Column::new("tenant", Kind::Text),
            Column::new("event_id", Kind::Uuid),
            Column::new("subscriber_id", Kind::Uuid),
            Column::new("event_type", Kind::Text),
            Column::new("job_id", Kind::Uuid),
            Column::new("created_at", Kind::Big),
        ];
        let mut input = Batch::new(EVENT);
        for event in events {
            input.push([
                event.id.uuid().into(),
                event.tenant.as_str().into(),
                event.event_type.as_str().into(),
                event.agent_id.as_str().into(),
                Vec::from(event.envelope).into(),
                crate::row::signed(event.subscribers_found).into(),
                event.dispatched_at.millis().into(),
            ]);
        }
        let sql = "INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at) \
            SELECT id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at FROM input";
        writes.push(input, sql);

        let mut input = Batch::new(DELIVERY);
        let mut counts: HashMap<rollup::Key, rollup::Counts> = HashMap::new();
        for delivery in deliveries {
            input.push([
                delivery.id.uuid().into(),
                delivery.tenant.as_str().into(),
                delivery.event_id.uuid().into(),
                delivery.subscriber.uuid().into(),
                delivery.event_type.as_str().into(),
                delivery.job.uuid().into(),
                delivery.created_at.millis().into(),
            ]);
            let key = rollup::Key::new(
                &delivery.tenant,
                delivery.subscriber,
                &delivery.event_type,
                delivery.created_at,
            );
            counts.entry(key).or_default().created += 1;
        }
        let sql = "INSERT INTO deliveries \
                (id, tenant, event_id, subscriber_id, event_type, status, attempts, round_start, job_id, created_at) \
            SELECT id, tenant, event_id, subscriber_id, event_type, 0, 0, 0, job_id, created_at FROM input";
        writes.push(input, sql);
        rollup::add(self.shards.next(), counts, writes);
    }
}

/// Goes on from patterns with the active subscribers that ask for them. PostgreSQL is made to look them up one by one,
/// as in [`Store::load`].
const ACTIVE: &str = "CROSS JOIN LATERAL ( \
        SELECT subscriber_id FROM subscriptions WHERE tenant = input.tenant AND pattern = input.pattern OFFSET 0 \
    ) AS subscriptions \
    CROSS JOIN LATERAL ( \
        SELECT id FROM subscribers WHERE id = subscriptions.subscriber_id AND active LIMIT 1 \
    ) AS subscribers";

fn place(place: i32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// Subscriber and job ids in turn, sixteen bytes each.
fn pack(jobs: &[(SubscriberId, JobId)]) -> Vec<u8> {
    jobs.iter()
        .flat_map(|(subscriber, job)| [subscriber.uuid().into_bytes(), job.uuid().into_bytes()])
        .flatten()
        .collect()
}

fn unpack(bytes: &[u8]) -> Vec<(SubscriberId, JobId)> {
    let id = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default();
    bytes
        .chunks_exact(32)
        .map(|pair| (SubscriberId::from_uuid(id(&pair[..16])), JobId::from_uuid(id(&pair[16..]))))
        .collect()
}
