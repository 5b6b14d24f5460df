//! Roll-ups: counts of deliveries and attempts by tenant, subscriber, event type and time.
//!
//! What a transaction counts is written in that transaction, as a delta. Deltas are folded into rows of minutes, hours and
//! days, from which statistics read a few hundred at most, however long the history is and however many subscribers there
//! are. Statistics add up rows and deltas, so they are exact at any moment.
//!
//! | file | what it holds |
//! |---|---|
//! | `deliveries` | counting deliveries that were created and ended |
//! | `attempts` | counting attempts |
//! | `deltas` | deltas: how they are packed and written |
//! | `cells` | the rows: which ones count a delivery, and how they are read and written |
//! | `folding` | folding deltas into rows, and old days into the past |
//! | `removal` | removing rows that are too old |
//! | `reading` | reading rows and deltas |
//! | `span` | the spans of rows, and how long they are stored |
//! | `counted` | what one row or one entry of a delta counts |
//! | `tally` | the counts and histograms of attempts, and their encoding |
//! | `histogram` | histograms that can be added up, and their percentiles |
//! | `key` | what is counted together |
//! | `clock` | minutes |

pub(crate) mod attempts;
mod cells;
pub(crate) mod clock;
pub(crate) mod counted;
pub(crate) mod deliveries;
pub(crate) mod deltas;
mod folding;
pub(crate) mod histogram;
pub(crate) mod key;
pub(crate) mod reading;
mod removal;
pub(crate) mod span;
pub(crate) mod tally;

use std::time::{Duration, Instant};

use self::span::Span;
use crate::{Store, StoreError};

pub use self::folding::Folded;

/// How long one call works. The next one continues, so that a backlog ends in no time limit of the caller.
const RUN: Duration = Duration::from_secs(3);

impl Store {
    /// Returns whether it is time to fold statistics: half a minute after the first count that is not folded, or sooner if
    /// there are many.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn statistics_are_due(&self) -> Result<bool, StoreError> {
        folding::is_due(&self.database).await
    }

    /// Folds what was counted since the last call, for a few seconds at most. Several processes may call this at the same
    /// time. Statistics are the same before and after.
    ///
    /// # Errors
    /// Fails if the database is unavailable. Counts that were folded before that stay folded, and none is lost.
    pub async fn fold_statistics(&self) -> Result<Folded, StoreError> {
        let now = clock::minute(self.ids.clock().now());
        folding::fold(&self.database, now, Instant::now() + RUN).await
    }

    /// Removes statistics of minutes and hours that are past their retention, and adds such days to the sum of all time, for
    /// a few seconds at most. Several processes may call this at the same time. Every few minutes is often enough.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_old_statistics(&self) -> Result<(), StoreError> {
        let now = clock::minute(self.ids.clock().now());
        let until = Instant::now() + RUN;
        let short = [Span::Minute, Span::SubscriberHour, Span::Hour];
        removal::remove_old(&self.database, &short, now, until).await?;
        // The past of a tenant stays. That of a subscriber or an event type is removed when its last day is long ago;
        // otherwise every name that was ever used would keep a row. First, all of its days must have been added.
        if folding::add_to_past(&self.database, now, until).await? {
            removal::remove_old(&self.database, &[Span::Past], now, until).await?;
        }
        Ok(())
    }
}
