//! Event types: registered, changed, and compared with events.

use std::time::Duration;

use postrider_testkit::eventually;
use serde_json::{Value, json};

use crate::api::{TestServer, fields};
use crate::keys::{acme, made};

fn order() -> Value {
    json!({
        "type": "object", "required": ["id"],
        "properties": {"id": {"type": "string"}, "lines": {"type": "array", "items": {"type": "integer"}}},
    })
}

fn event(event_type: &str, data: &Value) -> Value {
    json!({"event": event_type, "data": data})
}

#[tokio::test]
async fn an_event_type_is_registered_changed_and_deleted() {
    let server = TestServer::start().await;
    let wanted = json!({
        "name": "order.paid", "description": "An order is paid", "group": "orders", "schema": order(), "example": {"id": "o1"},
        "mode": "warn",
    });
    let (status, created) = server.api.post("/v1/event-types", &wanted).await;
    assert_eq!(status, 201, "{created}");
    for (field, value) in wanted.as_object().unwrap() {
        assert_eq!(&created[field], value, "{field}");
    }
    assert_eq!((&created["registered"], &created["deprecated"]), (&json!("deployment"), &json!(false)));
    assert_eq!(server.api.post("/v1/event-types", &wanted).await.0, 409, "it is registered");
    assert_eq!(server.api.get("/v1/event-types/order.paid").await.1, created);

    let (status, changed) = server
        .api
        .patch("/v1/event-types/order.paid", &json!({"deprecated": true, "description": null}))
        .await;
    assert_eq!(
        (status, &changed["deprecated"], &changed["description"]),
        (200, &json!(true), &json!("")),
        "{changed}"
    );
    assert_eq!((&changed["schema"], &changed["group"]), (&wanted["schema"], &wanted["group"]));
    let (status, replaced) = server.api.put("/v1/event-types/order.paid", &json!({"schema": order()})).await;
    assert_eq!(
        (status, &replaced["group"], &replaced["mode"]),
        (200, &json!(""), &json!("off")),
        "{replaced}"
    );
    let (status, new) = server.api.put("/v1/event-types/order.lost", &json!({"group": "orders"})).await;
    assert_eq!((status, &new["schema"]), (201, &Value::Null), "{new}");

    let (_, listed) = server.api.get("/v1/event-types?limit=1").await;
    assert_eq!(
        (&listed["data"][0]["name"], &listed["next_cursor"]),
        (&json!("order.lost"), &json!("order.lost"))
    );
    let (_, rest) = server.api.get("/v1/event-types?cursor=order.lost").await;
    assert_eq!((&rest["data"][0]["name"], &rest["next_cursor"]), (&json!("order.paid"), &Value::Null));
    assert_eq!(server.api.delete("/v1/event-types/order.paid").await.0, 204);
    for (status, answered) in [
        (404, server.api.delete("/v1/event-types/order.paid").await),
        (404, server.api.get("/v1/event-types/order.paid").await),
        (404, server.api.patch("/v1/event-types/order.paid", &json!({})).await),
        (404, server.api.get("/v1/event-types/not%20a%20type").await),
    ] {
        assert_eq!(answered.0, status, "{}", answered.1);
    }
}

#[tokio::test]
async fn every_wrong_field_of_an_event_type_is_named() {
    let server = TestServer::start().await;
    let wrong = json!({
        "name": "Not a type", "group": "x".repeat(101), "schema": {"type": "nothing"}, "mode": "always", "example": {"a": 1},
    });
    let (status, problem) = server.api.post("/v1/event-types", &wrong).await;
    assert_eq!((status, fields(&problem)), (422, vec!["name", "group", "mode", "schema"]), "{problem}");
    for (body, field) in [
        (json!({"schema": order(), "example": {"id": 7}}), "example/id"),
        (json!({"mode": "enforce"}), "mode"),
        (json!({"name": "another"}), "name"),
        (json!({"schema": {"$ref": "https://example.com/"}}), "schema"),
        (json!({"schema": {"description": "x".repeat(70_000)}}), "schema"),
        (json!({"colour": "red"}), "colour"),
    ] {
        let (status, problem) = server.api.put("/v1/event-types/a.b", &body).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{problem}");
    }
}

