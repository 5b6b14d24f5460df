//! A fresh, migrated database for each test, and a way to move its clock.

mod clock;
mod postgres;
mod sqlite;

use std::time::Duration;

use postrider_migrations::Migrator;
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbBackend};
use sea_orm_migration::MigratorTrait;
use tempfile::TempDir;

use self::postgres::Clone as PostgresClone;

/// The environment variable that names the PostgreSQL server: a URL of its maintenance database.
pub const URL_VARIABLE: &str = "POSTRIDER_TEST_DATABASE_URL";

const MAX_CONNECTIONS: u32 = 10;

/// A database of the test's own with the current schema, dropped with this value.
///
/// ```no_run
/// # async fn example() -> Result<(), sea_orm::DbErr> {
/// use postrider_testkit::TestDatabase;
/// use sea_orm::ConnectionTrait as _;
/// use std::time::Duration;
///
/// let database = TestDatabase::sqlite().await;
/// database.connection().execute_unprepared("SELECT count(*) FROM jobs").await?;
/// database.advance(Duration::from_secs(60)).await; // jobs that were due in a minute are due now
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    connection: DatabaseConnection,
    _place: Place,
}

/// The resources that live as long as the database.
#[derive(Debug)]
enum Place {
    Postgres { _clone: PostgresClone },
    Sqlite { _folder: TempDir },
}

impl TestDatabase {
    /// A database on the PostgreSQL server that [`URL_VARIABLE`] names.
    pub async fn postgres() -> Self {
        Self::postgres_with::<Migrator>().await
    }

    /// A SQLite database in a file.
    pub async fn sqlite() -> Self {
        Self::sqlite_with::<Migrator>().await
    }

    /// A database of either kind, for tests that run on both.
    pub async fn on(backend: DbBackend) -> Self {
        match backend {
            DbBackend::Postgres => Self::postgres().await,
            DbBackend::Sqlite => Self::sqlite().await,
            other => panic!("Postrider does not run on {other:?}"),
        }
    }

    /// As [`Self::postgres`], with the caller's own migrations.
    pub async fn postgres_with<M: MigratorTrait + 'static>() -> Self {
        let clone = postgres::clone_of_template::<M>().await;
        let url = clone.url();
        let connection = connect(&url).await;
        Self { url, connection, _place: Place::Postgres { _clone: clone } }
    }

    /// As [`Self::sqlite`], with the caller's own migrations.
    pub async fn sqlite_with<M: MigratorTrait + 'static>() -> Self {
        let (folder, url) = sqlite::migrated_file::<M>().await;
        let connection = connect(&url).await;
        Self { url, connection, _place: Place::Sqlite { _folder: folder } }
    }

    /// The database's URL in the form of `POSTRIDER_DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The test's own pool of up to 10 connections; every call returns the same one.
    pub fn connection(&self) -> DatabaseConnection {
        self.connection.clone()
    }

    /// A new pool, as another process would have.
    pub async fn connect(&self) -> DatabaseConnection {
        connect(&self.url).await
    }

    /// Lets time pass for everything that waits: subtracts `duration` from every `…_at` and `…_until` (Unix milliseconds)
    /// of the queue's tables and of `deliveries` and `health`. The database's own clock, which decides what is due, does
    /// not change.
    pub async fn advance(&self, duration: Duration) {
        clock::advance(&self.connection, duration).await;
    }
}

async fn connect(url: &str) -> DatabaseConnection {
    connect_up_to(url, MAX_CONNECTIONS).await
}

async fn connect_up_to(url: &str, connections: u32) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(30))
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(|options| {
            options
                .busy_timeout(Duration::from_secs(10))
                .foreign_keys(true)
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", "OFF")
        });
    Database::connect(options).await.unwrap_or_else(|error| panic!("cannot connect to {url}: {error}"))
}
