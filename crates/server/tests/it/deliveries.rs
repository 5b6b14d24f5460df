use postrider_core::ErrorKind;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::api::TestServer;

#[tokio::test]
async fn deliveries_are_filtered() {
    let server = TestServer::start().await;
    let one = server.subscriber(&["a"]).await;
    let two = server.subscriber(&["*"]).await;
    let (a, b) = (server.event("a").await, server.event("b").await);
    let id = |value: &serde_json::Value| value["id"].as_str().unwrap().to_owned();
    let tomorrow = a["timestamp"].as_i64().unwrap() + 86_400;
    for (query, count) in [
        (String::new(), 3),
        (format!("subscriber_id={}", id(&one)), 1),
        (format!("subscriber_id={}&event=b", id(&two)), 1),
        (format!("event_id={}", id(&a)), 2),
        (format!("event_id={}", id(&b)), 1),
        ("event=a".to_owned(), 2),
        ("event=c".to_owned(), 0),
        ("status=pending".to_owned(), 3),
        ("status=dead".to_owned(), 0),
        ("response_code=500".to_owned(), 0),
        ("since=2020-01-01T00:00:00Z".to_owned(), 3),
        (format!("since={tomorrow}"), 0),
        (format!("until={tomorrow}"), 3),
        ("until=2020-01-01T00:00:00%2B01:00".to_owned(), 0),
    ] {
        let (status, page) = server.api.get(&format!("/v1/deliveries?{query}")).await;
        assert_eq!(status, 200, "{query}: {page}");
        assert_eq!(page["data"].as_array().unwrap().len(), count, "{query}: {page}");
    }
    let (_, page) = server.api.get("/v1/deliveries?limit=2").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let (_, rest) = server.api.get(&format!("/v1/deliveries?limit=2&cursor={cursor}")).await;
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &json!(null)));
}

#[tokio::test]
async fn a_delivery_is_cancelled_once_and_retried_once() {
    let server = TestServer::start().await;
    server.subscriber(&["*"]).await;
    server.event("a").await;
    let (_, page) = server.api.get("/v1/deliveries").await;
    let path = format!("/v1/deliveries/{}", page["data"][0]["id"].as_str().unwrap());
    assert_eq!(
        server.api.get(&format!("{path}/attempts")).await,
        (200, json!({"data": [], "next_cursor": null}))
    );

    let (status, problem) = server.api.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!(status, 409, "it is pending: {problem}");
    let (status, cancelled) = server.api.post(&format!("{path}/cancel"), &json!({})).await;
    assert_eq!((status, &cancelled["status"]), (200, &json!("cancelled")), "{cancelled}");
    assert!(cancelled["ended_at"].is_string());
    assert_eq!(server.api.post(&format!("{path}/cancel"), &json!({})).await.0, 409);
    assert_eq!(server.api.get(&path).await, (200, cancelled));

    let (status, retried) = server.api.post(&format!("{path}/retry"), &json!({})).await;
    assert_eq!(
        (status, &retried["status"], &retried["ended_at"]),
        (202, &json!("pending"), &json!(null)),
        "{retried}"
    );
    assert_eq!(server.api.post(&format!("{path}/retry"), &json!({})).await.0, 409);
}

#[tokio::test]
async fn dead_letters_are_the_dead_deliveries() {
    let server = TestServer::start().await;
    server.subscriber(&["*"]).await;
    server.event("a").await;
    assert_eq!(server.api.get("/v1/dead-letters").await, (200, json!({"data": [], "next_cursor": null})));
}

