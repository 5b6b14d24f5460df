//! Inserting a batch of events with their deliveries, within the caller's transaction.
//!
//! Each step is one statement, however many events and subscribers there are.
//!
//! | file | what it holds |
//! |---|---|
//! | `matching` | finding the subscribers of events |
//! | `idempotency` | taking idempotency keys |
//! | `insert` | inserting events and deliveries |

mod idempotency;
mod insert;
mod matching;

pub use self::idempotency::{KeyName, KeyRow, TakenKey};
pub use self::insert::{DeliveryRow, EventRow};

/// The index of an event within a batch, from the column `place` of a statement's rows.
fn index(place: i32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}
