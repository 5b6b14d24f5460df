//! PostgreSQL or SQLite behind one URL.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::SqlxError;
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseConnectionType, DatabaseTransaction,
    DbBackend, DbErr, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use url::Url;

use crate::DatabaseError;
use crate::connection_cache::{ConnectionCache, DedicatedConnection, TRUSTED};
use crate::error::{comes_from_dead_connection, is_dead_connection};

/// Where the database is: `postgres://…` or `sqlite://…`. Debug and Display leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: String,
    dialect: Dialect,
}

/// The text is not a database URL that Postrider understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a database URL starts with postgres://, postgresql:// or sqlite://")]
pub struct DatabaseUrlError;

impl DatabaseUrl {
    /// Which kind of database it names.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let dialect = match text.split_once(':') {
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Dialect::Postgres,
            Some(("sqlite", _)) => Dialect::Sqlite,
            _ => return Err(DatabaseUrlError),
        };
        Ok(Self { text: text.into(), dialect })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.dialect, Url::parse(&self.text)) {
            (Dialect::Postgres, Ok(url)) => {
                write!(f, "postgres://{}", url.host_str().unwrap_or("localhost"))?;
                if let Some(port) = url.port() {
                    write!(f, ":{port}")?;
                }
                f.write_str(url.path())
            }
            (Dialect::Postgres, Err(_)) => f.write_str("postgres://…"),
            (Dialect::Sqlite, _) => f.write_str(&self.text),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which kind of database it is. Statements are the same for both but where speed needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL 15 or newer.
    Postgres,
    /// SQLite 3.42 or newer (the bundled one is).
    Sqlite,
}

impl Dialect {
    /// The expression for the present moment in Unix milliseconds, by the database's clock. Within
    /// one statement it stands still.
    pub const fn now(self) -> &'static str {
        match self {
            Self::Postgres => "(extract(epoch FROM statement_timestamp()) * 1000)::bigint",
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        }
    }

    /// Joins each row before it with the one row of `table` for which `condition` holds, which names an index's columns.
    ///
    /// PostgreSQL is made to look rows up one by one: it keeps plans, and one that was made for small tables would join
    /// with all of a large one.
    ///
    /// ```
    /// use postrider_database::Dialect;
    ///
    /// let joined = Dialect::Sqlite.look_up("things", "things.id = input.id");
    /// assert_eq!(joined, "JOIN things ON things.id = input.id");
    /// ```
    pub fn look_up(self, table: &str, condition: &str) -> String {
        match self {
            Self::Postgres => {
                format!("CROSS JOIN LATERAL (SELECT * FROM {table} WHERE {condition} LIMIT 1) AS {table}")
            }
            Self::Sqlite => format!("JOIN {table} ON {condition}"),
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

/// How to connect.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the database is.
    pub url: DatabaseUrl,
    /// How many connections to hold at most. SQLite, which has one writer, always gets one.
    pub max_connections: u32,
    /// How long to wait for a free connection, or a new one.
    pub acquire_timeout: Duration,
    /// How long an operation may take before the database counts as away: a connection can hang
    /// for ever when the network swallows what is sent.
    pub answer_timeout: Duration,
    /// How long a transaction may do nothing before PostgreSQL ends it and its connection: a process
    /// that is frozen or cut off in the middle of one would keep its locks from all others.
    pub idle_transaction_timeout: Duration,
    /// What PostgreSQL shows in `pg_stat_activity.application_name`.
    pub application_name: String,
}

impl Config {
    /// A configuration with 16 connections, 5 s to get one, 15 s for an answer, and 10 s for a
    /// transaction that does nothing.
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            max_connections: 16,
            acquire_timeout: Duration::from_secs(5),
            answer_timeout: ANSWER_TIMEOUT,
            idle_transaction_timeout: Duration::from_secs(10),
            application_name: "postrider".into(),
        }
    }
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How many dead connections are passed over for one transaction.
const MOST_DEAD: usize = 32;

/// How long a connection that was given back may take to show that it lives.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// A pool of connections to PostgreSQL or SQLite. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    connection: DatabaseConnection,
    dialect: Dialect,
    answer_timeout: Duration,
    silence: Arc<Silence>,
    cache: Arc<ConnectionCache>,
}

/// When the database last left an operation without an answer.
#[derive(Debug, Default)]
struct Silence(Mutex<Option<Instant>>);

