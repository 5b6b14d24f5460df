//! What a subscriber gets: an event's data after the subscriber's transform and plugin, in the subscriber's format.
//!
//! [`Shaper::shape`] takes an event's envelope as it is stored. A subscriber that asks for nothing gets exactly these bytes.

mod compiled;
pub mod plugins;
mod shaper;

pub use self::shaper::{Event, ShapeError, Shaped, Shaper, Wanted};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
