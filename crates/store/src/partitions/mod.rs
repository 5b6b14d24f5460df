//! The partitions of events, deliveries and attempts. SQLite has none: there everything is in the whole tables.
//!
//! An id begins with the time at which its event was dispatched, so the ids of a span of time are in one partition of each
//! table. A statement on the whole tables costs PostgreSQL more the more partitions there are, so hot statements name the
//! partition, if all their rows are in one. If they are not, or this process does not know the partition, a statement
//! works on the whole tables.
//!
//! | file | what it holds |
//! |---|---|
//! | `known` | the partitions that this process knows |
//! | `keep` | makes partitions, and reads which there are |

mod keep;
mod known;

use postrider_core::DeliveryId;

pub use self::keep::Kept;
pub(crate) use self::known::Known;
use crate::Store;

/// The names under which a statement finds its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    /// The end of the partitions' names; `None` for the whole tables.
    suffix: Option<String>,
}

impl Tables {
    pub(crate) const WHOLE: Self = Self { suffix: None };

    pub(crate) fn events(&self) -> String {
        self.name("events")
    }

    pub(crate) fn deliveries(&self) -> String {
        self.name("deliveries")
    }

    /// For an `UPDATE`, which calls its rows `deliveries`.
    pub(crate) fn deliveries_to_update(&self) -> String {
        match &self.suffix {
            Some(suffix) => format!("deliveries_{suffix} AS deliveries"),
            None => "deliveries".to_owned(),
        }
    }

    fn name(&self, table: &str) -> String {
        self.suffix.as_ref().map_or_else(|| table.to_owned(), |suffix| format!("{table}_{suffix}"))
    }
}

impl Store {
    /// Returns the tables of the deliveries that are made now, if this process knows their partition.
    pub(crate) fn tables_of_now(&self) -> Option<Tables> {
        let suffix = self.partitions.of(std::iter::once(self.ids.clock().now()))?;
        Some(Tables { suffix: Some(suffix) })
    }

    /// Returns the tables in which these deliveries and their events are.
    pub(crate) fn tables_of(&self, deliveries: impl IntoIterator<Item = DeliveryId>) -> Tables {
        Tables { suffix: self.partitions.of(deliveries.into_iter().map(DeliveryId::made_at)) }
    }
}
