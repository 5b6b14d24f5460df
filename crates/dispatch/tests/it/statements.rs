//! Fan-out takes a fixed number of statements, whatever the number of subscribers.

use std::sync::{Arc, Mutex};

use postrider_core::IdGenerator;
use postrider_database::{Config as DatabaseConfig, Database, Dialect};
use postrider_dispatch::{Config, Dispatcher};
use postrider_store::Store;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::json;

use crate::stage::{Stage, event, keyed, on_both};

on_both!(fan_out_takes_a_fixed_number_of_statements);

/// The statements of one dispatch, without BEGIN and COMMIT, which SeaORM does not count: subscribers; then event,
/// deliveries, roll-ups, lanes and jobs, which are a single statement on PostgreSQL.
const fn expected(dialect: Dialect) -> usize {
    match dialect {
        Dialect::Postgres => 2,
        Dialect::Sqlite => 6,
    }
}

/// The statements of three dispatches in a row: with new subscribers, with the same, and with the same again. On
/// PostgreSQL a query for the subscribers is needed only if they have changed, or are too many to cache.
const fn expected_in_turn(dialect: Dialect, subscribers: usize) -> [usize; 3] {
    match (dialect, subscribers) {
        (Dialect::Sqlite, _) => [6, 6, 6],
        (Dialect::Postgres, 1) => [2, 1, 1],
        (Dialect::Postgres, 10) => [3, 1, 1],
        (Dialect::Postgres, _) => [3, 2, 2],
    }
}

async fn fan_out_takes_a_fixed_number_of_statements(stage: &Stage) {
    let (dispatcher, log) = counting(stage).await;
    let dialect = dispatcher.store().database().dialect();
    let expected = expected(dialect);
    let mut subscribers = 0;
    for wanted in [1, 10, 100] {
        while subscribers < wanted {
            stage.subscribe(&["order.*"]).await;
            subscribers += 1;
        }
        for expected in expected_in_turn(dialect, wanted) {
            log.lock().unwrap().clear();
            let found = dispatcher.dispatch(event("order.created", &json!({ "n": wanted }))).await.unwrap();
            assert_eq!(found.jobs.len(), wanted);
            let statements = log.lock().unwrap().clone();
            assert_eq!(statements.len(), expected, "{wanted} subscribers: {statements:#?}");
        }
    }

    // A batch of ten events to a hundred subscribers each runs the same statements. A key adds one; a repeat runs three.
    log.lock().unwrap().clear();
    let batch = (0..10).map(|n| event("order.created", &json!({ "n": n }))).collect();
    let results = dispatcher.dispatch_batch(batch).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|one| one.jobs.len() == 100)));
    assert_eq!(log.lock().unwrap().len(), expected);
    // What a statement writes is bounded: a batch of 7,000 deliveries takes another.
    log.lock().unwrap().clear();
    let batch = (0..70).map(|n| event("order.created", &json!({ "n": n }))).collect();
    let results = dispatcher.dispatch_batch(batch).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|one| one.jobs.len() == 100)));
    let in_two = match dialect {
        Dialect::Postgres => 1 + 2,
        Dialect::Sqlite => 1 + 2 * 5,
    };
    assert_eq!(log.lock().unwrap().len(), in_two);
    for (with_key, what) in [(expected + 1, "a key"), (3, "a repeat")] {
        log.lock().unwrap().clear();
        dispatcher.dispatch(keyed("order.created", &json!({ "n": 1 }), "k")).await.unwrap();
        assert_eq!(log.lock().unwrap().len(), with_key, "{what}: {:#?}", log.lock().unwrap());
    }

    // The same in the caller's transaction.
    log.lock().unwrap().clear();
    let transaction = dispatcher.store().database().sea_orm().begin().await.unwrap();
    dispatcher.dispatch_in(&transaction, event("order.created", &json!({}))).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(log.lock().unwrap().len(), expected);
}

/// A dispatcher, and a log of the statements it runs.
async fn counting(stage: &Stage) -> (Dispatcher, Arc<Mutex<Vec<String>>>) {
    let url = stage.database.url().parse().unwrap();
    let pool = Database::connect(DatabaseConfig::new(url)).await.unwrap();
    let mut connection = pool.sea_orm().clone();
    let log = Arc::new(Mutex::new(Vec::new()));
    let logged = Arc::clone(&log);
    connection.set_metric_callback(move |info| {
        // Nobody waits for a wake-up, and several dispatches share one.
        if !info.statement.sql.starts_with("SELECT pg_notify") {
            logged.lock().unwrap().push(info.statement.sql.chars().take(300).collect::<String>());
        }
    });
    connection.execute_unprepared("SELECT 1").await.unwrap();
    let database = Database::from_connection(connection);
    let queue = postrider_queue::open(&database);
    let keyring =
        postrider_core::Keyring::parse(&postrider_core::Keyring::generate_key(&postrider_core::SystemRandom))
            .unwrap();
    let store = Store::new(database, queue, keyring, IdGenerator::system());
    // Programs learn which partitions there are before they dispatch.
    store.keep_partitions().await.unwrap();
    (Dispatcher::new(store, Config::default()).unwrap(), log)
}
