//! The filters of subscribers, and the check that the subscribers found for an event type are still right.

use async_trait::async_trait;
use bytes::Bytes;
use postrider_core::{Channels, EventId, EventType, Expression, SubscriberId, TenantId};
use postrider_database::sql::column;
use postrider_database::{Batch, Column, Dialect, Guarded, Kind};
use sea_orm::ConnectionTrait;

use super::matching::{Match, Table, some_active};
use crate::row::parse;
use crate::{Store, StoreError};

/// Decides which subscribers get an event, of those that it matches by type and channels. The store knows filters only by their
/// texts; `postrider-dispatch` evaluates them.
#[async_trait]
pub trait Sift: Send + Sync {
    /// Returns those that get the event. `texts` are those of their filters.
    async fn sift(
        &self,
        event: &StoredEvent,
        matched: Vec<Match>,
        texts: Vec<Expression>,
    ) -> Vec<SubscriberId>;
}

/// What filters ask of a stored event.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Its id.
    pub id: EventId,
    /// Its channels.
    pub channels: Option<Channels>,
    /// Its envelope; `None` if the payload is gone.
    pub envelope: Option<Bytes>,
}

/// Lets everyone have every event.
#[derive(Clone, Copy, Debug)]
pub struct Everyone;

#[async_trait]
impl Sift for Everyone {
    async fn sift(&self, _: &StoredEvent, matched: Vec<Match>, _: Vec<Expression>) -> Vec<SubscriberId> {
        matched.into_iter().map(|matched| matched.subscriber).collect()
    }
}

impl Store {
    /// Returns the texts of these subscribers' filters, as they are now.
    ///
    /// # Errors
    /// Fails if the database is unavailable, or a text is not one.
    pub async fn filters_of(
        &self,
        connection: &impl ConnectionTrait,
        subscribers: &[SubscriberId],
    ) -> Result<Vec<Expression>, StoreError> {
        const SUBSCRIBER: &[Column] = &[Column::new("id", Kind::Uuid)];
        let mut input = Batch::new(SUBSCRIBER);
        for subscriber in subscribers {
            input.push([subscriber.uuid().into()]);
        }
        let subscriber =
            Dialect::of(connection).look_up_in("subscribers", "subscribers", "subscribers.id = input.id");
        let sql = format!(
            "SELECT DISTINCT subscribers.filter FROM input {subscriber} WHERE subscribers.filter IS NOT NULL"
        );
        let rows = input.query(connection, &sql, []).await?;
        rows.iter().map(|row| parse(&column::<String>(row, "filter")?, "subscribers", "filter", "")).collect()
    }

    /// Makes `guarded` write only if these event types still have the active subscribers that [`Store::subscribers_of`]
    /// has found for each, with the same filters: fewer than [`FEW_SUBSCRIBERS`](super::FEW_SUBSCRIBERS).
    pub fn expect_subscribers(
        &self,
        event_types: &[(TenantId, EventType)],
        found: &[Vec<Match>],
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
            let text = |matched: &Match| match matched.filter {
                None => matched.subscriber.uuid().to_string(),
                Some(filter) => format!("{}{}", matched.subscriber.uuid(), filter.uuid()),
            };
            let mut ids: Vec<String> = found.iter().map(text).collect();
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
        let active = some_active(Table::Plain);
        let text = "concat(subscribers.id, subscribers.filter_id)";
        let condition = format!(
            "NOT EXISTS (SELECT 1 FROM (SELECT DISTINCT place, found FROM input) AS event WHERE found <> coalesce(( \
                SELECT string_agg(DISTINCT {text} COLLATE \"C\", ',' ORDER BY {text} COLLATE \"C\") \
                FROM input {active} WHERE input.place = event.place \
            ), ''))"
        );
        guarded.expect(input, condition);
    }
}
