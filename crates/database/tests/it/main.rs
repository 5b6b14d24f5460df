//! Connections to real databases.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test, and skipped parts are printed"
)]

mod defaults;
mod failing_io;
mod pool;
mod pooler;
mod servers;
mod stale_plans;
mod transactions;

use std::time::Duration;

use postrider_database::{Config, Database, DatabaseError};
use postrider_testkit::proxy::{Link, Proxy};
use postrider_testkit::{TestDatabase, eventually};
use sea_orm::{ConnectionTrait as _, Statement};
use tokio::time::timeout;

#[tokio::test]
async fn a_frozen_transaction_loses_its_locks() {
    const LOCK: &str = "LOCK TABLE lanes IN EXCLUSIVE MODE";
    let test = TestDatabase::postgres().await;
    let url = test.url().parse().expect("a database URL");
    let idle_transaction_timeout = Duration::from_millis(200);
    let database = Database::connect(Config { idle_transaction_timeout, ..Config::new(url) }).await;
    let database = database.expect("the database");

    let frozen = database.begin().await.expect("a transaction");
    frozen.execute_unprepared(LOCK).await.expect("a lock");

    let other = database.begin().await.expect("another transaction");
    let locked = timeout(Duration::from_secs(10), other.execute_unprepared(LOCK)).await;
    locked.expect("the lock comes free").expect("and is had");
    other.commit().await.expect("a commit");

    // The frozen process gets an error, and may begin again.
    let error = frozen.commit().await.expect_err("its transaction is gone");
    assert!(error.is_unavailable(), "{error}");
    database.begin().await.expect("a new transaction").commit().await.expect("a commit");
}

/// All connections in the pool die when PostgreSQL restarts.
#[tokio::test]
async fn begin_passes_over_connections_that_died_in_the_pool() {
    const CONNECTIONS: usize = 6;
    let test = TestDatabase::postgres().await;
    let config = Config { max_connections: 8, ..Config::new(test.url().parse().expect("a database URL")) };
    let database = Database::connect(config).await.expect("the database");
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(database.begin().await.expect("a transaction"));
    }
    for transaction in open {
        transaction.rollback().await.expect("a rollback");
    }

    let admin = test.connection();
    let of_pool =
        "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'postrider-2'";
    let rows = async |sql: &str| {
        let statement = Statement::from_string(admin.get_database_backend(), sql);
        admin.query_all_raw(statement).await.expect("rows").len()
    };
    assert_eq!(rows(&format!("SELECT pg_terminate_backend(pid) {of_pool}")).await, CONNECTIONS);
    let living = format!("SELECT pid {of_pool}");
    eventually(Duration::from_secs(30), || async { (rows(&living).await == 0).then_some(()) }).await;

    database.begin().await.expect("a transaction at once").commit().await.expect("a commit");
}

/// The PostgreSQL process that serves a statement; 0 if unknown.
async fn served_by(connection: &impl sea_orm::ConnectionTrait) -> Result<i32, DatabaseError> {
    let statement =
        Statement::from_string(connection.get_database_backend(), "SELECT pg_backend_pid() AS pid");
    let row = connection.query_one_raw(statement).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get("", "pid"))?)
}

/// A client disconnects while the database does not answer.
#[tokio::test]
async fn a_cancelled_begin_leaves_no_open_transaction() {
    let test = TestDatabase::postgres().await;
    test.connection().execute_unprepared("CREATE TABLE things (id bigint)").await.expect("a table");
    let (link, url) = Proxy::before(test.url()).await;
    let config = Config { max_connections: 1, ..Config::new(url.parse().expect("a database URL")) };
    let database = Database::connect(config).await.expect("the database");
    database.ping().await.expect("an answer");
    let idle = || async { (database.connections().in_use == 0).then_some(()) };
    eventually(Duration::from_secs(10), idle).await;

    link.set(Link::Hanging);
    assert!(timeout(Duration::from_millis(200), database.begin()).await.is_err(), "nothing answers");
    link.set(Link::Open);
    // There is only one connection.
    let insert = database.connection().execute_unprepared("INSERT INTO things VALUES (1)");
    insert.await.expect("it is written");
    let statement = Statement::from_string(test.connection().get_database_backend(), "SELECT id FROM things");
    let seen = test.connection().query_all_raw(statement).await.expect("rows").len();
    assert_eq!(seen, 1, "and committed");
}

#[test]
fn a_database_may_be_dropped_outside_of_its_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (_test, database) = runtime.block_on(async {
        let test = TestDatabase::postgres().await;
        let database = Database::connect(Config::new(test.url().parse().expect("a database URL"))).await;
        let database = database.expect("the database");
        served_by(database.connection()).await.expect("an answer");
        (test, database)
    });
    assert_eq!(database.connections().in_use, 0, "one is kept");
    drop(database);
}

#[tokio::test]
async fn writes_that_do_not_find_all_their_rows_write_nothing() {
    use postrider_database::{Batch, Column, Guarded, Kind};
    const ID: &[Column] = &[Column::new("id", Kind::Big)];
    let test = TestDatabase::postgres().await;
    let connection = test.connection();
    connection
        .execute_unprepared("CREATE TABLE things AS SELECT 1::bigint AS id UNION ALL SELECT 2")
        .await
        .expect("a table");
    let remove = async |ids: &[i64]| {
        let mut rows = Batch::new(ID);
        for id in ids {
            rows.push([(*id).into()]);
        }
        let mut guarded = Guarded::default();
        guarded.push_exact(rows.clone(), "DELETE FROM things USING input WHERE things.id = input.id");
        guarded.writes.push(rows, "INSERT INTO things (id) SELECT id + 10 FROM input");
        guarded.execute(&connection).await.expect("an answer")
    };
    let left = async || {
        let sql = "SELECT coalesce(string_agg(id::text, ' ' ORDER BY id), '') AS ids FROM things";
        let row =
            connection.query_one_raw(Statement::from_string(connection.get_database_backend(), sql)).await;
        row.expect("rows").expect("a row").try_get::<String>("", "ids").expect("a text")
    };
    assert!(!remove(&[1, 3]).await);
    assert_eq!(left().await, "1 2");
    assert!(remove(&[1, 2]).await);
    assert_eq!(left().await, "11 12");
}
