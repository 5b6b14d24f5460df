//! Prepared statements whose columns a change of the schema adds or retypes: "cached plan must not change result type"
//! (SQLSTATE 0A000).

use futures_util::future::join_all;
use postrider_database::{Config, Database, DatabaseError};
use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait, Statement};

/// The last ones undo the first ones.
const CHANGES: [&str; 4] = [
    "ALTER TABLE things ADD COLUMN more text DEFAULT 'x'",
    "ALTER TABLE things ALTER COLUMN name TYPE varchar",
    "ALTER TABLE things ALTER COLUMN name TYPE text",
    "ALTER TABLE things DROP COLUMN more",
];
const SELECT: &str = "SELECT * FROM things";
const UPDATE: &str = "UPDATE things SET name = name || 'x' RETURNING *";

async fn query(connection: &impl ConnectionTrait, sql: &str) -> Result<String, DatabaseError> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await?;
    Ok(rows[0].try_get("", "name")?)
}

async fn in_transaction(database: &Database, statements: &[&str]) -> Result<String, DatabaseError> {
    let transaction = database.begin().await?;
    let mut name = String::new();
    for sql in statements {
        name = query(&transaction, sql).await?;
    }
    transaction.commit().await?;
    Ok(name)
}

async fn scene() -> (TestDatabase, Database) {
    let test = TestDatabase::postgres().await;
    let admin = test.connection();
    admin.execute_unprepared("CREATE TABLE things AS SELECT 'a'::text AS name").await.expect("a table");
    let config = Config { max_connections: 4, ..Config::new(test.url().parse().expect("a database URL")) };
    (test, Database::connect(config).await.expect("the database"))
}

/// Prepares all statements on all connections.
async fn prepare(database: &Database) {
    let begun = join_all((0..4).map(|_| database.begin())).await;
    for transaction in begun {
        let transaction = transaction.expect("a transaction");
        for sql in [SELECT, UPDATE] {
            query(&transaction, sql).await.expect("an answer");
        }
        transaction.rollback().await.expect("a rollback");
    }
}

#[tokio::test]
async fn reads_and_transactions_prepare_a_stale_statement_again() {
    let (test, database) = scene().await;
    for statements in [&[][..], &[SELECT], &[UPDATE], &[SELECT, UPDATE]] {
        for change in CHANGES {
            prepare(&database).await;
            test.connection().execute_unprepared(change).await.expect("a change");
            let before = query(&database.reads(), "SELECT name FROM things").await.expect("a name");
            for _ in 0..5 {
                if statements.is_empty() {
                    query(&database.reads(), SELECT).await.expect("a read is repeated");
                } else {
                    in_transaction(&database, statements).await.expect("the first statement is repeated");
                }
            }
            let after = query(&database.reads(), "SELECT name FROM things").await.expect("a name");
            let changed = if statements.contains(&UPDATE) { 5 } else { 0 };
            assert_eq!(after.len(), before.len() + changed, "each transaction changed it once");
        }
    }
}

/// A caller may repeat what is reported as unavailable. No other connection has a stale statement then.
#[tokio::test]
async fn a_stale_statement_fails_at_most_once() {
    let (test, database) = scene().await;
    for change in CHANGES {
        prepare(&database).await;
        test.connection().execute_unprepared(change).await.expect("a change");
        let mut errors = Vec::new();
        for _ in 0..8 {
            errors.extend(query(database.connection(), UPDATE).await.err());
        }
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].is_unavailable(), "{errors:?}");
    }
}
