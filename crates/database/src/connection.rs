//! A pool of connections to PostgreSQL or SQLite.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseConnectionType, DbErr, RuntimeErr, SqlxError,
};

use crate::begin::{MOST_DEAD, begin, settle_one};
use crate::connection_cache::{ConnectionCache, DedicatedConnection};
use crate::error::comes_from_dead_connection;
use crate::failover::{Failover, Follower};
use crate::options::{self, Silence};
use crate::trouble::{Trouble, Watch};
use crate::{Config, Connection, DatabaseError, Dialect, Pooler, Transaction, checks, pooler};

/// A pool of connections to PostgreSQL or SQLite. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    connection: Connection,
    dialect: Dialect,
    origin: Origin,
    answer_timeout: Duration,
    silence: Arc<Silence>,
    cache: Arc<ConnectionCache>,
    pooler: Pooler,
    /// A pool of one connection that does not pass a pooler.
    direct: Option<DatabaseConnection>,
    _follower: Option<Arc<Follower>>,
}

/// Who opened a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// [`Database::connect`], with the options that we need.
    Own,
    /// The application.
    Application,
}

/// The pool for notifications, if the configuration has a URL of its own for them. It connects when it is used.
async fn listening(config: &Config) -> Result<Option<DatabaseConnection>, DatabaseError> {
    let Some(url) = &config.listen_url else { return Ok(None) };
    let Some(servers) = url.servers() else { return Ok(None) };
    let failover = Arc::new(Failover::new(servers, &config.application_name).map_err(refused)?);
    let server = failover.first().await.map_err(refused)?;
    let config = Config {
        url: url.clone(),
        max_connections: 1,
        pooler: Pooler::None,
        listen_url: None,
        ..config.clone()
    };
    let mut options = options::of(&config, &Arc::default(), Some((server, failover)));
    options.connect_lazy(true);
    Ok(Some(sea_orm::Database::connect(options).await?))
}

/// A connection could not be established.
fn refused(error: SqlxError) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

/// The number of connections in a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Not in use.
    pub idle: u32,
    /// In use.
    pub in_use: u32,
    /// The maximum.
    pub max: u32,
}

impl Database {
    /// Connects, and checks that the database answers.
    ///
    /// # Errors
    /// Fails if the configuration is invalid, the database is unavailable, or its encoding is not UTF8.
    pub async fn connect(config: Config) -> Result<Self, DatabaseError> {
        config.validate()?;
        let silence = Arc::<Silence>::default();
        let failover = match config.url.servers() {
            Some(servers) => {
                let failover = Arc::new(Failover::new(servers, &config.application_name).map_err(refused)?);
                let server = failover.first().await.map_err(refused)?;
                pooler::check(&config, &server).await?;
                Some((server, failover))
            }
            None => None,
        };
        let options = options::of(&config, &silence, failover.clone());
        let connection = sea_orm::Database::connect(options).await?;
        checks::check(&connection).await?;
        let pool = || connection.get_postgres_connection_pool();
        let direct = listening(&config).await?;
        let follower = failover.and_then(|(_, failover)| failover.follow(pool())).map(Arc::new);
        // Most connections stay available to all, and all of them if there are few.
        let room = config.max_connections.saturating_sub(4) / 4;
        let cache = Arc::new(ConnectionCache::with_room(room as usize));
        let answer_timeout = config.answer_timeout;
        Ok(Self {
            origin: Origin::Own,
            answer_timeout,
            silence,
            cache,
            pooler: config.pooler,
            direct,
            _follower: follower,
            ..Self::from_connection(connection)
        })
    }

    /// Uses a pool that the application has already opened.
    pub fn from_connection(connection: DatabaseConnection) -> Self {
        let dialect = Dialect::of(&connection);
        let (silence, cache) = Default::default();
        let connection = Connection { pool: connection, watch: Arc::new(Watch::default()) };
        Self {
            connection,
            dialect,
            origin: Origin::Application,
            answer_timeout: Config::ANSWER_TIMEOUT,
            silence,
            cache,
            pooler: Pooler::None,
            direct: None,
            _follower: None,
        }
    }

    /// The kind of database.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The pool, for single statements.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// SeaORM's handle of the pool, for migrations and for transactions of the application.
    pub fn sea_orm(&self) -> &DatabaseConnection {
        &self.connection.pool
    }

