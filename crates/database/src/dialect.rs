//! The two kinds of database, and where their SQL differs.

use sea_orm::{ConnectionTrait, DbBackend};

/// The kind of database. Statements are the same for both except where speed requires otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL 15 or newer.
    Postgres,
    /// SQLite 3.42 or newer (the bundled one is).
    Sqlite,
}

impl Dialect {
    /// The SQL expression for the present in Unix milliseconds, by the database's clock. It has one value within a
    /// statement.
    pub const fn now(self) -> &'static str {
        match self {
            Self::Postgres => "(extract(epoch FROM statement_timestamp()) * 1000)::bigint",
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        }
    }

    /// Joins each row before it with the one row of `table` for which `condition` holds, which names an index's columns.
    ///
    /// PostgreSQL has to look rows up one by one: it keeps plans, and a plan made for small tables would join with all of
    /// a large one.
    ///
    /// ```
    /// use postrider_database::Dialect;
    ///
    /// let joined = Dialect::Sqlite.look_up("things", "things.id = input.id");
    /// assert_eq!(joined, "JOIN things AS things ON things.id = input.id");
    /// ```
    pub fn look_up(self, table: &str, condition: &str) -> String {
        self.look_up_in(table, table, condition)
    }

    /// Joins as [`Dialect::look_up`] does, with the rows of `partition`, which the statement calls `table`.
    pub fn look_up_in(self, partition: &str, table: &str, condition: &str) -> String {
        match self {
            Self::Postgres => format!(
                "CROSS JOIN LATERAL (SELECT * FROM {partition} AS {table} WHERE {condition} LIMIT 1) AS {table}"
            ),
            Self::Sqlite => format!("JOIN {partition} AS {table} ON {condition}"),
        }
    }

    /// The dialect of a connection.
    pub fn of(connection: &impl ConnectionTrait) -> Self {
        match connection.get_database_backend() {
            DbBackend::Sqlite => Self::Sqlite,
            _ => Self::Postgres,
        }
    }

    pub(crate) const fn backend(self) -> DbBackend {
        match self {
            Self::Postgres => DbBackend::Postgres,
            Self::Sqlite => DbBackend::Sqlite,
        }
    }
}
