//! A pool of connections to PostgreSQL or SQLite.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseConnectionType, DbErr, RuntimeErr, SqlxError,
};

use crate::begin::begin;
use crate::failover::{Failover, Follower};
use crate::options;
use crate::pool::Pool;
use crate::source::{Origin, Source};
use crate::sql::{column, query_one};
use crate::trouble::{Trouble, Watch};
use crate::{Config, Connection, Connections, DatabaseError, Dialect, Pooler, Purpose, Transaction, checks};

/// Connections to PostgreSQL or SQLite. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    connection: Connection,
    dialect: Dialect,
    answer_timeout: Duration,
    pooler: Pooler,
    /// A pool of one connection that does not pass a pooler.
    direct: Option<DatabaseConnection>,
    /// Ends with the last handle.
    #[allow(dead_code, reason = "it works until it is dropped")]
    follower: Option<Arc<Follower>>,
}

/// The pool for notifications, if the configuration has a URL of its own for them. It connects when it is used.
async fn listening(config: &Config) -> Result<Option<DatabaseConnection>, DatabaseError> {
    let Some(url) = &config.listen_url else { return Ok(None) };
    let Some(servers) = url.servers() else { return Ok(None) };
    let failover = Arc::new(Failover::new(servers, &config.application_name).map_err(refused)?);
    let server = failover.first(config.acquire_timeout).await.map_err(refused)?;
    let config = Config {
        url: url.clone(),
        max_connections: 1,
        pooler: Pooler::None,
        listen_url: None,
        ..config.clone()
    };
    let options = options::of(&config, Some((server, failover)));
    Ok(Some(sea_orm::Database::connect(options).await?))
}

/// A connection could not be established.
fn refused(error: SqlxError) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

impl Database {
    /// Connects, and checks that the database answers.
    ///
    /// # Errors
    /// Fails if the configuration is invalid, the database is unavailable, or its encoding is not UTF8.
    pub async fn connect(config: Config) -> Result<Self, DatabaseError> {
        config.validate()?;
        let failover = match config.url.servers() {
            Some(servers) => {
                let failover = Arc::new(Failover::new(servers, &config.application_name).map_err(refused)?);
                let server = failover.first(config.acquire_timeout).await.map_err(refused)?;
                checks::pooler::check(&config, &server).await?;
                Some((server, failover))
            }
            None => None,
        };
        let shared = sea_orm::Database::connect(options::of(&config, failover.clone())).await?;
        let mut database = Self::from_connection(shared);
        database.answer_timeout = config.answer_timeout;
        database.connection.source.origin = Origin::Own;
        database.pooler = config.pooler;
        database.direct = listening(&config).await?;
        if let Some((_, failover)) = failover {
            let target = database.sea_orm().get_postgres_connection_pool();
            let follower = failover.follow(target).map(Arc::new);
            database.connection.source.own = Some(Pool::new(target.clone(), failover, &config));
            database.follower = follower;
        }
        database.ping().await?;
        checks::check(&database.connection).await?;
        if let Some(pool) = &database.connection.source.own {
            pool.forget_purposes();
        }
        Ok(database)
    }

    /// Uses a pool that the application has already opened. Its connections are not divided by [`Purpose`].
    pub fn from_connection(connection: DatabaseConnection) -> Self {
        let dialect = Dialect::of(&connection);
        let connection = Connection {
            source: Source {
                shared: connection,
                origin: Origin::Application,
                own: None,
                purpose: Purpose::default(),
            },
            repeats: false,
            watch: Arc::new(Watch::default()),
        };
        Self {
            connection,
            dialect,
            answer_timeout: Config::ANSWER_TIMEOUT,
            pooler: Pooler::None,
            direct: None,
            follower: None,
        }
    }

    /// The same database, with the connections for `purpose`. A new database serves [`Purpose::Api`].
    #[must_use]
    pub fn serving(&self, purpose: Purpose) -> Self {
        Self { connection: self.connection.serving(purpose), ..self.clone() }
    }

    /// The same database, for what must not wait for calls of the API: with the connections for [`Purpose::Intake`], or
    /// those for [`Purpose::Delivery`] if this handle serves it.
    #[must_use]
    pub fn apart_from_api(&self) -> Self {
        match self.connection.source.purpose {
            Purpose::Api => self.serving(Purpose::Intake),
            Purpose::Intake | Purpose::Delivery => self.clone(),
        }
    }

    /// The kind of database.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The connections, for single statements.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connections, for single statements that only read: one that finds its connection dead, as all are after
    /// PostgreSQL restarts, runs once more on another.
    pub fn reads(&self) -> Connection {
        self.connection.reading()
    }

    /// A pool of SeaORM, for migrations and for transactions of the application. On PostgreSQL its connections are opened
    /// when they are needed, come on top of [`Config::max_connections`], and are closed after a second.
    pub fn sea_orm(&self) -> &DatabaseConnection {
        &self.connection.source.shared
    }

    /// Why the database cannot write, if it cannot: its disk is full, it has become read-only, or its files cannot be read
    /// or written. Begins with the first operation that fails for such a reason, which logs a line with the database's own
    /// words, and ends when a probe, sent once per second, has committed a write of 256 KiB. Then a line says how many
    /// operations have failed.
    pub fn trouble(&self) -> Option<Trouble> {
        self.connection.watch.trouble()
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
        if let Some(pool) = &self.connection.source.own {
            return pool.connections();
        }
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
        let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(size);
        Connections { idle, in_use: size - idle, max }
    }

    /// Takes one connection out of the pool for good, for a caller that keeps one of its own open through
    /// [`Database::sea_orm`]. Returns `false` if the pool has only one.
    pub fn give_up_one(&self) -> bool {
        self.connection.source.own.as_ref().is_none_or(Pool::give_up_one)
    }

    /// Begins a transaction that will write.
    ///
    /// Passes over a connection that has died in the pool, as all do when PostgreSQL restarts. No statement of the caller
    /// has run on it yet.
    ///
    /// # Errors
    /// Fails if no connection is available in time.
    pub async fn begin(&self) -> Result<Transaction, DatabaseError> {
        let begun = begin(&self.connection.source).await;
        Ok(Transaction::new(self.connection.watched(begun)?, self.connection.clone()))
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
        drop(operation);
        if let Some(pool) = &self.connection.source.own {
            pool.distrust();
        }
        Err(DatabaseError::Silent(self.answer_timeout).into())
    }

    /// Checks that the database answers. If PostgreSQL does and accepts no writes, as a standby, then that becomes
    /// [`Database::trouble`] before any write fails.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        let connection = self.apart_from_api().connection;
        if self.dialect != Dialect::Postgres {
            connection.execute_unprepared("SELECT 1").await?;
            return Ok(());
        }
        let sql = "SELECT current_setting('transaction_read_only') = 'on' AS is_read_only";
        let row = query_one(&connection, sql, []).await?;
        if row.is_some_and(|row| column(&row, "is_read_only").unwrap_or(false)) {
            connection.watch.note_read_only(&connection.source);
        }
        Ok(())
    }

    /// Closes all connections, and waits for those in use.
    pub async fn close(&self) {
        if let Some(pool) = &self.connection.source.own {
            pool.close().await;
        }
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
