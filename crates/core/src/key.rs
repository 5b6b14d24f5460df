//! API keys: what they look like, what they may do, and how far.
//!
//! | type | what it is |
//! |---|---|
//! | [`Scope`], [`Scopes`], [`Preset`] | what a key may do |
//! | [`KeyLimits`] | how far: event types, subscribers, networks, requests per second |
//! | [`Powers`] | all of that together, so that a key gives no other one more than it has |
//! | [`NewKey`], [`PresentedKey`] | the text of a key: made, and read from a request |
//! | [`KeyHash`] | what is stored of that text |

mod limits;
mod powers;
mod scope;
mod text;

pub use self::limits::{KeyLimits, KeyRate, KeyRateError};
pub use self::powers::{Excess, Powers};
pub use self::scope::{Preset, Scope, Scopes};
pub use self::text::{KeyHash, KeyKind, NewKey, PresentedKey, PresentedKeyError};
