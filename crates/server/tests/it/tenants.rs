//! Tenants through the API.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api::{TestServer, fields};

async fn ids(server: &TestServer) -> Vec<String> {
    let (status, page) = server.api.get("/v1/tenants").await;
    assert_eq!(status, 200, "{page}");
    page["data"].as_array().unwrap().iter().map(|tenant| tenant["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_tenant_is_registered_changed_and_shown() {
    let server = TestServer::start().await;
    let request = json!({
        "id": "acme", "name": "Acme", "metadata": {"plan": "gold", "region": "eu"}, "retention": {"payloads": "7d"}
    });
    let (status, created) = server.api.post("/v1/tenants", &request).await;
    assert_eq!(status, 201, "{created}");
    assert_eq!(created["metadata"], request["metadata"]);
    assert_eq!(created["retention"], json!({"history": null, "payloads": "7d", "dead": null}));
    assert_eq!((&created["name"], &created["deletion"]), (&json!("Acme"), &json!(null)));
    assert_eq!(server.api.get("/v1/tenants/acme").await, (200, created.clone()));
    assert_eq!(server.api.post("/v1/tenants", &request).await.0, 409);

    let change = json!({
        "name": null, "metadata": {"plan": null, "seats": "5"}, "retention": {"payloads": null, "history": "36h"}
    });
    let (status, changed) = server.api.patch("/v1/tenants/acme", &change).await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(
        (&changed["name"], &changed["metadata"]),
        (&json!(""), &json!({"region": "eu", "seats": "5"}))
    );
    assert_eq!(changed["retention"], json!({"history": "36h", "payloads": null, "dead": null}));
    let (_, unchanged) = server.api.patch("/v1/tenants/acme", &json!({})).await;
    assert_eq!(unchanged, changed);
    let (_, reset) =
        server.api.patch("/v1/tenants/acme", &json!({"metadata": null, "retention": null})).await;
    assert_eq!((&reset["metadata"], &reset["retention"]["history"]), (&json!({}), &json!(null)));
}

#[tokio::test]
async fn every_wrong_field_of_a_tenant_is_named() {
    let server = TestServer::start().await;
    let long = "x".repeat(5000);
    let wrong = json!({
        "id": "Acme", "name": long, "metadata": {"note": long}, "retention": {"history": "soon", "payloads": "1m", "dead": ""}
    });
    let (status, problem) = server.api.post("/v1/tenants", &wrong).await;
    assert_eq!(status, 422, "{problem}");
    let all = ["id", "name", "metadata", "retention.history", "retention.payloads", "retention.dead"];
    assert_eq!(fields(&problem), all);
    assert_eq!(server.api.post("/v1/tenants", &json!({})).await.0, 422);
    for wrong in [json!({"active": false}), json!({"metadata": {"n": 1}}), json!({"id": "other"})] {
        let (status, problem) = server.api.patch("/v1/tenants/default", &wrong).await;
        assert_eq!(status, 422, "{wrong}: {problem}");
    }
    for path in ["/v1/tenants/unknown", "/v1/tenants/Not%20A%20Name"] {
        assert_eq!(server.api.get(path).await.0, 404, "{path}");
        assert_eq!(server.api.patch(path, &json!({})).await.0, 404, "{path}");
        assert_eq!(server.api.delete(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn the_first_successful_write_registers_a_tenant() {
    let server = TestServer::start().await;
    let acme = server.api.clone().with_header("x-tenant-id", "acme");
    assert_eq!(acme.get("/v1/subscribers").await.0, 200);
    assert_eq!(acme.post("/v1/events", &json!({"event": "not a type"})).await.0, 422);
    assert!(!ids(&server).await.contains(&"acme".to_owned()));
    assert_eq!(acme.post("/v1/events", &json!({"event": "order.created", "data": {}})).await.0, 202);
    assert_eq!(ids(&server).await[0], "acme");
}

#[tokio::test]
async fn a_tenant_that_is_being_deleted_is_refused_and_registered_again_afterwards() {
    let server = TestServer::start().await;
    let acme = server.api.clone().with_header("x-tenant-id", "acme");
    let event = json!({"event": "order.created", "data": {}});
    assert_eq!(acme.post("/v1/events", &event).await.0, 202);
    for needed in ["default", "operator"] {
        assert_eq!(server.api.delete(&format!("/v1/tenants/{needed}")).await.0, 409, "{needed}");
    }
    // Another server, which has to hear of it.
    let other = TestServer::beside(&server).await;
    let (status, deleted) = server.api.delete("/v1/tenants/acme").await;
    assert_eq!((status, deleted["deletion"]["rows"].as_u64()), (202, Some(0)), "{deleted}");
    assert_eq!(server.api.delete("/v1/tenants/acme").await.0, 202, "repeating does no harm");
    let (status, problem) = acme.post("/v1/events", &event).await;
    assert_eq!(status, 409, "{problem}");
    let refused = || async {
        let acme = other.api.clone().with_header("x-tenant-id", "acme");
        (acme.post("/v1/events", &event).await.0 == 409).then_some(())
    };
    postrider_testkit::eventually(Duration::from_secs(20), refused).await;
    assert_eq!(server.api.post("/v1/events", &event).await.0, 202, "others are not concerned");

    server.test_database.advance(Duration::from_mins(1)).await;
    while server.store.delete_tenant_data().await.unwrap().is_some() {}
    assert_eq!(server.api.get("/v1/tenants/acme").await.0, 404);
    let accepted = || async { (acme.post("/v1/events", &event).await.0 == 202).then_some(()) };
    postrider_testkit::eventually(Duration::from_secs(20), accepted).await;
    let (_, found): (u16, Value) = server.api.get("/v1/tenants/acme").await;
    assert_eq!(found["deletion"], json!(null));
    let (_, events) = acme.get("/v1/events").await;
    assert_eq!(events["data"].as_array().map(Vec::len), Some(1), "{events}");
}
