//! Keys through the API.

use std::time::Duration;

use http::Method;
use postrider_core::key::{KeyKind, NewKey};
use postrider_testkit::{Api, eventually};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::api::{TestServer, fields};

/// A client with a new key, made by `maker`, and what the API says about the key.
pub(crate) async fn made(server: &TestServer, maker: &Api, request: &Value) -> (Api, Value) {
    let (status, created) = maker.post("/v1/keys", request).await;
    assert_eq!(status, 201, "{created}");
    (server.with_key(created["key"].as_str().unwrap()), created)
}

/// The request for a key of `acme` with these scopes.
pub(crate) fn acme(scopes: &[&str]) -> Value {
    json!({"name": "test", "tenant": "acme", "scopes": scopes})
}

#[tokio::test]
async fn a_key_is_created_changed_shown_and_revoked() {
    let server = TestServer::start().await;
    let request = json!({
        "name": "shop", "tenant": "acme", "scopes": ["publisher", "events:read"],
        "limits": {"event_types": ["order.*"], "cidrs": ["127.0.0.0/8"], "requests_per_second": 100},
        "expires_at": "2100-01-01T00:00:00.000Z",
    });
    let (api, created) = made(&server, &server.api, &request).await;
    let text = created["key"].as_str().unwrap();
    let id = created["id"].as_str().unwrap();
    assert!(text.starts_with(&format!("prk_{}_", &id[4..])) && text.len() == 80, "{text}");
    assert_eq!(created["scopes"], json!(["events:write", "events:read", "types:read"]));
    assert_eq!(created["created_by"], "environment");
    let limits = json!({
        "event_types": ["order.*"], "subscriber_ids": [], "cidrs": ["127.0.0.0/8"],
        "requests_per_second": 100, "burst": 100
    });
    assert_eq!(created["limits"], limits);
    let mut view = created.clone();
    view.as_object_mut().unwrap().remove("key");
    let path = format!("/v1/keys/{id}");
    assert_eq!(server.api.get(&path).await, (200, view.clone()), "without its text");
    assert_eq!(server.api.get("/v1/keys").await.1["data"], json!([view]));
    assert_eq!(server.api.get("/v1/tenants/acme").await.0, 200, "its tenant is registered");

    assert_eq!(api.post("/v1/events", &json!({"event": "order.created", "data": {}})).await.0, 202);
    let change = json!({"name": "shop 2", "scopes": ["observer"], "limits": {"event_types": null}, "expires_at": null});
    let (status, changed) = server.api.patch(&path, &change).await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!((&changed["name"], &changed["expires_at"]), (&json!("shop 2"), &json!(null)));
    assert_eq!(changed["limits"]["event_types"], json!([]));
    assert_eq!(changed["limits"]["cidrs"], json!(["127.0.0.0/8"]), "members are changed one by one");
    let (status, problem) = api.post("/v1/events", &json!({"event": "order.created", "data": {}})).await;
    assert_eq!((status, &problem["needs"]), (403, &json!("events:write")), "at once, here");

    assert_eq!(server.api.delete(&path).await.0, 204);
    assert_eq!(server.api.delete(&path).await.0, 204, "repeating does no harm");
    let (status, problem) = api.get("/v1/subscribers").await;
    assert_eq!((status, &problem["detail"]), (401, &json!("the key was revoked")));
    assert_ne!(server.api.get(&path).await.1["revoked_at"], json!(null));
    assert_eq!(server.api.patch(&path, &json!({"name": "x"})).await.0, 409);
    assert_eq!(server.api.post(&format!("{path}/rotate"), &json!({})).await.0, 409);
}

