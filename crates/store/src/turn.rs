//! Work that one process does at a time.

use postrider_database::sql::{column, query_one};
use postrider_database::{Dialect, Transaction};

use crate::StoreError;

/// A PostgreSQL advisory lock of the process that does some work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn(i64);

impl Turn {
    /// Draining lanes: "draining" in ASCII.
    pub(crate) const DRAINING: Self = Self(0x6472_6169_6e69_6e67);
    /// Fanning out events: "fan outs" in ASCII.
    pub(crate) const FANNING_OUT: Self = Self(0x6661_6e20_6f75_7473);
    /// Erasing payloads: "erasures" in ASCII.
    pub(crate) const ERASING: Self = Self(0x6572_6173_7572_6573);
    /// Deleting the data of tenants: "deleting" in ASCII.
    pub(crate) const DELETING: Self = Self(0x6465_6c65_7469_6e67);
    /// Removing the data of tenants with a shorter retention: "expiring" in ASCII.
    pub(crate) const EXPIRING: Self = Self(0x6578_7069_7269_6e67);
    /// Filling a queue outside the database: "refill" and two spaces in ASCII.
    pub(crate) const REFILLING: Self = Self(0x7265_6669_6c6c_2020);
    /// Folding statistics: "roll ups" in ASCII.
    pub(crate) const FOLDING: Self = Self(0x726f_6c6c_2075_7073);

    /// Takes the lock until the transaction ends. Returns `false` if another process holds it.
    pub(crate) async fn take(self, transaction: &Transaction) -> Result<bool, StoreError> {
        if Dialect::of(transaction) == Dialect::Sqlite {
            return Ok(true);
        }
        let sql = "SELECT pg_try_advisory_xact_lock($1) AS locked";
        let row = query_one(transaction, sql, [self.0.into()]).await?;
        row.map_or(Ok(false), |row| Ok(column(&row, "locked")?))
    }
}
