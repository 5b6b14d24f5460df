//! The programs: two servers and three workers over PostgreSQL, each with its own link to it, or one program over SQLite.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use postrider_testkit::{Program, proxy::Proxy};
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use tokio::time::{Instant, sleep};

use crate::{
    incident::{Chronicle, Who},
    logbook::Logbook,
    member::Member,
    members::Members,
    postgres::PostgresServer,
    queue::Queue,
    referee,
    sqlite::DataFolder,
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

/// Starts the servers and workers over PostgreSQL.
pub(crate) async fn start_cluster(
    database: &PostgresServer,
    queue: Option<&Queue>,
    chronicle: &Arc<Chronicle>,
    logbook: &Arc<Logbook>,
    connection: &DatabaseConnection,
) -> Members {
    let (mut servers, mut workers) = (Vec::new(), Vec::new());
    for who in parts() {
        let link = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, database.port()))).await;
        let mut program = part(who, &link);
        if let Some(queue) = queue {
            program = program.env("POSTRIDER_QUEUE_URL", queue.url());
        }
        if database.has_bouncer() {
            program = program.env("POSTRIDER_DATABASE_POOLER", "transaction");
            give_settings(connection, who, &program).await;
        }
        let mut member = Member::new(who, program, Some(link), chronicle, logbook);
        member.start(None).await;
        if matches!(who, Who::Worker(_)) { &mut workers } else { &mut servers }.push(member);
    }
    referee::watch(connection).await;
    Members { servers, workers }
}

/// The servers and workers of a cluster.
pub(crate) fn parts() -> impl Iterator<Item = Who> {
    (0..SERVERS).map(Who::Server).chain((0..WORKERS).map(Who::Worker))
}

/// Gives a program's role the settings that the program asks for, as an operator would: behind a pooler, sessions get
/// their settings from the role.
async fn give_settings(connection: &DatabaseConnection, who: Who, program: &Program) {
    let mut process = program.start();
    let start = Instant::now();
    // One that runs for long has all settings.
    while process.is_running() && start.elapsed() < Duration::from_secs(15) {
        sleep(Duration::from_millis(20)).await;
    }
    if !process.is_running() {
        // Until all that it has printed is read.
        process.wait(Duration::from_secs(5)).await;
    }
    let printed = process.stderr().join("\n");
    let Some(statements) = printed.split("run `").nth(1).and_then(|rest| rest.split('`').next()) else {
        return;
    };
    // The sessions that the pooler has opened keep the old settings.
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
        referee::role(who)
    );
    for sql in statements.split("; ").chain([&*end]) {
        connection.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Starts the one program over SQLite.
pub(crate) async fn start_whole(
    folder: &DataFolder,
    chronicle: &Arc<Chronicle>,
    logbook: &Arc<Logbook>,
) -> Members {
    let mut member = Member::new(Who::Whole, folder.under(whole(folder.path())), None, chronicle, logbook);
    member.start(None).await;
    let connection = folder.connect().await;
    referee::watch(&connection).await;
    connection.close().await.expect("a connection that closes");
    Members { servers: vec![member], workers: Vec::new() }
}

/// `postrider dev`.
fn whole(folder: &Path) -> Program {
    let program = Program::at(beside_us("postrider")).args(["dev", "--data"]).arg(folder);
    common(as_worker(as_server(program)))
        // The checks need the log line of every attempt.
        .env("POSTRIDER_LOG", "info,postrider_worker::attempt=debug")
}

/// A server or a worker.
fn part(who: Who, link: &Proxy) -> Program {
    let url = format!("postgres://{}@127.0.0.1:{}/chaos", referee::role(who), link.port());
    let program = match who {
        Who::Worker(_) => as_worker(Program::at(beside_us("postrider-worker")))
            .env("POSTRIDER_LOG", "info,postrider_worker::attempt=debug"),
        Who::Server(_) | Who::Whole => {
            as_server(Program::at(beside_us("postrider-server"))).env("POSTRIDER_LOG", "info")
        }
    };
    common(program).env("POSTRIDER_DATABASE_URL", url).env("POSTRIDER_DATABASE_CONNECTIONS", "8")
}

fn as_server(program: Program) -> Program {
    program
        .env("POSTRIDER_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_ADMIN_KEY", ADMIN_KEY)
        .env("POSTRIDER_MIGRATE", "true")
}

fn as_worker(program: Program) -> Program {
    let schedule: Vec<String> = SCHEDULE.iter().map(|delay| format!("{delay}ms")).collect();
    program
        .env("POSTRIDER_LEASE", seconds(LEASE))
        .env("POSTRIDER_CONCURRENCY", "32")
        .env("POSTRIDER_SUBSCRIBER_CONCURRENCY", "16")
        .env("POSTRIDER_CONNECT_TIMEOUT", "1s")
        .env("POSTRIDER_REQUEST_TIMEOUT", seconds(REQUEST_TIMEOUT))
        .env("POSTRIDER_MAX_ATTEMPTS", MAX_ATTEMPTS.to_string())
        .env("POSTRIDER_RETRY_SCHEDULE", schedule.join(","))
        // An open breaker pauses a subscriber for longer than a short run; the operator closes it.
        .env("POSTRIDER_BREAKER_FAILURES", "20")
}

fn common(program: Program) -> Program {
    program
        .env("POSTRIDER_SECRET_KEY", SECRET_KEY)
        .env("POSTRIDER_TELEMETRY_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_ALLOW_NETS", "127.0.0.0/8")
        .env("POSTRIDER_SHUTDOWN_GRACE", "3s")
        .env("POSTRIDER_LOG_FORMAT", "json")
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

/// A program in the folder of this one, where `cargo xtask chaos` builds it.
fn beside_us(name: &str) -> PathBuf {
    let us = env::current_exe().expect("the path of this program");
    let path = us.with_file_name(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is not built: run `cargo xtask chaos`", path.display());
    path
}
