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
async fn an_egress_proxy_is_shown_masked_and_removed_by_null() {
    let server = TestServer::start().await;
    let request = json!({"id": "acme", "egress_proxy": "socks5h://acme:hunter2@proxy.test"});
    let (status, created) = server.api.post("/v1/tenants", &request).await;
    let shown = json!("socks5h://***:***@proxy.test:1080");
    assert_eq!((status, &created["egress_proxy"]), (201, &shown), "{created}");
    assert_eq!(server.api.get("/v1/tenants/acme").await.1["egress_proxy"], shown);
    let change =
        async |proxy: Value| server.api.patch("/v1/tenants/acme", &json!({"egress_proxy": proxy})).await;
    for wrong in
        [shown.clone(), json!("proxy.test"), json!("https://proxy.test"), json!("http://a/b"), json!("")]
    {
        let (status, problem) = change(wrong.clone()).await;
        assert_eq!((status, fields(&problem)), (422, vec!["egress_proxy"]), "{wrong}: {problem}");
        assert!(!problem.to_string().contains("hunter2"));
    }
    let (status, changed) = change(json!("http://acme:hunter3@10.0.0.1:3128")).await;
    assert_eq!((status, &changed["egress_proxy"]), (200, &json!("http://***:***@10.0.0.1:3128")));
    let (_, renamed) = server.api.patch("/v1/tenants/acme", &json!({"name": "Acme"})).await;
    assert_eq!(renamed["egress_proxy"], changed["egress_proxy"]);
    let (status, removed) = change(Value::Null).await;
    assert_eq!((status, &removed["egress_proxy"]), (200, &Value::Null));
    let (_, audit) = server.api.get("/v1/audit").await;
    assert!(audit.to_string().contains("http://***:***@10.0.0.1:3128"), "{audit}");
    assert!(!audit.to_string().contains("hunter"), "{audit}");
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
    for wrong in [
        json!({"active": null}),
        json!({"active": "no"}),
        json!({"metadata": {"n": 1}}),
        json!({"id": "other"}),
    ] {
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

/// On the server that took the change at once, on others soon.
#[tokio::test]
async fn an_inactive_tenant_is_refused_only_its_events() {
    let server = TestServer::start().await;
    let other = TestServer::beside(&server).await;
    let acme = server.api.clone().with_header("x-tenant-id", "acme");
    let elsewhere = other.api.clone().with_header("x-tenant-id", "acme");
    let (_, subscriber) =
        acme.post("/v1/subscribers", &json!({"url": "http://127.0.0.1:9/", "events": ["*"]})).await;
    let path = format!("/v1/subscribers/{}", subscriber["id"].as_str().unwrap());
    let event = json!({"event": "order.created", "data": {}});
    let batch = json!({"events": [event]});
    assert_eq!(acme.post("/v1/events", &event).await.0, 202);

    let (status, changed) = server.api.patch("/v1/tenants/acme", &json!({"active": false})).await;
    assert_eq!((status, &changed["active"]), (200, &json!(false)), "{changed}");
    for (path, body) in
        [("/v1/events", &event), ("/v1/events/batch", &batch), (&*format!("{path}/test"), &json!(null))]
    {
        let (status, problem) = acme.post(path, body).await;
        assert_eq!(status, 403, "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("not active"), "{problem}");
    }
    let refused = || async { (elsewhere.post("/v1/events", &event).await.0 == 403).then_some(()) };
    postrider_testkit::eventually(Duration::from_secs(20), refused).await;
    assert_eq!(acme.get(&path).await.0, 200, "reads go on");
    assert_eq!(acme.patch(&path, &json!({"description": "x"})).await.0, 200, "and so do other writes");
    assert_eq!(server.api.post("/v1/events", &event).await.0, 202, "others are not concerned");

    let (_, listed) = server.api.get("/v1/tenants").await;
    let row = listed["data"].as_array().unwrap().iter().find(|row| row["id"] == "acme").unwrap().clone();
    assert_eq!(
        (&row["active"], &row["counts"]["subscribers"]),
        (&json!(false), &json!({"total": 1, "active": 1}))
    );
    let (status, changed) = server.api.patch("/v1/tenants/acme", &json!({"active": true})).await;
    assert_eq!((status, &changed["active"]), (200, &json!(true)), "{changed}");
    assert_eq!(acme.post("/v1/events", &event).await.0, 202);
    let accepted = || async { (elsewhere.post("/v1/events", &event).await.0 == 202).then_some(()) };
    postrider_testkit::eventually(Duration::from_secs(20), accepted).await;
}
