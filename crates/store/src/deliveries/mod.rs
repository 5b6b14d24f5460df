//! Deliveries and their attempts.
//!
//! | file | what it holds |
//! |---|---|
//! | `read` | deliveries, one or a page of them |
//! | `attempts` | the attempts of a delivery |
//! | `change` | retrying and cancelling a delivery |
//! | `restart` | making ended deliveries pending again, for retries and for requeued dead letters |

mod attempts;
mod change;
mod read;
pub(crate) mod restart;

pub use self::attempts::RecordedAttempt;
pub(crate) use self::attempts::{read as read_attempt, read_first as read_first_attempt};
pub use self::change::Changed;
pub use self::read::{Delivery, DeliveryFilter};
pub(crate) use self::read::{MADE_WITHIN, Numbering, of_event, read};
