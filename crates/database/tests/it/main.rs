//! What connections to a real PostgreSQL must do.

use std::time::Duration;

use postrider_database::{Config, Database, DatabaseError};
use postrider_testkit::{TestDatabase, eventually};
use sea_orm::{ConnectionTrait as _, Statement};
use tokio::time::timeout;

#[tokio::test]
async fn a_frozen_transaction_does_not_keep_its_locks() {
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

    // The frozen one finds out, and may begin again.
    let error = DatabaseError::from(frozen.commit().await.expect_err("its transaction is gone"));
    assert!(error.is_unavailable(), "{error}");
    database.begin().await.expect("a new transaction").commit().await.expect("a commit");
}

/// As all of them do when PostgreSQL is restarted.
#[tokio::test]
async fn connections_that_died_in_the_pool_cost_nobody_a_transaction() {
    const CONNECTIONS: usize = 6;
    let test = TestDatabase::postgres().await;
    let config = Config { max_connections: 6, ..Config::new(test.url().parse().expect("a database URL")) };
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
        "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'postrider'";
    let rows = async |sql: &str| {
        let statement = Statement::from_string(admin.get_database_backend(), sql);
        admin.query_all_raw(statement).await.expect("rows").len()
    };
    assert_eq!(rows(&format!("SELECT pg_terminate_backend(pid) {of_pool}")).await, CONNECTIONS);
    let living = format!("SELECT pid {of_pool}");
    eventually(Duration::from_secs(30), || async { (rows(&living).await == 0).then_some(()) }).await;

    database.begin().await.expect("a transaction at once").commit().await.expect("a commit");
}