    /// Why the database cannot write, if it cannot: its disk is full, it has become read-only, or its files cannot be read
    /// or written. Begins with the first operation that fails for such a reason, which logs a line with the database's own
    /// words, and ends when a probe, sent once per second, has committed a write of 256 KiB. Then a line says how many
    /// operations have failed.
    pub fn trouble(&self) -> Option<Trouble> {
        self.connection.watch.trouble()
    }

    /// A connection for single statements that run in a loop, such as claims. It comes from a cache, which saves the ping
    /// that the pool sends over each returned connection. The cache holds at most 3 of 16 connections, none of few, and
    /// none of a pool that the application opened itself.
    pub fn dedicated(&self) -> DedicatedConnection<'_> {
        let cache = (self.dialect == Dialect::Postgres && self.cache.has_room()).then_some(&*self.cache);
        DedicatedConnection { connection: &self.connection, cache }
    }

    /// What is between the program and PostgreSQL.
    pub fn pooler(&self) -> Pooler {
        self.pooler
    }

    /// The pool whose connections may listen for notifications. `None` behind a pooler without a direct URL.
    pub fn listening(&self) -> Option<&DatabaseConnection> {
        match self.pooler {
            Pooler::None => Some(self.sea_orm()),
            Pooler::Transaction => self.direct.as_ref(),
        }
    }

    /// The number of connections in the pool now. Zero for a pool that is not sqlx's.
    // The variants depend on the features that other crates enable.
    #[allow(clippy::match_wildcard_for_single_variants)]
    pub fn connections(&self) -> Connections {
        let (size, idle, max) = match &self.sea_orm().inner {
            DatabaseConnectionType::SqlxPostgresPoolConnection(_) => {
                let pool = self.sea_orm().get_postgres_connection_pool();
                (pool.size(), pool.num_idle(), pool.options().get_max_connections())
            }
            DatabaseConnectionType::SqlxSqlitePoolConnection(_) => {
                let pool = self.sea_orm().get_sqlite_connection_pool();
                (pool.size(), pool.num_idle(), pool.options().get_max_connections())
            }
            _ => (0, 0, 0),
        };
        // The two numbers are not read at the same moment.
        let idle = u32::try_from(idle + self.cache.idle()).unwrap_or(u32::MAX).min(size);
        Connections { idle, in_use: size - idle, max }
    }

    /// Begins a transaction that will write.
    ///
    /// Passes over connections that have died in the pool, as all of them do when PostgreSQL restarts. No statement of
    /// the caller has run on them yet.
    ///
    /// Cancellation-safe: `BEGIN` runs in its own task. If the future were dropped mid-`BEGIN`, sqlx would return the
    /// connection to the pool with a transaction open, and the next user's writes would never be committed.
    ///
    /// # Errors
    /// Fails if no connection is available in time.
    pub async fn begin(&self) -> Result<Transaction, DatabaseError> {
        let pool = self.sea_orm().clone();
        let origin = self.origin;
        let task = async move {
            if origin == Origin::Application {
                settle_one(&pool).await?;
            }
            begin(&pool).await
        };
        let begun = match tokio::spawn(task).await {
            Ok(begun) => begun,
            // The runtime is shutting down.
            Err(error) => Err(DbErr::Custom(error.to_string())),
        };
        Ok(Transaction::new(self.connection.watched(begun)?, self.connection.clone()))
    }

    /// Runs `read`, and repeats it as long as the pool hands out connections that have died. That is safe, as it only
    /// reads. The pool hands out the connection that was returned first, so the next write gets a live one.
    ///
    /// # Errors
    /// Fails as `read` does.
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

    /// Runs `operation` with the configured time limit.
    ///
    /// # Errors
    /// Fails as `operation` does, or with [`DatabaseError::Silent`] after the limit. Its writes may have been committed
    /// then.
    pub async fn answered<T, E: From<DatabaseError>>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut operation = Box::pin(operation);
        if let Ok(answer) = tokio::time::timeout(self.answer_timeout, &mut operation).await {
            return answer;
        }
        // Before the operation is dropped and returns its connection.
        self.silence.note();
        Err(DatabaseError::Silent(self.answer_timeout).into())
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        self.connection.execute_unprepared("SELECT 1").await?;
        Ok(())
    }

    /// Closes all connections, and waits for those in use.
    pub async fn close(&self) {
        self.cache.close();
        if let Some(direct) = &self.direct
            && let Err(error) = direct.close_by_ref().await
        {
            tracing::debug!(%error, "the direct database connection did not close cleanly");
        }
        if let Err(error) = self.sea_orm().close_by_ref().await {
            tracing::debug!(%error, "the database connections did not close cleanly");
        }
    }
}
