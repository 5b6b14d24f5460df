//! Ending what waits for subscribers that receive nothing more.
//!
//! Their deliveries need no request, so no limit of the lane holds them back: they end in batches, straight from the
//! queue, without being claimed. One process at a time does that, one batch after the other, so that other lanes do not
//! notice. Whether a subscriber is inactive is looked up in each batch, under a lock. If it is active again, what has not
//! been ended is delivered.

use std::collections::HashMap;

use postrider_core::{DeactivationReason, DeliveryId, EventId, EventType, SubscriberId, TenantId, Timestamp};
use postrider_database::sql::{column, query_one};
use postrider_database::{Batch, Column, Dialect, Kind, Transaction, Writes};
use postrider_queue::{Draining, LaneId};
use sea_orm::QueryResult;
use uuid::Uuid;

use crate::attempt::End;
use crate::health::Notice;
use crate::partitions::Tables;
use crate::recording::deliveries::{Named, named};
use crate::rollups::deliveries::{Counts, add};
use crate::rollups::key::Key;
use crate::row::{DEAD, PENDING, parse, unsigned};
use crate::turn::Turn;
use crate::{Store, StoreError};

/// The result of [`Store::drain`].
#[derive(Clone, Debug)]
pub struct Drained {
    /// The lane.
    pub lane: LaneId,
    /// How the deliveries ended.
    pub end: End,
    /// How many deliveries of each event type ended.
    pub deliveries: HashMap<EventType, u64>,
    /// What operators may want to know.
    pub notices: Vec<Notice>,
}

/// A delivery that was ended.
pub(crate) struct Ended {
    pub(crate) id: DeliveryId,
    tenant: TenantId,
    event_id: EventId,
    event_type: EventType,
    attempts: u32,
    created_at: Timestamp,
}

impl Store {
    /// Ends up to `max` deliveries that wait in the next draining lane after `after`, in the order of the lanes' ids.
    ///
    /// Returns `None` if there is no such lane, or if another process is draining.
    ///
    /// # Errors
    /// Fails if the database is unavailable. Then no delivery has ended, or all of the batch have.
    pub async fn drain(&self, after: Option<LaneId>, max: u32) -> Result<Option<Drained>, StoreError> {
        match self.drain_next(after, max).await {
            // A partition was dropped: no delivery was pending in it.
            Err(StoreError::Database(error)) if error.is_missing_table() => {
                self.partitions.forget();
                self.drain_next(after, max).await
            }
            drained => drained,
        }
    }

    async fn drain_next(&self, after: Option<LaneId>, max: u32) -> Result<Option<Drained>, StoreError> {
        // Read first: finding nothing must not cost a transaction.
        let Some(lane) = self.queue.next_draining(after).await? else { return Ok(None) };
        let transaction = self.database.begin().await?;
        if !Turn::DRAINING.take(&transaction).await? {
            transaction.rollback().await?;
            return Ok(None);
        }
        let subscriber = SubscriberId::from_uuid(lane.0);
        let state = lock_subscriber(&transaction, subscriber).await?;
        let end = match state {
            State::Active => {
                self.queue.drain_in(&transaction, lane, Draining::No).await?;
                None
            }
            State::Inactive(reason) => Some(End::of_inactive(reason)),
            State::Deleted => Some(End::of_inactive(None)),
        };
        let mut removed = Vec::new();
        let mut drained = Drained {
            lane,
            end: end.unwrap_or(End::Cancelled),
            deliveries: HashMap::new(),
            notices: Vec::new(),
        };
        if let Some(end) = end {
            let waiting = self.queue.waiting_in(&transaction, lane, max).await?;
            let tables = self.tables_of(waiting.iter().map(|job| DeliveryId::from_uuid(job.subject)));
            let named: Vec<_> =
                waiting.iter().map(|job| (job.owner.as_str(), job.subject, job.id.0)).collect();
            let ended = end_deliveries(&transaction, &tables, &named, end).await?;
            let mut counts: HashMap<Key, Counts> = HashMap::new();
            for delivery in ended {
                *drained.deliveries.entry(delivery.event_type.clone()).or_default() += 1;
                count(&mut counts, subscriber, &delivery, end);
                drained.notices.extend(notice(subscriber, delivery, end));
            }
            let mut writes = Writes::new();
            add(counts, &mut writes);
            writes.execute(&transaction).await?;
            self.queue.remove_in(&transaction, lane, &waiting).await?;
            removed.extend(waiting.iter().map(|job| job.id));
            if waiting.len() < max as usize {
                // A retry may have made the lane again. It is removed some time after it has drained.
                if matches!(state, State::Deleted) {
                    self.queue.drain_in(&transaction, lane, Draining::ThenRemoved).await?;
                }
                self.queue.drained_in(&transaction, lane).await?;
            }
        }
        transaction.commit().await?;
        self.queue.removed(lane, &removed).await;
        self.queue.lanes_changed();
        if end.is_none() {
            self.queue.wake(&[lane]);
        }
        Ok(Some(drained))
    }
}

