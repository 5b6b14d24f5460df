//! Subscribers by the names that applications give them, and what is noted about subscribers and events.

use serde_json::{Value, json};

use crate::api::{TestServer, fields};
use crate::keys::made;

fn hook(more: &Value) -> Value {
    let mut body = json!({"url": "https://127.0.0.1/hook", "events": ["*"]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_uid_is_accepted_wherever_an_id_is() {
    let server = TestServer::start().await;
    let api = &server.api;
    let (status, created) = api.post("/v1/subscribers", &hook(&json!({"uid": "billing-eu"}))).await;
    assert_eq!((status, &created["uid"]), (201, &json!("billing-eu")), "{created}");
    let (_, other) = api.post("/v1/subscribers", &hook(&json!({}))).await;
    assert_eq!(other["uid"], json!(null));
    server.event("order.created").await;

    let id = created["id"].as_str().unwrap();
    for path in ["", "/secret"] {
        let by_uid = api.get(&format!("/v1/subscribers/billing-eu{path}")).await;
        assert_eq!(by_uid, api.get(&format!("/v1/subscribers/{id}{path}")).await, "{path}");
        assert_eq!(by_uid.0, 200);
        assert_eq!(api.get(&format!("/v1/subscribers/billing{path}")).await.0, 404);
    }
    for list in ["/v1/deliveries?", "/v1/stats?", "/v1/stats/series?", "/v1/dead-letters?"] {
        let (status, _) = api.get(&format!("{list}subscriber_id=billing-eu")).await;
        assert_eq!(status, 200, "{list}");
        for wrong in ["unknown", "sub_1", "a/b"] {
            let (status, problem) = api.get(&format!("{list}subscriber_id={wrong}")).await;
            assert_eq!((status, fields(&problem)), (422, vec!["subscriber_id"]), "{list}{wrong}");
        }
    }
    let (_, page) = api.get("/v1/deliveries?subscriber_id=billing-eu").await;
    assert_eq!(
        (page["data"].as_array().unwrap().len(), &page["data"][0]["subscriber_id"]),
        (1, &created["id"])
    );
    let (_, found) = api.get("/v1/subscribers?uid=billing-eu").await;
    assert_eq!((&found["data"][0]["id"], found["data"].as_array().unwrap().len()), (&created["id"], 1));
    assert_eq!(api.get("/v1/subscribers?uid=unknown").await.1["data"], json!([]));
    let (status, requeued) =
        api.post("/v1/dead-letters/requeue", &json!({"subscriber_id": "billing-eu"})).await;
    assert_eq!(status, 202, "{requeued}");
    let unknown = json!({"subscriber_id": "unknown"});
    assert_eq!(api.post("/v1/dead-letters/requeue", &unknown).await.0, 422, "not everything");

    for call in ["deactivate", "activate", "test", "recover", "secret/rotate"] {
        let body = if call == "recover" { json!({"since": "2020-01-01T00:00:00Z"}) } else { json!({}) };
        let (status, answer) = api.post(&format!("/v1/subscribers/billing-eu/{call}"), &body).await;
        assert!((200..300).contains(&status), "{call}: {answer}");
    }
    let (status, changed) = api.patch("/v1/subscribers/billing-eu", &json!({"uid": "billing-us"})).await;
    assert_eq!((status, &changed["id"], &changed["uid"]), (200, &created["id"], &json!("billing-us")));
    assert_eq!(api.get("/v1/subscribers/billing-eu").await.0, 404, "the old name is gone");
    let (_, changed) = api.patch("/v1/subscribers/billing-us", &json!({"uid": null})).await;
    assert_eq!(changed["uid"], json!(null));
    api.patch(&format!("/v1/subscribers/{id}"), &json!({"uid": "billing-eu"})).await;
    assert_eq!(api.delete("/v1/subscribers/billing-eu").await.0, 204);
    assert_eq!(api.get(&format!("/v1/subscribers/{id}")).await.0, 404);
}

#[tokio::test]
async fn a_uid_is_unique_in_its_tenant() {
    let server = TestServer::start().await;
    let api = &server.api;
    assert_eq!(api.post("/v1/subscribers", &hook(&json!({"uid": "a"}))).await.0, 201);
    let (status, problem) = api.post("/v1/subscribers", &hook(&json!({"uid": "a"}))).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(api.get("/v1/subscribers").await.1["data"].as_array().unwrap().len(), 1);
    let (_, other) = api.post("/v1/subscribers", &hook(&json!({"uid": "b"}))).await;
    let path = format!("/v1/subscribers/{}", other["id"].as_str().unwrap());
    assert_eq!(api.patch(&path, &json!({"uid": "a", "description": "x"})).await.0, 409);
    assert_eq!(api.put(&path, &hook(&json!({"uid": "a"}))).await.0, 409);
    let (_, kept) = api.get(&path).await;
    assert_eq!((&kept["uid"], &kept["description"]), (&json!("b"), &json!("")), "nothing has changed");

    let acme = api.clone().with_header("x-tenant-id", "acme");
    assert_eq!(acme.post("/v1/subscribers", &hook(&json!({"uid": "a"}))).await.0, 201, "of another tenant");
    assert_eq!(acme.get("/v1/subscribers/b").await.0, 404, "tenants are apart");
    for uid in ["", "sub_1", "a b", "a/b", &"x".repeat(129)] {
        let (status, problem) = api.post("/v1/subscribers", &hook(&json!({"uid": uid}))).await;
        assert_eq!((status, fields(&problem)), (422, vec!["uid"]), "{uid}");
    }
}

#[tokio::test]
async fn put_creates_or_replaces() {
    let server = TestServer::start().await;
    let api = &server.api;
    let body = hook(&json!({
        "description": "d", "headers": {"x-a": "1"}, "policy": {"max_attempts": 3}, "metadata": {"a": "1"},
        "channels": ["c"], "active": false,
    }));
    let (status, created) = api.put("/v1/subscribers/shop", &body).await;
    assert_eq!((status, &created["uid"]), (201, &json!("shop")), "{created}");
    let secret = created["secret"].as_str().unwrap().to_owned();

    let (status, replaced) = api.put("/v1/subscribers/shop", &hook(&json!({}))).await;
    assert_eq!(
        (status, &replaced["id"], &replaced["uid"]),
        (200, &created["id"], &json!("shop")),
        "{replaced}"
    );
    let expected = [
        ("description", json!("")),
        ("headers", json!([])),
        ("policy", json!({})),
        ("metadata", json!({})),
        ("channels", json!(null)),
        ("active", json!(true)),
    ];
    for (field, value) in expected {
        assert_eq!(replaced[field], value, "{field} takes its default");
    }
    assert_eq!(replaced["secret"], Value::Null);
    assert_eq!(api.get("/v1/subscribers/shop/secret").await.1["secret"], json!(secret), "the secret is kept");
    api.put("/v1/subscribers/shop", &hook(&json!({"secret": "a new secret"}))).await;
    assert_eq!(api.get("/v1/subscribers/shop/secret").await.1["secret"], json!("a new secret"));

    let path = format!("/v1/subscribers/{}", created["id"].as_str().unwrap());
    let (status, by_id) = api.put(&path, &hook(&json!({"uid": "store"}))).await;
    assert_eq!((status, &by_id["uid"]), (200, &json!("store")), "an id leaves the uid to the body");
    let (_, by_id) = api.put(&path, &hook(&json!({}))).await;
    assert_eq!(by_id["uid"], json!(null), "it is absent");

    let unknown = "/v1/subscribers/sub_01h455vb4pex5vsknk084sn02q";
    assert_eq!(api.put(unknown, &hook(&json!({}))).await.0, 404);
    assert_eq!(api.put("/v1/subscribers/sub_1", &hook(&json!({}))).await.0, 404);
    let (status, problem) = api.put("/v1/subscribers/shop", &hook(&json!({"uid": "other"}))).await;
    assert_eq!((status, fields(&problem)), (422, vec!["uid"]));
    let (status, problem) = api.put("/v1/subscribers/shop", &json!({"events": []})).await;
    assert_eq!((status, fields(&problem)), (422, vec!["url", "events"]));
    assert_eq!(api.get("/v1/subscribers/shop").await.0, 404, "nothing was created");
}

#[tokio::test]
async fn put_does_not_move_a_secret_to_another_host_unasked() {
    let server = TestServer::start().await;
    let api = &server.api;
    api.put("/v1/subscribers/shop", &hook(&json!({}))).await;
    let moved = |more: Value| {
        let mut body = hook(&more);
        body["url"] = json!("https://127.0.0.2/hook");
        body
    };
    let (status, problem) = api.put("/v1/subscribers/shop", &moved(json!({}))).await;
    assert_eq!((status, fields(&problem)), (422, vec!["url"]), "{problem}");
    assert_eq!(api.get("/v1/subscribers/shop").await.1["url"], "https://127.0.0.1/hook");
    assert_eq!(api.put("/v1/subscribers/shop", &moved(json!({"keep_secrets": true}))).await.0, 200);
    assert_eq!(api.put("/v1/subscribers/shop", &hook(&json!({"secret": "my own secret"}))).await.0, 200);
}

#[tokio::test]
async fn of_two_puts_at_once_one_creates_and_the_other_replaces() {
    let server = TestServer::start().await;
    for round in 0..10 {
        let path = format!("/v1/subscribers/shop-{round}");
        let body = hook(&json!({}));
        let put = || server.api.put(&path, &body);
        let (one, two, three) = tokio::join!(put(), put(), put());
        let mut statuses = [one.0, two.0, three.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 201]);
    }
}

#[tokio::test]
async fn a_limited_key_learns_no_uid_and_creates_none() {
    let server = TestServer::start().await;
    let api = &server.api;
    let (_, mine) = api.put("/v1/subscribers/mine", &hook(&json!({}))).await;
    api.put("/v1/subscribers/other", &hook(&json!({}))).await;
    let request = json!({
        "name": "k", "tenant": "default", "scopes": ["subscribers:read", "subscribers:write", "deliveries:read"],
        "limits": {"subscriber_ids": [mine["id"]]},
    });
    let (limited, _) = made(&server, api, &request).await;
    assert_eq!(limited.get("/v1/subscribers/mine").await.0, 200);
    assert_eq!(limited.put("/v1/subscribers/mine", &hook(&json!({}))).await.0, 200);
    for uid in ["other", "unknown"] {
        assert_eq!(limited.get(&format!("/v1/subscribers/{uid}")).await.0, 404, "{uid}");
        assert_eq!(limited.put(&format!("/v1/subscribers/{uid}"), &hook(&json!({}))).await.0, 404, "{uid}");
        assert_eq!(limited.get(&format!("/v1/deliveries?subscriber_id={uid}")).await.0, 403, "{uid}");
        assert_eq!(limited.get(&format!("/v1/subscribers?uid={uid}")).await.1["data"], json!([]), "{uid}");
    }
    assert_eq!(api.get("/v1/subscribers/unknown").await.0, 404, "none was created");
}

#[tokio::test]
async fn metadata_of_a_subscriber_is_merged_by_member() {
    let server = TestServer::start().await;
    let api = &server.api;
    api.put("/v1/subscribers/shop", &hook(&json!({"metadata": {"a": "1", "b": "2"}}))).await;
    let (_, changed) =
        api.patch("/v1/subscribers/shop", &json!({"metadata": {"a": null, "c": "\u{0}é"}})).await;
    assert_eq!(changed["metadata"], json!({"b": "2", "c": "\u{0}é"}));
    let (_, changed) = api.patch("/v1/subscribers/shop", &json!({"metadata": null})).await;
    assert_eq!(changed["metadata"], json!({}));
    let long = json!({"metadata": {"a": "x".repeat(4096)}});
    for (status, problem) in
        [api.patch("/v1/subscribers/shop", &long).await, api.put("/v1/subscribers/shop", &hook(&long)).await]
    {
        assert_eq!((status, fields(&problem)), (422, vec!["metadata"]));
    }
    let wrong = [json!([]), json!(["a b"]), json!(vec!["x"; 11])];
    for channels in wrong {
        let change = json!({"channels": channels});
        let (status, problem) = api.patch("/v1/subscribers/shop", &change).await;
        assert_eq!((status, fields(&problem)), (422, vec!["channels"]), "{change}");
    }
    let (_, changed) = api.patch("/v1/subscribers/shop", &json!({"channels": ["b", "a", "b"]})).await;
    assert_eq!(changed["channels"], json!(["a", "b"]));
    assert_eq!(changed["events"], json!(["*"]), "the patterns stay");
}

#[tokio::test]
async fn an_event_shows_its_channels_and_metadata_after_its_data_is_erased() {
    let server = TestServer::start().await;
    let api = &server.api;
    api.put("/v1/subscribers/in", &hook(&json!({"channels": ["customer:42"]}))).await;
    let noted = json!({"event": "a", "data": {"x": 1}, "channels": ["customer:42", "b"], "metadata": {"source": "import"}});
    let (status, answer) = api.post("/v1/events", &noted).await;
    assert_eq!((status, &answer["subscribers_found"]), (202, &json!(1)), "{answer}");
    let batch =
        json!({"events": [noted, {"event": "a", "data": {}}, {"event": "a", "data": {}, "channels": []}]});
    let (_, results) = api.post("/v1/events/batch", &batch).await;
    assert_eq!(results["results"][0]["subscribers_found"], 1);
    assert_eq!(results["results"][1]["subscribers_found"], 0, "without channels");
    assert_eq!(results["results"][2]["status"], 422);

    let path = format!("/v1/events/{}", answer["id"].as_str().unwrap());
    let (_, event) = api.get(&path).await;
    assert_eq!(event["data"], json!({"x": 1}));
    assert_eq!(api.delete(&format!("{path}/payload")).await.0, 204);
    let (_, erased) = api.get(&path).await;
    assert_eq!(erased["payload"], "erased");
    for event in [event, erased] {
        assert_eq!(event["channels"], json!(["b", "customer:42"]));
        assert_eq!(event["metadata"], json!({"source": "import"}));
    }
    let (_, listed) = api.get("/v1/events").await;
    let mut shown: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|event| event["channels"].clone()).collect();
    shown.sort_by_key(Value::to_string);
    assert_eq!(shown, [json!(["b", "customer:42"]), json!(["b", "customer:42"]), json!(null)]);
    let (status, problem) = api
        .post("/v1/events", &json!({"event": "a", "data": {}, "metadata": {"a": 1}, "channels": ["x"]}))
        .await;
    assert_eq!((status, fields(&problem)), (422, vec!["metadata.a"]));
}
