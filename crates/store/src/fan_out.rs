//! Making the deliveries of events that have many subscribers.
//!
//! Such an event is stored with a row in `fan_outs`: the promise to make its deliveries. They are made in steps, each of
//! which is a transaction: it reads the next subscribers in the order of their ids, writes their deliveries and jobs, and
//! notes how far it has come. Any process can take the next step. The row is locked during a step, so no subscriber gets
//! two deliveries, and a step that does not commit leaves nothing.
//!
//! Steps are taken one at a time, whichever process takes them: one for a tenant, then one for the next, so that an event
//! with very many subscribers delays no other tenant's.
//!
//! Subscribers that were created after the event get no delivery. Those that were deactivated after it do, and it ends
//! without a request. Those that were deleted do not.

use std::time::Duration;

use postrider_core::{Channels, EventId, EventType, JobId, SubscriberId, TenantId, Timestamp};
use postrider_database::sql::{column, execute, query_one};
use postrider_database::{Batch, Column, Dialect, Kind, Writes};
use sea_orm::ConnectionTrait;

use crate::intake::matching::{Asked, Range, matching};
use crate::intake::{Crowd, EventRef, Match, NewDeliveries, Sift, StoredEvent};
use crate::row::{parse, read_channels, signed, unsigned};
use crate::turn::Turn;
use crate::{Store, StoreError};

/// How many open fan-outs are counted.
const COUNTED: u32 = 10_000;

/// The promise to make an event's deliveries.
#[derive(Clone, Debug)]
pub struct FanOutRow {
    /// The event's id.
    pub event_id: EventId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// The event type.
    pub event_type: EventType,
    /// When it was dispatched.
    pub dispatched_at: Timestamp,
    /// Its channels.
    pub channels: Option<Channels>,
    /// Its subscribers.
    pub crowd: Crowd,
    /// The W3C `traceparent` that its jobs continue.
    pub trace: Option<String>,
}

/// The result of [`Store::fan_out`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FannedOut {
    /// There was nothing to do.
    Nothing,
    /// Another process is taking a step.
    Busy,
    /// A step was taken.
    Step(Step),
}

/// A step of an event's fan-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The tenant that owns the event.
    pub tenant: TenantId,
    /// The event.
    pub event: EventId,
    /// How many jobs the step has made.
    pub jobs: usize,
    /// Whether the event has all its deliveries now.
    pub complete: bool,
}

/// The fan-outs that are not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFanOuts {
    /// How many there are, counted up to 10,000.
    pub count: u32,
    /// The time since the oldest of those that were counted was promised.
    pub oldest: Duration,
}

/// A fan-out whose row is locked.
struct Open {
    tenant: TenantId,
    event_id: EventId,
    event_type: EventType,
    dispatched_at: Timestamp,
    range: Range,
    jobs_created: u32,
    trace: Option<String>,
    channels: Option<Channels>,
}

impl Store {
    /// Adds to `writes` the promises to make the deliveries of events.
    pub fn promise_with(&self, promises: &[FanOutRow], writes: &mut Writes) {
        const PROMISE: &[Column] = &[
            Column::new("tenant", Kind::Text),
            Column::new("event_id", Kind::Uuid),
            Column::new("event_type", Kind::Text),
            Column::new("dispatched_at", Kind::Big),
            Column::new("reached", Kind::Uuid),
            Column::new("last", Kind::Uuid),
            Column::nullable("trace", Kind::Text),
            Column::nullable("channels", Kind::Text),
        ];
        let mut input = Batch::new(PROMISE);
        for promise in promises {
            input.push([
                promise.tenant.as_str().into(),
                promise.event_id.uuid().into(),
                promise.event_type.as_str().into(),
                promise.dispatched_at.millis().into(),
                uuid::Uuid::nil().into(),
                promise.crowd.last.uuid().into(),
                promise.trace.clone().into(),
                promise.channels.as_ref().map(|channels| channels.as_str().to_owned()).into(),
            ]);
        }
        let now = self.database.dialect().now();
        let sql = format!(
            "INSERT INTO fan_outs (tenant, event_id, event_type, dispatched_at, reached, last, jobs_created, trace, \
                channels, created_at, touched_at) \
            SELECT tenant, event_id, event_type, dispatched_at, reached, last, 0, trace, channels, {now}, {now} FROM input"
        );
        writes.push(input, sql);
    }

