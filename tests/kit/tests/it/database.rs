use std::time::Duration;

use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use sea_orm_migration::prelude::*;

/// A migration history with just enough tables to move clocks in.
struct History;

impl MigratorTrait for History {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(First)]
    }
}

struct First;

impl MigrationName for First {
    fn name(&self) -> &'static str {
        "testkit_first"
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "async-trait: the trait leaves it out, so an implementation must"
)]
#[async_trait::async_trait]
impl MigrationTrait for First {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in [
            "CREATE TABLE jobs (id bigint, available_at bigint NOT NULL, lease_until bigint, format text, beat bigint)",
            "CREATE TABLE deliveries (id bigint, updated_at bigint)",
            "CREATE TABLE health (id bigint, first_failed_at bigint NOT NULL, open_until bigint, failures bigint)",
            "CREATE TABLE events (id bigint, created_at bigint)",
        ] {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

async fn number(connection: &DatabaseConnection, sql: &str) -> Option<i64> {
    let query = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(query).await.expect("a query that works").expect("a row");
    row.try_get_by_index(0).expect("a number")
}

async fn on(backend: DbBackend) -> TestDatabase {
    match backend {
        DbBackend::Postgres => TestDatabase::postgres_with::<History>().await,
        _ => TestDatabase::sqlite_with::<History>().await,
    }
}

async fn each_test_has_its_own_database(backend: DbBackend) {
    let (one, other) = tokio::join!(on(backend), on(backend));
    let insert = "INSERT INTO jobs VALUES (1, 10, NULL, 'x', 5)";
    one.connection().execute_unprepared(insert).await.expect("an insert");
    assert_eq!(number(&one.connect().await, "SELECT count(*) FROM jobs").await, Some(1));
    assert_eq!(number(&other.connection(), "SELECT count(*) FROM jobs").await, Some(0));
}

async fn advancing_moves_times_and_nothing_else(backend: DbBackend) {
    let database = on(backend).await;
    let connection = database.connection();
    for insert in [
        "INSERT INTO jobs VALUES (1, 10000, NULL, 'x', 5), (2, 20000, 30000, 'y', 6)",
        "INSERT INTO deliveries VALUES (1, 5000)",
        "INSERT INTO health VALUES (1, 6000, 8000, 9000)",
        "INSERT INTO events VALUES (1, 7000)",
    ] {
        connection.execute_unprepared(insert).await.expect("an insert");
    }
    database.advance(Duration::from_millis(1500)).await;

    for (query, expected) in [
        ("SELECT available_at FROM jobs WHERE id = 1", Some(8500)),
        ("SELECT lease_until FROM jobs WHERE id = 1", None),
        ("SELECT lease_until FROM jobs WHERE id = 2", Some(28500)),
        ("SELECT beat FROM jobs WHERE id = 2", Some(6)),
        ("SELECT updated_at FROM deliveries", Some(3500)),
        ("SELECT first_failed_at FROM health", Some(4500)),
        ("SELECT open_until FROM health", Some(6500)),
        ("SELECT failures FROM health", Some(9000)),
        ("SELECT created_at FROM events", Some(7000)),
    ] {
        assert_eq!(number(&connection, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn each_test_has_its_own_database_on_sqlite() {
    each_test_has_its_own_database(DbBackend::Sqlite).await;
}

#[tokio::test]
async fn each_test_has_its_own_database_on_postgres() {
    each_test_has_its_own_database(DbBackend::Postgres).await;
}

#[tokio::test]
async fn advancing_moves_times_and_nothing_else_on_sqlite() {
    advancing_moves_times_and_nothing_else(DbBackend::Sqlite).await;
}

#[tokio::test]
async fn advancing_moves_times_and_nothing_else_on_postgres() {
    advancing_moves_times_and_nothing_else(DbBackend::Postgres).await;
}

#[tokio::test]
async fn a_dropped_database_is_gone() {
    let database = TestDatabase::postgres_with::<History>().await;
    let witness = TestDatabase::postgres_with::<History>().await;
    let name = database.url().rsplit('/').next().expect("a name").to_owned();
    let query = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    // An open connection must not keep the database alive.
    let _lingering = database.connect().await;
    assert_eq!(number(&witness.connection(), &query).await, Some(1));
    drop(database);
    assert_eq!(number(&witness.connection(), &query).await, Some(0));
}

#[tokio::test]
async fn the_schema_of_postrider_applies_to_both() {
    for backend in [DbBackend::Sqlite, DbBackend::Postgres] {
        let database = TestDatabase::on(backend).await;
        number(&database.connection(), "SELECT count(*) FROM seaql_migrations").await.expect("a count");
    }
}

/// Neither a fold that removes rows nor logical replication can identify rows without a key.
#[tokio::test]
async fn every_table_of_postrider_has_a_key_on_postgres() {
    let database = TestDatabase::postgres().await;
    let sql = "SELECT string_agg(relname, ', ' ORDER BY relname) AS keyless FROM pg_class \
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace \
        AND NOT EXISTS (SELECT 1 FROM pg_index WHERE indrelid = pg_class.oid AND (indisprimary OR indisreplident))";
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let row = database.connection().query_one_raw(statement).await.unwrap().unwrap();
    assert_eq!(row.try_get::<Option<String>>("", "keyless").unwrap(), None);
}
