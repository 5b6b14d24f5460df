use std::time::Duration;

use http::Method;
use postrider_core::DeadReason;
use postrider_queue::{Claim, LeaseToken};
use postrider_store::attempt::{Attempt, End, Outcome, Response};
use postrider_store::health::BreakerPolicy;
use postrider_store::loading::Loaded;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::api::{TestServer, fields};

pub(crate) const USED_UP: End = End::Dead(DeadReason::AttemptsUsedUp);

/// Ends all pending deliveries after one attempt each.
pub(crate) async fn end_all(server: &TestServer, end: End) {
    let store = &server.store;
    loop {
        let claim = Claim::new(LeaseToken(store.ids().next_uuid()), 100, Duration::from_mins(1));
        let jobs = store.queue().claim(&claim).await.unwrap().jobs;
        if jobs.is_empty() {
            return;
        }
        let loaded = store.load(&jobs).await.unwrap();
        let outcomes: Vec<_> = jobs
            .iter()
            .zip(loaded)
            .map(|(job, loaded)| {
                let Loaded::Deliver(work) = loaded else { panic!("{loaded:?}") };
                let response = Response { status: 500, headers: vec![], body: "no".into(), truncated: false };
                let attempt = Attempt {
                    started_at: work.delivery.created_at,
                    duration: Duration::from_millis(1),
                    response: Some(response),
                    verdict: postrider_core::Verdict::Success,
                    exchange: None,
                };
                Outcome { lease: job.lease, delivery: work.delivery, attempt: Some(attempt), end }
            })
            .collect();
        let recorded = store.record(&outcomes, &[], &BreakerPolicy::default()).await.unwrap();
        assert!(recorded.lost.is_empty());
    }
}

async fn ids(server: &TestServer, query: &str) -> Vec<String> {
    let (status, page) = server.api.get(&format!("/v1/dead-letters{query}")).await;
    assert_eq!(status, 200, "{query}: {page}");
    page["data"].as_array().unwrap().iter().map(|dead| dead["id"].as_str().unwrap().to_owned()).collect()
}

/// What the audit trail has of an action, newest first.
async fn audited(server: &TestServer, action: &str) -> Vec<Value> {
    let (_, page) = server.api.get(&format!("/v1/audit?action={action}")).await;
    page["data"].as_array().unwrap().clone()
}

async fn requeue(server: &TestServer, body: &Value) -> Value {
    let (status, answer) = server.api.post("/v1/dead-letters/requeue", body).await;
    assert_eq!(status, 202, "{body}: {answer}");
    answer
}

fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

#[tokio::test]
async fn dead_letters_are_filtered() {
    let server = TestServer::start().await;
    let one = server.subscriber(&["a", "b"]).await;
    let two = server.subscriber(&["b"]).await;
    server.event("a").await;
    end_all(&server, USED_UP).await;
    server.event("b").await;
    end_all(&server, End::Dead(DeadReason::RescuedTooOften)).await;
    server.event("b").await;
    end_all(&server, End::Succeeded).await;
    let (_, page) = server.api.get("/v1/dead-letters").await;
    assert_eq!(page["data"][2]["dead_reason"], "attempts_used_up");
    assert_eq!(
        (&page["data"][0]["status"], &page["data"][0]["response_code"]),
        (&json!("dead"), &json!(500))
    );
    for (query, count) in [
        (String::new(), 3),
        (format!("?subscriber_id={}", id(&one)), 2),
        (format!("?subscriber_id={}&event=b", id(&two)), 1),
        ("?event=a".to_owned(), 1),
        ("?reason=rescued_too_often".to_owned(), 2),
        ("?reason=gone".to_owned(), 0),
        ("?since=2020-01-01T00:00:00Z".to_owned(), 3),
        ("?until=2020-01-01T00:00:00Z".to_owned(), 0),
        ("?limit=2".to_owned(), 2),
    ] {
        assert_eq!(ids(&server, &query).await.len(), count, "{query}");
    }
    let (_, first) = server.api.get("/v1/dead-letters?limit=2").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(ids(&server, &format!("?limit=2&cursor={cursor}")).await, ids(&server, "?event=a").await);
    let (status, problem) = server.api.get("/v1/dead-letters?reason=bored").await;
    assert_eq!((status, fields(&problem)), (422, vec!["reason"]));
    let (_, foreign) = server.tenant("other").get("/v1/dead-letters").await;
    assert_eq!(foreign["data"], json!([]), "tenants are apart");
}

