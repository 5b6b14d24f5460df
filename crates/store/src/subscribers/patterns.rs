//! The patterns of subscribers: rows of `subscriptions`, or of `channel_subscriptions` for a subscriber with channels.

use std::collections::HashMap;

use postrider_core::{Channels, EventPattern, SubscriberId, TenantId};
use postrider_database::sql::{column, execute};
use postrider_database::{Batch, Column, Dialect, Kind, Transaction};
use sea_orm::ConnectionTrait;
use sea_orm::prelude::Uuid;

use crate::StoreError;
use crate::row::parse;

/// Inserts the patterns of a subscriber.
pub(super) async fn insert(
    transaction: &Transaction,
    tenant: &TenantId,
    id: SubscriberId,
    events: &[EventPattern],
    channels: Option<&Channels>,
) -> Result<(), StoreError> {
    const PATTERN: &[Column] = &[Column::new("pattern", Kind::Text)];
    const PAIR: &[Column] = &[Column::new("channel", Kind::Text), Column::new("pattern", Kind::Text)];
    // PostgreSQL cannot infer the types of parameters in a select list.
    let (tenant_parameter, id_parameter) = match Dialect::of(transaction) {
        Dialect::Postgres => ("$1::text", "$2::uuid"),
        Dialect::Sqlite => ("$1", "$2"),
    };
    let (input, sql) = if let Some(channels) = channels {
        let mut input = Batch::new(PAIR);
        for channel in channels.iter() {
            for pattern in events {
                input.push([channel.into(), pattern.as_str().into()]);
            }
        }
        let sql = format!(
            "INSERT INTO channel_subscriptions (tenant, channel, pattern, subscriber_id) \
            SELECT DISTINCT {tenant_parameter}, channel, pattern, {id_parameter} FROM input"
        );
        (input, sql)
    } else {
        let mut input = Batch::new(PATTERN);
        for pattern in events {
            input.push([pattern.as_str().into()]);
        }
        let sql = format!(
            "INSERT INTO subscriptions (tenant, pattern, subscriber_id) \
            SELECT DISTINCT {tenant_parameter}, pattern, {id_parameter} FROM input"
        );
        (input, sql)
    };
    input.execute(transaction, &sql, [tenant.as_str().into(), id.uuid().into()]).await?;
    Ok(())
}

/// Deletes the patterns of a subscriber.
pub(super) async fn delete(transaction: &Transaction, id: SubscriberId) -> Result<(), StoreError> {
    for table in ["subscriptions", "channel_subscriptions"] {
        let sql = format!("DELETE FROM {table} WHERE subscriber_id = $1");
        execute(transaction, &sql, [id.uuid().into()]).await?;
    }
    Ok(())
}

/// Returns the patterns of these subscribers, each once and in their order.
pub(super) async fn of(
    connection: &impl ConnectionTrait,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Vec<EventPattern>>, StoreError> {
    const SUBSCRIBER: &[Column] = &[Column::new("id", Kind::Uuid)];
    let mut input = Batch::new(SUBSCRIBER);
    for id in ids {
        input.push([(*id).into()]);
    }
    // PostgreSQL has to look up each subscriber: it would keep a plan that reads all of a small table.
    let of_each = |table: &str| match Dialect::of(connection) {
        Dialect::Postgres => format!(
            "SELECT input.id, found.pattern FROM input CROSS JOIN LATERAL ( \
                SELECT pattern FROM {table} WHERE {table}.subscriber_id = input.id OFFSET 0 \
            ) AS found"
        ),
        Dialect::Sqlite => {
            format!("SELECT input.id, pattern FROM input JOIN {table} ON {table}.subscriber_id = input.id")
        }
    };
    let sql = format!("{} UNION {} ORDER BY 2", of_each("subscriptions"), of_each("channel_subscriptions"));
    let mut found: HashMap<_, Vec<EventPattern>> = HashMap::new();
    for row in input.query(connection, &sql, []).await? {
        let id: Uuid = column(&row, "id")?;
        let text: String = column(&row, "pattern")?;
        let pattern = parse(&text, "subscriptions", "pattern", SubscriberId::from_uuid(id))?;
        found.entry(id).or_default().push(pattern);
    }
    Ok(found)
}
