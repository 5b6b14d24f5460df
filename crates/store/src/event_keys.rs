//! Events that a statement looks up by their keys.

use postrider_core::{EventId, TenantId};
use postrider_database::{Batch, Column, Dialect, Kind};

/// The input of a statement about these events, and the join that looks up each of them.
pub(crate) fn look_up<'a>(
    dialect: Dialect,
    events: impl Iterator<Item = (&'a TenantId, EventId)>,
) -> (Batch, String) {
    const EVENT: &[Column] = &[Column::new("tenant", Kind::Text), Column::new("event_id", Kind::Uuid)];
    let mut input = Batch::new(EVENT);
    for (tenant, event) in events {
        input.push([tenant.as_str().into(), event.uuid().into()]);
    }
    (input, dialect.look_up("events", "events.tenant = input.tenant AND events.id = input.event_id"))
}
