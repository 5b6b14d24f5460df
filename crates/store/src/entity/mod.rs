//! The rows of tables, as SeaORM reads and writes them. Private: callers of the store see domain types.

pub(crate) mod deliveries;
pub(crate) mod events;
pub(crate) mod subscribers;
