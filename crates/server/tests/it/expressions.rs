//! Filters and transforms of subscribers: accepted, refused, changed and shown.

use serde_json::{Value, json};

use crate::api::{TestServer, fields};

async fn created(server: &TestServer, more: Value) -> (u16, Value) {
    let mut new = json!({"url": "http://127.0.0.1:9/", "events": ["*"]});
    new.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.api.post("/v1/subscribers", &new).await
}

#[tokio::test]
async fn filters_and_transforms_are_shown_as_they_were_given() {
    let server = TestServer::start().await;
    let (status, plain) = created(&server, json!({})).await;
    assert_eq!((status, &plain["filter"], &plain["transform"]), (201, &json!(null), &json!(null)));
    assert_eq!(plain["transform_version"], json!(null));
    let transform = json!({"steps": [
        {"op": "drop", "path": "/a~1b"}, {"op": "rename", "path": "/c", "to": "/d/e"},
        {"op": "set", "path": "/f", "value": null}, {"op": "mask", "path": "/g", "keep": 4},
    ]});
    let (status, made) =
        created(&server, json!({"filter": "data.total > 100", "transform": transform})).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!((&made["filter"], &made["transform"]), (&json!("data.total > 100"), &transform));
    let path = format!("/v1/subscribers/{}", made["id"].as_str().unwrap());
    let (_, shown) = server.api.get(&path).await;
    assert_eq!((&shown["transform"], &shown["transform_version"]), (&transform, &made["transform_version"]));
    assert_eq!(shown["transform_version"].as_str().unwrap().len(), 32);
}

#[tokio::test]
async fn a_place_is_renamed_to_a_key_beside_it() {
    let server = TestServer::start().await;
    let steps = json!([{"op": "rename", "path": "/contact/mail", "to": "e~mail"}]);
    let (status, made) = created(&server, json!({"transform": {"steps": steps}})).await;
    assert_eq!((status, &made["transform"]["steps"][0]["to"]), (201, &json!("/contact/e~0mail")), "{made}");
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_field_and_position() {
    let server = TestServer::start().await;
    let steps = |steps: Value| json!({"transform": {"steps": steps}});
    for (body, field, message) in [
        (json!({"filter": "1 + 1"}), "filter", "line 1, column 3: a filter must give true or false"),
        (json!({"filter": ""}), "filter", "an expression must have 1 to 4096 bytes"),
        (json!({"filter": "data.total >\n"}), "filter", "line 2, column 1: "),
        (json!({"transform": {}}), "transform", "must have either `steps` or `project`"),
        (json!({"transform": {"project": "1"}}), "transform.project", "a projection must give a map"),
        (json!({"transform": {"project": "{'data': data.x(", "steps": []}}), "transform", "must have either"),
        (steps(json!([])), "transform.steps", "a transform must have 1 to 100 steps"),
        (steps(json!([{"op": "burn", "path": "/a"}])), "transform.steps[0].op", "must be `drop`"),
        (steps(json!([{"op": "drop", "path": "a"}])), "transform.steps[0].path", "begins with `/`"),
        (steps(json!([{"op": "drop", "path": ""}])), "transform.steps[0].path", "as a whole"),
        (
            steps(json!([{"op": "drop", "path": "/a", "to": "/b"}])),
            "transform.steps[0].to",
            "`drop` does not take it",
        ),
        (
            steps(json!([{"op": "mask", "path": "/a"}, {"op": "rename", "path": "/a"}])),
            "transform.steps[1].to",
            "is required",
        ),
        (steps(json!([{"op": "rename", "path": "/a", "to": "b/c"}])), "transform.steps[0].to", "or a key"),
        (steps(json!([{"op": "rename", "path": "/a", "to": ""}])), "transform.steps[0].to", "or a key"),
        (steps(json!([{"op": "set", "path": "/a"}])), "transform.steps[0].value", "is required"),
        (
            steps(json!([{"op": "set", "path": "/a", "value": "x".repeat(17_000)}])),
            "transform",
            "at most 16384 bytes",
        ),
    ] {
        let (status, problem) = created(&server, body.clone()).await;
        assert_eq!(status, 422, "{body}: {problem}");
        assert_eq!(fields(&problem), [field], "{body}: {problem}");
        let said = problem["errors"][0]["message"].as_str().unwrap();
        assert!(said.contains(message), "{body}: {said}");
    }
}

#[tokio::test]
async fn a_patch_merges_and_null_removes() {
    let server = TestServer::start().await;
    let (_, made) =
        created(&server, json!({"filter": "true", "transform": {"project": "{'data': data}"}})).await;
    let path = format!("/v1/subscribers/{}", made["id"].as_str().unwrap());
    let change = async |body: Value| server.api.patch(&path, &body).await;
    let (status, kept) = change(json!({"description": "x"})).await;
    assert_eq!((status, &kept["filter"], &kept["transform"]), (200, &made["filter"], &made["transform"]));
    let steps = json!([{"op": "drop", "path": "/a"}]);
    let (status, problem) = change(json!({"transform": {"steps": steps}})).await;
    assert_eq!((status, fields(&problem)), (422, vec!["transform"]), "both at once: {problem}");
    let (status, changed) =
        change(json!({"transform": {"steps": steps, "project": null}, "filter": "data.n == 1"})).await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(
        (&changed["filter"], &changed["transform"]),
        (&json!("data.n == 1"), &json!({"steps": steps}))
    );
    assert_ne!(changed["transform_version"], made["transform_version"]);
    let (_, removed) = change(json!({"transform": null, "filter": null})).await;
    assert_eq!((&removed["filter"], &removed["transform"]), (&json!(null), &json!(null)));
    let replacement = json!({"url": "http://127.0.0.1:9/", "events": ["*"], "filter": "data.n == 2"});
    let (status, replaced) = server.api.put(&path, &replacement).await;
    assert_eq!((status, &replaced["filter"]), (200, &json!("data.n == 2")));
    let (_, trail) = server.api.get("/v1/audit?action=subscriber.changed").await;
    assert_eq!(trail["data"][0]["after"]["filter"], "data.n == 2");
}