#[tokio::test]
async fn a_schema_that_may_break_somebody_must_be_forced() {
    let server = TestServer::start().await;
    let path = "/v1/event-types/order.paid";
    assert_eq!(server.api.put(path, &json!({"schema": order()})).await.0, 201);
    let mut added = order();
    added["properties"]["note"] = json!({"type": "string"});
    assert_eq!(server.api.put(path, &json!({"schema": added})).await.0, 200);
    let mut removed = order();
    removed["properties"].as_object_mut().unwrap().remove("lines");
    for body in [json!({"schema": removed}), json!({"schema": null})] {
        let (status, problem) = server.api.patch(path, &body).await;
        assert_eq!(status, 409, "{problem}");
        assert!(problem["errors"][0]["message"].as_str().unwrap().contains("removed"), "{problem}");
    }
    let (status, forced) = server.api.patch(path, &json!({"schema": removed, "force": true})).await;
    assert_eq!((status, &forced["schema"]), (200, &removed), "{forced}");
}

/// At once on the server that took the change, soon on others.
#[tokio::test]
async fn an_enforced_schema_refuses_events_and_a_lenient_one_does_not() {
    let server = TestServer::start().await;
    let other = TestServer::beside(&server).await;
    let (good, bad) =
        (event("order.paid", &json!({"id": "a"})), event("order.paid", &json!({"lines": [1, "x"]})));
    assert_eq!(server.api.post("/v1/events", &bad).await.0, 202, "not registered");
    let path = "/v1/event-types/order.paid";
    assert_eq!(server.api.put(path, &json!({"schema": order(), "mode": "enforce"})).await.0, 201);
    assert_eq!(server.api.post("/v1/events", &good).await.0, 202);
    let (status, problem) = server.api.post("/v1/events", &bad).await;
    assert_eq!(status, 422, "{problem}");
    let mut named = fields(&problem);
    named.sort_unstable();
    assert_eq!(named, ["data", "data/lines/1"], "{problem}");
    let (status, batch) = server.api.post("/v1/events/batch", &json!({"events": [good, bad]})).await;
    assert_eq!((status, batch["results"][0]["id"].is_string()), (202, true), "{batch}");
    assert_eq!(
        batch["results"][1]["errors"][0]["field"].as_str().unwrap().split('/').next(),
        Some("events[1].data")
    );
    let refused = || async { (other.api.post("/v1/events", &bad).await.0 == 422).then_some(()) };
    eventually(Duration::from_secs(20), refused).await;
    // Data so long that it is compared elsewhere.
    let long = event("order.paid", &json!({"id": "x".repeat(10_000), "lines": ["y"]}));
    assert_eq!(fields(&server.api.post("/v1/events", &long).await.1), ["data/lines/0"]);

    assert_eq!(server.api.patch(path, &json!({"mode": "warn"})).await.0, 200);
    assert_eq!(server.api.post("/v1/events", &bad).await.0, 202);
    assert_eq!(server.api.patch(path, &json!({"mode": "enforce"})).await.0, 200);
    assert_eq!(server.api.post("/v1/events", &bad).await.0, 422);
    assert_eq!(server.api.delete(path).await.0, 204);
    assert_eq!(server.api.post("/v1/events", &bad).await.0, 202);
}

#[tokio::test]
async fn a_tenants_own_type_counts_instead_of_the_deployments() {
    let server = TestServer::start().await;
    let (own, _) = made(&server, &server.api, &acme(&["types:read", "types:write", "events:write"])).await;
    let path = "/v1/event-types/order.paid";
    assert_eq!(server.api.put(path, &json!({"schema": order(), "mode": "enforce"})).await.0, 201);
    let bad = event("order.paid", &json!({"total": 1}));
    assert_eq!(own.post("/v1/events", &bad).await.0, 422);
    assert_eq!(own.get(path).await.1["registered"], "deployment");
    // Changing it makes one of its own.
    let (status, changed) = own.patch(path, &json!({"mode": "off"})).await;
    assert_eq!(
        (status, &changed["registered"], &changed["schema"]),
        (200, &json!("tenant"), &order()),
        "{changed}"
    );
    assert_eq!(own.post("/v1/events", &bad).await.0, 202);
    assert_eq!(server.api.post("/v1/events", &bad).await.0, 422, "others have that of the deployment");
    assert_eq!(own.delete(path).await.0, 204);
    assert_eq!(own.delete(path).await.0, 404, "it is not the tenant's");
    assert_eq!(own.post("/v1/events", &bad).await.0, 422);
}

#[tokio::test]
async fn a_tenant_may_allow_only_registered_types() {
    let server = TestServer::start().await;
    let acme = server.api.clone().with_header("x-tenant-id", "acme");
    assert_eq!(acme.put("/v1/event-types/order.paid", &json!({})).await.0, 201);
    let (status, tenant) =
        server.api.patch("/v1/tenants/acme", &json!({"only_registered_types": true})).await;
    assert_eq!((status, &tenant["only_registered_types"]), (200, &json!(true)), "{tenant}");
    assert_eq!(acme.post("/v1/events", &event("order.paid", &json!({}))).await.0, 202);
    let refused = || async {
        let (status, problem) = acme.post("/v1/events", &event("order.lost", &json!({}))).await;
        (status == 422 && fields(&problem) == ["event"]).then_some(())
    };
    eventually(Duration::from_secs(20), refused).await;
    assert_eq!(server.api.post("/v1/events", &event("order.lost", &json!({}))).await.0, 202);
}