#[tokio::test]
async fn every_wrong_field_of_a_key_is_named() {
    let server = TestServer::start().await;
    let wrong = json!({
        "name": "", "tenant": "No Tenant", "scopes": ["events:write", "everything"],
        "limits": {
            "event_types": ["order*"], "subscriber_ids": ["evt_1"], "cidrs": ["10.0.0.0/8", "x"],
            "requests_per_second": 0,
        },
    });
    let (status, problem) = server.api.post("/v1/keys", &wrong).await;
    assert_eq!(status, 422, "{problem}");
    let all = [
        "name",
        "tenant",
        "scopes[1]",
        "limits.event_types[0]",
        "limits.subscriber_ids[0]",
        "limits.cidrs[1]",
        "limits.requests_per_second",
    ];
    assert_eq!(fields(&problem), all);
    for (body, field) in [
        (json!({"name": "n", "scopes": ["publisher"]}), "tenant"),
        (json!({"name": "n", "tenant": "acme"}), "scopes"),
        (json!({"name": "n", "tenant": "acme", "scopes": []}), "scopes"),
        (json!({"name": "n", "tenant": "acme", "scopes": ["tenants:manage"]}), "scopes"),
        (json!({"name": "n", "tenant": "acme", "scopes": ["operator"]}), "scopes"),
        (json!({"name": "n\u{0}", "tenant": "acme", "scopes": ["publisher"]}), "name"),
        (
            json!({"name": "n", "tenant": "acme", "scopes": ["publisher"], "limits": {"burst": 1}}),
            "limits.burst",
        ),
        (json!({"name": "n", "tenant": "acme", "scopes": ["publisher"], "key": "mine"}), "key"),
    ] {
        let (status, problem) = server.api.post("/v1/keys", &body).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{body}: {problem}");
    }
    assert_eq!(server.api.get("/v1/keys").await.1["data"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn a_key_gives_no_more_than_it_has() {
    let server = TestServer::start().await;
    let mut request = acme(&["keys:manage", "events:write", "events:read"]);
    request["limits"] = json!({"event_types": ["order.*"], "requests_per_second": 1000});
    request["expires_at"] = json!("2100-01-01T00:00:00Z");
    let (api, created) = made(&server, &server.api, &request).await;
    let limits = json!({"event_types": ["order.created"], "requests_per_second": 10});
    let weaker = json!({"name": "n", "scopes": ["events:write"], "limits": limits, "expires_at": "2099-01-01T00:00:00Z"});
    let (_, made_by_key) = made(&server, &api, &weaker).await;
    assert_eq!((&made_by_key["tenant"], &made_by_key["created_by"]), (&json!("acme"), &created["id"]));
    for (field, value) in [
        ("tenant", json!("other")),
        ("tenant", json!("*")),
        ("scopes", json!(["events:write", "payloads:read"])),
        ("limits.event_types", json!(["*"])),
        ("limits.requests_per_second", json!(1001)),
        ("limits.requests_per_second", json!(null)),
        ("expires_at", json!("2100-01-01T00:00:01Z")),
        ("expires_at", json!(null)),
    ] {
        let mut request = weaker.clone();
        match field.strip_prefix("limits.") {
            Some(member) => request["limits"][member] = value.clone(),
            None => request[field] = value.clone(),
        }
        let (status, problem) = api.post("/v1/keys", &request).await;
        assert_eq!((status, fields(&problem)), (403, vec![field]), "{request}: {problem}");
        if field != "tenant" {
            let change = match field.strip_prefix("limits.") {
                Some(member) => json!({"limits": {member: value}}),
                None => json!({field: value}),
            };
            let path = format!("/v1/keys/{}", made_by_key["id"].as_str().unwrap());
            let (status, problem) = api.patch(&path, &change).await;
            assert_eq!((status, fields(&problem)), (403, vec![field]), "{change}: {problem}");
        }
    }
    // Rotating would show the text of a stronger key.
    let (_, stronger) = made(&server, &server.api, &acme(&["tenant_admin"])).await;
    let path = format!("/v1/keys/{}/rotate", stronger["id"].as_str().unwrap());
    assert_eq!(api.post(&path, &json!({})).await.0, 403);
}

#[tokio::test]
async fn a_rotated_key_keeps_its_id_and_both_texts_work_during_the_overlap() {
    let server = TestServer::start().await;
    let (old, created) = made(&server, &server.api, &acme(&["observer"])).await;
    let path = format!("/v1/keys/{}/rotate", created["id"].as_str().unwrap());
    let (status, rotated) = server.api.post(&path, &json!({"overlap_seconds": 60})).await;
    assert_eq!(status, 200, "{rotated}");
    assert_eq!(rotated["id"], created["id"]);
    let new = server.with_key(rotated["key"].as_str().unwrap());
    for api in [&old, &new] {
        assert_eq!(api.get("/v1/events").await.0, 200);
    }
    let (status, last) = server.api.post(&path, &json!({"overlap_seconds": 0})).await;
    assert_eq!(status, 200, "{last}");
    assert_eq!(old.get("/v1/events").await.0, 200, "its own overlap goes on");
    assert_eq!(new.get("/v1/events").await.0, 401);
    assert_eq!(server.with_key(last["key"].as_str().unwrap()).get("/v1/events").await.0, 200);
    let (status, problem) = server.api.post(&path, &json!({"overlap_seconds": 2_592_001})).await;
    assert_eq!((status, fields(&problem)), (422, vec!["overlap_seconds"]));
}

#[tokio::test]
async fn another_server_hears_of_a_revocation_within_five_seconds() {
    let server = TestServer::start().await;
    let other = TestServer::beside(&server).await;
    let (_, created) = made(&server, &server.api, &acme(&["observer"])).await;
    let api = other.with_key(created["key"].as_str().unwrap());
    assert_eq!(api.get("/v1/events").await.0, 200);
    let path = format!("/v1/keys/{}", created["id"].as_str().unwrap());
    assert_eq!(server.api.delete(&path).await.0, 204);
    let revoked = std::time::Instant::now();
    let refused = || async { (api.get("/v1/events").await.0 == 401).then_some(()) };
    eventually(Duration::from_secs(10), refused).await;
    assert!(revoked.elapsed() < Duration::from_millis(5_500), "{:?}", revoked.elapsed());
}

#[tokio::test]
async fn an_operators_key_acts_for_the_deployment_or_for_a_tenant() {
    let server = TestServer::start().await;
    let operator = json!({"name": "root", "tenant": "*", "scopes": ["operator"]});
    let (api, created) = made(&server, &server.api, &operator).await;
    assert!(created["key"].as_str().unwrap().starts_with("pro_"));
    let (_, of_acme) = made(&server, &api, &acme(&["observer"])).await;
    let (_, of_other) =
        made(&server, &api, &json!({"name": "n", "tenant": "other", "scopes": ["observer"]})).await;
    let ids = |page: &Value| -> Vec<Value> {
        page["data"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
    };
    let all = [&of_other["id"], &of_acme["id"], &created["id"]].map(Clone::clone);
    assert_eq!(ids(&api.get("/v1/keys").await.1), all);
    let as_acme = api.clone().with_header("x-tenant-id", "acme");
    assert_eq!(ids(&as_acme.get("/v1/keys").await.1), [of_acme["id"].clone()]);
    let (status, own) = as_acme.post("/v1/keys", &json!({"name": "n", "scopes": ["observer"]})).await;
    assert_eq!((status, &own["tenant"]), (201, &json!("acme")));
    for foreign in [&of_other, &created] {
        let path = format!("/v1/keys/{}", foreign["id"].as_str().unwrap());
        assert_eq!(as_acme.get(&path).await.0, 404);
        assert_eq!(as_acme.delete(&path).await.0, 404);
    }
    assert_eq!(as_acme.post("/v1/keys", &operator).await.0, 403);
    assert_eq!(ids(&as_acme.get("/v1/tenants").await.1), [json!("acme")]);
    assert_eq!(as_acme.get("/v1/tenants/other").await.0, 404);
    assert_eq!(as_acme.post("/v1/tenants", &json!({"id": "third"})).await.0, 403);
    assert_eq!(api.get("/v1/tenants/other").await.0, 200);
    // Elsewhere an operator acts for `default`.
    assert_eq!(api.post("/v1/events", &json!({"event": "order.created", "data": {}})).await.0, 202);
    assert_eq!(ids(&server.tenant("default").get("/v1/events").await.1).len(), 1);
    assert_eq!(ids(&as_acme.get("/v1/events").await.1).len(), 0);
}

#[tokio::test]
async fn payloads_are_hidden_from_a_key_that_may_not_read_them() {
    let server = TestServer::start().await;
    let (api, _) = made(&server, &server.api, &acme(&["integrator"])).await;
    let (support, _) = made(&server, &server.api, &acme(&["support"])).await;
    let event = json!({"event": "order.created", "data": {"secret": "swordfish"}});
    let (_, dispatched) = api.post("/v1/events", &event).await;
    let path = format!("/v1/events/{}", dispatched["id"].as_str().unwrap());
    let (_, shown) = api.get(&path).await;
    assert_eq!((&shown["data"], shown.get("payload")), (&event["data"], None));
    let (status, hidden) = support.get(&path).await;
    assert_eq!((status, &hidden["data"], &hidden["payload"]), (200, &json!(null), &json!("hidden")));
    assert_eq!(hidden["event"], "order.created");
    assert_eq!(api.delete(&format!("{path}/payload")).await.0, 204);
    assert_eq!(support.get(&path).await.1["payload"], "erased");
}

#[tokio::test]
async fn the_queue_of_the_deployment_is_not_for_tenants() {
    let server = TestServer::start().await;
    let (api, _) = made(&server, &server.api, &acme(&["observer"])).await;
    let (status, answer) = api.get("/v1/stats").await;
    assert_eq!((status, &answer["queue"]), (200, &json!(null)), "{answer}");
    assert!(server.api.get("/v1/stats").await.1["queue"].is_object());
}

#[tokio::test]
async fn a_known_key_costs_no_round_trip() {
    let server = TestServer::start().await;
    let (api, created) = made(&server, &server.api, &acme(&["observer"])).await;
    let unknown = NewKey::generate(KeyKind::Tenant, server.store.ids());
    let unknown = server.with_key(unknown.expose());
    assert_eq!((api.get("/v1/events").await.0, unknown.get("/v1/events").await.0), (200, 401));
    let connection = server.store.database().connection();
    connection.execute_unprepared("ALTER TABLE api_keys RENAME TO moved").await.unwrap();
    for _ in 0..10 {
        assert_eq!((api.get("/v1/events").await.0, unknown.get("/v1/events").await.0), (200, 401));
    }
    let path = format!("/v1/keys/{}", created["id"].as_str().unwrap());
    assert_eq!(server.api.get(&path).await.0, 500, "the table is away");
    assert_eq!(server.api.get("/v1/events").await.0, 200, "the key in the environment needs no table");
}

#[tokio::test]
async fn the_last_use_of_a_key_is_noted() {
    let server = TestServer::start().await;
    let (api, created) = made(&server, &server.api, &acme(&["observer"])).await;
    assert_eq!(created["last_used_at"], json!(null));
    assert_eq!(api.get("/v1/events").await.0, 200);
    let path = format!("/v1/keys/{}", created["id"].as_str().unwrap());
    let noted = || async {
        let (_, key) = server.api.get(&path).await;
        key["last_used_at"].as_str().map(str::to_owned)
    };
    let noted = eventually(Duration::from_secs(30), noted).await;
    assert!(noted.ends_with(":00.000Z"), "to the minute: {noted}");
}

#[tokio::test]
async fn the_second_key_of_the_environment_is_accepted() {
    let (old, new) = ("o".repeat(32), "n".repeat(32));
    let keys = format!("{old},{new}").parse().unwrap();
    let server = TestServer::with(|config| postrider_server::Config { admin_keys: keys, ..config }).await;
    for key in [&old, &new] {
        assert_eq!(server.with_key(key).get("/v1/events").await.0, 200);
    }
    assert_eq!(server.with_key(&format!("{old},{new}")).get("/v1/events").await.0, 401);
    let answer = server.without_key().send(Method::GET, "/v1/events", &[], "").await;
    assert_eq!(answer.status, 401);
}
