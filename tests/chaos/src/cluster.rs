//! A real PostgreSQL, two servers and three workers, each with its own link to the database.

use std::{
    env, fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use postrider_testkit::{Program, proxy::Proxy};
use sea_orm::{ConnectOptions, Database, DatabaseConnection};
use tokio::{sync::Mutex, task::spawn_blocking};
use xtask::postgres::{Durability, Options, Postgres, Stop};

use crate::{
    incident::{Chronicle, Who},
    logbook::Logbook,
    member::Member,
    referee,
};

pub(crate) const SERVERS: usize = 2;
pub(crate) const WORKERS: usize = 3;

/// A program is stopped at most this much longer than a lease.
pub(crate) const MAX_STANDSTILL: Duration = Duration::from_secs(3);
/// The settings of the programs.
pub(crate) const LEASE: Duration = Duration::from_secs(5);
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
pub(crate) const MAX_ATTEMPTS: i32 = 6;
/// The delays after failed attempts, in milliseconds.
pub(crate) const SCHEDULE: [i64; 4] = [300, 600, 1000, 1500];

pub(crate) const ADMIN_KEY: &str = "chaos-operator-key-chaos-operator-key";
/// The base64 of 32 bytes; the test has no secrets.
const SECRET_KEY: &str = "Y2hhb3NjaGFvc2NoYW9zY2hhb3NjaGFvc2NoYW9zY2g=";

/// The database server, which faults can stop.
#[derive(Clone)]
pub(crate) struct DatabaseServer {
    server: Arc<Mutex<Option<Postgres>>>,
    url: String,
    port: u16,
}

impl DatabaseServer {
    /// Starts a server that keeps every acknowledged commit through a crash.
    pub(crate) async fn start() -> Self {
        let started = spawn_blocking(|| Postgres::start(&Options::new(Durability::On))).await;
        let server = started.expect("a thread").unwrap_or_else(|error| panic!("{error}"));
        let (url, port) = (server.url(), server.port());
        Self { server: Arc::new(Mutex::new(Some(server))), url, port }
    }

    /// Connects directly; no fault touches this connection.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        let mut options = ConnectOptions::new(&self.url);
        options
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(5))
            .sqlx_logging(false)
            .test_before_acquire(true)
            .set_application_name("chaos");
        Database::connect(options).await.expect("the database")
    }

    /// Stops the server as a crash would.
    pub(crate) async fn crash(&self) {
        self.order(|server| server.stop(Stop::Immediate)).await;
    }

    pub(crate) async fn start_again(&self) {
        self.order(Postgres::start_again).await;
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

impl fmt::Debug for DatabaseServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Starts all programs.
pub(crate) async fn start_members(
    database: &DatabaseServer,
    chronicle: &Arc<Chronicle>,
    logbook: &Arc<Logbook>,
    connection: &DatabaseConnection,
) -> (Vec<Member>, Vec<Member>) {
    let (mut servers, mut workers) = (Vec::new(), Vec::new());
    for who in (0..SERVERS).map(Who::Server).chain((0..WORKERS).map(Who::Worker)) {
        referee::make_role(connection, who).await;
        let link = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, database.port))).await;
        let mut member = Member::new(who, program(who, &link), link, chronicle, logbook);
        // One after the other: the first server migrates the database.
        member.start(None).await;
        match who {
            Who::Server(_) => servers.push(member),
            Who::Worker(_) => workers.push(member),
        }
    }
    referee::watch(connection).await;
    (servers, workers)
}

fn program(who: Who, link: &Proxy) -> Program {
    let seconds = |duration: Duration| format!("{}s", duration.as_secs());
    let url = format!("postgres://{}@127.0.0.1:{}/postgres", referee::role(who), link.port());
    let program = match who {
        Who::Server(_) => Program::at(beside_us("postrider-server"))
            .env("POSTRIDER_LISTEN", "127.0.0.1:0")
            .env("POSTRIDER_ADMIN_KEY", ADMIN_KEY)
            .env("POSTRIDER_MIGRATE", "true")
            .env("POSTRIDER_LOG", "info"),
        Who::Worker(_) => {
            let schedule: Vec<String> = SCHEDULE.iter().map(|delay| format!("{delay}ms")).collect();
            Program::at(beside_us("postrider-worker"))
                .env("POSTRIDER_LEASE", seconds(LEASE))
                .env("POSTRIDER_CONCURRENCY", "32")
                .env("POSTRIDER_SUBSCRIBER_CONCURRENCY", "16")
                .env("POSTRIDER_CONNECT_TIMEOUT", "1s")
                .env("POSTRIDER_REQUEST_TIMEOUT", seconds(REQUEST_TIMEOUT))
                .env("POSTRIDER_MAX_ATTEMPTS", MAX_ATTEMPTS.to_string())
                .env("POSTRIDER_RETRY_SCHEDULE", schedule.join(","))
                // An open breaker pauses a subscriber for longer than a short run; the operator closes it.
                .env("POSTRIDER_BREAKER_FAILURES", "20")
                // The checks need the log line of every attempt.
                .env("POSTRIDER_LOG", "info,postrider_worker::attempt=debug")
        }
    };
    program
        .env("POSTRIDER_DATABASE_URL", url)
        .env("POSTRIDER_DATABASE_CONNECTIONS", "8")
        .env("POSTRIDER_SECRET_KEY", SECRET_KEY)
        .env("POSTRIDER_TELEMETRY_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_ALLOW_NETS", "127.0.0.0/8")
        .env("POSTRIDER_SHUTDOWN_GRACE", "3s")
        .env("POSTRIDER_LOG_FORMAT", "json")
}

/// A program in the folder of this one, where `cargo xtask chaos` builds it.
fn beside_us(name: &str) -> PathBuf {
    let us = env::current_exe().expect("the path of this program");
    let path = us.with_file_name(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is not built: run `cargo xtask chaos`", path.display());
    path
}
