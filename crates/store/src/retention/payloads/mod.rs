//! Removing the payloads of events that stay: their data, and the responses to their deliveries.
//!
//! An event keeps its payload while one of its deliveries is pending, or is a dead letter that is to be kept: it can be
//! delivered again. On PostgreSQL the tables of a partition are replaced by copies without payloads, which are made a few
//! thousand rows at a time; a pending delivery keeps those of its whole partition. SQLite updates rows in small batches.
//!
//! | file | what it does |
//! |---|---|
//! | `postgres` | takes the steps by which a partition loses its payloads |
//! | `sqlite` | removes the payloads of a batch of events |

mod postgres;
mod sqlite;

use std::collections::BTreeSet;

use postrider_core::Timestamp;
use postrider_database::Dialect;
use uuid::Uuid;

use super::{Retention, Stays};
use crate::{Store, StoreError};

/// How far a run of [`Store::remove_expired_payloads`] has come. Each run begins with a new one.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Whether the copies of partitions that are not to be copied any more were removed.
    tidied: bool,
    /// The partitions that the run need not look at again.
    done: BTreeSet<String>,
    /// The stripped partition whose kept payloads are being looked at, and the last event of it.
    kept: Option<(String, (String, Uuid))>,
    /// On SQLite, the place of the event after which it goes on.
    place: i64,
}

/// What a call of [`Store::remove_expired_payloads`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadStep {
    /// It looked at rows, or copied some.
    Taken,
    /// Others held a lock.
    GaveWay,
    /// It removed the last payloads of the partition with this suffix, except those that dead letters keep.
    Removed(String),
    /// The payloads of the partition with this suffix are old enough to go, but stay.
    Stays(String, Stays),
    /// It removed the payloads of so many events.
    Events(u64),
}

/// Payloads may go that are older than this.
#[derive(Clone, Copy, Debug)]
struct Limits {
    before: Timestamp,
    /// A delivery that died later keeps its event's payload.
    dead_until: i64,
}

impl Limits {
    /// `None` if nothing is to go before its event.
    fn of(retention: Retention, now: Timestamp) -> Option<Self> {
        let before =
            if retention.payloads == retention.history { None } else { retention.payloads.before(now) };
        let dead_until = retention.dead.before(now).map_or(-1, |before| before.millis() - 1);
        before.map(|before| Self { before, dead_until })
    }
}

impl Store {
    /// Takes the next step of a run that removes the payloads that are older than they are kept, while their events are
    /// not. Returns `None` at the end of the run. Of several processes, one at a time takes a step.
    ///
    /// A step takes some ten milliseconds and holds no lock that a delivery waits for, except the one that replaces the
    /// tables of a partition: it needs all three tables for an instant, and gives way if it would have to wait.
    ///
    /// # Errors
    /// Fails if the database is unavailable. Steps that were taken before stay taken.
    pub async fn remove_expired_payloads(
        &self,
        retention: Retention,
        sweep: &mut Sweep,
    ) -> Result<Option<PayloadStep>, StoreError> {
        let limits = Limits::of(retention, self.ids.clock().now());
        match (self.database.dialect(), limits) {
            (Dialect::Postgres, limits) => postgres::step(self, limits, sweep).await,
            (Dialect::Sqlite, Some(limits)) => sqlite::step(self, limits, sweep).await,
            (Dialect::Sqlite, None) => Ok(None),
        }
    }
}
