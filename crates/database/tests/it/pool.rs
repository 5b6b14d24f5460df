//! The pool of connections to PostgreSQL: no statement outlives its caller, and no purpose takes the connections of another.

use std::error::Error as _;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use postrider_database::{Config, Database, DatabaseError, Purpose};
use postrider_testkit::{TestDatabase, eventually};
use sea_orm::{ConnectionTrait as _, Statement};
use tokio::time::timeout;

use crate::served_by;

const LONG: Duration = Duration::from_secs(30);

async fn connect(test: &TestDatabase, max_connections: u32) -> Database {
    let config = Config { max_connections, ..Config::new(test.url().parse().expect("a database URL")) };
    Database::connect(config).await.expect("the database")
}

/// How many sessions of the program meet a condition.
async fn sessions(test: &TestDatabase, condition: &str) -> usize {
    let sql = format!(
        "SELECT pid FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'postrider-2' AND {condition}"
    );
    let admin = test.connection();
    let statement = Statement::from_string(admin.get_database_backend(), sql);
    admin.query_all_raw(statement).await.expect("rows").len()
}

async fn sleep(database: &Database, seconds: u32) -> Result<(), DatabaseError> {
    database.connection().execute_unprepared(&format!("SELECT pg_sleep({seconds})")).await?;
    Ok(())
}

async fn terminate_all(test: &TestDatabase) {
    let admin = test.connection();
    let sql = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
         WHERE datname = current_database() AND application_name = 'postrider-2'";
    admin
        .query_all_raw(Statement::from_string(admin.get_database_backend(), sql))
        .await
        .expect("they are ended");
}

/// Opens `count` connections at once.
async fn open(database: &Database, count: usize) {
    let begun = join_all((0..count).map(|_| database.begin())).await;
    for transaction in begun {
        transaction.expect("a transaction").rollback().await.expect("a rollback");
    }
}

#[tokio::test]
async fn a_statement_ends_before_its_caller_gives_up() {
    let test = TestDatabase::postgres().await;
    let config = Config {
        max_connections: 1,
        answer_timeout: Duration::from_millis(1500),
        ..Config::new(test.url().parse().expect("a database URL"))
    };
    let database = Database::connect(config).await.expect("the database");
    let error = database.answered(sleep(&database, 60)).await.expect_err("it is cancelled");
    assert!(error.is_unavailable() && !matches!(error, DatabaseError::Silent(_)), "{error:?}");
    sleep(&database, 0).await.expect("the connection is usable");

    let holder = database_holding_a_lock(&test).await;
    let error = database.connection().execute_unprepared("SELECT count(*) FROM lanes").await;
    assert!(DatabaseError::from(error.expect_err("it waits for a lock")).is_unavailable());
    holder.rollback().await.expect("a rollback");
}

async fn database_holding_a_lock(test: &TestDatabase) -> postrider_database::Transaction {
    let transaction = connect(test, 2).await.begin().await.expect("a transaction");
    transaction.execute_unprepared("LOCK TABLE lanes IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    transaction
}

/// A client disconnects while its request waits for the database.
#[tokio::test]
async fn a_statement_ends_with_its_caller() {
    let test = TestDatabase::postgres().await;
    let database = connect(&test, 4).await;
    let running = "state = 'active' AND query LIKE '%pg_sleep%'";
    for in_transaction in [false, true] {
        let caller = tokio::spawn({
            let database = database.clone();
            async move {
                if in_transaction {
                    let transaction = database.begin().await?;
                    transaction.execute_unprepared("SELECT pg_sleep(60)").await?;
                    return Ok(());
                }
                sleep(&database, 60).await
            }
        });
        eventually(LONG, || async { (sessions(&test, running).await == 1).then_some(()) }).await;
        caller.abort();
        let gone = || async { (sessions(&test, running).await == 0).then_some(()) };
        eventually(Duration::from_secs(5), gone).await;
    }
    // The places of both are free again.
    timeout(LONG, open(&database, 4)).await.expect("all connections");
}

#[tokio::test]
async fn slow_reads_leave_connections_to_events_and_deliveries() {
    let test = TestDatabase::postgres().await;
    let database = connect(&test, 6).await;
    for purpose in Purpose::ALL {
        sleep(&database.serving(purpose), 0).await.expect("an answer");
    }
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let database = database.clone();
            tokio::spawn(async move { sleep(&database, 3).await })
        })
        .collect();
    let running = "state = 'active' AND query LIKE '%pg_sleep(3)%'";
    eventually(LONG, || async { (sessions(&test, running).await >= 4).then_some(()) }).await;
    let started = Instant::now();
    for purpose in [Purpose::Intake, Purpose::Delivery] {
        sleep(&database.serving(purpose), 0).await.expect("an answer");
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(sessions(&test, "true").await <= 6);
    for read in reads {
        read.abort();
    }
}

