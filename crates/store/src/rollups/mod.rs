//! Roll-ups: counts of deliveries and attempts by tenant, subscriber, event type and time.
//!
//! They are written in the transaction that writes what they count, and folded into rows of longer spans as they age,
//! so that statistics read a few thousand rows at most, however long the history is.
//!
//! | file | what it holds |
//! |---|---|
//! | `deliveries` | the table `rollups`: deliveries created and ended |
//! | `attempts` | the tables `attempt_deltas` and `attempt_rollups`: the tallies of attempts |
//! | `folding` | folding deltas into the roll-ups of attempts |
//! | `tally` | the counts and histograms of one roll-up row of attempts, and their encoding |
//! | `histogram` | histograms that can be added up, and their percentiles |
//! | `key` | what is counted together |
//! | `clock` | minutes, and the widths of rows |
//! | `shards` | which rows a process adds to, so that processes do not wait for each other |

pub(crate) mod attempts;
pub(crate) mod clock;
pub(crate) mod deliveries;
mod folding;
pub(crate) mod histogram;
pub(crate) mod key;
pub(crate) mod shards;
pub(crate) mod tally;

use std::time::{Duration, Instant};

use crate::{Store, StoreError};

pub use self::folding::Folded;

/// How long one call folds. The next one continues, so that a backlog ends in no time limit of the caller.
const RUN: Duration = Duration::from_secs(3);

impl Store {
    /// Folds old minutes of the delivery counts into hours and old hours into days, and removes roll-ups of attempts
    /// that are too old to be read, in short statements, for a few seconds at most. Several processes may call this at the
    /// same time. Every few minutes is often enough.
    ///
    /// Returns the number of rows that were folded.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn fold_statistics(&self) -> Result<u64, StoreError> {
        let now = clock::minute(self.ids.clock().now());
        let until = Instant::now() + RUN;
        let folded = deliveries::fold(&self.database, &self.folding, now, until).await?;
        attempts::remove_old(&self.database, now, until).await?;
        Ok(folded)
    }

    /// Folds the deltas of attempts, for a few seconds at most. Several processes may call this at the same time; every few seconds is often
    /// enough. Statistics are the same before and after.
    ///
    /// # Errors
    /// Fails if the database is unavailable. Deltas that were folded before that stay folded, and none is lost.
    pub async fn fold_attempts(&self) -> Result<Folded, StoreError> {
        folding::fold(&self.database, Instant::now() + RUN).await
    }
}