impl Silence {
    /// How long connections are held suspect after it.
    const SUSPECT: Duration = Duration::from_secs(30);

    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_recent(&self) -> bool {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| at.elapsed() < Self::SUSPECT)
    }
}

/// How many connections a pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Waiting for work.
    pub idle: u32,
    /// At work.
    pub in_use: u32,
    /// The most that it may hold.
    pub max: u32,
}

impl Database {
    /// Connects, and sees that the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn connect(config: Config) -> Result<Self, DatabaseError> {
        let silence = Arc::<Silence>::default();
        let in_pool = Arc::clone(&silence);
        let mut options = ConnectOptions::new(config.url.expose());
        options
            .acquire_timeout(config.acquire_timeout)
            .connect_timeout(config.acquire_timeout)
            .sqlx_logging(false)
            // Statements carry payloads and sealed secrets; spans must not.
            .record_stmt_in_spans(false);
        match config.url.dialect() {
            Dialect::Postgres => {
                options
                    .max_connections(config.max_connections)
                    .set_application_name(config.application_name)
                    // A connection that was busy a moment ago is not asked whether it lives: a
                    // ping before each statement would double the round trips.
                    .test_before_acquire_if_idle_for(TRUSTED);
                // The pool pings what is given back, without a limit: a connection that hangs would
                // hold its place for ever. So it is pinged here before, for a while after the database
                // was silent; not always, since that is a round trip for each statement.
                let limit = config.idle_transaction_timeout.as_millis();
                options.map_sqlx_postgres_pool_opts(move |pool| {
                    let silence = Arc::clone(&in_pool);
                    pool.after_connect(move |connection, _| {
                        Box::pin(async move {
                            // Not among the start-up options: poolers in between refuse those. Plans are kept, as
                            // planning costs more than running a statement that serves a few rows. Every query has
                            // its index, so sequential and bitmap scans are off: a plan that was made while a table
                            // was nearly empty stays in use when it has grown. PostgreSQL rates a scan that cannot be
                            // avoided so costly then that it would compile it, for a quarter of a second.
                            let set = format!(
                                "SET idle_in_transaction_session_timeout = {limit}; \
                                 SET plan_cache_mode = force_generic_plan; \
                                 SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off"
                            );
                            connection.execute(AssertSqlSafe(set)).await.map(drop)
                        })
                    })
                    .after_release(move |connection, _| {
                        let is_silent = silence.is_recent();
                        Box::pin(async move {
                            if !is_silent {
                                return Ok(true);
                            }
                            let ping = tokio::time::timeout(RELEASE_TIMEOUT, connection.ping());
                            ping.await.map_err(|_| SqlxError::PoolTimedOut)?.map(|()| true)
                        })
                    })
                });
            }
            Dialect::Sqlite => {
                // One connection: SQLite has one writer, and a queue for it in this process is
                // fairer and faster than the busy handler's sleeps.
                options.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
                options.map_sqlx_sqlite_opts(|options| {
                    options
                        .create_if_missing(true)
                        .foreign_keys(true)
                        .busy_timeout(Duration::from_secs(10))
                        .pragma("journal_mode", "WAL")
                        // An acknowledged event must survive a power cut: FULL syncs at each commit.
                        .pragma("synchronous", "FULL")
                });
            }
        }
        let connection = sea_orm::Database::connect(options).await?;
        // Most must be there for everybody, and of few all.
        let room = config.max_connections.saturating_sub(4) / 4;
        let cache = Arc::new(ConnectionCache::with_room(room as usize));
        let answer_timeout = config.answer_timeout;
        Ok(Self { answer_timeout, silence, cache, ..Self::from_connection(connection) })
    }

    /// Over a pool that the application has already.
    pub fn from_connection(connection: DatabaseConnection) -> Self {
        let dialect = Dialect::of(&connection);
        let (silence, cache) = Default::default();
        Self { connection, dialect, answer_timeout: ANSWER_TIMEOUT, silence, cache }
    }

    /// The kind of database.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The pool, for single statements.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.connection
    }

    /// For single statements that are asked again and again, as by those who wait for work in a loop: over connections
    /// that are kept for them, since the pool pings each that is given back. Of 16 at most 3 are kept, of few none, and
    /// none of a pool that the application made itself.
    pub fn dedicated(&self) -> DedicatedConnection<'_> {
        let cache = (self.dialect == Dialect::Postgres && self.cache.has_room()).then_some(&*self.cache);
        DedicatedConnection { connection: &self.connection, cache }
    }

    /// How many connections the pool holds now. None are known of a pool that is not sqlx's.
    // Which variants there are depends on the features that others turn on.
    #[allow(clippy::match_wildcard_for_single_variants)]
    pub fn connections(&self) -> Connections {
        let (size, idle, max) = match &self.connection.inner {
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                let pool = self.connection.get_postgres_connection_pool();
                (pool.size(), pool.num_idle(), pool.options().get_max_connections())
            }
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                let pool = self.connection.get_sqlite_connection_pool();
                (pool.size(), pool.num_idle(), pool.options().get_max_connections())
            }
            _ => (0, 0, 0),
        };
        // The two are not read at one moment.
        let idle = u32::try_from(idle + self.cache.idle()).unwrap_or(u32::MAX).min(size);
        Connections { idle, in_use: size - idle, max }
    }

    /// Begins a transaction that will write.
    ///
    /// Skips connections that died in the pool, as all of them do when PostgreSQL restarts. That is safe because they
    /// have executed nothing yet.
    ///
    /// Cancellation-safe: `BEGIN` runs in its own task. If the future were dropped during `BEGIN`, sqlx would return the
    /// connection to the pool with a transaction open, and the next user's writes would never be committed.
    ///
    /// # Errors
    /// Fails if no connection is available.
    pub async fn begin(&self) -> Result<DatabaseTransaction, DatabaseError> {
        let database = self.clone();
        match tokio::spawn(async move { database.begin_undisturbed().await }).await {
            Ok(begun) => begun,
            // The runtime ends.
            Err(error) => Err(DatabaseError::Unavailable(DbErr::Custom(error.to_string()))),
        }
    }

    async fn begin_undisturbed(&self) -> Result<DatabaseTransaction, DatabaseError> {
        // SQLite: take the write lock at once. A transaction that reads first and then wants to
        // write can be refused (SQLite's manual, "Transactions", §2.2).
        let mode = (self.dialect == Dialect::Sqlite).then_some(SqliteTransactionMode::Immediate);
        let options =
            || TransactionOptions { sqlite_transaction_mode: mode, ..TransactionOptions::default() };
        for _ in 0..MOST_DEAD {
            match self.connection.begin_with_options(options()).await {
                Err(error) if is_dead_connection(&error) => {}
                begun => return Ok(begun?),
            }
        }
        Ok(self.connection.begin_with_options(options()).await?)
    }

    /// Calls `read`, and repeats it while it meets connections that died in the pool, which is safe for a call that only
    /// reads. The pool hands out the connection that was returned first, so a later write finds a live one.
    ///
    /// # Errors
    /// Returns the errors of `read`.
    pub async fn past_dead<T, E, F>(&self, read: impl Fn() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: std::error::Error + 'static,
    {
        for _ in 0..MOST_DEAD {
            match read().await {
                Err(error) if comes_from_dead_connection(&error) => {}
                done => return done,
            }
        }
        read().await
    }

    /// Does something with the database, unless that takes so long that it must be away.
    ///
    /// # Errors
    /// Those of `operation`, and [`DatabaseError::Silent`]. Whether what it wrote is there is not
    /// known then.
    pub async fn answered<T, E: From<DatabaseError>>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut operation = Box::pin(operation);
        if let Ok(answer) = tokio::time::timeout(self.answer_timeout, &mut operation).await {
            return answer;
        }
        // Before the operation is dropped, and its connection given back.
        self.silence.note();
        Err(DatabaseError::Silent(self.answer_timeout).into())
    }

    /// Sees whether the database answers.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.connection.execute_unprepared("SELECT 1").await?;
        Ok(())
    }

    /// Closes all connections, waiting for those in use.
    pub async fn close(&self) {
        self.cache.close();
        if let Err(error) = self.connection.close_by_ref().await {
            tracing::debug!(%error, "the database connections did not close cleanly");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let url: DatabaseUrl = "postgres://me:hunter2@db:5432/postrider?sslmode=require".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://db:5432/postrider");
        assert!(!format!("{url:?}").contains("hunter2"));
        assert!("mysql://x".parse::<DatabaseUrl>().is_err());
        assert_eq!("sqlite://a.db".parse::<DatabaseUrl>().unwrap().dialect(), Dialect::Sqlite);
    }
}
