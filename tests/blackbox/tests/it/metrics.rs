//! The metrics of all processes agree with what happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Duration,
};

use postrider_testkit::{ATTEMPTS, Behaviour, Receiver, eventually};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    time::{Instant, sleep},
};

use crate::client::{dispatch, idle, list, read, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};
use crate::exposition::{Exposition, sums};

/// The promised metrics, by the program that exports them. `webhook_retry_count` is the count of a histogram.
const SERVER: &[&str] =
    &["webhook_events_total", "webhook_dispatch_duration_seconds_bucket", "http_server_requests_total"];
const WORKER: &[&str] = &[
    "webhook_deliveries_total",
    "webhook_delivery_duration_seconds_bucket",
    "webhook_delivery_latency_seconds_bucket",
    "webhook_retry_count",
    "webhook_queue_depth",
    "webhook_queue_oldest_ready_seconds",
    "webhook_in_flight",
    "webhook_claim_duration_seconds_bucket",
    "webhook_leases_lost_total",
    "webhook_jobs_rescued_total",
    "webhook_breakers",
];
const BOTH: &[&str] = &[
    "webhook_build_info",
    "webhook_database_connections",
    "webhook_database_connections_max",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
];

type Counts = BTreeMap<Vec<String>, f64>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_of_all_processes_add_up_to_the_stores_counts() {
    let settings = [
        ("POSTRIDER_MAX_ATTEMPTS", "3"),
        ("POSTRIDER_RETRY_SCHEDULE", "50ms"),
        ("POSTRIDER_BREAKER_FAILURES", "0"),
    ];
    let deployment = Deployment::with(2, &settings).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/bad", Behaviour::Status(500));
    receiver.on("/flaky", Behaviour::sequence([500, 500, 200, 503, 200]));
    receiver.on("/gone", Behaviour::Sequence(vec![Behaviour::Status(200), Behaviour::Status(410)]));
    receiver.on("/later", Behaviour::Status(500));
    for (path, events) in [
        ("/good", &["*"][..]),
        ("/bad", &["order.paid"]),
        ("/flaky", &["order.created"]),
        ("/gone", &["order.*"]),
    ] {
        subscribe_with(api, json!({"url": receiver.url(path), "events": events})).await;
    }
    for (event, count) in [("order.created", 4), ("order.paid", 3), ("invoice.sent", 2)] {
        for _ in 0..count {
            dispatch(api, event).await;
        }
    }
    idle(api).await;
    cancel_two(&deployment, &receiver).await;
    // Repeats and rejected events are not counted.
    let repeat = json!({"event": "invoice.sent", "data": {}, "id": "once"});
    for _ in 0..2 {
        api.post("/v1/events", &repeat).await;
    }
    assert_eq!(api.post("/v1/events", &json!({"event": "a b", "data": {}})).await.0, 422);
    idle(api).await;

    let connection = deployment.database.connection();
    let all = settled(&deployment, &connection).await;
    assert_eq!(sums(&all, "webhook_events_total", &["event_type"]), events(&connection).await);
    assert_eq!(
        sums(&all, "webhook_deliveries_total", &["event_type", "status"]),
        outcomes(&connection).await
    );
    assert_eq!(sums(&all, "webhook_retry_count", &["attempt_number"]), retries(&connection).await);
    let attempts = count(&connection, &format!("SELECT count(*) AS count FROM {ATTEMPTS}")).await;
    assert_eq!(sums(&all, "webhook_delivery_duration_seconds_count", &[]), attempts);
    assert_eq!(sums(&all, "webhook_in_flight", &[]), Counts::new());
    assert_eq!(
        sums(&all, "webhook_subscribers_deactivated_total", &["reason"]),
        Counts::from([(vec!["gone".to_owned()], 1.0)])
    );
    agrees_with_stats(&deployment, &all).await;
    all_are_there(&all);
    for exposition in &all {
        promtool_finds_nothing(exposition).await;
    }
    deployment.stop().await;
}

