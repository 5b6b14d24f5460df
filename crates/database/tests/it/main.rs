//! What connections to a real PostgreSQL must do.

use std::time::Duration;

use postrider_database::{Config, Database, DatabaseError};
use postrider_testkit::TestDatabase;
use sea_orm::ConnectionTrait as _;
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
