//! Migrations while programs work.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use postrider_migrations::{Migrator, migrate_with};
use postrider_testkit::Receiver;
use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseConnection;
use serde_json::json;
use tokio::sync::RwLock;

use crate::client::{idle, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};

/// The schema with `N` more migrations, each of which adds a column to every table, changes a default and adds an index.
struct Newer<const N: usize>;

impl<const N: usize> MigratorTrait for Newer<N> {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let newer =
            (0..N).map(|number| Box::new(Wider(format!("m9{number:03}_wider"))) as Box<dyn MigrationTrait>);
        Migrator::migrations().into_iter().chain(newer).collect()
    }
}

struct Wider(String);

impl MigrationName for Wider {
    fn name(&self) -> &str {
        &self.0
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Wider {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let name = &self.0;
        let statements = format!(
            "DO $$ DECLARE name text; BEGIN \
                FOR name IN SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace \
                    AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'seaql_migrations' LOOP \
                    EXECUTE format('ALTER TABLE %I ADD COLUMN added_by_{name} text DEFAULT ''x''', name); \
                END LOOP; \
            END $$; \
            ALTER TABLE lanes ALTER COLUMN added_by_{name} SET DEFAULT 'y'; \
            CREATE INDEX deliveries_{name} ON deliveries (added_by_{name})"
        );
        manager.get_connection().execute_unprepared(&statements).await.map(drop)
    }
}

/// Changes the type of every column of a type, which no migration does. Prepared statements that return such a column fail
/// then, once on each connection: "cached plan must not change result type" (SQLSTATE 0A000).
///
/// Needs the locks of all tables at once, which programs under load hardly ever leave free together.
async fn retype(connection: &DatabaseConnection, old: &str, new: &str) {
    let statements = format!(
        "DO $$ DECLARE changed record; BEGIN \
            FOR changed IN SELECT relname, attname FROM pg_attribute \
                JOIN pg_class ON pg_class.oid = attrelid AND relkind IN ('r', 'p') AND NOT relispartition \
                WHERE relnamespace = current_schema()::regnamespace AND atttypid = '{old}'::regtype LOOP \
                EXECUTE format('ALTER TABLE %I ALTER %I TYPE {new}', changed.relname, changed.attname); \
            END LOOP; \
        END $$"
    );
    postrider_testkit::eventually(DEADLINE, || async {
        let limited = format!("SET lock_timeout = '300ms'; {statements}");
        connection.execute_unprepared(&limited).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_during_a_migration() {
    let deployment = Deployment::start(2).await;
    let receiver = Receiver::start().await;
    let api = &deployment.api;
    let body = json!({"url": receiver.url("/"), "events": ["load"]});
    let subscriber = text(&subscribe_with(api, body).await["id"]).to_owned();
    // Nothing answers there, so its deliveries wait to be retried until they are cancelled.
    let unreachable =
        subscribe_with(api, json!({"url": "http://127.0.0.1:1/", "events": ["cancelled"]})).await;
    let (stop, sent, rounds) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let pause = RwLock::new(());
    let client = async || {
        let mut failed = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            let _sending = pause.read().await;
            let mut answers = Vec::new();
            for event in ["load", "cancelled"] {
                let (status, answer) = api.post("/v1/events", &json!({"event": event, "data": {}})).await;
                answers.push((event.to_owned(), status, answer));
            }
            sent.fetch_add(1, Ordering::SeqCst);
            let id = |place: usize| answers[place].2["id"].as_str().unwrap_or("unknown").to_owned();
            for path in [
                format!("/v1/deliveries?event_id={}", id(1)),
                format!("/v1/events/{}", id(0)),
                format!("/v1/subscribers/{subscriber}"),
                "/v1/subscribers".to_owned(),
                "/v1/deliveries".to_owned(),
                "/v1/stats".to_owned(),
            ] {
                let (status, answer) = api.get(&path).await;
                answers.push((path, status, answer));
            }
            let delivery = answers[2].2["data"][0]["id"].as_str().unwrap_or("unknown").to_owned();
            let path = format!("/v1/deliveries/{delivery}/cancel");
            let (status, answer) = api.post(&path, &json!({})).await;
            answers.push((path, status, answer));
            failed.extend(answers.into_iter().filter(|(_, status, _)| !(200..300).contains(status)));
            rounds.fetch_add(1, Ordering::SeqCst);
        }
        failed
    };
    let connection = deployment.database.connect().await;
    let round = async || {
        let before = rounds.load(Ordering::SeqCst);
        let more = || async { (rounds.load(Ordering::SeqCst) > before + 40).then_some(()) };
        postrider_testkit::eventually(DEADLINE, more).await;
    };
    let migrations = async {
        round().await;
        migrate_with::<Newer<1>>(&connection).await.expect("a migration");
        round().await;
        migrate_with::<Newer<2>>(&connection).await.expect("a migration");
        migrate_with::<Newer<3>>(&connection).await.expect("a migration");
        round().await;
        for (old, new) in [("text", "varchar"), ("varchar", "text")] {
            let paused = pause.write().await;
            retype(&connection, old, new).await;
            drop(paused);
            round().await;
        }
        stop.store(true, Ordering::SeqCst);
    };
    let (a, b, c, d, ()) = tokio::join!(client(), client(), client(), client(), migrations);
    let failed = [a, b, c, d].concat();
    assert!(failed.is_empty(), "{failed:?}");
    // Its jobs would wait for its breaker.
    api.delete(&format!("/v1/subscribers/{}", text(&unreachable["id"]))).await;
    idle(api).await;
    assert_eq!(receiver.requests().len(), sent.load(Ordering::SeqCst), "each event arrived once");
    deployment.stop().await;
}
