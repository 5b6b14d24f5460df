//! How many subscribers each tenant has, and how many of them are active.
//!
//! The transaction that creates, deletes, activates or deactivates a subscriber also changes the counts, at its very end:
//! from then on it waits for nothing, so others wait for it briefly.

use std::collections::BTreeMap;

use postrider_core::{SubscriberId, TenantId};
use postrider_database::{Batch, Column, Kind, Transaction};

use crate::StoreError;

/// The tenant under which the subscribers of all tenants are counted. No real tenant has this name.
pub(crate) const ALL_TENANTS: &str = "";

/// The rows over which a tenant's counts are spread, so that changes of different subscribers seldom wait for each other.
const SHARDS: u8 = 16;

/// A change to the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CountChange {
    total: i64,
    active: i64,
}

impl CountChange {
    /// A subscriber was created.
    pub(crate) fn created(active: bool) -> Self {
        Self { total: 1, active: i64::from(active) }
    }

    /// A subscriber was deleted that was active, or was not.
    pub(crate) fn deleted(was_active: bool) -> Self {
        Self { total: -1, active: -i64::from(was_active) }
    }

    /// A subscriber was activated or deactivated, or is what it was.
    pub(crate) fn activity(was_active: bool, is_active: bool) -> Self {
        Self { total: 0, active: i64::from(is_active) - i64::from(was_active) }
    }
}

/// Adds changes of these subscribers to the counts. Locks their rows, in the order of their keys, after all else that the
/// transaction locks.
pub(crate) async fn add(
    transaction: &Transaction,
    changes: impl IntoIterator<Item = (&TenantId, SubscriberId, CountChange)>,
) -> Result<(), StoreError> {
    const COUNTS: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("shard", Kind::Small),
        Column::new("total", Kind::Big),
        Column::new("active", Kind::Big),
    ];
    let mut sums: BTreeMap<(&str, i16), CountChange> = BTreeMap::new();
    for (tenant, id, change) in changes {
        if change == CountChange::default() {
            continue;
        }
        let shard = i16::from(id.uuid().as_bytes()[15] % SHARDS);
        for tenant in [ALL_TENANTS, tenant.as_str()] {
            let sum = sums.entry((tenant, shard)).or_default();
            sum.total += change.total;
            sum.active += change.active;
        }
    }
    let mut input = Batch::new(COUNTS);
    for ((tenant, shard), CountChange { total, active }) in sums {
        input.push([tenant.into(), shard.into(), total.into(), active.into()]);
    }
    let sql = "INSERT INTO subscriber_counts (tenant, shard, total, active) \
        SELECT tenant, shard, total, active FROM input WHERE true \
        ON CONFLICT (tenant, shard) DO UPDATE SET \
            total = subscriber_counts.total + excluded.total, active = subscriber_counts.active + excluded.active";
    input.execute(transaction, sql, []).await?;
    Ok(())
}