#[tokio::test]
async fn dead_letters_are_requeued_once() {
    let server = TestServer::start().await;
    let one = server.subscriber(&["a"]).await;
    server.subscriber(&["b"]).await;
    for event in ["a", "a", "a", "b", "b"] {
        server.event(event).await;
    }
    end_all(&server, USED_UP).await;
    let a = ids(&server, "?event=a").await;
    let none = json!({"requeued": 0, "without_payload": 0, "more": false});
    let (_, answer) = server.tenant("other").post("/v1/dead-letters/requeue", &json!({"ids": [a[0]]})).await;
    assert_eq!(answer, none, "tenants are apart");
    for (body, requeued) in [
        (json!({"until": "2020-01-01T00:00:00Z"}), 0),
        (json!({"ids": []}), 0),
        (json!({"ids": [a[0], a[0]]}), 1),
        (json!({"ids": [a[0]]}), 0),
        (json!({"ids": [a[1]], "event": "b"}), 0),
        (json!({"subscriber_id": id(&one), "since": "2020-01-01T00:00:00Z"}), 2),
        (json!({"all": true}), 2),
        (json!({"all": true}), 0),
    ] {
        assert_eq!(
            requeue(&server, &body).await,
            json!({"requeued": requeued, "without_payload": 0, "more": false}),
            "{body}"
        );
    }
    assert_eq!(ids(&server, "").await, [""; 0]);
    let noted = audited(&server, "dead_letters.requeued").await;
    assert_eq!(noted.len(), 3, "one for each call that has requeued something: {noted:#?}");
    assert_eq!((&noted[0]["after"], &noted[1]["target"]), (&json!({"requeued": 2}), &one["id"]));
    let (_, counted) = server.api.get("/v1/stats").await;
    assert_eq!((&counted["deliveries"]["pending"], &counted["deliveries"]["dead"]), (&json!(5), &json!(0)));
    assert_eq!(counted["queue"]["ready"], 5, "one job each");
    for (body, field) in [
        (json!({"ids": ["dlv_nonsense"]}), "ids[0]"),
        (json!({"ids": vec![&a[0]; 1001]}), "ids"),
        (json!({"since": "yesterday"}), "since"),
        (json!({"keep_attempts": "yes"}), "keep_attempts"),
        (json!({"everything": true}), "everything"),
        (json!({}), "all"),
        (json!({"all": false}), "all"),
        (json!({"subscriber_id": null, "ids": null}), "all"),
        (json!({"keep_attempts": true}), "all"),
        (json!({"all": true, "event": "a"}), "all"),
    ] {
        let (status, problem) = server.api.post("/v1/dead-letters/requeue", &body).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{problem}");
    }
    // An empty body is an empty object.
    assert_eq!(fields(&server.api.post_raw("/v1/dead-letters/requeue", "").await.json()), ["all"]);
}

/// Multiplies the only dead letter.
async fn multiply(server: &TestServer, times: u32) {
    let sql = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < {times}) \
        INSERT INTO deliveries (id, tenant, event_type, subscriber_id, status, attempts, round_start, \
            dead_reason, created_at, died_at, ended_at) \
        SELECT randomblob(16), tenant, event_type, subscriber_id, status, attempts, round_start, \
            dead_reason, created_at, died_at, ended_at FROM deliveries, numbers"
    );
    server.database.connection().execute_unprepared(&sql).await.unwrap();
}

#[tokio::test]
async fn one_call_requeues_at_most_ten_thousand_dead_letters() {
    let server = TestServer::start().await;
    let one = server.subscriber(&["a"]).await;
    server.event("a").await;
    end_all(&server, USED_UP).await;
    multiply(&server, 20_003).await;
    assert_eq!(
        requeue(&server, &json!({"all": true})).await,
        json!({"requeued": 10_000, "without_payload": 0, "more": true})
    );
    let recover = format!("/v1/subscribers/{}/recover", id(&one));
    let since = json!({"since": "2020-01-01T00:00:00Z"});
    for (requeued, more) in [(10_000, true), (3, false)] {
        let (status, answer) = server.api.post(&recover, &since).await;
        assert_eq!(
            (status, answer),
            (202, json!({"requeued": requeued, "without_payload": 0, "more": more}))
        );
    }
    assert_eq!(server.store.queue().depth().await.unwrap().ready, 20_003, "one job each");
}

