//! Totals of subscribers, deliveries and latency.

use postrider_core::{EventType, SubscriberId, TenantId, Timestamp};
use postrider_database::sql::{column, query_all, query_one};
use sea_orm::Value;

use crate::rollups::attempts::{self, Selection};
use crate::rollups::clock::{DAY, minute};
use crate::rollups::deliveries::row_of;
use crate::rollups::histogram::Percentiles;
use crate::rollups::tally::Tally;
use crate::{Store, StoreError};

/// Selects what is counted. `None` selects everything.
#[derive(Clone, Debug, Default)]
pub struct StatsFilter {
    /// Deliveries to this subscriber.
    pub subscriber: Option<SubscriberId>,
    /// Deliveries of events of this type.
    pub event_type: Option<EventType>,
    /// Deliveries created in the minute of this moment, or later. Counts older than an hour are stored by the hour, and
    /// counts older than a day by the day (of UTC); then the whole hour or day that contains the moment is included.
    pub since: Option<Timestamp>,
}

/// Totals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Counts of subscribers.
    pub subscribers: SubscriberStats,
    /// Counts of deliveries.
    pub deliveries: DeliveryStats,
    /// The time from dispatch to the first attempt.
    pub latency: Percentiles,
}

/// Counts of subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriberStats {
    /// All subscribers.
    pub total: u64,
    /// The active ones.
    pub active: u64,
}

/// Counts of deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeliveryStats {
    /// All that were created.
    pub total: u64,
    /// Those that have not ended.
    pub pending: u64,
    /// Those that a receiver has accepted.
    pub succeeded: u64,
    /// Dead letters.
    pub dead: u64,
    /// Those that were cancelled.
    pub cancelled: u64,
    /// The average number of attempts of an ended delivery; `None` if no delivery has ended.
    pub avg_attempts: Option<f64>,
    /// The part of succeeded and dead deliveries that succeeded, 0 to 1; `None` if there are none.
    pub success_rate: Option<f64>,
}

impl Store {
    /// Returns totals of the tenant.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
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
        for row in query_all(&self.database.reads(), sql, [tenant.as_str().into()]).await? {
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
        // PostgreSQL's sum of bigints is a numeric.
        let sum = |name| format!("CAST(coalesce(sum({name}), 0) AS bigint) AS {name}");
        let sql = format!(
            "SELECT {}, {}, {}, {}, {} FROM rollups WHERE {condition}",
            sum("created"),
            sum("succeeded"),
            sum("dead"),
            sum("cancelled"),
            sum("spent")
        );
        let Some(row) = query_one(&self.database.reads(), sql, values).await? else {
            return Ok(DeliveryStats::default());
        };
        let read = |name| column::<i64>(&row, name).map(count);
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
        // Each width has rows for all of the time, so the widest that is fine enough reads the fewest rows.
        let since = filter.since.map(|since| row_of(minute(since), minute(self.ids.clock().now())));
        let (from, width) = since.unwrap_or((i64::MIN, DAY));
        let selection = Selection {
            tenant,
            subscriber: filter.subscriber,
            event_type: filter.event_type.as_ref().map(EventType::as_str),
            width,
            from,
            to: i64::MAX,
        };
        let mut sum = Tally::default();
        for (_, tally) in attempts::read(&self.database, selection).await? {
            sum.merge(&tally);
        }
        Ok(sum.waits())
    }
}

impl StatsFilter {
    /// The condition on rows of `rollups`, with its parameters.
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
        if let Some(event_type) = &self.event_type {
            and("event_type =", event_type.as_str().into());
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

// Exact, because counts stay far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
