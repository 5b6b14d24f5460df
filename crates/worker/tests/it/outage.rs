//! A database whose connections are killed during work, or are all in use.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postrider_database::{Config as DatabaseConfig, Purpose};
use postrider_dispatch::{IdempotencyKey, NewEvent};
use postrider_testkit::receiver::Gate;
use postrider_testkit::{Behaviour, eventually};
use postrider_worker::Config;
use sea_orm::{ConnectionTrait as _, Statement};

use crate::stage::{DEADLINE, Stage, config, event, start};

const LONG: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_lose_no_event_and_leave_no_job_behind() {
    const EVENTS: usize = 300;
    let stage = Stage::postgres().await;
    stage.subscriber("/one").await;
    stage.subscriber("/two").await;
    // The shortest lease, so that jobs whose claim was lost are rescued soon.
    let config = Config { lease: *Config::LEASE.start(), ..config() };
    let workers = [stage.worker(config.clone()).await, stage.worker(config).await];

    let admin = stage.database.connect().await;
    let killer = tokio::spawn(async move {
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'postrider-2'";
        let mut killed = 0;
        loop {
            let kill = Statement::from_string(admin.get_database_backend(), kill);
            killed += admin.query_all_raw(kill).await.unwrap().len();
            if killed >= 120 {
                return killed;
            }
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    });

    let mut failed = 0;
    let mut acknowledged = Vec::new();
    for number in 0.. {
        if number >= EVENTS && killer.is_finished() {
            break;
        }
        let key = IdempotencyKey::parse(&number.to_string()).unwrap();
        let new = NewEvent { key: Some(key), ..event(number) };
        let began = Instant::now();
        loop {
            match stage.dispatcher.dispatch(new.clone()).await {
                Ok(dispatched) => break acknowledged.push(dispatched.id.to_string()),
                Err(error) => {
                    assert!(error.is_unavailable(), "{error}");
                    assert!(began.elapsed() < LONG, "{error}");
                    failed += 1;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
    let count = killer.await.unwrap();

    eventually(LONG, || async {
        (stage.count("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM scheduled_jobs)").await == 0)
            .then_some(())
    })
    .await;
    stage.no_lane_is_running().await;
    for worker in workers {
        worker.stop().await;
    }
    let mut got: BTreeMap<(String, String), usize> = BTreeMap::new();
    for request in stage.receiver.requests() {
        let id = request.header("webhook-id").unwrap().to_owned();
        *got.entry((request.path().to_owned(), id)).or_default() += 1;
    }
    let repeats: usize = got.values().map(|count| count - 1).sum();
    println!(
        "{} events, {count} connections killed, {failed} dispatches failed, {repeats} requests repeated",
        acknowledged.len()
    );
    for id in &acknowledged {
        for path in ["/one", "/two"] {
            assert!(got.contains_key(&(path.to_owned(), id.clone())), "{path} did not get {id}");
        }
    }
    assert_eq!(got.len(), acknowledged.len() * 2, "no event that was not acknowledged");
    let unfinished = "SELECT count(*) FROM deliveries WHERE status <> 1";
    assert_eq!(stage.count(unfinished).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_waits_for_an_exhausted_pool() {
    let stage = Stage::postgres().await;
    let gate = Gate::closed();
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(200).behind(&gate));
    let database = DatabaseConfig {
        max_connections: 4,
        acquire_timeout: Duration::from_millis(500),
        idle_transaction_timeout: LONG,
        ..DatabaseConfig::new(stage.database.url().parse().unwrap())
    };
    let store = stage.store_over(database).await;
    let worker = start(store.clone(), config());
    stage.dispatch().await;
    stage.receiver.wait_for(1, DEADLINE).await;

    // The listener keeps one; the worker returns its others.
    let same_pool = store.database().serving(Purpose::Delivery);
    let mut taken = Vec::new();
    while taken.len() < 3 {
        taken.extend(same_pool.begin().await);
    }
    gate.open();
    stage.dispatch().await;
    // A further request for a connection queues behind the worker's, and times out like it.
    for _ in 0..3 {
        assert!(same_pool.begin().await.is_err());
    }
    assert_eq!(stage.receiver.requests().len(), 1, "the worker cannot claim");
    drop(taken);
    stage.receiver.wait_for(2, DEADLINE).await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!(stage.receiver.requests().len(), 2, "one request per event");
    assert_eq!(stage.count("SELECT count(*) FROM deliveries WHERE status = 1 AND attempts = 1").await, 2);
}

/// A failover leaves a worker connected to a server that has become read-only.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_kept_while_the_database_is_read_only() {
    let stage = Stage::postgres().await;
    let gate = Gate::closed();
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::Status(200).behind(&gate));
    let worker = stage.worker(config()).await;
    for _ in 0..8 {
        stage.dispatch().await;
    }
    stage.receiver.wait_for(8, DEADLINE).await;

    let admin = stage.database.connect().await;
    let run = async |sql: String| admin.execute_unprepared(&sql).await.map(drop).unwrap();
    let name =
        Statement::from_string(admin.get_database_backend(), "SELECT current_database()::text AS name");
    let name: String = admin.query_one_raw(name).await.unwrap().unwrap().try_get("", "name").unwrap();
    let read_only = async |value: &str| {
        // On whichever connection of the pool, also one that was made while the database was read-only.
        let alter = format!(r#"ALTER DATABASE "{name}" SET default_transaction_read_only = {value}"#);
        run(format!("BEGIN READ WRITE; {alter}; COMMIT")).await;
    };
    read_only("on").await;
    run("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'postrider-2'"
        .to_owned())
    .await;
    gate.open();
    let fails = || async { stage.dispatcher.dispatch(event(9)).await.err() };
    let error = eventually(DEADLINE, fails).await;
    assert!(error.is_unavailable(), "{error}");
    // Until the worker has tried to record.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stage.count("SELECT count(*) FROM deliveries WHERE status = 1").await, 0);

    read_only("off").await;
    let began = Instant::now();
    eventually(DEADLINE, || async { stage.dispatcher.dispatch(event(10)).await.ok() }).await;
    assert!(began.elapsed() < DEADLINE / 4, "{:?}", began.elapsed());
    stage.receiver.wait_for(9, DEADLINE).await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!(stage.receiver.requests().len(), 9, "one request per event");
    assert_eq!(stage.count("SELECT count(*) FROM deliveries WHERE status = 1 AND attempts = 1").await, 9);
}
