//! Inserting a batch of events with their deliveries, within the caller's transaction.
//!
//! Each step is one statement, however many events and subscribers there are.
//!
//! | file | what it holds |
//! |---|---|
//! | `matching` | finding the subscribers of events |
//! | `filtering` | the filters of subscribers |
//! | `idempotency` | taking idempotency keys |
//! | `deliveries` | the deliveries of an event, and their jobs |
//! | `old_keys` | removing old idempotency keys |
//! | `insert` | inserting events and deliveries |

mod deliveries;
mod filtering;
mod idempotency;
mod insert;
pub(crate) mod matching;
mod old_keys;

pub use self::deliveries::{EventRef, NewDeliveries};
pub use self::filtering::{Everyone, Sift, StoredEvent};
pub use self::idempotency::{KeyName, KeyRow, TakenKey};
pub use self::insert::{DeliveryRow, EventRow};
pub use self::matching::{Audience, Crowd, FEW_SUBSCRIBERS, Match};

/// The index of an event within a batch, from the column `place` of a statement's rows.
fn index(place: i32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}
