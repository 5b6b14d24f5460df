//! The main job through PgBouncer in transaction mode.

use futures_util::future::join_all;
use postrider_testkit::{Receiver, TestDatabase, pgbouncer};
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::json;

use crate::client::{idle, subscribe};
use crate::deployment::{DEADLINE, Deployment, Member, program};

const CLIENTS: usize = 32;
const EVENTS: usize = 20;

/// Removes the schema. Its migrations then take longer than the role allows a statement.
const SLOW_TO_MIGRATE: &str = "
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); END';
CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION slow();
DO $$ BEGIN
    EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET statement_timeout = 300', current_database());
END $$;
";
const AS_BEFORE: &str = "
DROP EVENT TRIGGER slow;
DO $$ BEGIN
    EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I RESET statement_timeout', current_database());
END $$;
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_through_a_pooler_in_transaction_mode() {
    for installed in pgbouncer::installed().into_iter().filter(pgbouncer::Installed::prepares) {
        let database = TestDatabase::postgres().await;
        let direct = database.url().to_owned();
        let settings = [
            ("POSTRIDER_DATABASE_POOLER", "transaction"),
            ("POSTRIDER_DATABASE_LISTEN_URL", direct.as_str()),
        ];

        // A migration needs nothing of its role, and outlasts the role's limit.
        database.connection().execute_unprepared(SLOW_TO_MIGRATE).await.expect("a database to migrate");
        let bouncer = installed.start(&direct, "transaction", 6).await;
        let mut migrated = program("postrider", bouncer.url(), &settings).arg("migrate").start();
        let status = migrated.wait(DEADLINE).await;
        assert!(status.success(), "{}", migrated.stderr().join("\n"));
        drop(bouncer);
        database.connection().execute_unprepared(AS_BEFORE).await.expect("no limit");

        // The server says which settings its role lacks.
        let bouncer = installed.start(&direct, "transaction", 6).await;
        let mut refused = program("postrider-server", bouncer.url(), &settings).start();
        assert!(!refused.wait(DEADLINE).await.success());
        let errors = refused.stderr().join(" ");
        let statements = errors.split('`').find(|part| part.starts_with("ALTER ROLE"));
        let statements = statements.unwrap_or_else(|| panic!("no statements: {errors}"));
        database.connection().execute_unprepared(statements).await.expect("the role's settings");
        drop(bouncer);

        let bouncer = installed.start(&direct, "transaction", 6).await;
        let server = Member::start(&program("postrider-server", bouncer.url(), &settings)).await;
        let api = server.api().await;
        let mut deployment = Deployment { api: api.clone(), server, workers: Vec::new(), database };
        // One worker listens on a direct connection, the other one polls.
        for settings in [&settings[..], &settings[..1]] {
            let worker = program("postrider-worker", bouncer.url(), settings);
            deployment.workers.push(Member::start(&worker).await);
        }

        let receiver = Receiver::start().await;
        subscribe(&api, &receiver.url("/")).await;
        let client = async |_: usize| {
            let mut failed = Vec::new();
            for _ in 0..EVENTS {
                let (status, answer) = api.post("/v1/events", &json!({"event": "a", "data": {}})).await;
                let (read, _) = api.get("/v1/deliveries").await;
                if (status, read) != (202, 200) {
                    failed.push((status, read, answer));
                }
            }
            failed
        };
        let failed = join_all((0..CLIENTS).map(client)).await.concat();
        assert!(failed.is_empty(), "{failed:?}");
        idle(&api).await;
        assert_eq!(receiver.requests().len(), CLIENTS * EVENTS, "each event arrived once");

        // Other clients find no settings of ours in their sessions, and listen to nothing.
        let other = bouncer.connect().await;
        let sql = "SELECT 1 AS one FROM pg_settings WHERE source = 'session' AND name IN \
            ('plan_cache_mode', 'enable_seqscan', 'jit', 'default_transaction_isolation', 'statement_timeout') \
            UNION ALL SELECT 1 FROM pg_listening_channels()";
        for _ in 0..20 {
            let statement = Statement::from_string(other.get_database_backend(), sql);
            let leaked = other.query_all_raw(statement).await.expect("rows");
            assert!(leaked.is_empty(), "{leaked:?}");
        }
        other.close().await.expect("it closes");
        deployment.stop().await;
    }
}
