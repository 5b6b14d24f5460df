//! A real PostgreSQL, and the faults that it and its disk inflict on all programs.
//!
//! The data of the programs is in a tablespace on a disk that can be full; the write-ahead log is not. On a full disk
//! statements fail with SQLSTATE 53100. If the log's disk were full, PostgreSQL would end itself and start again once there
//! is room, which to the programs is the same as a crash.

use std::{fmt, fs, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc, time::Duration};

use fastrand::Rng;
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, TransactionTrait as _,
    sqlx::{Connection as _, postgres::PgConnection},
};
use tokio::{
    sync::Mutex,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use xtask::postgres::{Durability, Options, Postgres, Stop};

use crate::{
    bouncer::Bouncer,
    days,
    deck::Deck,
    disk::Disk,
    incident::{Chronicle, Fault},
    moment::{self, wait},
};

/// Enough for the programs and for us, and few enough to be used up.
const MAX_CONNECTIONS: &str = "64";
/// The tables that migrations change.
pub(crate) const TABLES: [&str; 9] = [
    "subscribers",
    "events",
    "idempotency_keys",
    "deliveries",
    "attempts",
    "rollups",
    "health",
    "lanes",
    "jobs",
];

/// A fault of the whole server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Backends,
    Pooler,
    Crash,
    ReadOnly,
    Crowd,
    Idle,
    Full,
    Column,
    Partitions,
    Snapshot,
}

const DEEDS: [Deed; 10] = [
    Deed::Backends,
    Deed::Pooler,
    Deed::Crash,
    Deed::ReadOnly,
    Deed::Crowd,
    Deed::Idle,
    Deed::Full,
    Deed::Column,
    Deed::Partitions,
    Deed::Snapshot,
];

impl Deed {
    fn fault(self) -> Fault {
        match self {
            Self::Backends => Fault::Backends,
            Self::Pooler => Fault::Pooler,
            Self::Crash => Fault::Database,
            Self::ReadOnly => Fault::ReadOnly,
            Self::Crowd => Fault::Crowd,
            Self::Idle => Fault::Idle,
            Self::Full => Fault::Full,
            Self::Column => Fault::Column,
            Self::Partitions => Fault::Days,
            Self::Snapshot => Fault::Snapshot,
        }
    }
}

/// The database server, which faults can stop.
#[derive(Clone)]
pub(crate) struct PostgresServer {
    server: Arc<Mutex<Option<Postgres>>>,
    /// Declared after the server, whose data it holds.
    disk: Arc<Disk>,
    bouncer: Option<Bouncer>,
    url: String,
    port: u16,
}

impl PostgresServer {
    /// Starts a server that keeps every acknowledged commit through a crash, and the PgBouncer at a path before it.
    pub(crate) async fn start(bouncer: Option<PathBuf>, roles: &[String]) -> Self {
        let options = Options::new(Durability::On).set("max_connections", MAX_CONNECTIONS);
        let started = spawn_blocking(move || Postgres::start(&options)).await;
        let server = started.expect("a thread").unwrap_or_else(|error| panic!("{error}"));
        let disk = Disk::new();
        let tablespace = if disk.is_small() {
            let owner = fs::metadata(server.folder()).expect("the server's folder").uid();
            let folder = disk.folder("tablespace", Some(owner));
            let first = connect(&server.url()).await;
            execute(&first, &format!("CREATE TABLESPACE small LOCATION '{}'", folder.display())).await;
            first.close().await.expect("a connection that closes");
            "TABLESPACE small"
        } else {
            ""
        };
        let first = connect(&server.url()).await;
        execute(&first, &format!("CREATE DATABASE chaos {tablespace}")).await;
        for role in roles {
            execute(&first, &format!("CREATE ROLE {role} LOGIN SUPERUSER")).await;
        }
        first.close().await.expect("a connection that closes");
        // Our connections are spared.
        let ours = "options[default_transaction_read_only]=off&options[idle_session_timeout]=0&options[statement_timeout]=0";
        let (url, port) = (format!("{}?{ours}", server.database_url("chaos")), server.port());
        let bouncer = match bouncer {
            Some(path) => Some(Bouncer::start(path, port, roles).await),
            None => None,
        };
        Self { server: Arc::new(Mutex::new(Some(server))), disk: Arc::new(disk), bouncer, url, port }
    }

    /// The port to which the programs connect.
    pub(crate) fn port(&self) -> u16 {
        self.bouncer.as_ref().map_or(self.port, Bouncer::port)
    }

    pub(crate) fn has_bouncer(&self) -> bool {
        self.bouncer.is_some()
    }

    fn can(&self, deed: Deed) -> bool {
        match deed {
            Deed::Full => self.disk.is_small(),
            Deed::Pooler => self.bouncer.is_some(),
            _ => true,
        }
    }

