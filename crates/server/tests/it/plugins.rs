//! Plugins: installed and removed by operators, and chosen by subscribers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api::{TestServer, fields};
use crate::keys::{acme, made};

/// A module that returns an empty object, followed by a custom section of this many bytes.
fn module(bytes: usize) -> String {
    let mut wasm = wat::parse_str(
        r#"(module (memory (export "memory") 1) (data (i32.const 0) "{\"data\":{}}")
            (func (export "postrider_abi") (result i32) (i32.const 1))
            (func (export "postrider_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "postrider_transform") (param i32 i32) (result i64) (i64.const 11)))"#,
    )
    .unwrap();
    if bytes > 0 {
        let length = u32::try_from(bytes).unwrap();
        wasm.push(0);
        // LEB128 (WebAssembly's specification, section 5.2.2) in five bytes.
        wasm.extend((0..4).map(|place| (length >> (7 * place) & 0x7f) as u8 | 0x80));
        wasm.push((length >> 28) as u8);
        wasm.resize(wasm.len() + bytes, 0);
    }
    STANDARD.encode(wasm)
}

fn plugin(name: &str, version: &str, module: &str) -> Value {
    json!({"name": name, "version": version, "module": module})
}

#[tokio::test]
async fn an_operator_installs_lists_and_removes_plugins() {
    let server = TestServer::start().await;
    let request = plugin("empty", "1.0.0", &module(0));
    let (status, created) = server.api.post("/v1/plugins", &request).await;
    assert_eq!(status, 201, "{created}");
    assert_eq!((&created["name"], &created["version"]), (&json!("empty"), &json!("1.0.0")));
    assert_eq!(created["checksum"].as_str().unwrap().len(), 64);
    assert_eq!(created["size"], STANDARD.decode(module(0)).unwrap().len());
    let (status, again) = server.api.post("/v1/plugins", &request).await;
    assert_eq!((status, &again["checksum"]), (200, &created["checksum"]));
    let other = plugin("empty", "1.0.0", &module(1));
    assert_eq!(server.api.post("/v1/plugins", &other).await.0, 409, "the same version");
    let (status, replaced) = server.api.post("/v1/plugins", &plugin("empty", "1.0.1", &module(1))).await;
    assert_eq!(status, 200, "{replaced}");
    assert_ne!(replaced["checksum"], created["checksum"]);
    let (_, listed) = server.api.get("/v1/plugins").await;
    assert_eq!(listed, json!({"data": [replaced], "next_cursor": null}));

    let (_, rows) = server.api.get("/v1/audit?limit=1").await;
    let row = &rows["data"][0];
    assert_eq!((&row["action"], &row["target"]), (&json!("plugin.added"), &json!("empty")));
    assert!(!rows.to_string().contains(&module(0)), "no module is in the trail");

    assert_eq!(server.api.delete("/v1/plugins/empty").await.0, 204);
    assert_eq!(server.api.delete("/v1/plugins/empty").await.0, 404);
    let (tenant, _) = made(&server, &server.api, &acme(&["tenant_admin"])).await;
    assert_eq!(tenant.get("/v1/plugins").await.0, 403);
}

#[tokio::test]
async fn a_module_that_is_no_plugin_is_refused() {
    let server = TestServer::start().await;
    let imports = wat::parse_str(r#"(module (import "env" "now" (func)))"#).unwrap();
    for (name, version, module, field, message) in [
        ("Empty", "1", module(0), "name", "a-z"),
        ("empty", "", module(0), "version", "1 to 64"),
        ("empty", "1", "not base64!".to_owned(), "module", "base64"),
        ("empty", "1", STANDARD.encode("not a module"), "module", "not a valid WebAssembly module"),
        ("empty", "1", STANDARD.encode(imports), "module", "cannot import anything"),
        ("empty", "1", STANDARD.encode(b"\0asm\x01\0\0\0"), "module", "must export `memory`"),
    ] {
        let (status, problem) = server.api.post("/v1/plugins", &plugin(name, version, &module)).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{problem}");
        assert!(problem["errors"][0]["message"].as_str().unwrap().contains(message), "{problem}");
    }
    let (status, problem) = server.api.post("/v1/plugins", &json!({})).await;
    assert_eq!((status, fields(&problem)), (422, vec!["name", "version", "module"]));
    assert_eq!(server.api.get("/v1/plugins").await.1["data"], json!([]));
}

/// The largest module is four times as large as other bodies may be.
#[tokio::test]
async fn a_module_may_be_larger_than_other_bodies() {
    let server = TestServer::start().await;
    let large = module(4 * 1024 * 1024 - 1000);
    assert_eq!(server.api.post("/v1/plugins", &plugin("large", "1", &large)).await.0, 201);
    let larger = module(4 * 1024 * 1024);
    let (status, problem) = server.api.post("/v1/plugins", &plugin("large", "2", &larger)).await;
    assert_eq!((status, fields(&problem)), (422, vec!["module"]), "{problem}");
    let event = json!({"event": "a.b", "data": {"text": large}});
    assert_eq!(server.api.post("/v1/events", &event).await.0, 413);
}

#[tokio::test]
async fn a_subscriber_chooses_a_plugin() {
    let server = TestServer::start().await;
    let subscriber = |plugin: Value| json!({"url": "http://127.0.0.1:9/", "events": ["*"], "plugin": plugin});
    let choice = json!({"name": "redact", "config": {"fields": ["card"], "depth": 3}});
    let (status, problem) = server.api.post("/v1/subscribers", &subscriber(choice.clone())).await;
    assert_eq!((status, fields(&problem)), (422, vec!["plugin.name"]), "{problem}");
    for name in ["redact", "other"] {
        assert_eq!(server.api.post("/v1/plugins", &plugin(name, "1", &module(0))).await.0, 201);
    }
    let (status, created) = server.api.post("/v1/subscribers", &subscriber(choice.clone())).await;
    assert_eq!((status, &created["plugin"]), (201, &choice), "{created}");
    let path = format!("/v1/subscribers/{}", created["id"].as_str().unwrap());
    assert_eq!(server.api.get(&path).await.1["plugin"], choice);
    assert_eq!(server.api.delete("/v1/plugins/redact").await.0, 409, "it is used");

    for (change, expected) in [
        (json!({"description": "x"}), choice.clone()),
        (
            json!({"plugin": {"config": {"depth": null, "mask": true}}}),
            json!({"name": "redact", "config": {"fields": ["card"], "mask": true}}),
        ),
        (json!({"plugin": {"config": null}}), json!({"name": "redact", "config": {}})),
        (json!({"plugin": {"config": {"a": 1}}}), json!({"name": "redact", "config": {"a": 1}})),
        (json!({"plugin": {"name": "other"}}), json!({"name": "other", "config": {}})),
        (json!({"plugin": null}), Value::Null),
        (json!({"plugin": {"name": "redact"}}), json!({"name": "redact", "config": {}})),
    ] {
        let (status, changed) = server.api.patch(&path, &change).await;
        assert_eq!((status, &changed["plugin"]), (200, &expected), "{change}");
    }
    let long = "x".repeat(4096);
    for (plugin, field) in [
        (json!({"name": null}), "plugin.name"),
        (json!({"name": "gone"}), "plugin.name"),
        (json!({"name": "A B"}), "plugin.name"),
        (json!({"config": {"long": long}}), "plugin.config"),
        (json!({"config": []}), "plugin.config"),
        (json!({"version": "1"}), "plugin.version"),
        (json!([]), "plugin"),
    ] {
        let (status, problem) = server.api.patch(&path, &json!({"plugin": plugin})).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{plugin}: {problem}");
    }
    let (status, replaced) = server.api.put(&path, &subscriber(json!({"name": "other"}))).await;
    assert_eq!((status, &replaced["plugin"]), (200, &json!({"name": "other", "config": {}})));
    let (status, replaced) =
        server.api.put(&path, &json!({"url": "http://127.0.0.1:9/", "events": ["*"]})).await;
    assert_eq!((status, &replaced["plugin"]), (200, &Value::Null), "a replacement takes the defaults");
    assert_eq!(server.api.delete("/v1/plugins/redact").await.0, 204);
}
