//! The health of subscribers: failures, circuit breakers, and the deactivation of subscribers that only fail.
//!
//! A healthy subscriber has no row in `health` and costs no write. Failures that blame the receiver are counted since
//! its last success. At a threshold the circuit breaker opens: the subscriber's lane is paused, and after the pause it
//! lets one delivery through as a probe. If the probe fails, the next pause is twice as long; if it succeeds, the lane
//! runs as before. The state is in the database, so all workers share it.
//!
//! | file | what it holds |
//! |---|---|
//! | `policy` | when a breaker opens and for how long, and when a subscriber is deactivated |
//! | `state` | [`Health`] and [`Breaker`]: read for the API, counted for metrics, and reset |
//! | `fault` | the successes and failures of each subscriber in a batch of outcomes |
//! | `breaker` | opening breakers after failures |
//! | `deactivate` | deactivating a subscriber, and ending its deliveries soon |
//! | `judge` | the order in which a recorded batch moves all of that |
//! | `notice` | what operators are notified of |

mod breaker;
pub(crate) mod deactivate;
mod fault;
mod judge;
mod notice;
mod policy;
pub(crate) mod state;

pub(crate) use deactivate::{Judged, Locked};
pub(crate) use judge::judge;
pub use notice::Notice;
pub use policy::BreakerPolicy;
pub use state::{Breaker, Breakers, Health};
