use std::time::Duration;

use postrider_core::{Clock as _, ErrorKind, Verdict};
use postrider_queue::{Claim, LeaseToken};
use postrider_store::attempt::{Attempt, End, Outcome};
use postrider_store::health::BreakerPolicy;
use postrider_store::loading::Loaded;
use serde_json::{Value, json};

use crate::api::TestServer;

/// Lets all ready deliveries fail, with a retry in an hour.
async fn fail_all(server: &TestServer) {
    let store = &server.store;
    let claim = Claim::new(LeaseToken(store.ids().next_uuid()), 100, Duration::from_mins(1));
    let jobs = store.queue().claim(&claim).await.unwrap().jobs;
    let outcome = |(job, loaded): (&postrider_queue::ClaimedJob, Loaded)| {
        let Loaded::Deliver(work) = loaded else { panic!("{loaded:?}") };
        let attempt = Attempt {
            started_at: store.ids().clock().now(),
            duration: Duration::from_millis(1),
            response: None,
            verdict: Verdict::failure(ErrorKind::Connect, "nobody there"),
            exchange: None,
        };
        let end = End::RetryIn(Duration::from_hours(1));
        Outcome { lease: job.lease, delivery: work.delivery, attempt: Some(attempt), end }
    };
    let loaded = store.load(&jobs).await.unwrap();
    let outcomes: Vec<_> = jobs.iter().zip(loaded).map(outcome).collect();
    store.record(&outcomes, &[], &BreakerPolicy::default()).await.unwrap();
}

#[tokio::test]
async fn a_subscriber_shows_each_state_of_its_circuit_breaker() {
    let server = TestServer::start().await;
    let created = server.subscriber(&["a"]).await;
    let path = format!("/v1/subscribers/{}", created["id"].as_str().unwrap());
    let breaker = async || server.api.get(&path).await.1["breaker"].take();
    let closed = json!({"state": "closed", "failures": 0, "failing_since": null, "open_until": null});
    assert_eq!(breaker().await, closed);
    for failures in [4, 10] {
        for _ in 0..if failures == 4 { 4 } else { 6 } {
            server.event("a").await;
        }
        fail_all(&server).await;
        let now = breaker().await;
        let state = if failures == 4 { "closed" } else { "open" };
        assert_eq!((&now["state"], &now["failures"]), (&json!(state), &json!(failures)), "{now}");
        assert_eq!((now["failing_since"].is_string(), now["open_until"].is_string()), (true, failures == 10));
    }
    server.test_database.advance(Duration::from_secs(30)).await;
    let half_open = breaker().await;
    assert_eq!((&half_open["state"], &half_open["open_until"]), (&json!("half_open"), &Value::Null));
    // An operator activates the subscriber.
    assert_eq!(server.api.post(&format!("{path}/activate"), &json!({})).await.0, 200);
    assert_eq!(breaker().await, closed);
}