#[tokio::test]
async fn stats_count_deliveries_and_subscribers() {
    let server = TestServer::start().await;
    let nothing = server.api.get("/v1/stats").await;
    assert_eq!(
        nothing,
        (
            200,
            json!({
                "subscribers": {"total": 0, "active": 0},
                "deliveries": {"total": 0, "pending": 0, "succeeded": 0, "dead": 0, "cancelled": 0,
                    "avg_attempts": null, "success_rate": null},
                "latency_ms": {"p50": null, "p95": null, "p99": null},
                "queue": {"ready": 0, "scheduled": 0, "held": 0, "running": 0, "oldest_ready_seconds": 0.0},
            })
        )
    );
    let subscriber = server.subscriber(&["*"]).await;
    let off = server.subscriber(&["*"]).await;
    server.api.post(&format!("/v1/subscribers/{}/deactivate", off["id"].as_str().unwrap()), &json!({})).await;
    server.event("a").await;
    server.event("b").await;
    let (_, stats) = server.api.get("/v1/stats").await;
    assert_eq!(stats["subscribers"], json!({"total": 2, "active": 1}));
    assert_eq!((&stats["deliveries"]["total"], &stats["deliveries"]["pending"]), (&json!(2), &json!(2)));
    assert_eq!(stats["queue"]["ready"], 2);
    for (query, total) in [
        ("event=a".to_owned(), 1),
        ("event=c".to_owned(), 0),
        (format!("subscriber_id={}", subscriber["id"].as_str().unwrap()), 2),
        ("since=4000000000".to_owned(), 0),
    ] {
        let (_, stats) = server.api.get(&format!("/v1/stats?{query}")).await;
        assert_eq!(stats["deliveries"]["total"], total, "{query}");
    }
}

/// A receiver answered each of 200 attempts with headers and a body of 20 kB.
#[tokio::test]
async fn pages_of_attempts_are_bounded_in_bytes() {
    let server = TestServer::start().await;
    server.subscriber(&["*"]).await;
    server.event("a").await;
    let sql =
        "INSERT INTO attempts (id, tenant, delivery_id, number, started_at, duration_us, response_status,
            response_headers, response_body, response_truncated)
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200)
        SELECT unhex(printf('%032x', n)), tenant, id, n, n, n, 500,
            CAST('[[\"x\",\"' || printf('%.*c', 16000, 'h') || '\"]]' AS BLOB), zeroblob(4096), false
        FROM deliveries, numbers";
    server.database.connection().execute_unprepared(sql).await.unwrap();
    let (_, deliveries) = server.api.get("/v1/deliveries").await;
    let path = format!("/v1/deliveries/{}/attempts", deliveries["data"][0]["id"].as_str().unwrap());

    let (mut numbers, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = server.api.get(&format!("{path}?limit=250{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        // Each of the body's bytes is six in JSON.
        assert!(page.to_string().len() < 3 * 1024 * 1024, "{}", page.to_string().len());
        numbers.extend(
            page["data"].as_array().unwrap().iter().map(|attempt| attempt["number"].as_i64().unwrap()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(numbers, (1..=200).rev().collect::<Vec<_>>());
    assert_eq!(server.api.get(&format!("{path}?limit=0")).await.0, 422);
    assert_eq!(server.api.get(&format!("{path}?cursor=dlv_01h455vb4pex5vsknk084sn02q")).await.0, 422);
}

#[tokio::test]
async fn a_failed_attempt_has_advice_and_a_successful_one_none() {
    let server = TestServer::start().await;
    server.subscriber(&["*"]).await;
    server.event("a").await;
    let sql = "INSERT INTO attempts (id, tenant, delivery_id, number, started_at, duration_us, response_status,
            response_headers, response_body, response_truncated, error_kind, error_detail)
        SELECT unhex(printf('%032x', 1)), tenant, id, 1, 1, 1, NULL, NULL, NULL, false, 1, 'x' FROM deliveries
        UNION ALL
        SELECT unhex(printf('%032x', 2)), tenant, id, 2, 2, 1, 200, NULL, NULL, false, NULL, NULL FROM deliveries";
    server.database.connection().execute_unprepared(sql).await.unwrap();
    let (_, deliveries) = server.api.get("/v1/deliveries").await;
    let path = format!("/v1/deliveries/{}/attempts", deliveries["data"][0]["id"].as_str().unwrap());
    let (status, page) = server.api.get(&path).await;
    assert_eq!(status, 200, "{page}");
    let advice: Vec<_> = page["data"].as_array().unwrap().iter().map(|attempt| &attempt["advice"]).collect();
    assert_eq!(advice, [&json!(null), &json!(ErrorKind::Dns.advice())]);
}

#[test]
fn the_documented_advice_is_the_same() {
    let docs = include_str!("../../../../docs/operations.md");
    let section =
        docs.split("## What an attempt's error means").nth(1).unwrap().split("\n## ").next().unwrap();
    let found: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<_> =
        ErrorKind::ALL.iter().map(|kind| format!("| `{kind}` | {} |", kind.advice())).collect();
    assert_eq!(found, expected);
}
