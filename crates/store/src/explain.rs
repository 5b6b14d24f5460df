//! What decides whether a subscriber got an event.

use std::collections::HashMap;

use postrider_core::{
    Channels, DeliveryId, EventId, EventPattern, Expression, SubscriberId, TenantId, Timestamp,
};
use postrider_database::sql::column;
use postrider_database::{Batch, Column, Dialect, Kind};
use sea_orm::{QueryResult, Value};

use crate::deliveries::MADE_WITHIN;
use crate::row::{parse, read_channels};
use crate::subscribers::{Subscriber, SubscriberState};
use crate::{Store, StoreError};

/// How a subscriber matches events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matching {
    /// Whether it receives events at all.
    pub active: bool,
    /// Its patterns.
    pub events: Vec<EventPattern>,
    /// Its channels.
    pub channels: Option<Channels>,
    /// Its filter.
    pub filter: Option<Expression>,
}

/// How a subscriber matched events at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchingThen {
    /// How it matched.
    pub matching: Matching,
    /// Whether this was so at that moment. If not, it is so now: no version of the subscriber is kept from then.
    pub is_of_then: bool,
}

const SUBSCRIBER: &[Column] = &[Column::new("id", Kind::Uuid)];

impl Store {
    /// Returns how each of these subscribers matched events at a moment.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn matching_then(
        &self,
        subscribers: &[Subscriber],
        moment: Timestamp,
    ) -> Result<HashMap<SubscriberId, MatchingThen>, StoreError> {
        let found = "SELECT subscriber_id, began_at, ended_at, active, events, channels, filter FROM subscriber_versions \
            WHERE subscriber_id = input.id AND ended_at > $1 ORDER BY ended_at LIMIT 1";
        let reads = self.database.reads();
        let sql = match self.database.dialect() {
            Dialect::Postgres => {
                format!("SELECT version.* FROM input CROSS JOIN LATERAL ({found}) AS version")
            }
            Dialect::Sqlite => "SELECT version.* FROM input JOIN subscriber_versions AS version \
                ON version.subscriber_id = input.id AND version.ended_at = ( \
                    SELECT min(ended_at) FROM subscriber_versions WHERE subscriber_id = input.id AND ended_at > $1 \
                )"
            .to_owned(),
        };
        let input = ids(subscribers.iter().map(|subscriber| subscriber.id));
        let mut versions = HashMap::new();
        for row in input.query(&reads, &sql, [moment.millis().into()]).await? {
            // Later than that moment: the version before it is not kept.
            if column::<i64>(&row, "began_at")? <= moment.millis() {
                let subscriber = SubscriberId::from_uuid(column(&row, "subscriber_id")?);
                versions.insert(subscriber, read(&row, subscriber)?);
            }
        }
        let then = |subscriber: &Subscriber| {
            let then = match versions.remove(&subscriber.id) {
                Some(matching) => MatchingThen { matching, is_of_then: true },
                None => MatchingThen {
                    matching: Matching::from(subscriber),
                    is_of_then: subscriber.matching_since <= moment,
                },
            };
            (subscriber.id, then)
        };
        Ok(subscribers.iter().map(then).collect())
    }

    /// Returns the deliveries of an event of the tenant to those of these subscribers that have one.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn deliveries_to(
        &self,
        tenant: &TenantId,
        event: EventId,
        subscribers: &[SubscriberId],
    ) -> Result<HashMap<SubscriberId, DeliveryId>, StoreError> {
        let (range, of_event) = if event.numbers_deliveries() {
            (event.deliveries(), "true")
        } else {
            (event.deliveries_within(MADE_WITHIN), "event_id = $4")
        };
        // Written so that the index that begins with the tenant is no use: an event may have very many deliveries.
        let condition = format!(
            "deliveries.subscriber_id = input.id AND deliveries.id BETWEEN $1 AND $2 \
            AND coalesce(deliveries.tenant, '') = $3 AND {of_event}"
        );
        let delivery = self.database.dialect().look_up("deliveries", &condition);
        let sql = format!("SELECT input.id AS subscriber, deliveries.id FROM input {delivery}");
        let mut values: Vec<Value> =
            vec![range.start().uuid().into(), range.end().uuid().into(), tenant.as_str().into()];
        if !event.numbers_deliveries() {
            values.push(event.uuid().into());
        }
        let rows = ids(subscribers.iter().copied()).query(&self.database.reads(), &sql, values).await?;
        let read = |row: &QueryResult| {
            let subscriber = SubscriberId::from_uuid(column(row, "subscriber")?);
            Ok((subscriber, DeliveryId::from_uuid(column(row, "id")?)))
        };
        rows.iter().map(read).collect()
    }
}

impl From<&Subscriber> for Matching {
    fn from(subscriber: &Subscriber) -> Self {
        Self {
            active: subscriber.state == SubscriberState::Active,
            events: subscriber.events.clone(),
            channels: subscriber.channels.clone(),
            filter: subscriber.filter.clone(),
        }
    }
}

fn ids(subscribers: impl Iterator<Item = SubscriberId>) -> Batch {
    let mut input = Batch::new(SUBSCRIBER);
    for subscriber in subscribers {
        input.push([subscriber.uuid().into()]);
    }
    input
}

fn read(row: &QueryResult, subscriber: SubscriberId) -> Result<Matching, StoreError> {
    const TABLE: &str = "subscriber_versions";
    let events: String = column(row, "events")?;
    let events = events.split(' ').filter(|text| !text.is_empty());
    let filter: Option<String> = column(row, "filter")?;
    Ok(Matching {
        active: column(row, "active")?,
        events: events.map(|text| parse(text, TABLE, "events", subscriber)).collect::<Result<_, _>>()?,
        channels: read_channels(column::<Option<String>>(row, "channels")?.as_deref(), TABLE, subscriber)?,
        filter: filter.map(|text| parse(&text, TABLE, "filter", subscriber)).transpose()?,
    })
}