#[tokio::test]
async fn a_requeued_delivery_keeps_its_attempts() {
    let server = TestServer::start().await;
    server.subscriber(&["a"]).await;
    let event = server.event("a").await;
    for keep_attempts in [false, true] {
        end_all(&server, USED_UP).await;
        let dead = ids(&server, "").await;
        assert_eq!(
            requeue(&server, &json!({"all": true, "keep_attempts": keep_attempts})).await["requeued"],
            1
        );
        let (_, now) = server.api.get(&format!("/v1/deliveries/{}", dead[0])).await;
        assert_eq!((&now["status"], &now["dead_reason"]), (&json!("pending"), &json!(null)));
        assert_eq!(now["event_id"], event["id"]);
    }
    end_all(&server, USED_UP).await;
    let dead = ids(&server, "").await;
    let (_, attempts) = server.api.get(&format!("/v1/deliveries/{}/attempts", dead[0])).await;
    assert_eq!(attempts["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn only_a_dead_letter_can_be_deleted() {
    let server = TestServer::start().await;
    server.subscriber(&["a"]).await;
    server.event("a").await;
    let (_, page) = server.api.get("/v1/deliveries").await;
    let id = id(&page["data"][0]).to_owned();
    let delete = async || server.api.delete(&format!("/v1/dead-letters/{id}")).await;
    let (status, problem) = delete().await;
    assert_eq!((status, &problem["title"]), (409, &json!("Conflict")), "it is pending: {problem}");
    end_all(&server, USED_UP).await;
    let foreign = server.tenant("other").delete(&format!("/v1/dead-letters/{id}")).await;
    assert_eq!(foreign.0, 404);
    let answer = server.api.send(Method::DELETE, &format!("/v1/dead-letters/{id}"), &[], "").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(delete().await.0, 404);
    let noted = audited(&server, "dead_letter.deleted").await;
    assert_eq!((noted.len(), &noted[0]["target"]), (1, &json!(id)), "{noted:#?}");
    assert_eq!(server.api.get(&format!("/v1/deliveries/{id}")).await.0, 404);
    assert_eq!(server.api.delete("/v1/dead-letters/nonsense").await.0, 404);
    assert_eq!(requeue(&server, &json!({"ids": [id]})).await["requeued"], 0);
}

#[tokio::test]
async fn recovering_a_subscriber_requeues_the_dead_letters_of_a_time_span() {
    let server = TestServer::start().await;
    let one = server.subscriber(&["*"]).await;
    server.subscriber(&["*"]).await;
    server.event("a").await;
    end_all(&server, USED_UP).await;
    server.test_database.advance(Duration::from_hours(2)).await;
    let early = server.event("a").await;
    server.event("b").await;
    end_all(&server, USED_UP).await;
    let recover = async |subscriber: &str, body: Value| {
        server.api.post(&format!("/v1/subscribers/{subscriber}/recover"), &body).await
    };
    let an_hour_ago = early["timestamp"].as_i64().unwrap() - 3_600;
    let ages_ago = an_hour_ago - 86_400;

    let (status, problem) = recover(id(&one), json!({})).await;
    assert_eq!((status, fields(&problem)), (422, vec!["since"]), "{problem}");
    assert_eq!(recover("sub_01h455vb4pex5vsknk084sn02q", json!({"since": ages_ago})).await.0, 404);
    let path = format!("/v1/subscribers/{}", id(&one));
    server.api.post(&format!("{path}/deactivate"), &json!({})).await;
    let (status, problem) = recover(id(&one), json!({"since": ages_ago})).await;
    assert_eq!(status, 409, "an inactive subscriber cannot recover: {problem}");
    assert_eq!(ids(&server, &format!("?subscriber_id={}", id(&one))).await.len(), 3, "nothing is lost");
    server.api.post(&format!("{path}/activate"), &json!({})).await;

    let none = json!({"requeued": 0, "without_payload": 0, "more": false});
    assert_eq!(
        recover(id(&one), json!({"since": ages_ago, "until": ages_ago + 1})).await,
        (202, none.clone())
    );
    let two = json!({"requeued": 2, "without_payload": 0, "more": false});
    assert_eq!(recover(id(&one), json!({"since": an_hour_ago})).await, (202, two));
    assert_eq!(recover(id(&one), json!({"since": an_hour_ago})).await, (202, none));
    let one_more = json!({"requeued": 1, "without_payload": 0, "more": false});
    assert_eq!(recover(id(&one), json!({"since": ages_ago, "until": an_hour_ago})).await, (202, one_more));
    assert_eq!(ids(&server, "").await.len(), 3, "the other subscriber's");
    assert_eq!(audited(&server, "dead_letters.requeued").await.len(), 2);
}

#[tokio::test]
async fn a_delivery_that_has_ended_can_be_retried() {
    let server = TestServer::start().await;
    server.subscriber(&["a"]).await;
    for end in [End::Succeeded, USED_UP, End::Cancelled] {
        let event = server.event("a").await;
        end_all(&server, end).await;
        let (_, page) = server.api.get(&format!("/v1/deliveries?event_id={}", id(&event))).await;
        let before = page["data"][0].clone();
        let path = format!("/v1/deliveries/{}/retry", id(&before));
        let (status, now) = server.api.post(&path, &json!({})).await;
        assert_eq!((status, &now["status"]), (202, &json!("pending")), "{now}");
        assert_eq!(now["event_id"], event["id"], "it is the same webhook-id");
        assert_ne!(now["job_id"], before["job_id"]);
        assert_eq!(server.api.post(&path, &json!({})).await.0, 409, "once");
        end_all(&server, End::Succeeded).await;
    }
    let (_, stats) = server.api.get("/v1/stats").await;
    assert_eq!(stats["deliveries"]["succeeded"], 3, "each counts once");
    assert_eq!(stats["deliveries"]["avg_attempts"], 2.0);
}
