//! Counts that were kept as things happened: no query here counts over the log.

use postrider_core::{EventType, SubscriberId, TenantId, Timestamp};
use sea_orm::{ConnectionTrait, Statement, Value};

use crate::attempt_rollup::{DAY, Read};
use crate::clock::minute;
use crate::rollup::row_of;
use crate::row::column;
use crate::tally::Tally;
use crate::{Store, StoreError};

/// What is to be counted; what is not given does not matter.
#[derive(Clone, Debug, Default)]
pub struct StatsFilter {
    /// Deliveries to this subscriber.
    pub subscriber: Option<SubscriberId>,
    /// Deliveries of events of this type.
    pub event_type: Option<EventType>,
    /// Deliveries made in the minute of this moment, or later. Of what is over an hour ago whole hours
    /// are known, and of what is over a day ago whole days (of UTC): those in which it falls count
    /// from their beginning.
    pub since: Option<Timestamp>,
}

/// Counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Subscribers.
    pub subscribers: SubscriberStats,
    /// Deliveries.
    pub deliveries: DeliveryStats,
    /// From dispatch to the first attempt.
    pub latency: Percentiles,
}

/// How many subscribers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriberStats {
    /// All.
    pub total: u64,
    /// The active ones.
    pub active: u64,
}

/// What became of deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeliveryStats {
    /// All that were made.
    pub total: u64,
    /// Those that have not ended.
    pub pending: u64,
    /// Those that arrived.
    pub succeeded: u64,
    /// Those that were given up.
    pub dead: u64,
    /// Those that were no longer wanted.
    pub cancelled: u64,
    /// Attempts per delivery that ended; none if none has.
    pub avg_attempts: Option<f64>,
    /// The part that arrived, 0 to 1, of those that arrived or were given up; none if there are none.
    pub success_rate: Option<f64>,
}

/// Milliseconds below which that part of what was measured lies; none if nothing was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Half.
    pub p50: Option<u64>,
    /// 95 %.
    pub p95: Option<u64>,
    /// 99 %.
    pub p99: Option<u64>,
}

impl Store {
    /// Counts of the tenant's.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn stats(&self, tenant: &TenantId, filter: &StatsFilter) -> Result<Stats, StoreError> {
        Ok(Stats {
            subscribers: self.subscriber_stats(tenant).await?,
            deliveries: self.delivery_stats(tenant, filter).await?,
            latency: self.latency_stats(tenant, filter).await?,
        })
    }

    async fn subscriber_stats(&self, tenant: &TenantId) -> Result<SubscriberStats, StoreError> {
        let sql = "SELECT active, count(*) AS subscribers FROM subscribers WHERE tenant = $1 GROUP BY active";
        let mut stats = SubscriberStats::default();
        for row in self.rows(sql, vec![tenant.as_str().into()]).await? {
            let count = count(column(&row, "subscribers")?);
            stats.total += count;
            if column(&row, "active")? {
                stats.active += count;
            }
        }
        Ok(stats)
    }

    async fn delivery_stats(
        &self,
        tenant: &TenantId,
        filter: &StatsFilter,
    ) -> Result<DeliveryStats, StoreError> {
        let (condition, values) = filter.condition(tenant, minute(self.ids.clock().now()));
        // PostgreSQL adds bigints up to a numeric.
        let sum = |name| format!("CAST(coalesce(sum({name}), 0) AS bigint) AS {name}");
        let sql = format!(
            "SELECT {}, {}, {}, {}, {} FROM rollups WHERE {condition}",
            sum("created"),
            sum("succeeded"),
            sum("dead"),
            sum("cancelled"),
            sum("spent")
        );
        let rows = self.rows(&sql, values).await?;
        let Some(row) = rows.first() else { return Ok(DeliveryStats::default()) };
        let read = |name| column::<i64>(row, name).map(count);
        let (total, succeeded, dead, cancelled) =
            (read("created")?, read("succeeded")?, read("dead")?, read("cancelled")?);
        let ended = succeeded + dead + cancelled;
        Ok(DeliveryStats {
            total,
            pending: total.saturating_sub(ended),
            succeeded,
            dead,
            cancelled,
            avg_attempts: ratio(read("spent")?, ended),
            success_rate: ratio(succeeded, succeeded + dead),
        })
    }

    async fn latency_stats(
        &self,
        tenant: &TenantId,
        filter: &StatsFilter,
    ) -> Result<Percentiles, StoreError> {
        // Rows of every width hold all that there is of their time, so the widest will do.
        let since = filter.since.map(|since| row_of(minute(since), minute(self.ids.clock().now())));
        let (from, width) = since.unwrap_or((i64::MIN, DAY));
        let event = filter.event_type.as_ref().map(EventType::as_str);
        let read = Read { tenant, subscriber: filter.subscriber, event, width, from, to: i64::MAX };
        let mut sum = Tally::default();
        for (_, tally) in self.tallies(read).await? {
            sum.merge(&tally);
        }
        Ok(sum.waits())
    }

    async fn rows(&self, sql: &str, values: Vec<Value>) -> Result<Vec<sea_orm::QueryResult>, StoreError> {
        let connection = self.database.connection();
        let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, values);
        Ok(connection.query_all_raw(statement).await?)
    }
}

impl StatsFilter {
    fn condition(&self, tenant: &TenantId, now: i64) -> (String, Vec<Value>) {
        let mut condition = "tenant = $1".to_owned();
        let mut values: Vec<Value> = vec![tenant.as_str().into()];
        let mut and = |test: &str, value: Value| {
            values.push(value);
            condition = format!("{condition} AND {test} ${}", values.len());
        };
        if let Some(subscriber) = self.subscriber {
            and("subscriber_id =", subscriber.uuid().into());
        }
        if let Some(event) = &self.event_type {
            and("event_type =", event.as_str().into());
        }
        if let Some(since) = self.since {
            and("minute >=", row_of(minute(since), now).0.into());
        }
        (condition, values)
    }
}

fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

// Counts stay far below 2^53, where this is exact.
#[allow(clippy::cast_precision_loss)]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
