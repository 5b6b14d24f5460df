//! Programs under a low limit of file descriptors: they say so, and keep enough for the database and for deliveries.

use std::time::Duration;

use postrider_testkit::{Behaviour, Receiver, TestDatabase, eventually};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::json;
use tokio::net::TcpStream;

use crate::client::{attempts, idle, list, subscribe_with};
use crate::deployment::{DEADLINE, Deployment, Member, program};

#[tokio::test]
async fn idle_clients_leave_a_server_descriptors_for_its_database() {
    let database = TestDatabase::postgres().await;
    let server = program("postrider-server", database.url(), &[]).with_descriptors(160);
    let server = Member::start(&server).await;
    let warning =
        server.process.wait_for_line(|line| line.contains("too few file descriptors"), DEADLINE).await;
    for part in ["allowed=160", "wanted=4216", "connections: 4096 -> 102"] {
        assert!(warning.contains(part), "{warning}");
    }
    let api = server.api().await;
    let event = json!({"event": "a", "data": {}});
    assert_eq!(api.post("/v1/events", &event).await.0, 202);

    let address = server.api_address().await;
    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    // New connections to the database take descriptors again.
    let sql = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'postrider-2'";
    let ended = database.connection().query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
    assert!(!ended.unwrap().is_empty());
    eventually(Duration::from_secs(10), async || {
        (api.post("/v1/events", &event).await.0 == 202).then_some(())
    })
    .await;
    // A load balancer sends new clients to other servers.
    let all_taken = json!({"status": "unready", "reason": "all places for connections are taken"});
    assert_eq!(server.telemetry.get("/readyz").await, (503, all_taken));
    assert_eq!(server.process.stderr().iter().filter(|line| line.contains("accept failed")).count(), 0);
    drop(idle);
    server.stop().await;
}

#[tokio::test]
async fn a_worker_attempts_no_more_at_once_than_it_has_descriptors_for() {
    const EVENTS: usize = 150;
    let mut deployment = Deployment::start(0).await;
    let receiver = Receiver::start().await;
    receiver.on("/hook", Behaviour::Status(200).after(Duration::from_millis(500)));
    let policy = json!({"concurrency": EVENTS});
    subscribe_with(&deployment.api, json!({"url": receiver.url("/hook"), "events": ["*"], "policy": policy}))
        .await;
    for _ in 0..EVENTS / 50 {
        let events = vec![json!({"event": "a", "data": {}}); 50];
        assert_eq!(deployment.api.post("/v1/events/batch", &json!({"events": events})).await.0, 202);
    }
    let worker = program("postrider-worker", deployment.database.url(), &[]).with_descriptors(128);
    let worker = Member::start(&worker).await;
    let warning =
        worker.process.wait_for_line(|line| line.contains("too few file descriptors"), DEADLINE).await;
    assert!(warning.contains("POSTRIDER_CONCURRENCY: 512 -> "), "{warning}");
    deployment.workers.push(worker);
    idle(&deployment.api).await;
    for delivery in list(&deployment.api, &format!("/v1/deliveries?limit={EVENTS}")).await {
        let attempts = attempts(&deployment.api, &delivery).await;
        assert_eq!((&delivery["status"], attempts.len()), (&json!("succeeded"), 1), "{attempts:?}");
    }
    deployment.stop().await;
}
