//! Finding the subscribers of events.

use postrider_core::{EventType, SubscriberId, TenantId};
use postrider_database::sql::column;
use postrider_database::{Batch, Column, Dialect, Guarded, Kind};
use sea_orm::ConnectionTrait;

use super::index;
use crate::{Store, StoreError};

/// Joins patterns with the active subscribers that have them. Written so that PostgreSQL looks up each pattern and each
/// subscriber in an index, whatever plan it has cached: see ADR 14.
const ACTIVE: &str = "CROSS JOIN LATERAL ( \
        SELECT subscriber_id FROM subscriptions WHERE tenant = input.tenant AND pattern = input.pattern OFFSET 0 \
    ) AS subscriptions \
    CROSS JOIN LATERAL ( \
        SELECT id FROM subscribers WHERE id = subscriptions.subscriber_id AND active LIMIT 1 \
    ) AS subscribers";

impl Store {
    /// Returns the active subscribers of each of these event types, in the order of their creation.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn subscribers_of(
        &self,
        connection: &impl ConnectionTrait,
        event_types: &[(TenantId, EventType)],
    ) -> Result<Vec<Vec<SubscriberId>>, StoreError> {
        const PATTERN: &[Column] = &[
            Column::new("place", Kind::Int),
            Column::new("tenant", Kind::Text),
            Column::new("pattern", Kind::Text),
        ];
        let mut input = Batch::new(PATTERN);
        for (place, (tenant, event_type)) in (0_i32..).zip(event_types) {
            for pattern in event_type.matching_patterns() {
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
        // A subscriber may have both patterns `order.*` and `order.created`; DISTINCT finds it once.
        let sql = format!(
            "SELECT DISTINCT input.place, subscribers.id FROM input {joined} ORDER BY input.place, subscribers.id"
        );
        let mut found = vec![Vec::new(); event_types.len()];
        for row in input.query(connection, &sql, []).await? {
            if let Some(subscribers) = found.get_mut(index(column(&row, "place")?)) {
                subscribers.push(SubscriberId::from_uuid(column(&row, "id")?));
            }
        }
        Ok(found)
    }

    /// Makes `guarded` write only if these event types still have the active subscribers that [`Store::subscribers_of`]
    /// has found for each.
    pub fn expect_subscribers(
        &self,
        event_types: &[(TenantId, EventType)],
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
        for (place, ((tenant, event_type), found)) in (0_i32..).zip(event_types.iter().zip(found)) {
            let mut ids: Vec<String> = found.iter().map(|id| id.uuid().to_string()).collect();
            ids.sort_unstable();
            let ids = ids.join(",");
            for pattern in event_type.matching_patterns() {
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
                SELECT string_agg( \
                    DISTINCT subscribers.id::text COLLATE \"C\", ',' ORDER BY subscribers.id::text COLLATE \"C\") \
                FROM input {ACTIVE} WHERE input.place = event.place \
            ), ''))"
        );
        guarded.expect(input, condition);
    }
}
