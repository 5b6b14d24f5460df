use std::collections::BTreeSet;

use http::Method;
use serde_json::Value;

use crate::api::{TestServer, fields};

const JSON: (&str, &str) = ("content-type", "application/json");

/// All routes, on which other programs rely.
const ROUTES: &[(&str, &str)] = &[
    ("get", "/docs"),
    ("get", "/healthz"),
    ("get", "/openapi.json"),
    ("get", "/readyz"),
    ("get", "/v1/audit"),
    ("get", "/v1/dead-letters"),
    ("post", "/v1/dead-letters/requeue"),
    ("delete", "/v1/dead-letters/{id}"),
    ("get", "/v1/deliveries"),
    ("get", "/v1/deliveries/{id}"),
    ("get", "/v1/deliveries/{id}/attempts"),
    ("post", "/v1/deliveries/cancel"),
    ("post", "/v1/deliveries/{id}/cancel"),
    ("post", "/v1/deliveries/{id}/retry"),
    ("get", "/v1/events"),
    ("post", "/v1/events"),
    ("post", "/v1/events/batch"),
    ("get", "/v1/events/{id}"),
    ("get", "/v1/events/{id}/explain"),
    ("delete", "/v1/events/{id}/payload"),
    ("get", "/v1/keys"),
    ("post", "/v1/keys"),
    ("delete", "/v1/keys/{id}"),
    ("get", "/v1/keys/{id}"),
    ("patch", "/v1/keys/{id}"),
    ("post", "/v1/keys/{id}/rotate"),
    ("get", "/v1/queue"),
    ("get", "/v1/queue/lanes"),
    ("get", "/v1/workers"),
    ("get", "/v1/stats"),
    ("get", "/v1/stats/series"),
    ("get", "/v1/subscribers"),
    ("post", "/v1/subscribers"),
    ("delete", "/v1/subscribers/{id}"),
    ("get", "/v1/subscribers/{id}"),
    ("patch", "/v1/subscribers/{id}"),
    ("put", "/v1/subscribers/{id}"),
    ("post", "/v1/subscribers/{id}/activate"),
    ("post", "/v1/subscribers/{id}/deactivate"),
    ("post", "/v1/simulate"),
    ("get", "/v1/event-types"),
    ("post", "/v1/event-types"),
    ("post", "/v1/event-types/infer"),
    ("post", "/v1/event-types/import"),
    ("get", "/v1/event-types/export"),
    ("get", "/v1/event-types/{name}"),
    ("put", "/v1/event-types/{name}"),
    ("patch", "/v1/event-types/{name}"),
    ("delete", "/v1/event-types/{name}"),
    ("post", "/v1/subscribers/{id}/pause"),
    ("post", "/v1/subscribers/{id}/resume"),
    ("post", "/v1/subscribers/{id}/recover"),
    ("get", "/v1/subscribers/{id}/secret"),
    ("post", "/v1/subscribers/{id}/secret/rotate"),
    ("post", "/v1/subscribers/{id}/test"),
    ("delete", "/v1/plugins/{name}"),
    ("get", "/v1/plugins"),
    ("post", "/v1/plugins"),
    ("post", "/v1/portal/links"),
    ("get", "/v1/replays"),
    ("post", "/v1/replays"),
    ("get", "/v1/replays/{id}"),
    ("post", "/v1/replays/{id}/cancel"),
    ("post", "/v1/replays/{id}/pause"),
    ("post", "/v1/replays/{id}/resume"),
    ("get", "/v1/sandboxes"),
    ("post", "/v1/sandboxes"),
    ("get", "/v1/sandboxes/{id}"),
    ("delete", "/v1/sandboxes/{id}"),
    ("get", "/v1/sandboxes/{id}/requests"),
    ("post", "/v1/listeners"),
    ("delete", "/v1/listeners/{id}"),
    ("get", "/v1/listeners/{id}/requests"),
    ("post", "/v1/listeners/{id}/answers"),
    ("get", "/v1/tail"),
    ("get", "/v1/tenants"),
    ("post", "/v1/tenants"),
    ("delete", "/v1/tenants/{id}"),
    ("get", "/v1/tenants/{id}"),
    ("patch", "/v1/tenants/{id}"),
];

async fn description(server: &TestServer) -> Value {
    let (status, api) = server.without_key().get("/openapi.json").await;
    assert_eq!(status, 200, "no key is needed");
    api
}

#[tokio::test]
async fn every_route_is_described_with_its_answers() {
    let server = TestServer::start().await;
    let api = description(&server).await;
    let mut described = BTreeSet::new();
    let mut names = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            described.insert((method.as_str(), path.as_str()));
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}: {operation}");
            assert!(operation["summary"].is_string(), "{method} {path}");
            let name =
                operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no name"));
            assert!(names.insert(name.to_owned()), "{name} names two operations");
            if !path.starts_with("/v1/") {
                assert_eq!(operation["security"], serde_json::json!([]), "{method} {path} needs no key");
                continue;
            }
            for status in ["401", "403", "422", "429", "503"] {
                let content = &responses[status]["content"]["application/problem+json"];
                assert_eq!(
                    content["schema"]["$ref"], "#/components/schemas/Problem",
                    "{method} {path} {status}"
                );
            }
            let scopes = operation["security"][0]["key"].as_array().unwrap();
            assert!(!scopes.is_empty(), "{method} {path}");
            for scope in scopes {
                let said = operation["description"].as_str().unwrap();
                assert!(said.contains(&format!("`{}`", scope.as_str().unwrap())), "{method} {path}: {said}");
            }
        }
    }
    assert_eq!(described, ROUTES.iter().copied().collect::<BTreeSet<_>>());
}

