//! Removing events that are older than the retention, with their deliveries and attempts.
//!
//! On PostgreSQL a partition is dropped as a whole once its youngest event is old enough. SQLite deletes events in small
//! batches. Either way an event stays while one of its deliveries is pending, or is a dead letter that is to be kept for
//! longer; on PostgreSQL the others of its partition stay with it.
//!
//! | file | what it does |
//! |---|---|
//! | `postgres` | drops partitions, and says which will go |
//! | `sqlite` | deletes events |
//! | `payloads` | removes the payloads of events that stay |
//! | `tenants` | removes the data of tenants with a shorter retention of their own |

mod payloads;
mod postgres;
mod sqlite;
mod tenants;

use std::time::Duration;

use postrider_core::Timestamp;
use postrider_database::Dialect;
use postrider_database::sql::query_one;

pub use self::payloads::{PayloadStep, Sweep};
pub use self::postgres::{Expiring, Payloads};
pub use self::tenants::{OfTenant, TenantSweep};
use crate::{Store, StoreError};

/// For how long something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// As long as the database exists.
    Forever,
    /// For at least this time.
    For(Duration),
}

impl Age {
    /// The age of history unless another is set.
    pub const HISTORY: Self = Self::For(Duration::from_hours(90 * 24));

    /// The moment before which nothing is kept; `None` if everything is.
    pub(crate) fn before(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Forever => None,
            Self::For(age) => Some(now - age),
        }
    }

    /// The shorter one.
    fn min(self, other: Self) -> Self {
        match (self, other) {
            (Self::For(one), Self::For(other)) => Self::For(one.min(other)),
            (Self::Forever, age) | (age, Self::Forever) => age,
        }
    }

    /// The longer one.
    fn max(self, other: Self) -> Self {
        match (self, other) {
            (Self::For(one), Self::For(other)) => Self::For(one.max(other)),
            _ => Self::Forever,
        }
    }
}

/// The seconds of an hour and of a day.
const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

impl std::fmt::Display for Age {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::For(age) if age.as_secs() % DAY == 0 => write!(f, "{}d", age.as_secs() / DAY),
            Self::For(age) if age.as_secs() % HOUR == 0 => write!(f, "{}h", age.as_secs() / HOUR),
            Self::For(age) => write!(f, "{}s", age.as_secs()),
        }
    }
}

/// What an operator has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionSettings {
    /// How long events, deliveries and attempts are kept. Unless set, 90 days; forever in a database that has data of the
    /// first edition, which knew no retention.
    pub history: Option<Age>,
    /// How long the data of events and the responses to their deliveries are kept. Unless set, as long as the history; never
    /// longer. A dead letter that is to be kept keeps them for longer.
    pub payloads: Option<Age>,
    /// How long dead letters are kept, and their events with them, from the moment at which they died. Unless set, as long
    /// as the history; never shorter.
    pub dead: Option<Age>,
}

/// How long things are kept in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events, deliveries and attempts.
    pub history: Age,
    /// The data of events, and the responses to their deliveries.
    pub payloads: Age,
    /// Dead letters.
    pub dead: Age,
}

/// Why events stay although they are old enough to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// Deliveries are pending.
    Pending,
    /// Dead letters are to be kept for longer.
    DeadLetters,
}

impl Stays {
    /// The reason in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "deliveries are pending",
            Self::DeadLetters => "dead letters are to be kept for longer",
        }
    }
}

/// The result of [`Store::remove_expired`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The suffixes of partitions that were dropped.
    pub partitions: Vec<String>,
    /// The suffixes of partitions that are old enough but stay, and why.
    pub stay: Vec<(String, Stays)>,
    /// The number of events that were deleted, on SQLite.
    pub events: u64,
    /// Whether more can go soon: others held a lock, or the batch was full.
    pub more: bool,
}

impl Store {
    /// Returns how long things are kept in this database with these settings.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn retention(&self, settings: RetentionSettings) -> Result<Retention, StoreError> {
        let history = match settings.history {
            Some(age) => age,
            None if self.has_first_edition().await? => Age::Forever,
            None => Age::HISTORY,
        };
        Ok(Retention {
            history,
            payloads: settings.payloads.map_or(history, |payloads| payloads.min(history)),
            dead: settings.dead.map_or(history, |dead| dead.max(history)),
        })
    }

    /// Removes what is older than the retention, as much as one call may; the next call continues. Of several processes,
    /// one at a time removes something. On PostgreSQL it reads the partitions that may go, which can take minutes.
    ///
    /// # Errors
    /// Fails if the database is unavailable. What was removed before stays removed.
    pub async fn remove_expired(&self, retention: Retention) -> Result<Removed, StoreError> {
        let now = self.ids.clock().now();
        let Some(before) = retention.history.before(now) else { return Ok(Removed::default()) };
        let dead_before = retention.dead.before(now);
        let removed = match self.database.dialect() {
            Dialect::Postgres => postgres::drop_partitions(self, before, dead_before).await?,
            Dialect::Sqlite => sqlite::delete_events(self, before, dead_before).await?,
        };
        self.remove_keys_before(before).await?;
        Ok(removed)
    }

    async fn has_first_edition(&self) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM partitions WHERE converted LIMIT 1";
        Ok(query_one(&self.database.reads(), sql, []).await?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_age_counts() {
        let day = |days: u64| Age::For(Duration::from_hours(24 * days));
        assert_eq!(day(1).max(day(2)), day(2));
        assert_eq!(day(1).max(Age::Forever), Age::Forever);
        assert_eq!(Age::Forever.before(Timestamp::from_millis(5)), None);
        assert_eq!((day(90).to_string(), Age::Forever.to_string()), ("90d".to_owned(), "forever".to_owned()));
    }
}
