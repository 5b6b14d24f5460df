use std::time::Duration;

use postrider_server::{Config, Shedding};
use postrider_testkit::eventually;
use serde_json::json;

use crate::api::TestServer;

const DEADLINE: Duration = Duration::from_secs(30);
const BODY: &str = r#"{"event":"a","data":{}}"#;

async fn server(shedding: Shedding) -> TestServer {
    TestServer::with(|config| Config { shedding, ..config }).await
}

async fn waits_for(server: &TestServer, status: u16) {
    eventually(DEADLINE, || async {
        let answer = server.api.post_raw("/v1/events", BODY).await;
        (answer.status == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn events_are_rejected_while_jobs_wait_too_long() {
    let server = server(Shedding { queue_age: Some(Duration::from_mins(1)), ..Shedding::default() }).await;
    server.subscriber(&["a"]).await;
    server.event("a").await;
    server.test_database.advance(Duration::from_mins(2)).await;
    waits_for(&server, 503).await;
    let stored = server.store.queue().depth().await.unwrap().ready;

    // Rejected before the body is read, so invalid events as well.
    for (path, body) in
        [("/v1/events", BODY), ("/v1/events/batch", r#"{"events":[]}"#), ("/v1/events", "nonsense")]
    {
        let answer = server.api.post_raw(path, body).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.text());
        assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()));
        assert_eq!(answer.json()["detail"], "too many deliveries are waiting; try again");
    }
    assert_eq!(server.without_key().post_raw("/v1/events", BODY).await.status, 401, "only who may know");
    // Other calls still work, so that an operator can find and fix the cause.
    server.subscriber(&["b"]).await;
    for path in ["/v1/events", "/v1/deliveries", "/v1/stats"] {
        assert_eq!(server.api.get(path).await.0, 200, "{path}");
    }
    assert_eq!(server.api.post("/v1/dead-letters/requeue", &json!({"all": true})).await.0, 202);
    assert_eq!(server.store.queue().depth().await.unwrap().ready, stored, "nothing was taken in");

    // A worker claims the old jobs.
    let token = postrider_queue::LeaseToken(server.store.ids().next_uuid());
    let claim = postrider_queue::Claim::new(token, 1_000, DEADLINE);
    server.store.queue().claim(&claim).await.unwrap();
    waits_for(&server, 202).await;
}

#[tokio::test]
async fn a_subscriber_that_delays_its_own_jobs_causes_no_rejections() {
    let age = Duration::from_mins(1);
    let server = server(Shedding { queue_age: Some(age), ..Shedding::default() }).await;
    let body = json!({"url": "http://127.0.0.1:9/", "events": ["slow"], "policy": {"concurrency": 1}});
    assert_eq!(server.api.post("/v1/subscribers", &body).await.0, 201);
    for _ in 0..3 {
        server.event("slow").await;
    }
    server.test_database.advance(2 * age).await;
    waits_for(&server, 503).await;
    // A worker has claimed one job, and the lane is full: the other jobs wait for it.
    let token = postrider_queue::LeaseToken(server.store.ids().next_uuid());
    let claim = postrider_queue::Claim::new(token, 1_000, DEADLINE);
    assert_eq!(server.store.queue().claim(&claim).await.unwrap().jobs.len(), 1);
    waits_for(&server, 202).await;
    let oldest = server.store.queue().depth().await.unwrap().oldest_ready;
    assert!(oldest.is_some_and(|oldest| oldest > age), "{oldest:?}");
}

#[tokio::test]
async fn events_are_rejected_while_the_database_is_slow() {
    let server = server(Shedding { latency: Some(Duration::from_millis(250)), ..Shedding::default() }).await;
    waits_for(&server, 202).await;
    // A slow transaction holds SQLite's only connection.
    let busy = server.database.begin().await.unwrap();
    let started = tokio::time::Instant::now();
    eventually(DEADLINE, || async {
        // This request may hang until the connection is free.
        let answer =
            tokio::time::timeout(Duration::from_millis(100), server.api.post_raw("/v1/events", BODY));
        answer.await.ok().filter(|answer| answer.status == 503)
    })
    .await;
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "it answers before the wait for a connection times out"
    );
    let answer = server.api.post_raw("/v1/events", BODY).await;
    assert_eq!(answer.json()["detail"], "the database is too slow; try again");
    drop(busy);
    waits_for(&server, 202).await;
}

#[tokio::test]
async fn events_are_never_rejected_by_default() {
    let server = TestServer::start().await;
    server.subscriber(&["a"]).await;
    server.event("a").await;
    server.test_database.advance(Duration::from_hours(24)).await;
    let (_, stats) = server.api.get("/v1/stats").await;
    assert!(stats["queue"]["oldest_ready_seconds"].as_f64().unwrap() > 86_000.0);
    tokio::time::sleep(Duration::from_millis(1500)).await; // Longer than from one look to the next.
    server.event("a").await;
}