#[tokio::test]
async fn every_reference_resolves() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let server = TestServer::start().await;
    let api = description(&server).await;
    let mut found = BTreeSet::new();
    references(&api, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(api.pointer(pointer).is_some(), "{reference} does not resolve");
    }
}

#[tokio::test]
async fn the_description_names_the_fields_that_the_api_accepts() {
    let server = TestServer::start().await;
    let api = description(&server).await;
    let schema = |name: &str| &api["components"]["schemas"][name];
    let keys =
        |name: &str| schema(name)["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys("EventRequest"), ["agent_id", "channels", "data", "event", "id", "metadata"]);
    assert_eq!(schema("EventRequest")["required"], serde_json::json!(["event", "data"]));
    assert_eq!(
        keys("SubscriberRequest"),
        [
            "active",
            "auth",
            "channels",
            "description",
            "events",
            "filter",
            "format",
            "format_options",
            "headers",
            "keep_secrets",
            "metadata",
            "notify_email",
            "notify_url",
            "plugin",
            "policy",
            "secret",
            "transform",
            "uid",
            "url"
        ]
    );
    assert_eq!(schema("SubscriberRequest")["required"], serde_json::json!(["url", "events"]));
    assert_eq!(
        keys("ChangeRequest"),
        [
            "active",
            "auth",
            "channels",
            "description",
            "events",
            "filter",
            "format",
            "format_options",
            "headers",
            "keep_secrets",
            "metadata",
            "notify_email",
            "notify_url",
            "plugin",
            "policy",
            "secret",
            "transform",
            "uid",
            "url"
        ]
    );
    // The API accepts the described fields of a policy, and its message about an unknown field lists the same ones.
    let body =
        |policy: &Value| serde_json::json!({"url": "http://127.0.0.1/", "events": ["*"], "policy": policy});
    for field in keys("Policy") {
        let policy = serde_json::json!({ field.as_str(): null });
        assert_eq!(server.api.post("/v1/subscribers", &body(&policy)).await.0, 201, "{field}");
    }
    let (_, problem) = server.api.post("/v1/subscribers", &body(&serde_json::json!({"x": 1}))).await;
    let message = problem["errors"][0]["message"].as_str().unwrap();
    let taken: BTreeSet<_> = message.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert_eq!(taken, keys("Policy").into_iter().collect(), "{message}");
}

/// Sends an array in place of every described object.
#[tokio::test]
async fn an_array_is_never_accepted_for_an_object() {
    let server = TestServer::start().await;
    let api = description(&server).await;
    let subscriber = server.subscriber(&["*"]).await;
    let (_, key) = server
        .api
        .post("/v1/keys", &serde_json::json!({"name": "n", "tenant": "*", "scopes": ["operator"]}))
        .await;
    let (_, listener) = server.api.post("/v1/listeners", &serde_json::json!({})).await;
    let mut tried = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let mut objects = Vec::new();
            find_objects(&api, body, &[], &mut objects);
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let id = match path.split('/').nth(2) {
                Some("keys") => &key["id"],
                Some("listeners") => &listener["id"],
                _ => &subscriber["id"],
            };
            let url = path.replace("{id}", id.as_str().unwrap()).replace("{name}", "a.b");
            for object in objects {
                let field = if object.is_empty() { "body".to_owned() } else { object.join(".") };
                // Serde would read an array as the fields of a struct in their order, so try as many items as structs have fields.
                for length in 0..10 {
                    let array = serde_json::json!(vec![1; length]);
                    let nested = |inner: Value, name: &String| serde_json::json!({ name.as_str(): inner });
                    let body = object.iter().rev().fold(array, nested).to_string();
                    let answer = server.api.send(method.clone(), &url, &[JSON], body.clone()).await;
                    let problem = answer.json();
                    let wrong = (answer.status, fields(&problem));
                    assert_eq!(wrong, (422, vec![&*field]), "{method} {path} {body}: {problem}");
                    let message = problem["errors"][0]["message"].as_str().unwrap();
                    assert!(!message.contains("struct"), "no word for a user: {message}");
                }
                tried.insert(format!("{method} {path} {field}"));
            }
        }
    }
    for object in [
        "POST /v1/events body",
        "POST /v1/subscribers policy",
        "PATCH /v1/subscribers/{id} policy.rate_limit",
        "POST /v1/subscribers policy.exponential",
        "POST /v1/subscribers/{id}/secret/rotate body",
    ] {
        assert!(tried.contains(object), "{object} is not among {tried:?}");
    }
}

/// The paths to the objects with known fields within a schema.
fn find_objects(api: &Value, schema: &Value, way: &[String], found: &mut Vec<Vec<String>>) {
    if let Some(reference) = schema["$ref"].as_str() {
        return find_objects(api, api.pointer(&reference[1..]).unwrap(), way, found);
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for schema in schema[choice].as_array().into_iter().flatten() {
            find_objects(api, schema, way, found);
        }
    }
    if let Some(properties) = schema["properties"].as_object() {
        found.push(way.to_vec());
        for (name, schema) in properties {
            find_objects(api, schema, &[way, std::slice::from_ref(name)].concat(), found);
        }
    }
}

#[tokio::test]
async fn the_docs_page_runs_only_its_own_script() {
    let server = TestServer::start().await;
    let answer = server.without_key().send(Method::GET, "/docs", &[], "").await;
    assert_eq!(answer.status, 200);
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; connect-src 'self'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    let page = answer.text();
    assert!(
        !page.contains("innerHTML") && !page.contains("src=") && !page.contains("://"),
        "the page loads nothing from elsewhere"
    );
}
