//! What is counted together.

use postrider_core::{EventType, SubscriberId, TenantId, Timestamp};

use super::clock::minute;

/// What is counted together. Writers sort rows by it, so that two of them lock rows in the same order and do not
/// deadlock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) tenant: TenantId,
    /// Minutes since the Unix epoch.
    pub(crate) minute: i64,
    pub(crate) subscriber: SubscriberId,
    pub(crate) event_type: EventType,
}

impl Key {
    /// The key for what is counted at `at`. Delivery counts use the moment at which the delivery was created.
    pub(crate) fn new(
        tenant: &TenantId,
        subscriber: SubscriberId,
        event_type: &EventType,
        at: Timestamp,
    ) -> Self {
        Self { tenant: tenant.clone(), minute: minute(at), subscriber, event_type: event_type.clone() }
    }
}
