//! What tenants have: subscribers, and deliveries of the last 30 days, from roll-ups.

use std::collections::HashMap;

use postrider_core::TenantId;
use postrider_database::sql::column;
use postrider_database::{Batch, Column, Dialect, Kind};

use crate::rollups::clock::{DAY, minute, start_of_row};
use crate::rollups::counted::Counts;
use crate::rollups::span::Span;
use crate::stats::{DeliveryStats, SubscriberStats};
use crate::{Store, StoreError};

/// The days of UTC whose deliveries are counted, today included.
const DAYS: i64 = 30;

const TENANT: &[Column] = &[Column::new("tenant", Kind::Text)];

/// Counts of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TenantCounts {
    /// Its subscribers.
    pub subscribers: SubscriberStats,
    /// Its deliveries of the last 30 days of UTC. What was counted in the last seconds may be missing.
    pub deliveries: DeliveryStats,
}

/// The same for each tenant by itself: its rows are few and follow each other in the key.
const ON_POSTGRES: &str = "SELECT input.tenant, had.*, sent.* FROM input
    CROSS JOIN LATERAL (
        SELECT CAST(coalesce(sum(total), 0) AS bigint) AS total, CAST(coalesce(sum(active), 0) AS bigint) AS active
        FROM subscriber_counts WHERE subscriber_counts.tenant = input.tenant
    ) AS had
    CROSS JOIN LATERAL (
        SELECT CAST(coalesce(sum(created), 0) AS bigint) AS created, CAST(coalesce(sum(succeeded), 0) AS bigint) AS succeeded,
            CAST(coalesce(sum(dead), 0) AS bigint) AS dead, CAST(coalesce(sum(cancelled), 0) AS bigint) AS cancelled,
            CAST(coalesce(sum(spent), 0) AS bigint) AS spent
        FROM rollups WHERE rollups.tenant = input.tenant AND subscriber_id = $3 AND event_type = '' AND span = $1 AND start >= $2
    ) AS sent";

const ON_SQLITE: &str = "SELECT input.tenant,
        (SELECT coalesce(sum(total), 0) FROM subscriber_counts WHERE subscriber_counts.tenant = input.tenant) AS total,
        (SELECT coalesce(sum(active), 0) FROM subscriber_counts WHERE subscriber_counts.tenant = input.tenant) AS active,
        coalesce(sum(created), 0) AS created, coalesce(sum(succeeded), 0) AS succeeded, coalesce(sum(dead), 0) AS dead,
        coalesce(sum(cancelled), 0) AS cancelled, coalesce(sum(spent), 0) AS spent
    FROM input LEFT JOIN rollups ON rollups.tenant = input.tenant AND subscriber_id = $3 AND event_type = ''
        AND span = $1 AND start >= $2
    GROUP BY input.tenant";

impl Store {
    /// Returns the counts of each of these tenants.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn tenant_counts(
        &self,
        tenants: impl IntoIterator<Item = &TenantId>,
    ) -> Result<HashMap<TenantId, TenantCounts>, StoreError> {
        let mut by_name: HashMap<&str, &TenantId> = HashMap::new();
        let mut input = Batch::new(TENANT);
        for tenant in tenants {
            by_name.insert(tenant.as_str(), tenant);
            input.push([tenant.as_str().into()]);
        }
        let since = start_of_row(minute(self.ids.clock().now()), DAY) - (DAYS - 1) * DAY;
        let sql = match self.database.dialect() {
            Dialect::Postgres => ON_POSTGRES,
            Dialect::Sqlite => ON_SQLITE,
        };
        let values = [Span::Day.code().into(), since.into(), uuid::Uuid::nil().into()];
        let mut found = HashMap::new();
        for row in &input.query(&self.database.reads(), sql, values).await? {
            let name: String = column(row, "tenant")?;
            let Some(tenant) = by_name.get(name.as_str()) else { continue };
            let count = |name| -> Result<u64, StoreError> {
                Ok(u64::try_from(column::<i64>(row, name)?).unwrap_or(0))
            };
            let counts = Counts {
                created: column(row, "created")?,
                succeeded: column(row, "succeeded")?,
                dead: column(row, "dead")?,
                cancelled: column(row, "cancelled")?,
                spent: column(row, "spent")?,
            };
            let subscribers = SubscriberStats { total: count("total")?, active: count("active")? };
            found.insert((*tenant).clone(), TenantCounts { subscribers, deliveries: counts.into() });
        }
        Ok(found)
    }
}
