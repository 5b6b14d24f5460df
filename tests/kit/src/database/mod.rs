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

/// A database of this test's own, with the current schema, gone when this is dropped.
///
/// ```no_run
/// # async fn example() -> Result<(), sea_orm::DbErr> {
/// use postrider_testkit::TestDatabase;
/// use sea_orm::ConnectionTrait as _;
/// use std::time::Duration;
///
/// let database = TestDatabase::sqlite().await;
/// database.connection().execute_unprepared("SELECT count(*) FROM jobs").await?;
/// database.advance(Duration::from_secs(60)).await; // what was due in a minute is due now
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    connection: DatabaseConnection,
    _place: Place,
}

/// What has to go with the database.
#[derive(Debug)]
enum Place {
    Postgres { _clone: PostgresClone },
    Sqlite { _folder: TempDir },
}

impl TestDatabase {
    /// A database of the PostgreSQL server that [`URL_VARIABLE`] names.
    pub async fn postgres() -> Self {
        Self::postgres_with::<Migrator>().await
    }

    /// A SQLite database in a file.
    pub async fn sqlite() -> Self {
        Self::sqlite_with::<Migrator>().await
    }

    /// One of the two, for tests that run on both.
    pub async fn on(backend: DbBackend) -> Self {
        match backend {
            DbBackend::Postgres => Self::postgres().await,
            DbBackend::Sqlite => Self::sqlite().await,
            other => panic!("Postrider does not run on {other:?}"),
        }
    }

    /// As [`Self::postgres`], with a migration history of the caller's.
    pub async fn postgres_with<M: MigratorTrait + 'static>() -> Self {
        let clone = postgres::clone_of_template::<M>().await;
        let url = clone.url();
        let connection = connect(&url).await;
        Self { url, connection, _place: Place::Postgres { _clone: clone } }
    }

    /// As [`Self::sqlite`], with a migration history of the caller's.
    pub async fn sqlite_with<M: MigratorTrait + 'static>() -> Self {
        let (folder, url) = sqlite::migrated_file::<M>().await;
        let connection = connect(&url).await;
        Self { url, connection, _place: Place::Sqlite { _folder: folder } }
    }

    /// Where it is, as `POSTRIDER_DATABASE_URL` takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The test's own pool, of up to 10 connections; every call hands out the same one.
    pub fn connection(&self) -> DatabaseConnection {
        self.connection.clone()
    }

    /// A pool of its own, as another process would have.
    pub async fn connect(&self) -> DatabaseConnection {
        connect(&self.url).await
    }

    /// Moves the clock of everything that waits: `duration` is taken off every `…_at` and `…_until` (Unix milliseconds)
    /// of the tables `jobs`, `lanes`, `deliveries` and `health`. The database's own clock, which decides what is due,
    /// stays.
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
