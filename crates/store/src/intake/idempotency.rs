//! Taking idempotency keys.

use postrider_core::{AgentId, EventId, EventType, JobId, SubscriberId, TenantId, Timestamp};
use postrider_database::sql::column;
use postrider_database::{Batch, Column, Dialect, Kind};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::index;
use crate::events::{FAN_OUT_JOBS, JOBS_CREATED};
use crate::row::{parse, unsigned};
use crate::{Store, StoreError};

/// An idempotency key to be taken.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// The tenant.
    pub tenant: TenantId,
    /// The key.
    pub key: String,
    /// A digest of the request. The same key with another digest is a conflict.
    pub request_hash: [u8; 32],
    /// The event that the request emits.
    pub event_id: EventId,
    /// The event's subscribers and jobs, which the response lists; none if they are many.
    pub jobs: Vec<(SubscriberId, JobId)>,
    /// When the key is taken.
    pub created_at: Timestamp,
}

/// Names an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName {
    /// The tenant.
    pub tenant: TenantId,
    /// The key.
    pub key: String,
}

/// What an earlier request stored under its idempotency key.
#[derive(Clone, Debug)]
pub struct TakenKey {
    /// A digest of that request.
    pub request_hash: Vec<u8>,
    /// The event that it emitted.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// The agent that emitted it.
    pub agent_id: AgentId,
    /// When it was dispatched.
    pub dispatched_at: Timestamp,
    /// The event's subscribers and jobs; none if they are many.
    pub jobs: Vec<(SubscriberId, JobId)>,
    /// The number of the event's subscribers.
    pub subscribers_found: u32,
    /// The number of jobs made so far.
    pub jobs_created: u32,
    /// Whether more jobs are to be made.
    pub continues: bool,
}

impl Store {
    /// Takes idempotency keys. Returns for each key `None` if this call has taken it, or what an earlier request stored
    /// under it. No key may occur twice in `keys`.
    ///
    /// If another transaction is taking one of the keys, this waits until that transaction ends.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
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
        // Sorted, so that two transactions with the same keys lock them in the same order and do not deadlock.
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
        for (place, earlier) in others.into_iter().zip(self.taken_keys(connection, &names).await?) {
            taken[place] = earlier;
        }
        Ok(taken)
    }

    /// Returns what earlier requests stored under these keys; `None` for a key that is free.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
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
        let events = dialect.look_up(
            "events",
            "events.tenant = idempotency_keys.tenant AND events.id = idempotency_keys.event_id",
        );
        let sql = format!(
            "SELECT input.place, request_hash, event_id, jobs, event_type, agent_id, dispatched_at, subscribers_found, \
                {JOBS_CREATED} AS jobs_created, {FAN_OUT_JOBS} IS NOT NULL AS continues \
            FROM input {keys} {events}"
        );
        for row in input.query(connection, &sql, []).await? {
            let event_id = EventId::from_uuid(column(&row, "event_id")?);
            if let Some(entry) = taken.get_mut(index(column(&row, "place")?)) {
                *entry = Some(TakenKey {
                    request_hash: column(&row, "request_hash")?,
                    event_id,
                    event_type: parse(
                        &column::<String>(&row, "event_type")?,
                        "events",
                        "event_type",
                        event_id,
                    )?,
                    agent_id: parse(&column::<String>(&row, "agent_id")?, "events", "agent_id", event_id)?,
                    dispatched_at: Timestamp::from_millis(column(&row, "dispatched_at")?),
                    jobs: unpack(&column::<Vec<u8>>(&row, "jobs")?),
                    subscribers_found: unsigned(column(&row, "subscribers_found")?),
                    jobs_created: unsigned(column(&row, "jobs_created")?),
                    continues: column(&row, "continues")?,
                });
            }
        }
        Ok(taken)
    }
}

/// The stored form of subscribers and jobs: their ids in turn, sixteen bytes each.
fn pack(jobs: &[(SubscriberId, JobId)]) -> Vec<u8> {
    jobs.iter()
        .flat_map(|(subscriber, job)| [subscriber.uuid().into_bytes(), job.uuid().into_bytes()])
        .flatten()
        .collect()
}

/// Reads what [`pack`] wrote.
fn unpack(bytes: &[u8]) -> Vec<(SubscriberId, JobId)> {
    let id = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default();
    bytes
        .chunks_exact(32)
        .map(|pair| (SubscriberId::from_uuid(id(&pair[..16])), JobId::from_uuid(id(&pair[16..]))))
        .collect()
}
