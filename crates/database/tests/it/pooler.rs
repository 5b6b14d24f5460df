//! PgBouncer between the program and PostgreSQL.

#![allow(
    clippy::cast_possible_wrap,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic with a description is a failed test"
)]

use postrider_database::{Config, Database, DatabaseError, Pooler, PoolerError, RoleSettings};
use postrider_testkit::{TestDatabase, pgbouncer};
use sea_orm::{ConnectionTrait as _, Statement};

fn config(url: &str, pooler: Pooler) -> Config {
    Config { pooler, ..Config::new(url.parse().expect("a database URL")) }
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_rejected_unless_it_is_configured() {
    for installed in pgbouncer::installed() {
        let test = TestDatabase::postgres().await;
        let bouncer = installed.start(test.url(), "transaction", 4).await;
        let error = Database::connect(config(bouncer.url(), Pooler::None)).await.expect_err("it is detected");
        assert!(matches!(error, DatabaseError::Pooler(PoolerError::Unexpected)), "{error:?}");
        assert!(error.to_string().contains("POSTRIDER_DATABASE_POOLER=transaction"), "{error}");
    }
}

#[tokio::test]
async fn a_pooler_that_cannot_prepare_statements_is_rejected() {
    for installed in pgbouncer::installed().into_iter().filter(|installed| !installed.prepares()) {
        let test = TestDatabase::postgres().await;
        let bouncer = installed.start(test.url(), "transaction", 4).await;
        let error = Database::connect(config(bouncer.url(), Pooler::Transaction)).await;
        let error = error.expect_err("it is too old");
        assert!(matches!(error, DatabaseError::Pooler(PoolerError::PreparedStatements)), "{error:?}");
    }
}

#[tokio::test]
async fn a_pooler_in_session_mode_needs_no_setting() {
    for installed in pgbouncer::installed() {
        let test = TestDatabase::postgres().await;
        let bouncer = installed.start(test.url(), "session", 20).await;
        let database = Database::connect(config(bouncer.url(), Pooler::None)).await.expect("the database");
        database.begin().await.expect("a transaction").commit().await.expect("a commit");
    }
}

#[tokio::test]
async fn the_role_has_the_settings_that_sessions_need() {
    for installed in pgbouncer::installed().into_iter().filter(pgbouncer::Installed::prepares) {
        let test = TestDatabase::postgres().await;
        let admin = test.connection();
        let bouncer = installed.start(test.url(), "transaction", 4).await;
        let config = config(bouncer.url(), Pooler::Transaction);
        let error = Database::connect(config.clone()).await.expect_err("the role lacks settings");
        let DatabaseError::Pooler(PoolerError::Settings(statements)) = &error else { panic!("{error:?}") };
        for needed in [
            "SET plan_cache_mode = 'force_generic_plan'",
            "SET statement_timeout = '10000'",
            "SET lock_timeout = '5000'",
            "SET client_connection_check_interval = '1000'",
        ] {
            assert!(statements.contains(needed), "{needed}: {statements}");
        }
        // A migration sets what it needs in its transaction.
        let migrating = Config { role_settings: RoleSettings::Any, ..config.clone() };
        Database::connect(migrating).await.expect("the database").close().await;
        admin.execute_unprepared(statements).await.expect("the role's own settings");

        // A new one has new sessions, as after RECONNECT.
        let bouncer = installed.start(test.url(), "transaction", 4).await;
        let url = bouncer.url().parse().expect("a URL");
        let database = Database::connect(Config { url, ..config.clone() }).await.expect("the database");
        let ask = async |number: usize| {
            let connection = database.connection();
            // Twenty statements with the names of other clients' statements.
            let sql = format!("SELECT {}::int8 AS number", number % 20);
            let statement = Statement::from_sql_and_values(connection.get_database_backend(), sql, []);
            let row = connection.query_one_raw(statement).await.expect("an answer").expect("a row");
            assert_eq!(row.try_get::<i64>("", "number").expect("a number"), (number % 20) as i64);
        };
        futures_util::future::join_all((0..400).map(ask)).await;
        // Whatever any session has, it has from its role.
        let sql = "SELECT name FROM pg_settings WHERE source = 'session' AND name IN \
            ('plan_cache_mode', 'enable_seqscan', 'jit', 'default_transaction_isolation') \
            UNION ALL SELECT pg_listening_channels()";
        for _ in 0..20 {
            let statement = Statement::from_string(admin.get_database_backend(), sql);
            let leaked = database.connection().query_all_raw(statement).await.expect("rows");
            assert!(leaked.is_empty(), "{leaked:?}");
        }
        // The role's limits reach every session, and a statement that exceeds them ends.
        let limits = format!(
            "ALTER ROLE CURRENT_USER IN DATABASE {} SET statement_timeout",
            database_name(&test).await
        );
        admin.execute_unprepared(&format!("{limits} = '500ms'")).await.expect("a limit");
        let bouncer = installed.start(test.url(), "transaction", 4).await;
        let url = bouncer.url().parse().expect("a URL");
        let stricter =
            Database::connect(Config { url, ..config.clone() }).await.expect("a stricter limit will do");
        let slow = stricter.connection().execute_unprepared("SELECT pg_sleep(60)").await;
        let error = DatabaseError::from(slow.expect_err("it is cancelled"));
        assert!(error.is_unavailable(), "{error:?}");
        // A looser limit, and none, are refused.
        for looser in ["'11s'", "0"] {
            admin.execute_unprepared(&format!("{limits} = {looser}")).await.expect("a limit");
            let bouncer = installed.start(test.url(), "transaction", 4).await;
            let url = bouncer.url().parse().expect("a URL");
            let error = Database::connect(Config { url, ..config.clone() }).await.expect_err("too loose");
            let DatabaseError::Pooler(PoolerError::Settings(statements)) = &error else {
                panic!("{error:?}")
            };
            assert!(statements.ends_with("SET statement_timeout = '10000'"), "{statements}");
            assert!(!statements.contains(';'), "it is the only one: {statements}");
        }
    }
}

async fn database_name(test: &TestDatabase) -> String {
    let connection = test.connection();
    let sql = "SELECT quote_ident(current_database()) AS name";
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(statement).await.expect("an answer").expect("a row");
    row.try_get("", "name").expect("a name")
}
