//! Delivering again what has a delivery.

use std::collections::{HashMap, HashSet};

use postrider_core::replay::{ReplayFailure, ReplayMode};
use postrider_core::{DeliveryId, DeliveryStatus, SubscriberId, TenantId};
use postrider_database::sql::column;
use postrider_database::{Batch, Column, Dialect, Kind, Transaction};
use sea_orm::{FromQueryResult as _, IdenStatic as _, Iterable as _, QueryResult};

use super::run::{Processed, Row};
use super::walk::Walk;
use crate::deliveries::restart::{AttemptBudget, restart};
use crate::deliveries::{Delivery, read};
use crate::entity::deliveries;
use crate::erasure::PayloadGone;
use crate::{Store, StoreError};

impl Store {
    /// Starts a new round for each of these members that is still as it was when the set was frozen.
    pub(super) async fn restart_members(
        &self,
        transaction: &Transaction,
        tenant: &TenantId,
        walk: &Walk,
        rows: &[Row],
    ) -> Result<Processed, StoreError> {
        let found = lock_deliveries(transaction, tenant, rows).await?;
        let active = active(transaction, tenant, rows.iter().map(|row| row.subscriber)).await?;
        let events = found.values().map(|delivery| delivery.event_id);
        let gone = self.gone_payloads(transaction, tenant, events).await?;
        let mut processed = Processed::default();
        let mut ended = Vec::new();
        for row in rows {
            let Some(delivery) = row.delivery.and_then(|id| found.get(&id)) else {
                processed.fail(ReplayFailure::Removed);
                continue;
            };
            let is_same = walk.was_ended(delivery)
                && match walk.mode {
                    ReplayMode::Dead => delivery.status == DeliveryStatus::Dead,
                    _ => delivery.status != DeliveryStatus::Pending,
                };
            match gone.get(&delivery.event_id) {
                _ if !is_same => processed.fail(ReplayFailure::Changed),
                Some(PayloadGone::Erased) => processed.fail(ReplayFailure::PayloadErased),
                Some(PayloadGone::Expired) => processed.fail(ReplayFailure::PayloadExpired),
                None if !active.contains(&delivery.subscriber) => processed.fail(ReplayFailure::Inactive),
                None => ended.push(delivery.clone()),
            }
        }
        if !ended.is_empty() {
            processed.jobs = restart(self, transaction, tenant, &ended, AttemptBudget::FromZero).await?;
        }
        processed.done = ended.len() as u64;
        Ok(processed)
    }
}

/// Locks the deliveries of these members, in the order of their ids.
pub(super) async fn lock_deliveries(
    transaction: &Transaction,
    tenant: &TenantId,
    rows: &[Row],
) -> Result<HashMap<DeliveryId, Delivery>, StoreError> {
    const DELIVERY: &[Column] = &[Column::new("id", Kind::Uuid)];
    let mut input = Batch::new(DELIVERY);
    for id in rows.iter().filter_map(|row| row.delivery) {
        input.push([id.uuid().into()]);
    }
    let columns = |table: &str| {
        let columns = deliveries::Column::iter().map(|column| format!("{table}.{}", column.as_str()));
        columns.collect::<Vec<_>>().join(", ")
    };
    // Looked up one by one: PostgreSQL could check a list of ids after reading everything between them.
    let sql = match Dialect::of(transaction) {
        Dialect::Postgres => format!(
            "SELECT {} FROM (SELECT id FROM input ORDER BY id) AS given CROSS JOIN LATERAL ( \
                SELECT {} FROM deliveries WHERE deliveries.tenant = $1 AND deliveries.id = given.id LIMIT 1 \
                FOR NO KEY UPDATE) AS mine",
            columns("mine"),
            columns("deliveries")
        ),
        Dialect::Sqlite => format!(
            "SELECT {} FROM input JOIN deliveries ON deliveries.tenant = $1 AND deliveries.id = input.id",
            columns("deliveries")
        ),
    };
    let found = input.query(transaction, &sql, [tenant.as_str().into()]).await?;
    let delivery = |row: &QueryResult| -> Result<_, StoreError> {
        let delivery = read(&deliveries::Model::from_query_result(row, "")?)?;
        Ok((delivery.id, delivery))
    };
    found.iter().map(delivery).collect()
}

/// Returns those of these subscribers that the tenant has and that are active.
pub(super) async fn active(
    transaction: &Transaction,
    tenant: &TenantId,
    subscribers: impl Iterator<Item = SubscriberId>,
) -> Result<HashSet<SubscriberId>, StoreError> {
    const SUBSCRIBER: &[Column] = &[Column::new("id", Kind::Uuid)];
    let mut input = Batch::new(SUBSCRIBER);
    for subscriber in subscribers.collect::<HashSet<_>>() {
        input.push([subscriber.uuid().into()]);
    }
    let subscriber = Dialect::of(transaction).look_up("subscribers", "subscribers.id = input.id");
    let sql = format!(
        "SELECT subscribers.id FROM input {subscriber} WHERE subscribers.tenant = $1 AND subscribers.active"
    );
    let rows = input.query(transaction, &sql, [tenant.as_str().into()]).await?;
    rows.iter().map(|row| Ok(SubscriberId::from_uuid(column(row, "id")?))).collect()
}