/// PostgreSQL restarts, or closes connections that it found idle.
#[tokio::test]
async fn one_failure_empties_the_pool_and_reads_notice_none() {
    let test = TestDatabase::postgres().await;
    let database = connect(&test, 8).await;
    open(&database, 6).await;
    terminate_all(&test).await;
    for _ in 0..13 {
        served_by(&database.reads()).await.expect("a read is repeated");
    }

    open(&database, 6).await;
    terminate_all(&test).await;
    let mut failures = 0;
    for _ in 0..13 {
        failures += usize::from(served_by(database.connection()).await.is_err());
    }
    assert_eq!(failures, 1);
}

/// A server that has become read-only is left: the primary may be elsewhere now.
#[tokio::test]
async fn connections_to_a_server_that_cannot_write_are_not_used_again() {
    let test = TestDatabase::postgres().await;
    let admin = test.connection();
    admin.execute_unprepared("CREATE TABLE things (id bigint)").await.expect("a table");
    let name =
        Statement::from_string(admin.get_database_backend(), "SELECT current_database()::text AS name");
    let name = admin.query_one_raw(name).await.expect("rows").expect("a row");
    let name: String = name.try_get("", "name").expect("a name");
    let read_only = async |value: &str| {
        let sql = format!(r#"ALTER DATABASE "{name}" SET default_transaction_read_only = {value}"#);
        let done = admin.execute_unprepared(&format!("SET transaction_read_only = off; {sql}")).await;
        done.expect("a default");
    };
    read_only("on").await;
    let database = connect(&test, 8).await;
    open(&database, 6).await;
    read_only("off").await;
    let insert = || database.connection().execute_unprepared("INSERT INTO things VALUES (1)");
    let error = DatabaseError::from(insert().await.expect_err("it is read-only"));
    assert!(error.is_unavailable(), "{error:?}");
    for _ in 0..6 {
        insert().await.expect("the connections are new");
    }
}

#[tokio::test]
async fn idle_connections_are_given_back_within_seconds() {
    let test = TestDatabase::postgres().await;
    let database = connect(&test, 6).await;
    for purpose in [Purpose::Intake, Purpose::Api] {
        sleep(&database.serving(purpose), 0).await.expect("an answer");
    }
    open(&database, 5).await;
    assert!(sessions(&test, "true").await >= 5);
    // One for each of the two purposes.
    eventually(Duration::from_secs(15), || async { (sessions(&test, "true").await == 2).then_some(()) })
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(sessions(&test, "true").await, 2, "they stay");
}

/// The server allows the role two connections, where the pool would open eight.
#[tokio::test]
async fn scarce_connections_are_shared_and_the_server_is_quoted() {
    let test = TestDatabase::postgres().await;
    let admin = test.connection();
    let role = format!("scarce_{}", std::process::id());
    let limit = async |limit: u32| {
        let sql = format!("ALTER ROLE {role} CONNECTION LIMIT {limit}");
        admin.execute_unprepared(&sql).await.expect("a limit");
    };
    admin.execute_unprepared(&format!("CREATE ROLE {role} LOGIN PASSWORD 'scarce'")).await.expect("a role");
    limit(2).await;
    let mut url: url::Url = test.url().parse().expect("a URL");
    url.set_username(&role).expect("a user");
    url.set_password(Some("scarce")).expect("a password");
    let config = Config {
        max_connections: 8,
        acquire_timeout: Duration::from_secs(3),
        ..Config::new(url.as_str().parse().expect("a database URL"))
    };
    let database = Database::connect(config).await.expect("the database");
    let work = |number: usize| {
        let database = database.serving(Purpose::ALL[number % 2 * 2]);
        async move {
            for _ in 0..5 {
                database.connection().execute_unprepared("SELECT pg_sleep(0.02)").await?;
            }
            Ok::<_, DatabaseError>(())
        }
    };
    for done in join_all((0..12).map(work)).await {
        done.expect("everybody makes progress");
    }

    limit(0).await;
    terminate_all(&test).await;
    let error = loop {
        match sleep(&database, 0).await {
            Err(error) if error.source().is_some_and(|error| error.to_string().contains("within")) => {
                break error;
            }
            other => other.expect_err("no connection is allowed"),
        };
    };
    let words = error.source().expect("a source").to_string();
    assert!(words.contains(&format!(r#"too many connections for role "{role}""#)), "{words}");
    drop(database);
    let drop_role = || async { admin.execute_unprepared(&format!("DROP ROLE {role}")).await.ok() };
    eventually(LONG, drop_role).await;
}

#[tokio::test]
async fn closing_waits_for_statements_in_flight() {
    let test = TestDatabase::postgres().await;
    let database = connect(&test, 3).await;
    let running = tokio::spawn({
        let database = database.clone();
        async move { sleep(&database, 1).await }
    });
    let is_running = "state = 'active' AND query LIKE '%pg_sleep(1)%'";
    eventually(LONG, || async { (sessions(&test, is_running).await == 1).then_some(()) }).await;
    timeout(LONG, database.close()).await.expect("it closes");
    running.await.expect("a task").expect("the statement ended");
    sleep(&database, 0).await.expect_err("it is closed");
    eventually(LONG, || async { (sessions(&test, "true").await == 0).then_some(()) }).await;
}
