//! The audit trail through the API.

use std::collections::BTreeSet;

use http::Method;
use postrider_core::TenantId;
use postrider_core::replay::ReplayMode;
use postrider_server::Config;
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::replays::Started;
use serde_json::{Value, json};

use crate::api::TestServer;
use crate::keys::{acme, made};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn trail(server: &TestServer, query: &str) -> Vec<Value> {
    let (status, page) = server.api.get(&format!("/v1/audit{query}")).await;
    assert_eq!(status, 200, "{page}");
    page["data"].as_array().unwrap().clone()
}

/// The example of the description.
fn plugin() -> Value {
    let api: Value = serde_json::from_str(&postrider_server::openapi_json()).unwrap();
    api["components"]["schemas"]["PluginRequest"]["example"].clone()
}

/// Every call that changes something leaves a row, and with an `Idempotency-Key` only one. The calls are those of the description, which is made from the routes'
/// own list: a call that is missing here fails the test.
#[tokio::test]
async fn every_change_is_in_the_audit_trail() {
    let portal_url = Some("http://127.0.0.1".to_owned());
    let server =
        TestServer::with(|config| Config { sandbox: true, console: true, portal_url, ..config }).await;
    let sandbox = server.api.post("/v1/sandboxes", &json!({})).await.1["id"].as_str().unwrap().to_owned();
    let subscriber = server.subscriber(&["order.*"]).await;
    let subscriber = subscriber["id"].as_str().unwrap();
    let event = server.event("order.created").await["id"].as_str().unwrap().to_owned();
    let delivery = server.api.get("/v1/deliveries").await.1["data"][0]["id"].as_str().unwrap().to_owned();
    let (_, key) = made(&server, &server.api, &acme(&["observer"])).await;
    let key = key["id"].as_str().unwrap();
    server.api.post("/v1/tenants", &json!({"id": "third"})).await;
    // Nobody takes a step of it.
    let all = DeliveryFilter::default();
    let replay = server.store.start_replay(&TenantId::default(), ReplayMode::All, &all).await.unwrap();
    let Started::Replay(replay) = replay else { panic!("too many replays") };
    let replay = &*replay.id.to_string();
    let new_subscriber = json!({"url": "http://127.0.0.1:9/", "events": ["*"]});
    // In an order in which each of them succeeds. Dispatched events are on record themselves.
    let calls = [
        ("POST /v1/subscribers", "", new_subscriber.clone(), "subscriber.created"),
        ("PATCH /v1/subscribers/{id}", subscriber, json!({"description": "x"}), "subscriber.changed"),
        ("PUT /v1/subscribers/{id}", subscriber, new_subscriber.clone(), "subscriber.changed"),
        ("GET /v1/subscribers/{id}/secret", subscriber, json!(null), "secret.read"),
        ("POST /v1/subscribers/{id}/secret/rotate", subscriber, json!({}), "secret.rotated"),
        ("POST /v1/deliveries/{id}/cancel", &*delivery, json!(null), "delivery.cancelled"),
        ("POST /v1/deliveries/{id}/retry", &*delivery, json!(null), "delivery.retried"),
        ("DELETE /v1/events/{id}/payload", &*event, json!(null), "payload.erased"),
        ("POST /v1/subscribers/{id}/pause", subscriber, json!(null), "subscriber.changed"),
        ("POST /v1/subscribers/{id}/resume", subscriber, json!(null), "subscriber.changed"),
        ("POST /v1/subscribers/{id}/deactivate", subscriber, json!(null), "subscriber.changed"),
        ("POST /v1/subscribers/{id}/activate", subscriber, json!(null), "subscriber.changed"),
        ("DELETE /v1/subscribers/{id}", subscriber, json!(null), "subscriber.deleted"),
        ("POST /v1/replays", "", json!({"filter": {}, "mode": "all"}), "replay.started"),
        ("POST /v1/deliveries/cancel", "", json!({"filter": {}}), "replay.started"),
        ("POST /v1/replays/{id}/pause", replay, json!(null), "replay.paused"),
        ("POST /v1/replays/{id}/resume", replay, json!(null), "replay.resumed"),
        ("POST /v1/replays/{id}/cancel", replay, json!(null), "replay.cancelled"),
        ("POST /v1/tenants", "", json!({"id": "fourth"}), "tenant.registered"),
        ("PATCH /v1/tenants/{id}", "third", json!({"name": "x"}), "tenant.changed"),
        ("DELETE /v1/tenants/{id}", "third", json!(null), "tenant.deleted"),
        ("POST /v1/event-types", "", json!({"name": "a.b"}), "event_type.changed"),
        ("PUT /v1/event-types/{name}", "a.b", json!({}), "event_type.changed"),
        ("PATCH /v1/event-types/{name}", "a.b", json!({"group": "x"}), "event_type.changed"),
        ("DELETE /v1/event-types/{name}", "a.b", json!(null), "event_type.deleted"),
        ("POST /v1/event-types/import", "", json!({"webhooks": {"a.b": {"post": {}}}}), "event_type.changed"),
        ("POST /v1/plugins", "", plugin(), "plugin.added"),
        ("DELETE /v1/plugins/{name}", "empty", json!(null), "plugin.removed"),
        ("POST /v1/sandboxes", "", json!({"script": [503, 200]}), "sandbox.created"),
        ("DELETE /v1/sandboxes/{id}", &*sandbox, json!(null), "sandbox.deleted"),
        ("POST /v1/listeners", "", json!({}), "subscriber.created"),
        ("POST /v1/portal/links", "", json!({}), "portal_link.created"),
        ("POST /v1/keys", "", acme(&["observer"]), "key.created"),
        ("PATCH /v1/keys/{id}", key, json!({"name": "x"}), "key.changed"),
        ("POST /v1/keys/{id}/rotate", key, json!({}), "key.rotated"),
        ("DELETE /v1/keys/{id}", key, json!(null), "key.revoked"),
    ];
    // They need dead letters, and have a test of their own.
    let elsewhere = [
        "POST /v1/dead-letters/requeue",
        "DELETE /v1/dead-letters/{id}",
        "POST /v1/subscribers/{id}/recover",
        // It deletes a subscriber.
        "DELETE /v1/listeners/{id}",
    ];
    let events = ["POST /v1/events", "POST /v1/events/batch", "POST /v1/subscribers/{id}/test"];
    // The answer of a listener is in the attempt.
    let reads = ["POST /v1/event-types/infer", "POST /v1/simulate", "POST /v1/listeners/{id}/answers"];
    let mut expected = BTreeSet::new();
    for (call, id, body, action) in calls {
        let (method, path) = call.split_once(' ').unwrap();
        let path = path.replace("{id}", id).replace("{name}", id);
        let before = trail(&server, "").await;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [JSON, ("x-request-id", "my-request"), ("idempotency-key", call)];
        let answer = server.api.send(method.parse().unwrap(), &path, &headers, body.clone()).await;
        assert!((200..300).contains(&answer.status), "{call}: {}", answer.text());
        let after = trail(&server, "").await;
        assert_eq!(after.len(), before.len() + 1, "{call} leaves one row: {after:#?}");
        let row = &after[0];
        assert_eq!((&row["action"], &row["request_id"]), (&json!(action), &json!("my-request")), "{call}");
        assert_eq!((&row["actor"], &row["address"]), (&json!("environment"), &json!("127.0.0.1")), "{call}");
        if !id.is_empty() {
            assert_eq!(row["target"], id, "{call}");
        }
        expected.insert(call.to_owned());
        if method == "POST" {
            let repeated = server.api.send(method.parse().unwrap(), &path, &headers, body).await;
            assert_eq!((repeated.status, repeated.text()), (answer.status, answer.text()), "{call} repeated");
            assert_eq!(repeated.header("idempotency-replayed"), Some("true"), "{call}");
            assert_eq!(trail(&server, "").await.len(), after.len(), "{call} was done once");
        }
    }
    let api: Value = serde_json::from_str(&postrider_server::openapi_json()).unwrap();
    for (path, item) in api["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|method| *method != "get") {
            let call = format!("{} {path}", method.to_ascii_uppercase());
            let known = expected.contains(&call)
                || elsewhere.contains(&&*call)
                || events.contains(&&*call)
                || reads.contains(&&*call);
            assert!(known, "{call}: does it leave a row in the audit trail?");
        }
    }
}

