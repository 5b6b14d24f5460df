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
//! | `tables` | the names under which a statement finds its rows |

mod keep;
mod known;
mod tables;

use postrider_core::DeliveryId;

pub use self::keep::Kept;
pub(crate) use self::known::Known;
pub(crate) use self::tables::Tables;
use crate::Store;

impl Store {
    /// Returns the tables of the deliveries that are made now, if this process knows their partition.
    pub(crate) fn tables_of_now(&self) -> Option<Tables> {
        let suffix = self.partitions.of(std::iter::once(self.ids.clock().now()))?;
        Some(Tables::of(Some(suffix)))
    }

    /// Returns the tables in which these deliveries and their events are.
    pub(crate) fn tables_of(&self, deliveries: impl IntoIterator<Item = DeliveryId>) -> Tables {
        Tables::of(self.partitions.of(deliveries.into_iter().map(DeliveryId::made_at)))
    }
}
