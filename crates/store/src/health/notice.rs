//! What operators are notified of.

use std::time::Duration;

use postrider_core::{
    DeactivationReason, DeadReason, DeliveryId, EventId, EventType, SubscriberId, TenantId,
};

use crate::attempt::{End, Outcome};

/// Something that operators may want to know. The worker emits it as an event of the tenant `operator`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A circuit breaker has opened.
    CircuitOpened {
        /// The subscriber's tenant.
        tenant: TenantId,
        /// The subscriber.
        subscriber: SubscriberId,
        /// Its failures in a row.
        failures: u32,
        /// How long its lane pauses.
        pause: Duration,
    },
    /// A circuit breaker has closed.
    CircuitClosed {
        /// The subscriber's tenant.
        tenant: TenantId,
        /// The subscriber.
        subscriber: SubscriberId,
    },
    /// A subscriber was deactivated.
    Deactivated {
        /// The subscriber's tenant.
        tenant: TenantId,
        /// The subscriber.
        subscriber: SubscriberId,
        /// Why it was deactivated.
        reason: DeactivationReason,
    },
    /// A delivery became a dead letter.
    Dead {
        /// The delivery's tenant.
        tenant: TenantId,
        /// The delivery.
        delivery: DeliveryId,
        /// The event that it was to deliver.
        event_id: EventId,
        /// The event's type.
        event_type: EventType,
        /// The subscriber.
        subscriber: SubscriberId,
        /// The number of attempts in all.
        attempts: u32,
        /// Why it is dead.
        reason: DeadReason,
    },
}

impl Notice {
    /// The subscriber that gets no more requests for now, if this is about one.
    pub const fn closes(&self) -> Option<SubscriberId> {
        match self {
            Self::CircuitOpened { subscriber, .. } | Self::Deactivated { subscriber, .. } => {
                Some(*subscriber)
            }
            Self::CircuitClosed { .. } | Self::Dead { .. } => None,
        }
    }

    /// The notice of a dead delivery; `None` for every other outcome.
    pub(super) fn of_dead(outcome: &Outcome) -> Option<Self> {
        let End::Dead(reason) = outcome.end else { return None };
        let delivery = &outcome.delivery;
        Some(Self::Dead {
            tenant: delivery.tenant.clone(),
            delivery: delivery.id,
            event_id: delivery.event_id,
            event_type: delivery.event_type.clone(),
            subscriber: delivery.subscriber,
            attempts: delivery.attempts + u32::from(outcome.attempt.is_some()),
            reason,
        })
    }
}
