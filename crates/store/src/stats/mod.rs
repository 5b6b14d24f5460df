//! Statistics, read from roll-ups: no query counts deliveries or attempts one by one.
//!
//! | file | what it holds |
//! |---|---|
//! | `totals` | [`Store::stats`](crate::Store::stats): totals since a moment |
//! | `series` | [`Store::series`](crate::Store::series): attempts in steps of time |

mod series;
mod totals;

pub use self::series::{AttemptCounts, Series, Steps, StepsError};
pub use self::totals::{DeliveryStats, Stats, StatsFilter, SubscriberStats};
pub use crate::rollups::histogram::Percentiles;
pub use crate::rollups::reading::Detail;
