//! Every route and every kind of caller. The routes, and the scopes that they need, are those of the description, which is made
//! from the routes' own list: a new route is in here without further work.

use http::Method;
use postrider_core::key::{KeyKind, KeyRate, NewKey, Scope};
use postrider_server::Config;
use postrider_testkit::Api;
use serde_json::{Value, json};

use crate::api::TestServer;
use crate::keys::{acme, made};

const JSON: (&str, &str) = ("content-type", "application/json");

struct Route {
    method: Method,
    path: String,
    scopes: Vec<String>,
    /// Whether the route needs a body.
    body: bool,
}

fn routes() -> Vec<Route> {
    let api: Value = serde_json::from_str(&postrider_server::openapi_json()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/v1/"))
    {
        for (method, operation) in item.as_object().unwrap() {
            let scopes = operation["security"][0]["key"].as_array().unwrap();
            routes.push(Route {
                method: method.to_ascii_uppercase().parse().unwrap(),
                path: path.clone(),
                scopes: scopes.iter().map(|scope| scope.as_str().unwrap().to_owned()).collect(),
                body: operation.get("requestBody").is_some(),
            });
        }
    }
    assert!(routes.len() > 30, "{}", routes.len());
    routes
}

impl Route {
    /// The path with the id of something that nobody has.
    fn unknown(&self) -> String {
        let id = match self.path.split('/').nth(2).unwrap() {
            "events" => "evt_01h455vb4pex5vsknk084sn02q",
            "subscribers" => "sub_01h455vb4pex5vsknk084sn02q",
            "deliveries" | "dead-letters" => "dlv_01h455vb4pex5vsknk084sn02q",
            "keys" => "key_01h455vb4pex5vsknk084sn02q",
            "replays" => "rpl_01h455vb4pex5vsknk084sn02q",
            "sandboxes" => "sbx_01h455vb4pex5vsknk084sn02q",
            "listeners" => "lsn_01h455vb4pex5vsknk084sn02q",
            "tenants" => "unknown",
            other => other,
        };
        self.path.replace("{id}", id).replace("{name}", "unknown.type")
    }

    /// The status and the problem of a request that has a body where one is needed.
    async fn call(&self, api: &Api, path: &str) -> (u16, Value) {
        // It names no known field, so a request that passes all checks before is refused with 422.
        let body = if self.body { r#"{"no_such_field":1}"# } else { "" };
        let answer = api.send(self.method.clone(), path, &[JSON], body).await;
        let mut problem = answer.json();
        if problem.get("request_id").is_some() {
            problem["request_id"] = json!(null);
        }
        (answer.status, problem)
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn is_for_operators(&self) -> bool {
        self.scopes.iter().any(|scope| scope.parse::<Scope>().unwrap().is_for_operators())
    }
}

/// As many requests as this test makes with wrong keys.
async fn server() -> TestServer {
    let wrong_keys = KeyRate::new(1, 10_000).unwrap();
    TestServer::with(|config| Config { wrong_keys, sandbox: true, ..config }).await
}

#[tokio::test]
async fn nobody_gets_in_without_a_valid_key() {
    let server = server().await;
    let (expired, expired_key) = made(&server, &server.api, &acme(&["tenant_admin"])).await;
    let path = format!("/v1/keys/{}", expired_key["id"].as_str().unwrap());
    assert_eq!(server.api.patch(&path, &json!({"expires_at": "2026-01-01T00:00:00Z"})).await.0, 200);
    let (revoked, revoked_key) = made(&server, &server.api, &acme(&["tenant_admin"])).await;
    let path = format!("/v1/keys/{}", revoked_key["id"].as_str().unwrap());
    assert_eq!(server.api.delete(&path).await.0, 204);
    let (_, valid) = made(&server, &server.api, &acme(&["tenant_admin"])).await;
    let valid = valid["key"].as_str().unwrap();
    let mistyped = format!("{}{}", &valid[..79], if valid.ends_with('0') { '1' } else { '0' });
    // The id of a key that exists, with another secret.
    let id = format!("key_{}", &valid[4..30]).parse().unwrap();
    let forged = NewKey::with_id(KeyKind::Tenant, id, server.store.ids().random());
    // An operator's key with that id.
    let raised = NewKey::with_id(KeyKind::Operator, id, server.store.ids().random());
    let unknown = NewKey::generate(KeyKind::Tenant, server.store.ids());
    let callers = [
        ("no key", server.without_key(), "send a key"),
        ("a wrong text", server.with_key("wrong"), "the key is wrong"),
        ("an empty text", server.with_key(""), "the key is wrong"),
        ("mistyped", server.with_key(&mistyped), "mistyped"),
        ("another secret", server.with_key(forged.expose()), "the key is wrong"),
        ("another prefix", server.with_key(raised.expose()), "the key is wrong"),
        ("unknown", server.with_key(unknown.expose()), "the key is wrong"),
        ("expired", expired, "has expired"),
        ("revoked", revoked, "was revoked"),
    ];
    for route in routes() {
        for (kind, api, detail) in &callers {
            let (status, problem) = route.call(api, &route.unknown()).await;
            assert_eq!(status, 401, "{} with {kind}: {problem}", route.name());
            assert!(problem["detail"].as_str().unwrap().contains(detail), "{kind}: {problem}");
        }
    }
}

#[tokio::test]
async fn every_route_needs_its_scope() {
    let server = server().await;
    for route in routes() {
        let all = Scope::ALL.iter().map(|scope| scope.as_str().to_owned());
        let without =
            |missing: &[String]| all.clone().filter(|scope| !missing.contains(scope)).collect::<Vec<_>>();
        let key = |scopes: &[String]| json!({"name": "n", "tenant": "*", "scopes": scopes});
        let (lacking, _) = made(&server, &server.api, &key(&without(&route.scopes))).await;
        let (status, problem) = route.call(&lacking, &route.unknown()).await;
        assert_eq!(
            (status, &problem["needs"]),
            (403, &json!(route.scopes[0])),
            "{}: {problem}",
            route.name()
        );
        let (only, _) = made(&server, &server.api, &key(&route.scopes)).await;
        let (status, problem) = route.call(&only, &route.unknown()).await;
        assert!(![401, 403, 429].contains(&status), "{}: {problem}", route.name());
    }
}

#[tokio::test]
async fn a_key_of_a_tenant_acts_for_that_tenant_only() {
    let server = server().await;
    let (api, _) = made(&server, &server.api, &acme(&["tenant_admin"])).await;
    let (foreign, own) =
        (api.clone().with_header("x-tenant-id", "other"), api.clone().with_header("x-tenant-id", "acme"));
    for route in routes() {
        let (status, problem) = route.call(&foreign, &route.unknown()).await;
        assert_eq!(status, 403, "{}: {problem}", route.name());
        for api in [&api, &own] {
            let (status, problem) = route.call(api, &route.unknown()).await;
            assert_eq!(status == 403, route.is_for_operators(), "{}: {status} {problem}", route.name());
        }
    }
}

#[tokio::test]
async fn a_key_over_its_limit_is_refused_everywhere() {
    let server = server().await;
    let mut request = json!({"name": "n", "tenant": "*", "scopes": ["operator"]});
    // One request now, and the next after this test.
    request["limits"] = json!({"requests_per_second": 1, "burst": 1});
    for route in routes() {
        let (api, _) = made(&server, &server.api, &request).await;
        let (first, _) = route.call(&api, &route.unknown()).await;
        assert_ne!(first, 429, "{}", route.name());
        let mut statuses = Vec::new();
        for _ in 0..20 {
            statuses.push(route.call(&api, &route.unknown()).await.0);
        }
        assert!(statuses.contains(&429), "{}: {statuses:?}", route.name());
    }
}

/// Foreign ids of every kind are answered exactly as unknown ones.
#[tokio::test]
async fn foreign_ids_are_answered_as_unknown_ones() {
    let server = server().await;
    let (own, _) = made(&server, &server.api, &acme(&["tenant_admin"])).await;
    let body = json!({"url": "http://127.0.0.1:9/", "events": ["*"]});
    let (_, subscriber) = own.post("/v1/subscribers", &body).await;
    let (_, event) = own.post("/v1/events", &json!({"event": "order.created", "data": {}})).await;
    let (_, deliveries) = own.get("/v1/deliveries").await;
    let (_, key) = own.post("/v1/keys", &json!({"name": "n", "scopes": ["observer"]})).await;
    let (_, replay) = own.post("/v1/replays", &json!({"filter": {}, "mode": "all"})).await;
    let (_, sandbox) = own.post("/v1/sandboxes", &json!({})).await;
    let (_, listener) = own.post("/v1/listeners", &json!({})).await;
    let other = json!({"name": "n", "tenant": "other", "scopes": ["tenant_admin"]});
    let (foreign, _) = made(&server, &server.api, &other).await;
    let operator = server.tenant("other");
    for route in routes().iter().filter(|route| route.path.contains("{id}")) {
        let id = match route.path.split('/').nth(2).unwrap() {
            "events" => &event["id"],
            "subscribers" => &subscriber["id"],
            "deliveries" | "dead-letters" => &deliveries["data"][0]["id"],
            "keys" => &key["id"],
            "replays" => &replay["id"],
            "sandboxes" => &sandbox["id"],
            "listeners" => &listener["id"],
            "tenants" => &json!("acme"),
            other => panic!("{other}: which id is foreign?"),
        };
        let path = route.path.replace("{id}", id.as_str().unwrap());
        for (api, is_tenant) in [(&foreign, true), (&operator, false)] {
            let found = send(route, api, &path).await;
            assert_eq!(found, send(route, api, &route.unknown()).await, "{}", route.name());
            let expected = if route.is_for_operators() && is_tenant { 403 } else { 404 };
            assert_eq!(found.0, expected, "{}: {}", route.name(), found.1);
        }
    }
    assert_eq!(own.get(&format!("/v1/subscribers/{}", subscriber["id"].as_str().unwrap())).await.0, 200);
    assert_eq!(
        own.get(&format!("/v1/keys/{}", key["id"].as_str().unwrap())).await.1["revoked_at"],
        json!(null)
    );
}

/// Sends a request that is valid but for its id.
async fn send(route: &Route, api: &Api, path: &str) -> (u16, Value) {
    let body = match (route.body, route.path.ends_with("/recover")) {
        (false, _) => "",
        (true, true) => r#"{"since":"2026-01-01T00:00:00Z"}"#,
        (true, false) => "{}",
    };
    let answer = api.send(route.method.clone(), path, &[JSON], body).await;
    let mut problem = answer.json();
    problem["request_id"] = json!(null);
    (answer.status, problem)
}
