//! An attempt, its outcome, and the delivery that it belongs to: the types that loading, recording, health and roll-ups
//! share.

use std::time::Duration;

use bytes::Bytes;
use postrider_core::{
    DeactivationReason, DeadReason, DeliveryId, DeliveryStatus, EventId, EventType, SubscriberId, TenantId,
    Timestamp, Verdict,
};
use postrider_queue::{Finish, Lease};

use crate::exchange::Exchange;
use crate::packed_exchange;

/// The outcome of a claimed job, to be recorded.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The lease under which the worker held the job. It fences the record.
    pub lease: Lease,
    /// The delivery.
    pub delivery: DeliveryRef,
    /// The request, if the worker made one.
    pub attempt: Option<Attempt>,
    /// What happens to the delivery next.
    pub end: End,
}

impl Outcome {
    /// Returns whether the fast path may record this outcome: a plain success, for a subscriber that was healthy when
    /// the delivery was loaded.
    pub fn qualifies_for_fast_path(&self) -> bool {
        self.end == End::Succeeded
            && self.attempt.as_ref().is_some_and(|attempt| attempt.verdict == Verdict::Success)
            && !self.delivery.failing
    }

    /// Returns the attempt and its response if the attempt is to be stored in its delivery's row, should it turn out to be
    /// the delivery's first.
    pub(crate) fn first_success(&self) -> Option<(&Attempt, &Response)> {
        let attempt = self.attempt.as_ref()?;
        let plain = self.end == End::Succeeded && attempt.verdict == Verdict::Success;
        let response = attempt.response.as_ref()?;
        (plain && self.delivery.attempts == 0).then_some((attempt, response))
    }
}

/// A delivery, as far as recording its outcome needs it.
#[derive(Clone, Debug)]
pub struct DeliveryRef {
    /// The delivery's id.
    pub id: DeliveryId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// The event to deliver.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// The subscriber to deliver to.
    pub subscriber: SubscriberId,
    /// When the event was dispatched, which created the delivery.
    pub created_at: Timestamp,
    /// The number of earlier attempts.
    pub attempts: u32,
    /// The number of those that belong to earlier rounds.
    pub round_start: u32,
    /// Whether the subscriber had failed since its last success.
    pub failing: bool,
}

/// What happens to a delivery after a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The receiver has accepted it.
    Succeeded,
    /// Another attempt follows after this delay.
    RetryIn(Duration),
    /// It becomes a dead letter. [`DeadReason::Gone`] also deactivates the subscriber.
    Dead(DeadReason),
    /// It is cancelled.
    Cancelled,
}

impl End {
    /// How the deliveries of a subscriber end that was deactivated for this reason, or deleted.
    pub(crate) fn of_inactive(reason: Option<DeactivationReason>) -> Self {
        match reason {
            // The subscriber may be repaired. Its owner can then requeue the dead letters.
            Some(DeactivationReason::Failing) => Self::Dead(DeadReason::SubscriberFailing),
            _ => Self::Cancelled,
        }
    }

    /// The delivery's status afterwards.
    pub fn status(self) -> DeliveryStatus {
        match self {
            Self::Succeeded => DeliveryStatus::Succeeded,
            Self::RetryIn(_) => DeliveryStatus::Pending,
            Self::Dead(_) => DeliveryStatus::Dead,
            Self::Cancelled => DeliveryStatus::Cancelled,
        }
    }

    /// How the queue ends the job.
    pub(crate) fn finish(self) -> Finish {
        match self {
            Self::Succeeded | Self::Cancelled => Finish::Done,
            Self::RetryIn(delay) => Finish::RetryIn(delay),
            Self::Dead(_) => Finish::Bury,
        }
    }
}

/// One HTTP request of a delivery.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took in all.
    pub duration: Duration,
    /// The response, if the receiver sent one.
    pub response: Option<Response>,
    /// Whether it succeeded, and if not, why.
    pub verdict: Verdict,
    /// What it sent, and where to; `None` if it made no request.
    pub exchange: Option<Box<Exchange>>,
}

impl Attempt {
    /// What it sent, for the database.
    pub(crate) fn packed_exchange(&self, delivery: DeliveryId) -> Option<Vec<u8>> {
        let exchange = self.exchange.as_deref()?;
        Some(packed_exchange::pack(exchange, delivery, self.started_at))
    }

    /// Whether its request was sent again, for the database, which does not store `false`.
    pub(crate) fn resent(&self) -> Option<bool> {
        self.exchange.as_ref().is_some_and(|exchange| exchange.resent).then_some(true)
    }

    /// How long it took, in whole microseconds.
    pub(crate) fn micros(&self) -> i64 {
        i64::try_from(self.duration.as_micros()).unwrap_or(i64::MAX)
    }

    /// The same for the narrower column of a delivery's row. An attempt takes a minute at most.
    pub(crate) fn first_micros(&self) -> i32 {
        i32::try_from(self.duration.as_micros()).unwrap_or(i32::MAX)
    }
}

/// The part of a response that is stored.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers, with the bytes that the receiver sent.
    pub headers: Vec<(String, Bytes)>,
    /// The beginning of the body.
    pub body: Bytes,
    /// Whether the body was longer than that.
    pub truncated: bool,
}
