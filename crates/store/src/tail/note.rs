//! Writing what happens to deliveries of tenants that somebody follows.

use std::collections::BTreeMap;

use postrider_core::{DeliveryId, DeliveryStatus, EventType, Id, SubscriberId, TenantId, id};
use postrider_database::{Batch, Column, Kind, Writes};

use crate::Store;
use crate::row::signed;

/// How many rows a batch writes for a tenant. It counts the others.
const MAX_NOTED: usize = 200;

/// Something that happens to a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Happened<'a> {
    /// The tenant that owns the delivery.
    pub tenant: &'a TenantId,
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its subscriber.
    pub subscriber: SubscriberId,
    /// The type of its event.
    pub event_type: &'a EventType,
    /// Its status afterwards.
    pub status: DeliveryStatus,
    /// The number of the attempt; `None` if the delivery has ended.
    pub attempt: Option<u32>,
}

impl Store {
    /// Adds to `writes` what happens to deliveries of tenants that somebody follows.
    pub(crate) fn note_with(&self, happened: &[Happened<'_>], writes: &mut Writes) {
        const ROW: &[Column] = &[
            Column::new("tenant", Kind::Text),
            Column::new("id", Kind::Uuid),
            Column::nullable("delivery_id", Kind::Uuid),
            Column::nullable("subscriber_id", Kind::Uuid),
            Column::nullable("event_type", Kind::Text),
            Column::nullable("status", Kind::Small),
            Column::nullable("attempt", Kind::Int),
            Column::nullable("left_out", Kind::Int),
        ];
        let mut noted: BTreeMap<&TenantId, u32> = BTreeMap::new();
        let mut input = Batch::new(ROW);
        let next = || -> Id<id::TailPlace> { self.ids.next() };
        for one in happened.iter().filter(|one| self.watched.has(one.tenant)) {
            let count = noted.entry(one.tenant).or_default();
            *count += 1;
            if *count as usize > MAX_NOTED {
                continue;
            }
            input.push([
                one.tenant.as_str().into(),
                next().uuid().into(),
                Some(one.delivery.uuid()).into(),
                Some(one.subscriber.uuid()).into(),
                Some(one.event_type.as_str().to_owned()).into(),
                Some(one.status.code()).into(),
                one.attempt.map(signed).into(),
                None::<i32>.into(),
            ]);
        }
        for (tenant, count) in noted {
            let left_out = (count as usize).saturating_sub(MAX_NOTED);
            if left_out > 0 {
                let left_out = signed(u32::try_from(left_out).unwrap_or(u32::MAX));
                input.push([
                    tenant.as_str().into(),
                    next().uuid().into(),
                    None::<uuid::Uuid>.into(),
                    None::<uuid::Uuid>.into(),
                    None::<String>.into(),
                    None::<i16>.into(),
                    None::<i32>.into(),
                    Some(left_out).into(),
                ]);
            }
        }
        if input.is_empty() {
            return;
        }
        let now = self.database.dialect().now();
        let sql = format!(
            "INSERT INTO tail_rows \
                (tenant, id, delivery_id, subscriber_id, event_type, status, attempt, left_out, created_at) \
            SELECT tenant, id, delivery_id, subscriber_id, event_type, status, attempt, left_out, {now} FROM input"
        );
        writes.push(input, sql);
    }
}
