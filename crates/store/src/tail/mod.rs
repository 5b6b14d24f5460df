//! The live tail: events, attempts and ended deliveries as they happen, for those who follow them.
//!
//! Events are read from their table, in the order of their ids. Attempts and ends of deliveries have no such order: a retry
//! belongs to an event of hours ago. So while somebody follows a tenant (`tail_watches`), whatever records something for
//! that tenant also writes a row into `tail_rows`, in the same transaction. Rows are kept for some minutes, so that a
//! viewer who was disconnected can go on. Nobody writes anything for tenants that nobody follows.
//!
//! Ids begin with the time at which they were made, not with that of the commit: a reader reads the last seconds again and
//! leaves out what it has seen.
//!
//! | file | what it does |
//! |---|---|
//! | `watched` | notes and reads which tenants somebody follows |
//! | `note` | writes what happens |
//! | `read` | reads it |

mod note;
mod read;
mod watched;

use std::time::Duration;

use postrider_core::{DeliveryId, DeliveryStatus, EventType, Id, SubscriberId, TenantId, id};

pub use self::note::Happened;
use crate::deliveries::{Delivery, RecordedAttempt};
use crate::events::Event;

/// For how long what happens is kept, and written after the last viewer has gone.
pub const TAIL_KEPT: Duration = Duration::from_mins(5);

/// The most rows that one call reads.
pub const MAX_READ: u64 = 5_000;

/// Something that happened, as far as it takes to decide who wants to know.
#[derive(Clone, Debug)]
pub struct TailRow {
    /// Its place.
    pub id: Id<id::TailPlace>,
    /// What happened.
    pub what: TailWhat,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum TailWhat {
    /// An event was dispatched.
    Event(Box<Event>),
    /// Something happened to a delivery.
    Delivery(TailDelivery),
    /// So many others happened at the same time.
    LeftOut(u64),
}

/// Something that happened to a delivery.
#[derive(Clone, Debug)]
pub struct TailDelivery {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its subscriber.
    pub subscriber: SubscriberId,
    /// The type of its event.
    pub event_type: EventType,
    /// Its status afterwards.
    pub status: DeliveryStatus,
    /// The number of an attempt at it. `None` if it has ended.
    pub attempt: Option<u32>,
}

/// All of something that happened to a delivery.
#[derive(Clone, Debug)]
pub struct TailDetail {
    /// The delivery, as it is now.
    pub delivery: Delivery,
    /// The attempt.
    pub attempt: Option<RecordedAttempt>,
}

/// What a tenant's reader has read.
#[derive(Clone, Debug)]
pub struct TailRead {
    /// In the order of their places.
    pub rows: Vec<TailRow>,
    /// Whether there was more than one call reads.
    pub more: bool,
}

/// Whose tail, and from where on.
#[derive(Clone, Copy, Debug)]
pub struct TailFrom<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// Rows after this place.
    pub after: Id<id::TailPlace>,
    /// Whether events are wanted, beside what happens to deliveries.
    pub events: bool,
}