    /// Connects directly; no fault touches this connection.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        connect(&self.url).await
    }

    /// Inflicts one fault after the other until `stop`, and leaves the server in order. Each fault comes once before any
    /// comes again.
    pub(crate) async fn torment(
        self,
        connection: DatabaseConnection,
        mut rng: Rng,
        chronicle: Arc<Chronicle>,
        stop: CancellationToken,
    ) {
        let mut deck = Deck::of(DEEDS.into_iter().filter(|deed| self.can(*deed)), 1500..5000);
        let mut has_columns = false;
        while let Some(deed) = deck.draw(&mut rng, &stop).await {
            let from = moment::now();
            let lasts = Duration::from_millis(rng.u64(500..5000));
            match deed {
                Deed::Backends => end_backends(&connection, &mut rng).await,
                Deed::Pooler => {
                    if let Some(bouncer) = &self.bouncer {
                        bouncer.kill().await;
                        wait(lasts.mul_f64(0.5), &stop).await;
                        bouncer.start_again().await;
                    }
                }
                Deed::Crash => {
                    self.order(|server| server.stop(Stop::Immediate)).await;
                    wait(lasts.mul_f64(0.8), &stop).await;
                    self.order(Postgres::start_again).await;
                }
                Deed::ReadOnly => {
                    set(&connection, "default_transaction_read_only", "on").await;
                    // A failover breaks the connections; a full subscription of a managed server keeps them.
                    if rng.bool() {
                        end_backends(&connection, &mut rng).await;
                    }
                    wait(lasts, &stop).await;
                    reset(&connection, "default_transaction_read_only").await;
                }
                Deed::Crowd => {
                    end_backends(&connection, &mut rng).await;
                    self.crowd(lasts, &stop).await;
                }
                Deed::Idle => {
                    set(&connection, "idle_session_timeout", "300ms").await;
                    wait(lasts, &stop).await;
                    reset(&connection, "idle_session_timeout").await;
                }
                Deed::Full => {
                    self.disk.fill(rng.u64(..100) * 8192).await;
                    wait(lasts, &stop).await;
                    self.disk.free().await;
                }
                Deed::Column => {
                    change_columns(&connection, has_columns).await;
                    has_columns = !has_columns;
                }
                Deed::Partitions => {
                    for sql in days::coming_and_going(&mut rng) {
                        insist(&connection, &sql).await;
                    }
                }
                Deed::Snapshot => hold_snapshot(&connection, lasts, &stop).await,
            }
            chronicle.note(deed.fault(), None, from);
        }
    }

    /// Takes every connection that is free or becomes free.
    async fn crowd(&self, lasts: Duration, stop: &CancellationToken) {
        let (end, mut taken) = (Instant::now() + lasts, Vec::new());
        while Instant::now() < end && !stop.is_cancelled() {
            match timeout(Duration::from_secs(1), PgConnection::connect(&self.url)).await {
                Ok(Ok(connection)) => taken.push(connection),
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
        for connection in taken {
            // Closed by the server if this fails.
            let _ = connection.close().await;
        }
    }

    async fn order(&self, order: impl FnOnce(&mut Postgres) -> Result<(), xtask::Error> + Send + 'static) {
        let mut place = self.server.lock().await;
        let mut server = place.take().expect("one order at a time");
        let ordered = spawn_blocking(move || {
            let obeyed = order(&mut server);
            (server, obeyed)
        });
        let (server, obeyed) = ordered.await.expect("a thread");
        *place = Some(server);
        obeyed.unwrap_or_else(|error| panic!("{error}"));
    }
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresServer").field("url", &self.url).finish_non_exhaustive()
    }
}

async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(5))
        .sqlx_logging(false)
        .test_before_acquire(true)
        .set_application_name("chaos");
    Database::connect(options).await.expect("the database")
}

async fn execute(database: &DatabaseConnection, sql: &str) {
    database.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Repeats a statement until it succeeds: an earlier crash may have ended our backends.
async fn insist(database: &DatabaseConnection, sql: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    while let Err(error) = database.execute_unprepared(sql).await {
        assert!(Instant::now() < end, "{sql}: {error}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn set(database: &DatabaseConnection, name: &str, value: &str) {
    insist(database, &format!("ALTER SYSTEM SET {name} = '{value}'")).await;
    insist(database, "SELECT pg_reload_conf()").await;
}

async fn reset(database: &DatabaseConnection, name: &str) {
    insist(database, &format!("ALTER SYSTEM RESET {name}")).await;
    insist(database, "SELECT pg_reload_conf()").await;
}

/// Ends some of the programs' connections, or all of them.
async fn end_backends(database: &DatabaseConnection, rng: &mut Rng) {
    let count = if rng.u32(..4) == 0 { 1000 } else { rng.u64(1..8) };
    let salt = rng.u32(..);
    let sql = format!(
        "SELECT pg_terminate_backend(pid) FROM (
            SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name <> 'chaos'
            ORDER BY md5((pid + {salt}::bigint)::text) LIMIT {count}
        ) AS chosen"
    );
    // Fails only when the previous crash ended our own backend.
    let _ = database.execute_unprepared(&sql).await;
}

/// Keeps a transaction open, as a dump or a forgotten `BEGIN` does.
async fn hold_snapshot(database: &DatabaseConnection, lasts: Duration, stop: &CancellationToken) {
    // Fails only when the previous crash ended our own backend.
    let Ok(open) = database.begin().await else { return };
    let begun = open.execute_unprepared(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id(); SELECT count(*) FROM lanes",
    );
    if begun.await.is_ok() {
        wait(lasts, stop).await;
    }
    let _ = open.rollback().await;
}

/// Adds a column to each table, as a migration does, or removes it.
async fn change_columns(database: &DatabaseConnection, remove: bool) {
    for table in TABLES {
        let change = if remove { "DROP COLUMN IF EXISTS" } else { "ADD COLUMN IF NOT EXISTS" };
        let column = if remove { "chaos_column" } else { "chaos_column bigint" };
        // A stopped program may hold the table's lock. Behind a statement that waits for it, everybody waits.
        let sql = format!("SET lock_timeout = '300ms'; ALTER TABLE {table} {change} {column}");
        let _ = database.execute_unprepared(&sql).await;
    }
}
