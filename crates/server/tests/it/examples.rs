//! The API accepts every request that its description gives as an example.

use std::collections::BTreeSet;

use http::Method;
use postrider_server::Config;
use serde_json::{Map, Value, json};

use crate::api::TestServer;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn every_example_of_a_request_is_accepted() {
    let portal_url = Some("http://127.0.0.1".to_owned());
    let server =
        TestServer::with(|config| Config { sandbox: true, console: true, portal_url, ..config }).await;
    let subscriber = server.subscriber(&["*"]).await;
    let (_, key) = server
        .api
        .post("/v1/keys", &json!({"name": "n", "tenant": "acme", "scopes": ["tenant_admin"]}))
        .await;
    let (_, listener) = server.api.post("/v1/listeners", &json!({})).await;
    let (_, api) = server.without_key().get("/openapi.json").await;
    // The examples of subscribers choose a plugin of this name.
    let mut plugin = api["components"]["schemas"]["PluginRequest"]["example"].clone();
    plugin["name"] = json!("redact");
    assert_eq!(server.api.post("/v1/plugins", &plugin).await.0, 201);
    let mut sent = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let id = match path.split('/').nth(2) {
                Some("tenants") => "default",
                Some("keys") => key["id"].as_str().unwrap(),
                Some("listeners") => listener["id"].as_str().unwrap(),
                _ => subscriber["id"].as_str().unwrap(),
            };
            // Without a tenant, an operator's key has to say whose the new one is.
            let of_a_tenant = path.starts_with("/v1/keys");
            let caller = if of_a_tenant { server.tenant("acme") } else { server.api.clone() };
            let path = path.replace("{id}", id).replace("{name}", "order.created");
            for body in examples(&api, schema) {
                // A change has a secret only beside a URL at another host.
                if method == Method::PATCH && body.get("secret").is_some_and(Value::is_string) {
                    continue;
                }
                // Tests do not use a name server.
                let body = body.to_string().replace("https://example.com/", "http://127.0.0.1:9/");
                let answer = caller.send(method.clone(), &path, &[JSON], body.clone()).await;
                // 409: an example is sent twice with different fields.
                let accepted = (200..300).contains(&answer.status) || answer.status == 409;
                assert!(accepted, "{method} {path} {body}: {}", answer.text());
                sent.insert(format!("{method} {body}"));
            }
        }
    }
    for part in [
        r#""timeout":10"#,
        r#""timeout":"10s""#,
        r#""data":[1,"two"]"#,
        r#""policy":null"#,
        r#""since":1700000000"#,
    ] {
        assert!(sent.iter().any(|body| body.contains(part)), "no example has {part}: {sent:#?}");
    }
    assert!(sent.len() > 60, "{}", sent.len());
}

/// The values that the description gives for a schema: its examples, and for an object one value per example of each
/// property.
fn examples(api: &Value, schema: &Value) -> Vec<Value> {
    if let Some(reference) = schema["$ref"].as_str() {
        return examples(api, api.pointer(&reference[1..]).unwrap());
    }
    let given = schema["examples"].as_array().into_iter().flatten().chain(schema.get("example"));
    let mut found: Vec<_> = given.cloned().collect();
    let is_given = !found.is_empty();
    for variant in ["oneOf", "allOf"].iter().flat_map(|name| schema[name].as_array().into_iter().flatten()) {
        // Examples stand for the variants of their own type.
        if !is_given || matches!(variant["type"].as_str(), Some("null" | "array")) {
            found.extend(examples(api, variant));
        }
    }
    let types: Vec<_> = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if types.contains(&"null") {
        found.push(Value::Null);
    }
    if is_given {
        return found;
    }
    for one in types {
        match one {
            "object" => found.extend(objects(api, schema)),
            "array" => found.push(examples(api, &schema["items"]).into_iter().take(1).collect()),
            "boolean" => found.extend([json!(true), json!(false)]),
            "integer" | "number" => {
                let bounds = ["minimum", "maximum"].into_iter().filter_map(|bound| schema.get(bound));
                found.extend(bounds.cloned());
            }
            "string" => {
                let words = schema["enum"].as_array().cloned();
                found.extend(words.unwrap_or_else(|| vec![json!("text")]));
            }
            _ => {}
        }
    }
    found
}

/// An object with the required properties, and for each example of each property one that also has this.
fn objects(api: &Value, schema: &Value) -> Vec<Value> {
    let Some(properties) = schema["properties"].as_object() else { return vec![json!({})] };
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let with_required = || {
        required.iter().map(|name| {
            let example = examples(api, &properties[*name]).into_iter().next();
            ((*name).to_owned(), example.unwrap_or_else(|| panic!("{name} has no example")))
        })
    };
    let base: Map<_, _> = with_required().collect();
    let mut found = vec![Value::Object(base.clone())];
    for (name, property) in properties {
        for example in examples(api, property) {
            let mut object = base.clone();
            object.insert(name.clone(), example);
            found.push(Value::Object(object));
        }
    }
    found
}
