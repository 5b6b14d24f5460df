//! Totals of subscribers, deliveries and latency.

use postrider_core::{EventType, SubscriberId, TenantId, Timestamp};
use postrider_database::sql::{column, query_one};

use crate::rollups::counted::{Counted, Counts};
use crate::rollups::histogram::Percentiles;
use crate::rollups::reading::{self, Selection};
use crate::{Store, StoreError};

/// Selects what is counted. `None` selects everything.
#[derive(Clone, Debug, Default)]
pub struct StatsFilter {
    /// Deliveries to this subscriber.
    pub subscriber: Option<SubscriberId>,
    /// Deliveries of events of this type.
    pub event_type: Option<EventType>,
    /// Deliveries created in the minute of this moment, or later. What is older than [`Detail`](super::Detail) says is
    /// stored by the hour or by the day (of UTC); then the whole hour or day that contains the moment is included, and for a
    /// moment more than 400 days ago all that is older, too.
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
        let subscribers = self.subscriber_stats(tenant).await?;
        let Counted { counts, tally } = self.counted(tenant, filter).await?;
        Ok(Stats { subscribers, deliveries: counts.into(), latency: tally.waits() })
    }

    async fn subscriber_stats(&self, tenant: &TenantId) -> Result<SubscriberStats, StoreError> {
        let sql = "SELECT CAST(coalesce(sum(total), 0) AS bigint) AS total, \
                CAST(coalesce(sum(active), 0) AS bigint) AS active \
            FROM subscriber_counts WHERE tenant = $1";
        let Some(row) = query_one(&self.database.reads(), sql, [tenant.as_str().into()]).await? else {
            return Ok(SubscriberStats::default());
        };
        Ok(SubscriberStats { total: count(column(&row, "total")?), active: count(column(&row, "active")?) })
    }

    async fn counted(&self, tenant: &TenantId, filter: &StatsFilter) -> Result<Counted, StoreError> {
        let selection = Selection {
            tenant,
            subscriber: filter.subscriber,
            event_type: filter.event_type.as_ref().map(EventType::as_str),
        };
        let now = self.ids.clock().now();
        let mut sum = Counted::default();
        for (_, counted) in reading::since(&self.database, selection, filter.since, now).await? {
            sum.merge(&counted);
        }
        Ok(sum)
    }
}

impl From<Counts> for DeliveryStats {
    fn from(counts: Counts) -> Self {
        let Counts { created, succeeded, dead, cancelled, spent } = counts;
        let (total, succeeded, dead, cancelled) =
            (count(created), count(succeeded), count(dead), count(cancelled));
        let ended = succeeded + dead + cancelled;
        Self {
            total,
            pending: total.saturating_sub(ended),
            succeeded,
            dead,
            cancelled,
            avg_attempts: ratio(count(spent), ended),
            success_rate: ratio(succeeded, succeeded + dead),
        }
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
