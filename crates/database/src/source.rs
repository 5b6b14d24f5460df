//! Where statements run.

use sea_orm::{DatabaseConnection, DbBackend};

use crate::Purpose;
use crate::pool::Pool;

/// Who opened a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// [`Database::connect`](crate::Database::connect), with the options that we need.
    Own,
    /// The application.
    Application,
}

/// The pools of a database, for one purpose.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// SeaORM's pool: of SQLite, of an application, or beside `own`.
    pub(crate) shared: DatabaseConnection,
    pub(crate) origin: Origin,
    /// Our own pool, of PostgreSQL.
    pub(crate) own: Option<Pool>,
    pub(crate) purpose: Purpose,
}

impl Source {
    pub(crate) fn backend(&self) -> DbBackend {
        self.shared.get_database_backend()
    }

    // The variants depend on the features that other crates enable.
    #[allow(clippy::match_wildcard_for_single_variants)]
    pub(crate) fn is_closed(&self) -> bool {
        use sea_orm::DatabaseConnectionType::{SqlxPostgresPoolConnection, SqlxSqlitePoolConnection};
        match &self.shared.inner {
            SqlxPostgresPoolConnection(_) => self.shared.get_postgres_connection_pool().is_closed(),
            SqlxSqlitePoolConnection(_) => self.shared.get_sqlite_connection_pool().is_closed(),
            _ => false,
        }
    }
}
