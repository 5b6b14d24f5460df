//! Rows, as SeaORM reads them. Private: outside of the store they are domain types.

pub(crate) mod attempts;
pub(crate) mod deliveries;
pub(crate) mod events;
pub(crate) mod subscribers;
pub(crate) mod subscriptions;
