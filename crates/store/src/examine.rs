//! What an operator should know about a database, in one look.

use std::time::Duration;

use postrider_database::sql::{column, query_one};
use postrider_database::{DatabaseError, Dialect};

use crate::{Store, StoreError};

/// The state of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// The version of PostgreSQL or SQLite.
    pub version: String,
    /// The size of the whole database, in bytes.
    pub size: u64,
    /// Whether a commit is on disk when the database acknowledges it, as far as settings tell.
    pub durable: bool,
    /// Rows of all tables that are dead and not yet removed, and those that are not, both estimated; on SQLite free pages
    /// and all pages.
    pub bloat: [u64; 2],
    /// The number of workers that run.
    pub workers: u64,
    /// For how long there are partitions; `None` on SQLite, which has none.
    pub partitions_ahead: Option<Duration>,
}

const POSTGRES: &str = "SELECT current_setting('server_version') AS version, \
    pg_database_size(current_database()) AS size, \
    current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on' \
        AND current_setting('synchronous_commit') <> 'off' AS durable, \
    (SELECT CAST(coalesce(sum(n_dead_tup), 0) AS bigint) FROM pg_stat_user_tables) AS gone, \
    (SELECT CAST(coalesce(sum(n_live_tup), 0) AS bigint) FROM pg_stat_user_tables) AS live, \
    (SELECT count(*) FROM workers WHERE lapses_at >= {now}) AS workers, \
    (SELECT max(ends_at) - {now} FROM partitions) AS ahead";

const SQLITE: &str = "SELECT sqlite_version() AS version, \
    (SELECT page_count FROM pragma_page_count()) * (SELECT page_size FROM pragma_page_size()) AS size, \
    (SELECT synchronous FROM pragma_synchronous()) > 0 AS durable, \
    (SELECT freelist_count FROM pragma_freelist_count()) AS gone, \
    (SELECT page_count FROM pragma_page_count()) AS live, \
    (SELECT count(*) FROM workers WHERE lapses_at >= {now}) AS workers, \
    NULL AS ahead";

impl Store {
    /// Looks at the database: its version, its size, the settings that durability depends on, and who uses it.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn examine(&self) -> Result<Examination, StoreError> {
        let dialect = self.database.dialect();
        let sql = match dialect {
            Dialect::Postgres => POSTGRES,
            Dialect::Sqlite => SQLITE,
        };
        let sql = sql.replace("{now}", dialect.now());
        // A statement without FROM has one row.
        let missing =
            || DatabaseError::inconsistent("workers", "id", "the state of the database", "there is no row");
        let row = query_one(self.database.connection(), sql, []).await?.ok_or_else(missing)?;
        let number = |name| Ok::<_, DatabaseError>(column::<i64>(&row, name)?.unsigned_abs());
        let ahead = match dialect {
            Dialect::Postgres => Some(column::<Option<i64>>(&row, "ahead")?.unwrap_or_default()),
            Dialect::Sqlite => None,
        };
        Ok(Examination {
            version: column(&row, "version")?,
            size: number("size")?,
            durable: column(&row, "durable")?,
            bloat: [number("gone")?, number("live")?],
            workers: number("workers")?,
            partitions_ahead: ahead
                .map(|ahead| Duration::from_millis(u64::try_from(ahead).unwrap_or_default())),
        })
    }
}
