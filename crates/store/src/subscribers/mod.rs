//! Subscribers.
//!
//! | file | what it holds |
//! |---|---|
//! | `subscriber` | the types |
//! | `crud` | creating, reading, changing and deleting |
//! | `list` | pages of them |
//! | `query` | queries for one subscriber |
//! | `stored` | between rows and types: policies, lane settings |
//! | `patterns` | the rows of their patterns |
//! | `counts` | how many subscribers each tenant has |
//! | `secrets` | encrypting secrets, headers and authentication; rotating a secret |
//! | `previous` | replaced secrets that still sign |
//! | `rekey` | encrypting all of them under a new key |

pub(crate) mod counts;
mod crud;
mod describe;
mod list;
mod patterns;
mod previous;
mod query;
mod rekey;
pub(crate) mod secrets;
pub(crate) mod stored;
mod subscriber;

pub use self::list::SubscriberFilter;
pub use self::previous::{MAX_PREVIOUS, PreviousSecret};
pub(crate) use self::query::is_active;
pub use self::rekey::{RekeyError, Rekeyed};
pub use self::subscriber::{
    Changing, NewAuth, NewSubscriber, Notify, Rotated, ShownAuth, Subscriber, SubscriberChange,
    SubscriberState,
};
