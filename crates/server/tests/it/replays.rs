//! Replays through the API.

use postrider_core::replay::ReplayStatus;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::api::{TestServer, fields};
use crate::keys::{acme, made};

/// Takes all steps of replays, as a worker would.
async fn work(server: &TestServer) {
    while let Some(step) = server.store.step_replays(None, server.dispatcher.filters()).await.unwrap() {
        assert_ne!(step.status, ReplayStatus::Paused);
    }
}

/// Ends all pending deliveries as dead letters.
async fn kill(server: &TestServer) {
    for sql in [
        "UPDATE deliveries SET status = 2, died_at = 1, dead_reason = 0, ended_at = 1 WHERE status = 0",
        "DELETE FROM jobs",
    ] {
        server.database.connection().execute_unprepared(sql).await.unwrap();
    }
}

async fn started(server: &TestServer, body: &Value) -> Value {
    let (status, replay) = server.api.post("/v1/replays", body).await;
    assert_eq!(status, 202, "{replay}");
    replay
}

#[tokio::test]
async fn a_replay_is_counted_started_and_followed() {
    let server = TestServer::start().await;
    let one = server.subscriber(&["a"]).await;
    let two = server.subscriber(&["*"]).await;
    for event in ["a", "a", "b"] {
        server.event(event).await;
    }
    kill(&server).await;
    server.event("a").await;
    let body = json!({"filter": {"event": "a"}, "mode": "dead", "dry_run": true});
    let (status, counted) = server.api.post("/v1/replays", &body).await;
    assert_eq!(status, 200, "{counted}");
    assert_eq!(
        (&counted["total"], &counted["complete"], &counted["seconds"]),
        (&json!(4), &json!(true), &json!(0))
    );
    let of: Vec<_> =
        counted["by_subscriber"].as_array().unwrap().iter().map(|of| &of["subscriber_id"]).collect();
    assert_eq!(of, [&one["id"], &two["id"]]);
    assert_eq!(server.api.get("/v1/replays").await.1["data"], json!([]), "nothing was started");

    let replay = started(&server, &json!({"filter": {"event": "a"}, "mode": "dead"})).await;
    assert_eq!(
        (&replay["status"], &replay["total"], &replay["frozen"]),
        (&json!("running"), &json!(4), &json!(true))
    );
    assert!(replay["id"].as_str().unwrap().starts_with("rpl_"), "{replay}");
    let path = format!("/v1/replays/{}", replay["id"].as_str().unwrap());
    assert_eq!(server.api.get(&path).await, (200, replay.clone()));
    assert_eq!(server.api.get("/v1/replays").await.1["data"], json!([replay]));

    let change = async |what: &str| server.api.post(&format!("{path}/{what}"), &json!({})).await;
    assert_eq!(change("pause").await.1["status"], "paused");
    work(&server).await;
    assert_eq!(server.api.get(&path).await.1["done"], 0);
    let (status, problem) = change("pause").await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(problem["detail"], "the replay is paused; it cannot be paused");
    assert_eq!(change("resume").await.1["status"], "running");
    work(&server).await;
    let (_, done) = server.api.get(&path).await;
    assert_eq!(
        (&done["status"], &done["done"], &done["failed"], &done["total"]),
        (&json!("done"), &json!(4), &json!(0), &json!(4))
    );
    assert!(done["ended_at"].is_string(), "{done}");
    assert_eq!(change("cancel").await.0, 409);
    let (_, pending) = server.api.get("/v1/deliveries?status=pending&event=a").await;
    assert_eq!(pending["data"].as_array().unwrap().len(), 6, "with those that were pending before");
}

#[tokio::test]
async fn missed_events_reach_who_came_later() {
    let server = TestServer::start().await;
    server.event("order.created").await;
    server.event("user.created").await;
    let body = json!({"url": "http://127.0.0.1:9/hook", "events": ["order.*"], "filter": "data.n == 1"});
    let (status, subscriber) = server.api.post("/v1/subscribers", &body).await;
    assert_eq!(status, 201, "{subscriber}");
    let body = json!({"url": "http://127.0.0.1:9/hook", "events": ["order.*"], "filter": "data.n == 2"});
    assert_eq!(server.api.post("/v1/subscribers", &body).await.0, 201);
    let (_, counted) =
        server.api.post("/v1/replays", &json!({"filter": {}, "mode": "missed", "dry_run": true})).await;
    assert_eq!(counted["total"], 1, "{counted}");
    let replay = started(&server, &json!({"filter": {}, "mode": "missed"})).await;
    assert_eq!(replay["total"], 1, "the filter of the other one lets nothing pass: {replay}");
    work(&server).await;
    let (_, page) = server.api.get("/v1/deliveries").await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(
        (&page["data"][0]["subscriber_id"], &page["data"][0]["event"], &page["data"][0]["status"]),
        (&subscriber["id"], &json!("order.created"), &json!("pending"))
    );
}