#[tokio::test]
async fn what_failed_is_not_in_the_audit_trail() {
    let server = TestServer::start().await;
    let body = json!({"url": "http://127.0.0.1:9/", "events": ["not a pattern"]});
    assert_eq!(server.api.post("/v1/subscribers", &body).await.0, 422);
    assert_eq!(server.api.delete("/v1/subscribers/sub_01h455vb4pex5vsknk084sn02q").await.0, 404);
    assert_eq!(server.api.get("/v1/subscribers/sub_01h455vb4pex5vsknk084sn02q/secret").await.0, 404);
    let (lacking, _) = made(&server, &server.api, &acme(&["observer"])).await;
    let body = json!({"url": "http://127.0.0.1:9/", "events": ["*"]});
    assert_eq!(lacking.post("/v1/subscribers", &body).await.0, 403);
    let rows = trail(&server, "").await;
    assert_eq!(rows.len(), 1, "only the key: {rows:#?}");
}

#[tokio::test]
async fn the_audit_trail_names_keys_and_is_filtered() {
    let server = TestServer::start().await;
    let (api, key) = made(&server, &server.api, &acme(&["tenant_admin"])).await;
    let body = json!({"url": "http://127.0.0.1:9/", "events": ["*"], "secret": "correct horse battery", "headers": {"x-token": "swordfish"}});
    let (_, subscriber) = api.post("/v1/subscribers", &body).await;
    let (_, own) = api.get("/v1/audit").await;
    let rows = own["data"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{own}");
    assert_eq!((&rows[0]["actor"], &rows[0]["actor_name"]), (&key["id"], &json!("test")));
    assert_eq!((&rows[0]["tenant"], &rows[0]["target"]), (&json!("acme"), &subscriber["id"]));
    let text = own.to_string();
    assert!(!text.contains("horse") && !text.contains("swordfish"), "{text}");
    let secret = &key["key"].as_str().unwrap()[31..];
    assert!(!text.contains(secret), "{text}");

    server.subscriber(&["*"]).await;
    assert_eq!(api.get("/v1/audit").await.1, own, "of another tenant nothing is seen");
    assert_eq!(trail(&server, "").await.len(), 3);
    for (query, count) in [
        ("?actor=environment", 2),
        ("?action=subscriber.created", 2),
        ("?action=key.created&actor=environment", 1),
        (&*format!("?target={}", subscriber["id"].as_str().unwrap()), 1),
        ("?since=2026-01-01T00:00:00Z", 3),
        ("?until=2026-01-01T00:00:00Z", 0),
        ("?limit=2", 2),
    ] {
        assert_eq!(trail(&server, query).await.len(), count, "{query}");
    }
    let as_acme = server.tenant("acme").get("/v1/audit").await.1;
    assert_eq!(as_acme, own, "an operator who acts for a tenant sees its trail");
    for wrong in ["?action=nonsense", "?since=soon", "?color=red"] {
        assert_eq!(server.api.get(&format!("/v1/audit{wrong}")).await.0, 422, "{wrong}");
    }
}

#[tokio::test]
async fn operators_get_events_of_the_audit_trail_if_they_have_subscribed() {
    let server = TestServer::start().await;
    let operator = server.tenant("operator");
    server.subscriber(&["*"]).await;
    assert_eq!(operator.get("/v1/events").await.1["data"], json!([]), "nobody has subscribed");
    let body = json!({"url": "http://127.0.0.1:9/", "events": ["audit.*"]});
    assert_eq!(operator.post("/v1/subscribers", &body).await.0, 201);
    let (_, key) = made(&server, &server.api, &acme(&["observer"])).await;
    let (_, events) = operator.get("/v1/events?event=audit.key.created").await;
    let event = events["data"][0]["id"].as_str().unwrap();
    let (_, event) = operator.get(&format!("/v1/events/{event}")).await;
    assert_eq!(event["data"], trail(&server, "?action=key.created").await[0]);
    assert_eq!(event["data"]["target"], key["id"]);
    assert_eq!(event["deliveries"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn reading_payloads_is_audited_if_a_setting_asks_for_it() {
    for audit_payloads in [false, true] {
        let server = TestServer::with(|config| Config { audit_payloads, ..config }).await;
        let event = server.event("order.created").await;
        let path = format!("/v1/events/{}", event["id"].as_str().unwrap());
        assert_eq!(server.api.get(&path).await.0, 200);
        let (hidden, _) =
            made(&server, &server.api, &json!({"name": "n", "tenant": "default", "scopes": ["observer"]}))
                .await;
        assert_eq!(hidden.get(&path).await.0, 200);
        let rows = trail(&server, "?action=payload.read").await;
        assert_eq!(rows.len(), usize::from(audit_payloads), "what is hidden was not read: {rows:?}");
        assert!(rows.iter().all(|row| row["target"] == event["id"]));
    }
}

#[tokio::test]
async fn a_head_request_reads_nothing_unnoticed() {
    let server = TestServer::start().await;
    let subscriber = server.subscriber(&["*"]).await;
    let path = format!("/v1/subscribers/{}/secret", subscriber["id"].as_str().unwrap());
    let answer = server.api.send(Method::HEAD, &path, &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(trail(&server, "?action=secret.read").await.len(), 1);
}
