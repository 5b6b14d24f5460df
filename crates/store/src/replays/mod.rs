//! Replays: jobs that deliver again, or cancel, everything that matches a filter.
//!
//! A replay has a set, which is frozen when it is started: the deliveries that match and **had ended by then**, or, for
//! missed events, the pairs of an event that was dispatched by then and a subscriber that matches it now. To cancel, they
//! are the deliveries of events that were dispatched by then and are pending when they are collected. The set is
//! collected oldest first, in steps that each examine a bounded number of rows, and kept in `replay_rows`. Deliveries that
//! end later do not belong to it, nor do those that something else restarts before they are collected. Once all of it is
//! collected its size does not change, and each member is then either made pending or cancelled (`done`), or passed over for a reason
//! (`failed`).
//!
//! Every step is a transaction that locks the replay's row, so a member is processed once, whichever process takes the
//! step and wherever it ends. Tenants take turns.
//!
//! | file | what it does |
//! |---|---|
//! | `stored` | between rows and types |
//! | `change` | starting, pausing, resuming, cancelling, reading |
//! | `walk` | finding the members of a set, some at a time |
//! | `missed` | the same for missed events |
//! | `estimate` | counting a set without starting a replay |
//! | `run` | the steps: collecting the set, and processing it |
//! | `restarting` | delivering again what has a delivery |
//! | `creating` | delivering what has none yet |
//! | `cancelling` | cancelling what is pending |
//! | `removal` | removing replays, and what is left of their sets |

mod cancelling;
mod change;
mod creating;
mod estimate;
mod missed;
mod removal;
mod restarting;
mod run;
mod stored;
mod walk;

use std::collections::HashMap;

use postrider_core::replay::{ReplayFailure, ReplayMode, ReplayStatus};
use postrider_core::{EventType, ReplayId, TenantId, Timestamp};

pub use self::change::{ReplayChange, ReplayChanged, Started};
pub use self::estimate::{Estimate, EstimateOf};
use crate::deliveries::DeliveryFilter;

/// How many replays of a tenant may be unfinished at a time.
pub const MAX_OPEN: i16 = 10;

/// The most members of a set.
pub const MAX_TOTAL: u64 = 1_000_000;

/// A replay.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// What it does.
    pub mode: ReplayMode,
    /// What it selects.
    pub filter: DeliveryFilter,
    /// How far it has come.
    pub status: ReplayStatus,
    /// The size of its set, or of as much of it as is collected.
    pub total: u64,
    /// Whether all of its set is collected.
    pub collected: bool,
    /// Whether more matched than [`MAX_TOTAL`].
    pub truncated: bool,
    /// How many members it has made pending, or cancelled.
    pub done: u64,
    /// How many it has passed over.
    pub failed: u64,
    /// Why, and how many of them.
    pub failures: Vec<(ReplayFailure, u64)>,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it came to its end.
    pub ended_at: Option<Timestamp>,
}

/// A step of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayStep {
    /// The tenant that owns the replay.
    pub tenant: TenantId,
    /// The replay.
    pub replay: ReplayId,
    /// Its status after the step.
    pub status: ReplayStatus,
    /// How many members the step has added to the set.
    pub collected: u64,
    /// How many members the step has made pending, or cancelled.
    pub done: u64,
    /// How many deliveries it has cancelled, by event type.
    pub cancelled: HashMap<EventType, u64>,
    /// How many it has passed over, for each reason.
    pub failures: Vec<(ReplayFailure, u64)>,
}
