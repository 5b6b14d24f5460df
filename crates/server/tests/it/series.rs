//! `GET /v1/stats/series`: what came of attempts, step by step.

use std::time::Duration;

use postrider_core::{Clock as _, DeadReason, ErrorKind, Timestamp, Verdict};
use postrider_queue::{Claim, LeaseToken};
use postrider_store::attempt::{Attempt, End, Outcome, Response};
use postrider_store::health::BreakerPolicy;
use postrider_store::loading::Loaded;
use serde_json::{Value, json};

use crate::api::{TestServer, fields};

/// Attempts all ready deliveries: those of `a.fails` fail, the others succeed.
async fn attempt(server: &TestServer, started_at: Timestamp) {
    let store = &server.store;
    let token = LeaseToken(store.ids().next_uuid());
    let claimed = store.queue().claim(&Claim::new(token, 100, Duration::from_mins(1))).await.unwrap();
    let loaded = store.load(&claimed.jobs).await.unwrap();
    let outcomes: Vec<_> = claimed
        .jobs
        .iter()
        .zip(loaded)
        .map(|(job, loaded)| {
            let Loaded::Deliver(work) = loaded else { panic!("{loaded:?}") };
            let fails = work.delivery.event_type.as_str() == "a.fails";
            let response = (!fails).then(|| Response {
                status: 200,
                headers: Vec::new(),
                body: "".into(),
                truncated: false,
            });
            let attempt = Attempt {
                started_at,
                duration: Duration::from_millis(12),
                response,
                verdict: if fails {
                    Verdict::failure(ErrorKind::TimeoutHeaders, "too slow")
                } else {
                    Verdict::Success
                },
                exchange: None,
            };
            let end = if fails { End::Dead(DeadReason::AttemptsUsedUp) } else { End::Succeeded };
            Outcome { lease: job.lease, delivery: work.delivery, attempt: Some(attempt), end }
        })
        .collect();
    store.record(&outcomes, &[], &BreakerPolicy::default()).await.unwrap();
}

async fn get(server: &TestServer, query: &str) -> Value {
    let (status, series) = server.api.get(&format!("/v1/stats/series?{query}")).await;
    assert_eq!(status, 200, "{query}: {series}");
    series
}

#[tokio::test]
async fn a_series_counts_attempts_by_step_and_outcome() {
    let server = TestServer::start().await;
    let all = server.subscriber(&["*"]).await;
    let other = server.subscriber(&["a.b"]).await;
    for event in ["a.b", "a.b", "a.fails"] {
        server.event(event).await;
    }
    // The attempts began at the start of an earlier hour, so that no test crosses the end of a minute.
    let now = server.store.ids().clock().now().seconds();
    let start = now - now % 3600 - 3600;
    attempt(&server, Timestamp::from_seconds(start + 60)).await;

    let span = format!("from={start}&to={}", start + 180);
    for folded in [false, true] {
        if folded {
            assert!(server.store.fold_statistics().await.unwrap().deltas > 0);
        }
        let series = get(&server, &span).await;
        assert_eq!(series["step_seconds"], 60);
        assert_eq!(series["points"].as_array().unwrap().len(), 3);
        let took = json!({"p50": 12, "p95": 12, "p99": 12});
        let none = json!({"p50": null, "p95": null, "p99": null});
        let point = &series["points"][1];
        assert_eq!(point["attempts"], 5, "{series}");
        assert_eq!((&point["succeeded"], &point["failed"]), (&json!(4), &json!(1)));
        assert_eq!(point["failed_by_kind"], json!({"timeout_headers": 1}));
        assert_eq!((&point["duration_ms"], &point["latency_ms"]), (&took, &none));
        let nothing = &series["points"][2];
        assert_eq!((&nothing["attempts"], &nothing["failed_by_kind"]), (&json!(0), &json!({})));
        assert_eq!(nothing["duration_ms"], none);
        assert_eq!((&series["total"]["attempts"], &series["total"]["duration_ms"]), (&json!(5), &took));

        for (query, attempts) in [
            (format!("{span}&subscriber_id={}", all["id"].as_str().unwrap()), 3),
            (format!("{span}&subscriber_id={}", other["id"].as_str().unwrap()), 2),
            (format!("{span}&event=a.b"), 4),
            (format!("{span}&event=a"), 0),
            // The step is a day.
            (format!("{span}&subscriber_id={}&event=a.fails", all["id"].as_str().unwrap()), 1),
            (format!("{span}&step=1d&subscriber_id={}&event=a.b", all["id"].as_str().unwrap()), 2),
            (format!("{span}&step=3m"), 5),
            (format!("from={start}&to={}&step=1h", start + 7200), 5),
            (format!("from={}&to={start}", start - 3600), 0),
        ] {
            assert_eq!(get(&server, &query).await["total"]["attempts"], attempts, "{query}");
        }
        let foreign = server.tenant("other").get(&format!("/v1/stats/series?{span}")).await;
        assert_eq!((foreign.0, &foreign.1["total"]["attempts"]), (200, &json!(0)));
    }
}

#[tokio::test]
async fn steps_are_whole_and_cover_the_last_hour_by_default() {
    let server = TestServer::start().await;
    let series = get(&server, "").await;
    let points = series["points"].as_array().unwrap();
    assert!((60..=61).contains(&points.len()), "{}", points.len());
    assert_eq!(points[0]["at"], series["from"]);

    let now = server.store.ids().clock().now().seconds();
    let day = now - now % 86_400;
    let series = get(&server, &format!("from={}&to={}&step=6h", day - 86_399, day - 1)).await;
    assert_eq!(series["points"].as_array().unwrap().len(), 4);
    for end in ["from", "to"] {
        assert!(series[end].as_str().unwrap().ends_with("T00:00:00.000Z"), "{series}");
    }
    // The maximum number of steps, and one more.
    let to = now - now % 60;
    let most = get(&server, &format!("from={}&to={to}", to - 1500 * 60)).await;
    assert_eq!(most["points"].as_array().unwrap().len(), 1500);
    let (status, problem) =
        server.api.get(&format!("/v1/stats/series?from={}&to={to}", to - 1501 * 60)).await;
    assert_eq!((status, fields(&problem)), (422, vec!["step"]));
}