#[tokio::test]
async fn types_are_listed_as_seen_and_a_schema_is_derived_from_events() {
    let server = TestServer::start().await;
    let acme = server.api.clone().with_header("x-tenant-id", "acme");
    acme.post("/v1/subscribers", &json!({"url": "http://127.0.0.1:9/", "events": ["*"]})).await;
    for data in [json!({"id": "a", "n": 1}), json!({"id": "b"})] {
        assert_eq!(acme.post("/v1/events", &event("order.paid", &data)).await.0, 202);
    }
    server.test_database.advance(Duration::from_mins(2)).await;
    server.store.fold_statistics().await.unwrap();
    let (_, listed) = acme.get("/v1/event-types").await;
    let row = &listed["data"][0];
    assert_eq!(
        (&row["name"], &row["registered"], &row["deliveries"]),
        (&json!("order.paid"), &json!("seen"), &json!(2))
    );
    let (status, inferred) = acme.post("/v1/event-types/infer", &json!({"name": "order.paid"})).await;
    assert_eq!(
        (status, &inferred["events"], &inferred["example"]),
        (200, &json!(2), &json!({"id": "b"})),
        "{inferred}"
    );
    assert_eq!(inferred["schema"]["required"], json!(["id"]));
    let (status, created) = acme
        .put("/v1/event-types/order.paid", &json!({"schema": inferred["schema"], "mode": "enforce"}))
        .await;
    assert_eq!((status, &created["registered"]), (201, &json!("tenant")), "{created}");
    assert_eq!(acme.post("/v1/events", &event("order.paid", &json!({"n": 2}))).await.0, 422);
}

#[tokio::test]
async fn types_are_exported_and_imported() {
    let server = TestServer::start().await;
    let body = json!({"description": "An order is paid", "schema": order(), "mode": "enforce"});
    server.api.put("/v1/event-types/order.paid", &body).await;
    let (status, document) = server.api.get("/v1/event-types/export").await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")), "{document}");
    let acme = server.api.clone().with_header("x-tenant-id", "acme");
    let (status, imported) = acme.post("/v1/event-types/import", &document).await;
    assert_eq!(
        (status, &imported["created"], &imported["changed"]),
        (200, &json!(["order.paid"]), &json!([])),
        "{imported}"
    );
    let (_, read) = acme.get("/v1/event-types/order.paid").await;
    assert_eq!(
        (&read["schema"], &read["description"], &read["mode"]),
        (&order(), &body["description"], &json!("off"))
    );
    let (_, again) = server.api.post("/v1/event-types/import", &document).await;
    assert_eq!(again["changed"], json!(["order.paid"]));
    assert_eq!(server.api.get("/v1/event-types/order.paid").await.1["mode"], "enforce", "the mode stays");

    let answer =
        server.api.send(http::Method::GET, "/v1/event-types/export?format=typescript", &[], "").await;
    assert_eq!(answer.header("content-type"), Some("application/typescript"));
    assert!(answer.text().contains("\"order.paid\": {\n    \"id\": string;"), "{}", answer.text());
    let (status, problem) =
        server.api.post("/v1/event-types/import", &json!({"webhooks": {"Not a type": {}}})).await;
    assert_eq!((status, fields(&problem)[0]), (422, "webhooks.Not a type"), "{problem}");
}

#[tokio::test]
async fn the_description_of_the_api_has_the_types_of_the_deployment() {
    let server = TestServer::start().await;
    let webhooks = async || server.api.get("/openapi.json").await.1["webhooks"].clone();
    let plain = webhooks().await;
    assert!(plain["order.paid"].is_null());
    let schema = json!({"type": "object", "properties": {"total": {"type": "number"}}});
    let registered = json!({"description": "Paid.", "schema": schema});
    assert_eq!(server.api.put("/v1/event-types/order.paid", &registered).await.0, 201);
    let tenant = server.api.clone().with_header("x-tenant-id", "acme");
    assert_eq!(tenant.put("/v1/event-types/acme.only", &registered).await.0, 201);
    let shown = webhooks().await;
    let body = &shown["order.paid"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["properties"]["data"]["properties"], schema["properties"], "{shown}");
    assert!(shown["acme.only"].is_null(), "a tenant's types are its own");
    assert_eq!(server.api.delete("/v1/event-types/order.paid").await.0, 204);
    assert_eq!(webhooks().await, plain);
}
