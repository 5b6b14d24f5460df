//! Choosing one of the servers that a URL names, and following the one that accepts writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::SqlxError;
use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _, raw_sql};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::servers::{Servers, Wanted};

/// How long a server may take to accept a connection before the next one is tried.
const CONNECT: Duration = Duration::from_secs(3);

/// How often to look whether the server is still the right one, and after how long without a sign of it to ask.
const LOOK: Duration = Duration::from_secs(1);
const SUSPECT: Duration = Duration::from_secs(5);

/// How long to wait before asking a server again that has too many clients.
const FULL: Duration = Duration::from_millis(300);

/// Connects, and again while the server has too many clients (SQLSTATE 53300): the programs that have the connections give
/// those back within seconds that they do not need.
pub(crate) async fn while_full<T>(
    limit: Duration,
    connect: impl AsyncFn() -> Result<T, SqlxError>,
) -> Result<T, SqlxError> {
    let began = Instant::now();
    loop {
        match connect().await {
            Err(SqlxError::Database(error))
                if error.code().is_some_and(|code| code == "53300") && began.elapsed() < limit =>
            {
                tokio::time::sleep(FULL).await;
            }
            done => return done,
        }
    }
}

/// The servers of one database, of which a pool uses one at a time.
#[derive(Debug)]
pub(crate) struct Failover {
    options: Vec<PgConnectOptions>,
    wanted: Wanted,
    seen_at: Mutex<Instant>,
    wrong: Notify,
}

/// Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Failover {
    pub(crate) fn new(servers: &Servers, application_name: &str) -> Result<Self, SqlxError> {
        let options =
            servers.options()?.into_iter().map(|options| options.application_name(application_name));
        Ok(Self {
            options: options.collect(),
            wanted: servers.wanted,
            seen_at: Mutex::new(Instant::now()),
            wrong: Notify::new(),
        })
    }

    /// The first server that is wanted. The only one is not asked.
    pub(crate) async fn first(&self, limit: Duration) -> Result<PgConnectOptions, SqlxError> {
        match self.options.as_slice() {
            [only] => Ok(only.clone()),
            _ => while_full(limit, || self.find()).await.map(|(_, options)| options),
        }
    }

    async fn find(&self) -> Result<(usize, PgConnectOptions), SqlxError> {
        let mut last = SqlxError::Configuration("the database URL names no server".into());
        for (place, options) in self.options.iter().enumerate() {
            let connected = tokio::time::timeout(CONNECT, async {
                let mut connection = options.connect().await?;
                let checked = self.check(&mut connection).await;
                let _ = connection.close().await;
                checked
            });
            match connected.await {
                Ok(Ok(())) => return Ok((place, options.clone())),
                Ok(Err(error)) => last = error,
                Err(_) => last = SqlxError::Io(std::io::ErrorKind::TimedOut.into()),
            }
        }
        Err(last)
    }

    /// Fails if the server of a new connection is not the one that is wanted.
    pub(crate) async fn check(&self, connection: &mut PgConnection) -> Result<(), SqlxError> {
        let wrong = match self.wanted {
            Wanted::Any => return Ok(()),
            Wanted::Writable => "pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'",
            Wanted::Primary => "pg_is_in_recovery()",
        };
        let sql = format!("SELECT CASE WHEN {wrong} THEN 'wrong' ELSE 'right' END");
        let row = raw_sql(sea_orm::sqlx::AssertSqlSafe(sql)).fetch_one(connection).await?;
        if row.try_get::<&str, _>(0)? == "right" {
            self.seen();
            return Ok(());
        }
        self.wrong.notify_one();
        Err(SqlxError::Configuration(
            "the database server does not accept writes (target_session_attrs)".into(),
        ))
    }

    /// Notes that the server has served a statement.
    pub(crate) fn seen(&self) {
        *self.seen_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_suspect(&self) -> bool {
        self.seen_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > SUSPECT
    }

    /// Directs new connections of `pool` to the server that is wanted, whenever that may be another one. `None` if there
    /// is only one.
    pub(crate) fn follow(self: &Arc<Self>, pool: &PgPool) -> Option<Follower> {
        if self.options.len() < 2 {
            return None;
        }
        let (failover, pool) = (Arc::clone(self), pool.clone());
        Some(Follower(tokio::spawn(async move {
            let mut chosen = None;
            loop {
                let is_wrong = tokio::time::timeout(LOOK, failover.wrong.notified()).await.is_ok();
                if !is_wrong && !failover.is_suspect() {
                    continue;
                }
                // If no server is the right one, the pool reports that to its callers.
                if let Ok((place, options)) = failover.find().await
                    && chosen.replace(place) != Some(place)
                {
                    tracing::info!(
                        server = options.get_host(),
                        "connecting to the server that accepts writes"
                    );
                    pool.set_connect_options(options);
                }
            }
        })))
    }
}