/// Waits until the metrics of all processes agree with the store, and returns them: a worker counts outcomes a moment
/// after the API shows them, and measures the queue at intervals.
async fn settled(deployment: &Deployment, connection: &DatabaseConnection) -> Vec<Exposition> {
    let end = Instant::now() + DEADLINE;
    loop {
        let mut all = Vec::new();
        for member in deployment.members() {
            all.push(Exposition::of(&member.telemetry).await);
        }
        let agrees =
            sums(&all, "webhook_deliveries_total", &["event_type", "status"]) == outcomes(connection).await;
        let is_measured =
            all[1..].iter().all(|worker| from_the_start().all(|name| worker.names().contains(name)));
        if (agrees && is_measured) || Instant::now() > end {
            return all;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// One delivery is cancelled by id, and one by deactivating its subscriber.
async fn cancel_two(deployment: &Deployment, receiver: &Receiver) {
    let api = &deployment.api;
    let body = json!({"url": receiver.url("/later"), "events": ["refund"], "policy": {"schedule": ["1h"]}});
    let later = subscribe_with(api, body).await;
    let events = [dispatch(api, "refund").await, dispatch(api, "refund").await];
    receiver.wait_for_path("/later", 2, DEADLINE).await;
    let of_later = format!("/v1/deliveries?subscriber_id={}", text(&later["id"]));
    let delivery = eventually(DEADLINE, || async {
        let deliveries = list(api, &of_later).await;
        let attempted = deliveries.iter().all(|delivery| delivery["attempts"] == 1);
        attempted
            .then(|| deliveries.into_iter().find(|delivery| delivery["event_id"] == events[0]["id"]).unwrap())
    })
    .await;
    assert_eq!(
        api.post(&format!("/v1/deliveries/{}/cancel", text(&delivery["id"])), &json!({})).await.0,
        200
    );
    let path = format!("/v1/subscribers/{}/deactivate", text(&later["id"]));
    assert_eq!(api.post(&path, &json!({})).await.0, 200);
    idle(api).await;
    for status in list(api, &of_later).await.iter().map(|delivery| &delivery["status"]) {
        assert_eq!(status, "cancelled");
    }
}

async fn events(connection: &DatabaseConnection) -> Counts {
    count(connection, "SELECT event_type AS a, count(*) AS count FROM events GROUP BY 1").await
}

/// Failed attempts, and deliveries by final status.
async fn outcomes(connection: &DatabaseConnection) -> Counts {
    count(
        connection,
        "SELECT event_type AS a, CASE status WHEN 1 THEN 'succeeded' WHEN 2 THEN 'dead' WHEN 3 THEN 'cancelled' END AS b, \
            count(*) AS count FROM deliveries WHERE status > 0 GROUP BY 1, 2 \
        UNION ALL SELECT event_type, 'failed', count(*) \
            FROM attempts JOIN deliveries ON deliveries.id = attempts.delivery_id \
            WHERE attempts.error_kind IS NOT NULL GROUP BY 1",
    )
    .await
}

/// Scheduled retries by number of the next attempt: one after each failed attempt except a delivery's last.
async fn retries(connection: &DatabaseConnection) -> Counts {
    count(
        connection,
        "SELECT (attempts.number + 1)::text AS a, count(*) AS count \
            FROM attempts JOIN deliveries ON deliveries.id = attempts.delivery_id \
            WHERE attempts.error_kind IS NOT NULL AND (attempts.number < deliveries.attempts OR deliveries.status = 3) \
            GROUP BY 1",
    )
    .await
}

/// Counts by the columns `a` and, where there is one, `b`.
async fn count(connection: &DatabaseConnection, sql: &str) -> Counts {
    let rows = connection.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    let key = |row: &sea_orm::QueryResult| {
        ["a", "b"].into_iter().filter_map(|column| row.try_get::<String>("", column).ok()).collect::<Vec<_>>()
    };
    let as_number = |count: i64| f64::from(i32::try_from(count).unwrap());
    rows.iter().map(|row| (key(row), as_number(row.try_get("", "count").unwrap()))).collect()
}

/// The statistics of all tenants, including Postrider's own operator events.
async fn agrees_with_stats(deployment: &Deployment, all: &[Exposition]) {
    let operator = deployment.api.clone().with_header("x-tenant-id", "operator");
    let mut reported = sums(all, "webhook_deliveries_total", &["status"]);
    let (mine, theirs) = (read(&deployment.api, "/v1/stats").await, read(&operator, "/v1/stats").await);
    reported.retain(|status, _| *status != ["failed"]);
    let counted = ["cancelled", "dead", "succeeded"].map(|status| {
        let of_both = [&mine, &theirs].map(|stats| stats["deliveries"][status].as_f64().unwrap());
        (vec![status.to_owned()], of_both.iter().sum())
    });
    assert_eq!(reported, Counts::from(counted), "the counts differ, or one is zero");
    assert_eq!(mine["deliveries"]["pending"], 0);

    // The series agree, in each step and in total.
    let (mine, theirs) =
        (read(&deployment.api, "/v1/stats/series").await, read(&operator, "/v1/stats/series").await);
    let in_all =
        |name: &str| [&mine, &theirs].map(|series| series["total"][name].as_f64().unwrap()).iter().sum();
    let by_step = |name: &str| {
        let points = [&mine, &theirs].map(|series| series["points"].as_array().unwrap());
        points.into_iter().flatten().map(|point| point[name].as_f64().unwrap()).sum::<f64>()
    };
    for (name, metric, status) in [
        ("attempts", "webhook_delivery_duration_seconds_count", None),
        ("failed", "webhook_deliveries_total", Some("failed")),
        ("succeeded", "webhook_deliveries_total", Some("succeeded")),
    ] {
        let labels = status.map_or(&[][..], |_| &["status"]);
        let reported = sums(all, metric, labels)[&status.map(str::to_owned).into_iter().collect::<Vec<_>>()];
        assert_eq!((in_all(name), by_step(name)), (reported, reported), "{name}");
    }
}

fn all_are_there(all: &[Exposition]) {
    let missing = |names: &BTreeSet<&str>, wanted: &[&'static str]| {
        wanted.iter().filter(|name| !names.contains(*name)).copied().collect::<Vec<_>>()
    };
    let [server, workers @ ..] = all else { panic!("a server and its workers") };
    let none: Vec<&str> = Vec::new();
    assert_eq!(missing(&server.names(), &[SERVER, BOTH].concat()), none, "of the server");
    assert_eq!(server.names().iter().filter(|name| name.starts_with("webhook_queue")).count(), 0);
    // Which worker did what is random, so only metrics that exist from the start are checked.
    let of_workers: BTreeSet<_> = workers.iter().flat_map(Exposition::names).collect();
    assert_eq!(missing(&of_workers, &[WORKER, BOTH].concat()), none, "of the workers");
    for worker in workers {
        let from_the_start: Vec<_> = from_the_start().collect();
        assert_eq!(missing(&worker.names(), &from_the_start), none, "of each worker");
    }
}

/// The metrics that each worker exports once it has measured the queue, whatever it has delivered.
fn from_the_start() -> impl Iterator<Item = &'static str> {
    let on_delivery = ["webhook_deliveries_total", "webhook_retry_count", "webhook_in_flight"];
    WORKER.iter().copied().filter(move |name| !on_delivery.contains(name))
}

async fn promtool_finds_nothing(exposition: &Exposition) {
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match spawned {
        Ok(promtool) => promtool,
        Err(error) => {
            println!("skipped: cannot run promtool (Debian package prometheus): {error}");
            return;
        }
    };
    promtool.stdin.take().unwrap().write_all(exposition.text.as_bytes()).await.unwrap();
    let output = promtool.wait_with_output().await.unwrap();
    let found = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&found));
}
