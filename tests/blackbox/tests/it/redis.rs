//! A queue on Redis. Without Redis these tests print that they are skipped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider_testkit::redis::{Keeps, RedisServer};
use postrider_testkit::{Api, Behaviour, Program, Receiver, TestDatabase, eventually};
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::json;
use tokio::sync::Mutex;

use crate::cli::run;
use crate::client::{dispatch, dispatch_with, idle, list, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment, Member, program};

/// Runs a query that returns one number.
pub(crate) async fn number(database: &TestDatabase, sql: &str) -> i64 {
    let connection = database.connection();
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let row = connection.query_one_raw(statement).await.unwrap().unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Waits until every delivery has succeeded.
pub(crate) async fn all_succeed(deployment: &Deployment) {
    let pending = "SELECT count(*) FROM deliveries WHERE status <> 1";
    eventually(DEADLINE, || async { (number(&deployment.database, pending).await == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_receivers_through_redis() {
    let Some(redis) = RedisServer::start(Keeps::EverySecond) else { return };
    let deployment = Deployment::with(2, &[("POSTRIDER_QUEUE_URL", &redis.url())]).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/flaky", Behaviour::sequence([503, 503, 200]));
    receiver.on("/gone", Behaviour::sequence([503]));
    let policy = json!({"schedule": ["200ms"], "max_attempts": 5, "ordered": true});
    subscribe_with(api, json!({"url": receiver.url("/hook"), "events": ["order.*"]})).await;
    subscribe_with(api, json!({"url": receiver.url("/flaky"), "events": ["flaky"], "policy": policy})).await;
    let slow = json!({"schedule": ["1h"]});
    let gone =
        subscribe_with(api, json!({"url": receiver.url("/gone"), "events": ["gone"], "policy": slow})).await;
    for _ in 0..50 {
        dispatch(api, "order.created").await;
    }
    dispatch(api, "flaky").await;
    receiver.wait_for_path("/hook", 50, DEADLINE).await;
    receiver.wait_for_path("/flaky", 3, DEADLINE).await;
    all_succeed(&deployment).await;
    idle(api).await;

    // What waits for a subscriber that is deactivated ends, and its job leaves Redis.
    dispatch(api, "gone").await;
    receiver.wait_for_path("/gone", 1, DEADLINE).await;
    let path = format!("/v1/subscribers/{}", text(&gone["id"]));
    let (status, _) = api.patch(&path, &json!({"active": false})).await;
    assert_eq!(status, 200);
    eventually(DEADLINE, || async {
        let deliveries = list(api, &format!("/v1/deliveries?subscriber_id={}", text(&gone["id"]))).await;
        (deliveries[0]["status"] == "cancelled" || deliveries[0]["status"] == "dead").then_some(())
    })
    .await;
    eventually(DEADLINE, || async {
        (redis.cli(&["HLEN", "{postrider:1:0}:jobs"]).trim() == "0").then_some(())
    })
    .await;

    // The database has no jobs, and nothing waits on its way to Redis.
    assert_eq!(number(&deployment.database, "SELECT count(*) FROM jobs").await, 0);
    let outbox = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM changed_lanes)";
    eventually(DEADLINE, || async { (number(&deployment.database, outbox).await == 0).then_some(()) }).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_loses_is_filled_again() {
    let Some(mut redis) = RedisServer::start(Keeps::Nothing) else { return };
    let deployment = Deployment::with(1, &[("POSTRIDER_QUEUE_URL", &redis.url())]).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/limited", Behaviour::sequence([503, 200]));
    let policy = json!({"schedule": ["5s"]});
    subscribe_with(api, json!({"url": receiver.url("/limited"), "events": ["*"], "policy": policy})).await;
    dispatch(api, "order.created").await;
    receiver.wait_for(1, DEADLINE).await;
    let retried = "SELECT count(*) FROM deliveries WHERE attempts = 1";
    eventually(DEADLINE, || async { (number(&deployment.database, retried).await == 1).then_some(()) }).await;
    // The job of the retry is nowhere else.
    redis.restart();
    assert_eq!(redis.cli(&["DBSIZE"]).trim(), "0");
    all_succeed(&deployment).await;
    assert_eq!(receiver.requests().len(), 2);
    // Counted when the refill is complete, which may be after the job was claimed.
    eventually(DEADLINE, || async {
        let metrics =
            deployment.workers[0].telemetry.send(http::Method::GET, "/metrics", &[], "").await.text();
        metrics.contains("webhook_queue_refilled_jobs_total 1").then_some(())
    })
    .await;

    // An operator can have it filled although nothing was lost.
    receiver.on("/limited", Behaviour::sequence([503]));
    dispatch(api, "order.created").await;
    receiver.wait_for(3, DEADLINE).await;
    let refill = Program::named("postrider").args(["queue", "refill"]);
    let refill = |url: &str| refill.clone().env("POSTRIDER_DATABASE_URL", url);
    let filled = run(&refill(deployment.database.url()), "").await.ok();
    assert_eq!(filled, "the queue is filled: 1 jobs are pending, of which it lacked 0\n");
    let other = TestDatabase::postgres().await;
    let nothing = "no worker has used a queue outside this database yet";
    run(&refill(other.url()), "").await.fails(1, nothing);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_accepted_or_refused_while_redis_is_away() {
    let Some(mut redis) = RedisServer::start(Keeps::EverySecond) else { return };
    let url = redis.url();
    let deployment = Deployment::with(1, &[("POSTRIDER_QUEUE_URL", &url)]).await;
    let refusing = [("POSTRIDER_QUEUE_URL", url.as_str()), ("POSTRIDER_QUEUE_DOWN", "refuse")];
    let refusing = Member::start(&program("postrider-server", deployment.database.url(), &refusing)).await;
    let receiver = Receiver::start().await;
    subscribe_with(&deployment.api, json!({"url": receiver.url("/hook"), "events": ["*"]})).await;
    redis.kill();
    let (accepted, began) = (dispatch(&deployment.api, "order.created").await, Instant::now());
    assert!(began.elapsed() < Duration::from_secs(5), "{accepted}");
    let event = json!({"event": "order.created", "data": {}});
    let api = refusing.api().await;
    eventually(DEADLINE, || async {
        let began = Instant::now();
        let answer = api.post_raw("/v1/events", event.to_string()).await;
        assert!(began.elapsed() < Duration::from_secs(5));
        (answer.status == 503).then(|| assert!(answer.header("retry-after").is_some()))
    })
    .await;
    eventually(DEADLINE, || async { (refusing.telemetry.get("/readyz").await.0 == 503).then_some(()) }).await;
    redis.restart();
    all_succeed(&deployment).await;
    eventually(DEADLINE, || async {
        let answer = api.post_raw("/v1/events", event.to_string()).await;
        (answer.status == 202).then_some(())
    })
    .await;
    all_succeed(&deployment).await;
    refusing.stop().await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_cannot_be_used_is_named() {
    let Some(redis) = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]) else { return };
    let database = TestDatabase::postgres().await;
    for (url, complaint) in [
        (redis.url(), "maxmemory-policy noeviction"),
        ("redis://user:pass-of-the-test@127.0.0.1:1/0".to_owned(), "cannot connect to Redis"),
        ("redis://127.0.0.1/0?prefx=a".to_owned(), "unknown parameter"),
        ("amqp://127.0.0.1".to_owned(), "POSTRIDER_QUEUE_URL must begin with"),
    ] {
        for name in ["postrider-server", "postrider-worker"] {
            let mut process = program(name, database.url(), &[("POSTRIDER_QUEUE_URL", &url)]).start();
            let status = process.wait(DEADLINE).await;
            let errors = process.stderr().join("\n");
            assert!(!status.success() && errors.contains(complaint), "{url}: {errors}");
            assert!(!errors.contains("pass-of-the-test"), "{errors}");
        }
    }
}

/// Runs `postrider queue move` and returns what it prints.
async fn move_queue(database: &TestDatabase, arguments: &[&str]) -> (bool, String) {
    let command = program("postrider", database.url(), &[]).args(["queue", "move", "--to"]).args(arguments);
    let mut process = command.start();
    let status = process.wait(DEADLINE).await;
    (status.success(), [process.stdout(), process.stderr()].concat().join("\n"))
}

/// From the database to Redis and back, while servers accept events and restart one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_moved_while_events_come() {
    let Some(redis) = RedisServer::start(Keeps::EverySecond) else { return };
    let (url, database) = (redis.url(), TestDatabase::postgres().await);
    let on_redis: &[(&str, &str)] = &[("POSTRIDER_QUEUE_URL", &url)];
    let start =
        async |name: &str, own: &[(&str, &str)]| Member::start(&program(name, database.url(), own)).await;
    let (mut server, mut worker) =
        (start("postrider-server", &[]).await, start("postrider-worker", &[]).await);
    let receiver = Receiver::start().await;
    receiver.on("/late", Behaviour::sequence([503, 200]));
    let api = server.api().await;
    subscribe_with(&api, json!({"url": receiver.url("/hook"), "events": ["count"]})).await;
    let late = json!({"schedule": ["4s"]});
    subscribe_with(&api, json!({"url": receiver.url("/late"), "events": ["late"], "policy": late})).await;
    dispatch(&api, "late").await;
    receiver.wait_for_path("/late", 1, DEADLINE).await;

    let target = Arc::new(Mutex::new(api));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let load = tokio::spawn(count_until(Arc::clone(&target), stopped));
    for (to, own) in [(url.as_str(), on_redis), ("database", &[])] {
        let before = receiver.requests_to("/hook").len();
        receiver.wait_for_path("/hook", before + 20, DEADLINE).await;
        let (moved, output) = move_queue(&database, &[to]).await;
        assert!(!moved && output.contains("1 workers are running: stop them first"), "{output}");
        worker.stop().await;
        let (moved, output) = move_queue(&database, &[to]).await;
        assert!(moved, "{output}");
        // One program after the other, while the old server still takes events.
        worker = start("postrider-worker", own).await;
        let next = start("postrider-server", own).await;
        *target.lock().await = next.api().await;
        std::mem::replace(&mut server, next).stop().await;
        let (moved, output) = move_queue(&database, &[to, "--again"]).await;
        assert!(moved, "{output}");
    }
    stop.send(()).unwrap();
    let sent = load.await.unwrap();
    let pending = "SELECT count(*) FROM deliveries WHERE status <> 1";
    eventually(DEADLINE, || async { (number(&database, pending).await == 0).then_some(()) }).await;
    let mut numbers: Vec<u64> = receiver
        .requests_to("/hook")
        .iter()
        .map(|request| request.json()["data"]["number"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    assert_eq!(receiver.requests_to("/late").len(), 2);
    worker.stop().await;
    server.stop().await;
}

/// Sends numbered events until `stopped`. Returns how many.
async fn count_until(api: Arc<Mutex<Api>>, mut stopped: tokio::sync::oneshot::Receiver<()>) -> u64 {
    let mut number = 0;
    while stopped.try_recv().is_err() {
        // Held, so that no server is stopped in between.
        let api = api.lock().await;
        dispatch_with(&api, json!({"event": "count", "data": {"number": number}})).await;
        number += 1;
        drop(api);
        tokio::task::yield_now().await;
    }
    number
}
