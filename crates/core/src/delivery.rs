//! Deliveries: one event on its way to one subscriber.

use crate::word::words;

words! {
    /// The status of a delivery. A delivery leaves `Pending` when it ends, and returns to it when it is requeued.
    DeliveryStatus, "a delivery status" {
        /// Attempts are under way or still to come.
        Pending = 0, "pending";
        /// The receiver answered 2xx.
        Succeeded = 1, "succeeded";
        /// Postrider gave up; the delivery is a dead letter. [`DeadReason`] says why.
        Dead = 2, "dead";
        /// Ended without a further attempt, on request or because its subscriber was deleted or deactivated.
        Cancelled = 3, "cancelled";
    }
}

words! {
    /// Why Postrider gave a delivery up.
    #[non_exhaustive]
    DeadReason, "a reason" {
        /// Every attempt of the retry policy failed.
        AttemptsUsedUp = 0, "attempts_used_up";
        /// The receiver answered 410 (Gone): it wants no further deliveries.
        Gone = 1, "gone";
        /// Too many workers lost the delivery's job, so it was not given to another.
        RescuedTooOften = 2, "rescued_too_often";
        /// The subscriber failed for too long and was deactivated.
        SubscriberFailing = 3, "subscriber_failing";
    }
}
