//! Defaults that the administrator of a server, a database or a role has set.

#![allow(clippy::expect_used, reason = "test code: a panic with a description is a failed test")]

use postrider_database::{Config, Database, DatabaseError};
use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait, Statement};

/// The rows of a statement, whose only column is a text named `value`.
async fn texts(connection: &impl ConnectionTrait, sql: &str) -> Vec<String> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await.expect("rows");
    rows.iter().map(|row| row.try_get("", "value").expect("a text")).collect()
}

async fn value(connection: &impl ConnectionTrait, sql: &str) -> String {
    texts(connection, sql).await.pop().expect("a row")
}

/// Sets a default of all sessions in the test's own database.
async fn set(test: &TestDatabase, setting: &str) {
    let name = value(&test.connection(), "SELECT current_database()::text AS value").await;
    let alter = format!(r#"ALTER DATABASE "{name}" SET {setting}"#);
    test.connection().execute_unprepared(&alter).await.expect("a default");
}

async fn connect(test: &TestDatabase) -> Database {
    Database::connect(Config::new(test.url().parse().expect("a database URL"))).await.expect("the database")
}

#[tokio::test]
async fn sessions_have_their_own_settings() {
    const NEEDED: &[(&str, &str, &str)] = &[
        ("default_transaction_isolation", "serializable", "read committed"),
        ("synchronous_commit", "off", "on"),
        ("standard_conforming_strings", "off", "on"),
        ("idle_in_transaction_session_timeout", "0", "10s"),
        ("plan_cache_mode", "force_custom_plan", "force_generic_plan"),
        ("enable_seqscan", "on", "off"),
        ("enable_bitmapscan", "on", "off"),
        ("enable_indexscan", "off", "on"),
        ("enable_nestloop", "off", "on"),
        ("jit", "on", "off"),
    ];
    let test = TestDatabase::postgres().await;
    for (name, wrong, _) in NEEDED {
        set(&test, &format!("{name} = '{wrong}'")).await;
    }
    let database = connect(&test).await;
    for (name, _, needed) in NEEDED {
        let now = value(database.sea_orm(), &format!("SELECT current_setting('{name}') AS value")).await;
        assert_eq!(now, *needed, "{name}");
    }
}

/// The operator may want commits to wait for a standby, or for no more than the local disk.
#[tokio::test]
async fn any_safe_level_of_synchronous_commit_stays() {
    for level in ["local", "remote_apply"] {
        let test = TestDatabase::postgres().await;
        set(&test, &format!("synchronous_commit = '{level}'")).await;
        let database = connect(&test).await;
        let now = value(database.sea_orm(), "SELECT current_setting('synchronous_commit') AS value").await;
        assert_eq!(now, level);
    }
}

/// At a stricter level, the second of two transactions that change the same row would fail.
#[tokio::test]
async fn a_default_isolation_level_fails_no_concurrent_change() {
    const COUNT: &str = "UPDATE things SET count = count + 1";
    let test = TestDatabase::postgres().await;
    test.connection()
        .execute_unprepared("CREATE TABLE things AS SELECT 1 AS id, 0 AS count")
        .await
        .expect("a table");
    set(&test, "default_transaction_isolation = 'repeatable read'").await;
    let database = connect(&test).await;
    let first = database.begin().await.expect("a transaction");
    let second = database.begin().await.expect("another");
    second.execute_unprepared("SELECT 1 FROM things").await.expect("a snapshot");
    first.execute_unprepared(COUNT).await.expect("a change");
    first.commit().await.expect("a commit");
    second.execute_unprepared(COUNT).await.expect("a change of the same row");
    second.commit().await.expect("a commit");
}

#[tokio::test]
async fn a_database_with_another_encoding_is_rejected() {
    let test = TestDatabase::postgres().await;
    let name = value(&test.connection(), "SELECT current_database()::text AS value").await;
    let latin = format!("{name}_latin1");
    let create = format!(r#"CREATE DATABASE "{latin}" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"#);
    test.connection().execute_unprepared(&create).await.expect("a database");
    let url = test.url().replace(&name, &latin).parse().expect("a database URL");
    let error = Database::connect(Config::new(url)).await.expect_err("not every text can be stored");
    let drop = format!(r#"DROP DATABASE "{latin}" WITH (FORCE)"#);
    test.connection().execute_unprepared(&drop).await.expect("it is gone");
    assert!(matches!(&error, DatabaseError::Encoding(encoding) if encoding == "LATIN1"), "{error:?}");
    assert!(error.to_string().contains("ENCODING 'UTF8'"), "{error}");
}