#[tokio::test]
async fn a_replay_says_what_is_wrong_with_it() {
    let server = TestServer::start().await;
    for (body, field) in [
        (json!({"mode": "dead"}), "filter"),
        (json!({"filter": {}}), "mode"),
        (json!({"filter": {}, "mode": "some"}), "mode"),
        (json!({"filter": {"color": "red"}, "mode": "all"}), "filter.color"),
        (json!({"filter": {"status": "succeeded"}, "mode": "dead"}), "filter.status"),
        (json!({"filter": {"status": "pending"}, "mode": "all"}), "filter.status"),
        (json!({"filter": {"status": "dead"}, "mode": "missed"}), "filter.status"),
        (json!({"filter": {"response_code": 42}, "mode": "all"}), "filter.response_code"),
        (json!({"filter": {"response_code": 500}, "mode": "missed"}), "filter.response_code"),
        (json!({"filter": {"since": "yesterday"}, "mode": "all"}), "filter.since"),
        (json!({"filter": {"subscriber_id": "nobody"}, "mode": "all"}), "subscriber_id"),
    ] {
        let (status, problem) = server.api.post("/v1/replays", &body).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{body}: {problem}");
    }
    assert_eq!(server.api.get("/v1/replays").await.1["data"], json!([]));
    assert_eq!(server.api.get("/v1/replays/rpl_01h455vb4pex5vsknk084sn02q").await.0, 404);
}

#[tokio::test]
async fn replays_are_bounded_and_apart() {
    let server = TestServer::start().await;
    let (acme_api, _) = made(&server, &server.api, &acme(&["tenant_admin"])).await;
    let subscriber = json!({"url": "http://127.0.0.1:9/hook", "events": ["*"]});
    let (_, subscriber) = acme_api.post("/v1/subscribers", &subscriber).await;
    acme_api.post("/v1/events", &json!({"event": "a", "data": {}})).await;
    kill(&server).await;
    let body = json!({"filter": {}, "mode": "dead"});
    let mut statuses = Vec::new();
    for _ in 0..11 {
        statuses.push(acme_api.post("/v1/replays", &body).await.0);
    }
    assert_eq!(statuses, [vec![202; 10], vec![409]].concat());
    let other = json!({"name": "n", "tenant": "other", "scopes": ["tenant_admin"]});
    let (other, _) = made(&server, &server.api, &other).await;
    assert_eq!(other.get("/v1/replays").await.1["data"], json!([]));
    let (status, empty) = other.post("/v1/replays", &body).await;
    assert_eq!((status, &empty["status"], &empty["total"]), (202, &json!("done"), &json!(0)));
    let mut limited = acme(&["tenant_admin"]);
    limited["limits"] = json!({"subscriber_ids": [subscriber["id"]]});
    let (limited, _) = made(&server, &server.api, &limited).await;
    assert_eq!(limited.post("/v1/replays", &body).await.0, 409);
    assert_eq!(limited.get("/v1/replays").await.1["data"], json!([]), "those that name its subscriber");
    let (reader, _) = made(&server, &server.api, &acme(&["deliveries:read"])).await;
    assert_eq!(reader.get("/v1/replays").await.1["data"].as_array().unwrap().len(), 10);
    assert_eq!(reader.post("/v1/replays", &body).await.1["needs"], "replays:write");
}

#[tokio::test]
async fn pending_deliveries_that_match_are_cancelled() {
    let server = TestServer::start().await;
    server.subscriber(&["*"]).await;
    for event in ["a", "a", "b"] {
        server.event(event).await;
    }
    let filter = json!({"event": "a", "status": "pending"});
    let path = "/v1/deliveries/cancel";
    let (status, counted) = server.api.post(path, &json!({"filter": filter, "dry_run": true})).await;
    assert_eq!(
        (status, &counted["total"], &counted["complete"]),
        (200, &json!(2), &json!(true)),
        "{counted}"
    );
    assert_eq!(server.api.get("/v1/replays").await.1["data"], json!([]), "nothing was started");

    let (status, job) = server.api.post(path, &json!({"filter": filter})).await;
    assert_eq!(status, 202, "{job}");
    assert_eq!((&job["mode"], &job["total"], &job["frozen"]), (&json!("cancel"), &json!(2), &json!(true)));
    let of = format!("/v1/replays/{}", job["id"].as_str().unwrap());
    assert_eq!(server.api.post(&format!("{of}/pause"), &json!({})).await.1["status"], "paused");
    work(&server).await;
    assert_eq!(server.api.get(&of).await.1["done"], 0);
    assert_eq!(server.api.post(&format!("{of}/resume"), &json!({})).await.0, 200);
    work(&server).await;
    let (_, done) = server.api.get(&of).await;
    assert_eq!((&done["status"], &done["done"], &done["failed"]), (&json!("done"), &json!(2), &json!(0)));
    let (_, cancelled) = server.api.get("/v1/deliveries?status=cancelled").await;
    let types: Vec<_> = cancelled["data"].as_array().unwrap().iter().map(|one| &one["event"]).collect();
    assert_eq!(types, ["a", "a"]);
    let (_, audit) = server.api.get("/v1/audit?action=replay.started").await;
    assert_eq!(audit["data"][0]["after"]["mode"], "cancel", "{audit}");

    for status in ["dead", "succeeded", "cancelled"] {
        let (status, problem) = server.api.post(path, &json!({"filter": {"status": status}})).await;
        assert_eq!((status, fields(&problem)), (422, vec!["filter.status"]), "{problem}");
    }
    let (status, problem) = server.api.post("/v1/replays", &json!({"filter": {}, "mode": "cancel"})).await;
    assert_eq!((status, fields(&problem)), (422, vec!["mode"]), "{problem}");
}