    /// Takes the next step of a fan-out: makes the deliveries of one event to those of its next `max` subscribers whose filters
    /// let it pass, and wakes workers for them. It is an event of the first tenant after `after` that has one, in the order of
    /// their names.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The step may have been taken all the same.
    pub async fn fan_out(
        &self,
        after: Option<&TenantId>,
        max: usize,
        filters: &dyn Sift,
    ) -> Result<FannedOut, StoreError> {
        // Read first: finding nothing must not cost a transaction.
        let any = "SELECT 1 AS one FROM fan_outs LIMIT 1";
        if query_one(self.database.connection(), any, []).await?.is_none() {
            return Ok(FannedOut::Nothing);
        }
        let transaction = self.database.begin().await?;
        if !Turn::FANNING_OUT.take(&transaction).await? {
            transaction.rollback().await?;
            return Ok(FannedOut::Busy);
        }
        let mut open = next(&transaction, after).await?;
        if open.is_none() && after.is_some() {
            open = next(&transaction, None).await?;
        }
        let Some(open) = open else {
            transaction.rollback().await?;
            return Ok(FannedOut::Nothing);
        };
        let Open { tenant, event_type, dispatched_at, range, channels, .. } = &open;
        let asked = Asked { tenant, event_type, channels: channels.as_ref() };
        let page = matching(&transaction, asked, *range, Some(*dispatched_at), max).await?;
        let subscribers = self.sifted(&transaction, &open, page.matched, filters).await?;
        let recipients: Vec<(SubscriberId, JobId)> =
            subscribers.into_iter().map(|subscriber| (subscriber, self.ids.next())).collect();
        let mut made = NewDeliveries::default();
        made.add(open.event(), open.jobs_created as usize, &recipients);
        let (jobs, complete) = (recipients.len(), page.next.is_none());
        if complete {
            // Apart from the other writes, so that PostgreSQL looks at one partition.
            let sql = "UPDATE events SET jobs_created = $3 WHERE tenant = $1 AND id = $2";
            let values =
                [tenant.as_str().into(), open.event_id.uuid().into(), signed(open.jobs_after(jobs)).into()];
            execute(&transaction, sql, values).await?;
        }
        let mut writes = Writes::new();
        open.advance_with(page.next, jobs, &mut writes, self.database.dialect());
        self.insert_with(Vec::new(), &made.rows, &mut writes);
        self.queue.enqueue_with(&made.jobs, &mut writes);
        writes.execute(&transaction).await?;
        transaction.commit().await?;
        if !made.jobs.is_empty() {
            self.queue.enqueued_many(&made.jobs);
        }
        Ok(FannedOut::Step(Step { tenant: open.tenant, event: open.event_id, jobs, complete }))
    }

    /// Asks the filters of subscribers, if they have any, whether they get the event.
    async fn sifted(
        &self,
        transaction: &impl ConnectionTrait,
        open: &Open,
        matched: Vec<Match>,
        filters: &dyn Sift,
    ) -> Result<Vec<SubscriberId>, StoreError> {
        if matched.iter().all(|matched| matched.filter.is_none()) {
            return Ok(matched.into_iter().map(|matched| matched.subscriber).collect());
        }
        let filtered = matched.iter().filter(|matched| matched.filter.is_some());
        let filtered: Vec<_> = filtered.map(|matched| matched.subscriber).collect();
        let texts = self.filters_of(transaction, &filtered).await?;
        let sql = "SELECT envelope FROM events WHERE tenant = $1 AND id = $2 AND payload_gone IS NULL";
        let values = [open.tenant.as_str().into(), open.event_id.uuid().into()];
        let envelope = query_one(transaction, sql, values).await?;
        let envelope = envelope.map(|row| column::<Vec<u8>>(&row, "envelope")).transpose()?.map(Into::into);
        let event = StoredEvent { id: open.event_id, channels: open.channels.clone(), envelope };
        Ok(filters.sift(&event, matched, texts).await)
    }

