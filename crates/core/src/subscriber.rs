//! Subscribers: how they are named, how deliveries to one endpoint are made, and why they may have stopped.

mod notice;
mod uid;

pub use self::notice::{NoticeChannel, NoticeKind};
pub use self::uid::{SubscriberRef, SubscriberRefError, SubscriberUid, SubscriberUidError};
pub use crate::policy::{
    Compression, ExponentialFields, Policy, PolicyError, PolicyErrorReason, PolicyFields, RateLimit,
    RateLimitFields, RequestMethod, Span,
};
use crate::word::words;

words! {
    /// Why a subscriber is inactive.
    #[non_exhaustive]
    DeactivationReason, "a deactivation reason" {
        /// A client of the API deactivated it.
        Requested = 0, "requested";
        /// Its receiver answered 410 (Gone).
        Gone = 1, "gone";
        /// Its deliveries failed for too long without a success.
        Failing = 2, "failing";
    }
}