enum State {
    Active,
    Inactive(Option<DeactivationReason>),
    Deleted,
}

/// Reads whether a subscriber is active, and keeps it so until the transaction ends.
async fn lock_subscriber(transaction: &Transaction, id: SubscriberId) -> Result<State, StoreError> {
    let lock = match Dialect::of(transaction) {
        Dialect::Postgres => " FOR SHARE",
        Dialect::Sqlite => "",
    };
    let sql = format!("SELECT active, deactivation_reason FROM subscribers WHERE id = $1{lock}");
    let Some(row) = query_one(transaction, sql, [id.uuid().into()]).await? else {
        return Ok(State::Deleted);
    };
    if column(&row, "active")? {
        return Ok(State::Active);
    }
    let reason = column::<Option<i16>>(&row, "deactivation_reason")?;
    Ok(State::Inactive(reason.and_then(DeactivationReason::from_code)))
}

/// Ends those deliveries that are pending and belong to that job. Each is given by its tenant, its id and the job's.
pub(crate) async fn end_deliveries(
    transaction: &Transaction,
    tables: &Tables,
    named_by_job: &[(&str, Uuid, Uuid)],
    end: End,
) -> Result<Vec<Ended>, StoreError> {
    const DELIVERY: &[Column] =
        &[Column::new("tenant", Kind::Text), Column::new("id", Kind::Uuid), Column::new("job", Kind::Uuid)];
    let mut input = Batch::new(DELIVERY);
    for &(tenant, delivery, job) in named_by_job {
        input.push([tenant.into(), delivery.into(), job.into()]);
    }
    let dialect = Dialect::of(transaction);
    let Named { lock, deliveries, locked, theirs } = named(dialect, tables);
    let (now, status) = (dialect.now(), end.status().code());
    let (reason, died_at) = match end {
        End::Dead(reason) => (reason.code().to_string(), now),
        _ => ("NULL".to_owned(), "NULL"),
    };
    let sql = format!(
        "{lock}UPDATE {deliveries} SET status = {status}, next_attempt_at = NULL, dead_reason = {reason}, \
            died_at = {died_at}, ended_at = {now} \
        FROM input WHERE {locked}{theirs} AND deliveries.status = {PENDING} \
        RETURNING deliveries.id, deliveries.tenant, deliveries.event_id, deliveries.event_type, \
            deliveries.attempts, deliveries.created_at"
    );
    input.query(transaction, &sql, []).await?.iter().map(read).collect()
}

fn read(row: &QueryResult) -> Result<Ended, StoreError> {
    let id = DeliveryId::from_uuid(column(row, "id")?);
    Ok(Ended {
        id,
        tenant: parse(&column::<String>(row, "tenant")?, "deliveries", "tenant", id)?,
        event_id: column::<Option<_>>(row, "event_id")?.map_or_else(|| id.event(), EventId::from_uuid),
        event_type: parse(&column::<String>(row, "event_type")?, "deliveries", "event_type", id)?,
        attempts: unsigned(column(row, "attempts")?),
        created_at: Timestamp::from_millis(column(row, "created_at")?),
    })
}

pub(crate) fn count(counts: &mut HashMap<Key, Counts>, subscriber: SubscriberId, ended: &Ended, end: End) {
    let key = Key::new(&ended.tenant, subscriber, &ended.event_type, ended.created_at);
    let counts = counts.entry(key).or_default();
    counts.spent += i64::from(ended.attempts);
    if end.status().code() == DEAD { counts.dead += 1 } else { counts.cancelled += 1 }
}

fn notice(subscriber: SubscriberId, ended: Ended, end: End) -> Option<Notice> {
    let End::Dead(reason) = end else { return None };
    let Ended { id, tenant, event_id, event_type, attempts, .. } = ended;
    Some(Notice::Dead { tenant, delivery: id, event_id, event_type, subscriber, attempts, reason })
}