    /// Returns whether a fan-out has waited for this long for its next step, because there are many, or because the process
    /// that was at work has died.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn fan_outs_wait(&self, longer_than: Duration) -> Result<bool, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!("SELECT 1 AS one FROM fan_outs WHERE touched_at < {now} - $1 LIMIT 1");
        let millis = i64::try_from(longer_than.as_millis()).unwrap_or(i64::MAX);
        Ok(query_one(&self.database.reads(), sql, [millis.into()]).await?.is_some())
    }

    /// Measures the fan-outs that are not complete.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn open_fan_outs(&self) -> Result<OpenFanOuts, StoreError> {
        let now = self.database.dialect().now();
        let sql = format!(
            "SELECT count(*) AS count, coalesce({now} - min(created_at), 0) AS age \
            FROM (SELECT created_at FROM fan_outs LIMIT {COUNTED}) AS counted"
        );
        let Some(row) = query_one(&self.database.reads(), sql, []).await? else {
            return Ok(OpenFanOuts::default());
        };
        let age = u64::try_from(column::<i64>(&row, "age")?).unwrap_or(0);
        let count = u32::try_from(column::<i64>(&row, "count")?).unwrap_or(COUNTED);
        Ok(OpenFanOuts { count, oldest: Duration::from_millis(age) })
    }
}

/// Finds and locks the next fan-out of the first tenant after `after`: the one that has waited longest for a step.
async fn next(
    transaction: &impl ConnectionTrait,
    after: Option<&TenantId>,
) -> Result<Option<Open>, StoreError> {
    let lock = match Dialect::of(transaction) {
        Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
        Dialect::Sqlite => "",
    };
    let sql = format!(
        "SELECT tenant, event_id, event_type, dispatched_at, reached, last, jobs_created, trace, channels FROM fan_outs \
        WHERE tenant > $1 ORDER BY tenant, touched_at, event_id LIMIT 1{lock}"
    );
    let after = after.map_or("", TenantId::as_str);
    let Some(row) = query_one(transaction, sql, [after.into()]).await? else { return Ok(None) };
    let event_id = EventId::from_uuid(column(&row, "event_id")?);
    Ok(Some(Open {
        tenant: parse(&column::<String>(&row, "tenant")?, "fan_outs", "tenant", event_id)?,
        event_id,
        event_type: parse(&column::<String>(&row, "event_type")?, "fan_outs", "event_type", event_id)?,
        dispatched_at: Timestamp::from_millis(column(&row, "dispatched_at")?),
        range: Range {
            after: SubscriberId::from_uuid(column(&row, "reached")?),
            last: SubscriberId::from_uuid(column(&row, "last")?),
        },
        jobs_created: unsigned(column(&row, "jobs_created")?),
        trace: column(&row, "trace")?,
        channels: read_channels(
            column::<Option<String>>(&row, "channels")?.as_deref(),
            "fan_outs",
            event_id,
        )?,
    }))
}

impl Open {
    fn event(&self) -> EventRef<'_> {
        EventRef {
            id: self.event_id,
            tenant: &self.tenant,
            event_type: &self.event_type,
            dispatched_at: self.dispatched_at,
            trace: self.trace.as_deref(),
        }
    }

    /// The number of the event's jobs after `jobs` more were made.
    fn jobs_after(&self, jobs: usize) -> u32 {
        self.jobs_created.saturating_add(u32::try_from(jobs).unwrap_or(u32::MAX))
    }

    /// Adds to `writes` that `jobs` more jobs were made, and that the next step begins after `next`, if there is one.
    fn advance_with(&self, next: Option<SubscriberId>, jobs: usize, writes: &mut Writes, dialect: Dialect) {
        const PLACE: &[Column] = &[
            Column::new("tenant", Kind::Text),
            Column::new("event_id", Kind::Uuid),
            Column::new("reached", Kind::Uuid),
            Column::new("jobs", Kind::Int),
        ];
        let reached = next.unwrap_or(self.range.last);
        let mut input = Batch::new(PLACE);
        input.push([
            self.tenant.as_str().into(),
            self.event_id.uuid().into(),
            reached.uuid().into(),
            signed(self.jobs_after(jobs)).into(),
        ]);
        if next.is_some() {
            let now = dialect.now();
            let sql = format!(
                "UPDATE fan_outs SET reached = input.reached, jobs_created = input.jobs, touched_at = {now} \
                FROM input WHERE fan_outs.tenant = input.tenant \
                    AND fan_outs.event_id BETWEEN input.event_id AND input.event_id"
            );
            writes.push(input, sql);
        } else {
            let done = "DELETE FROM fan_outs WHERE fan_outs.tenant = (SELECT tenant FROM input) \
                AND fan_outs.event_id = (SELECT event_id FROM input)";
            writes.push(input, done);
        }
    }
}
