//! Making partitions ahead of time, and when one is missing.

use std::time::Duration;

use postrider_core::Timestamp;
use postrider_database::sql::{column, execute, query_all};
use postrider_database::{DatabaseError, Dialect};
use sea_orm::ConnectionTrait;

use super::known::Partition;
use crate::{Store, StoreError};

/// How far ahead there are partitions.
const AHEAD: Duration = Duration::from_hours(7 * 24);

/// The most partitions that one call makes; the next call continues. A week of partitions of one hour.
const AT_ONCE: usize = 7 * 24;

/// The most partitions that a process knows: the newest ones.
const MOST_KNOWN: u32 = 10_000;

/// The partitions that there are, as [`Store::keep_partitions`] has left them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// For how long events can be stored before another partition is needed.
    pub ahead: Duration,
    /// When the oldest partition starts; zero while it has the data of the first edition.
    pub oldest: Timestamp,
    /// When the oldest partition starts whose payloads have not expired.
    pub oldest_payloads: Timestamp,
}

impl Store {
    /// Makes partitions for the next week, by the clock of this process, and learns which partitions there are. Returns
    /// `None` on SQLite, which has none. Any number of processes may call this at once.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn keep_partitions(&self) -> Result<Option<Kept>, StoreError> {
        if self.database.dialect() == Dialect::Sqlite {
            return Ok(None);
        }
        let connection = self.database.connection();
        let now = self.ids.clock().now();
        let [oldest, oldest_payloads] = self.learn_partitions(connection).await?;
        let (mut end, mut made) = (now, 0);
        while end < now + AHEAD {
            if let Some(later) = self.partitions.end_of(end) {
                end = later;
            } else if made < AT_ONCE {
                made += 1;
                self.add_partition(connection, end).await?;
            } else {
                break;
            }
        }
        Ok(Some(Kept {
            ahead: end.since(now),
            oldest: oldest.unwrap_or(now),
            oldest_payloads: oldest_payloads.unwrap_or(now),
        }))
    }

    /// Makes the partition of a moment if there is none. This is free if the process knows of one, and usually it does.
    ///
    /// If it makes one within a transaction, others that need the same partition wait until that transaction ends.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn ensure_partition(
        &self,
        connection: &impl ConnectionTrait,
        moment: Timestamp,
    ) -> Result<(), StoreError> {
        if Dialect::of(connection) == Dialect::Sqlite || self.partitions.end_of(moment).is_some() {
            return Ok(());
        }
        self.learn_partitions(connection).await?;
        if self.partitions.end_of(moment).is_none() {
            self.add_partition(connection, moment).await?;
        }
        Ok(())
    }

    async fn add_partition(
        &self,
        connection: &impl ConnectionTrait,
        moment: Timestamp,
    ) -> Result<(), StoreError> {
        let width = i64::try_from(self.partition_width.as_millis()).unwrap_or(i64::MAX);
        let values = [moment.millis().into(), width.into()];
        execute(connection, "SELECT postrider_add_partition($1, $2)", values).await?;
        self.learn_partitions(connection).await?;
        match self.partitions.end_of(moment) {
            Some(_) => Ok(()),
            None => Err(DatabaseError::inconsistent(
                "partitions",
                "starts_at",
                moment.millis(),
                "no partition has this moment, although one was just made",
            )
            .into()),
        }
    }

    /// Reads which partitions there are. Returns when the oldest starts, and the oldest whose payloads have not expired.
    async fn learn_partitions(
        &self,
        connection: &impl ConnectionTrait,
    ) -> Result<[Option<Timestamp>; 2], StoreError> {
        let sql = format!(
            "SELECT starts_at, ends_at, suffix, stripped FROM partitions ORDER BY starts_at DESC LIMIT {MOST_KNOWN}"
        );
        let rows = query_all(connection, sql, []).await?;
        let read = |row| {
            Ok(Partition {
                starts_at: Timestamp::from_millis(column(row, "starts_at")?),
                ends_at: Timestamp::from_millis(column(row, "ends_at")?),
                suffix: column(row, "suffix")?,
            })
        };
        let partitions = rows.iter().rev().map(read).collect::<Result<Vec<_>, DatabaseError>>()?;
        let oldest = partitions.first().map(|partition| partition.starts_at);
        let mut oldest_payloads = None;
        for (row, partition) in rows.iter().rev().zip(&partitions) {
            if !column::<bool>(row, "stripped")? {
                oldest_payloads = Some(partition.starts_at);
                break;
            }
        }
        self.partitions.replace(partitions);
        Ok([oldest, oldest_payloads])
    }
}
