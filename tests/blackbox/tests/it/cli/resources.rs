//! Commands of resources: lists, single items and actions, in all formats.

use serde_json::{Value, json};

use super::Stage;
use crate::client::text;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_resource_is_listed_read_and_changed() {
    let stage = Stage::start().await;
    subscribers(&stage).await;
    types(&stage).await;
    keys_tenants_and_audit(&stage).await;
    formats(&stage).await;
    failures(&stage).await;
    stage.stop().await;
}

async fn subscribers(stage: &Stage) {
    let hook = stage.receiver.url("/hook");
    let create = ["subscribers", "create", &hook, "order.*", "user.*", "--set", "/uid=billing"];
    let made = stage.json(&create).await;
    assert_eq!((&made["uid"], &made["events"]), (&json!("billing"), &json!(["order.*", "user.*"])));
    let id = text(&made["id"]);
    let get = stage.json(&["subscribers", "get", "billing"]).await;
    assert_eq!(&get["id"], id);
    let change = [
        "subscribers",
        "change",
        "billing",
        "--set",
        "/description=of the shop",
        "--set",
        "/policy/max_attempts=2",
    ];
    let changed = stage.json(&change).await;
    assert_eq!(
        (&changed["description"], &changed["policy"]["max_attempts"]),
        (&json!("of the shop"), &json!(2))
    );
    for (action, field, value) in [
        ("pause", "/paused_at", None),
        ("resume", "/paused_at", Some(Value::Null)),
        ("deactivate", "/active", Some(json!(false))),
        ("activate", "/active", Some(json!(true))),
    ] {
        let answer = stage.json(&["subscribers", action, "billing"]).await;
        let found = answer.pointer(field).unwrap();
        assert!(value.as_ref().map_or(!found.is_null(), |value| value == found), "{action}: {answer}");
    }
    let old = stage.json(&["subscribers", "secret", "billing"]).await;
    assert_eq!(old["secret"], made["secret"]);
    let new = stage.json(&["subscribers", "rotate-secret", "billing", "--overlap-seconds", "60"]).await;
    assert_ne!(new["secret"], old["secret"]);
    assert!(text(&stage.json(&["subscribers", "test", "billing"]).await["id"]).starts_with("evt_"));
    stage.run(&["subscribers", "recover", "billing", "--since", "0"]).await.fails(2, "--yes");
    let recovered = stage.json(&["subscribers", "recover", "billing", "--since", "0", "--yes"]).await;
    assert_eq!(recovered["requeued"], 0);
    let put = stage.json(&["subscribers", "put", "billing", &hook, "order.*"]).await;
    assert_eq!((&put["id"], &put["description"]), (&json!(id), &json!("")));
    let deleted = stage.run(&["subscribers", "delete", "billing"]).await;
    assert_eq!((deleted.out.as_str(), deleted.err.as_str()), ("", "done\n"), "{deleted:?}");
}

async fn types(stage: &Stage) {
    let create =
        ["types", "create", "order.created", "-d", r#"{"group":"a"}"#, "--set", r#"/example={"order":1.50}"#];
    assert_eq!(stage.json(&create).await["group"], "a");
    let changed = stage.json(&["types", "change", "order.created", "--set", "/deprecated=true"]).await;
    assert_eq!(changed["deprecated"], true);
    let put = stage.json(&["types", "put", "order.paid", "-d", r#"{"description":"Paid"}"#]).await;
    assert_eq!(put["description"], "Paid");
    let table = stage.run(&["types", "list"]).await.ok();
    assert!(table.starts_with("NAME ") && table.contains("order.created"), "{table}");
    assert_eq!(stage.run(&["types", "list", "-o", "id"]).await.ok(), "order.created\norder.paid\n");
    let openapi = stage.run(&["types", "export"]).await.json();
    assert!(openapi["webhooks"]["order.created"].is_object(), "{openapi}");
    assert!(stage.run(&["types", "export", "--format", "typescript"]).await.ok().contains("export"));
    let imported =
        stage.run_with(&["types", "import", "-d", "-", "-o", "json"], &openapi.to_string()).await.json();
    assert!(imported["created"].is_array(), "{imported}");
    stage.run(&["send", "order.created", "-d", r#"{"order":1}"#]).await.ok();
    assert_eq!(stage.json(&["types", "infer", "order.created"]).await["events"], 1);
    stage.run(&["types", "delete", "order.paid"]).await.ok();
    stage.run(&["types", "get", "never.seen"]).await.fails(3, "404");
}

async fn keys_tenants_and_audit(stage: &Stage) {
    let tenant = stage.json(&["tenants", "create", "acme", "--set", "/name=Acme Ltd"]).await;
    assert_eq!(tenant["name"], "Acme Ltd");
    let changed = stage.json(&["tenants", "change", "acme", "--set", "/retention/payloads=7d"]).await;
    assert_eq!(changed["retention"]["payloads"], "7d");
    assert_eq!(stage.json(&["tenants", "get", "acme"]).await["id"], "acme");
    assert!(stage.run(&["tenants", "list", "-o", "id"]).await.ok().contains("acme\n"));

    let made = stage.json(&["keys", "create", "shop", "publisher", "--tenant", "acme"]).await;
    assert_eq!((&made["tenant"], &made["name"]), (&json!("acme"), &json!("shop")));
    let id = text(&made["id"]);
    assert_eq!(stage.json(&["keys", "get", id]).await["name"], "shop");
    let changed = stage.json(&["keys", "change", id, "--set", r#"/scopes=["support"]"#]).await;
    assert!(changed["scopes"].as_array().unwrap().contains(&json!("deliveries:retry")), "{changed}");
    let rotated = stage.json(&["keys", "rotate", id, "--overlap-seconds", "0"]).await;
    assert_ne!(rotated["key"], made["key"]);
    assert!(stage.run(&["keys", "list", "-o", "id"]).await.ok().contains(id));
    // The scopes of the key decide, and the tenant of the key is the only one.
    let refused = super::run(
        &stage.program().args(["tenants", "list"]).env("POSTRIDER_KEY", text(&rotated["key"])),
        "",
    )
    .await;
    refused.fails(4, "tenants:manage");
    assert_eq!(stage.run(&["keys", "revoke", id]).await.code, 0);

    stage.run(&["tenants", "delete", "acme"]).await.fails(2, "--yes");
    assert_eq!(stage.run(&["tenants", "delete", "acme", "--yes"]).await.code, 0);
    let audit = stage.json(&["audit", "list", "--action", "key.created"]).await;
    assert_eq!((&audit[0]["action"], &audit[0]["target"]), (&json!("key.created"), &json!(id)));
}

async fn formats(stage: &Stage) {
    for number in 1..=3 {
        let data = format!(r#"{{"total":1.50,"number":{number}}}"#);
        stage.run(&["send", "format.tried", "-d", &data]).await.ok();
    }
    let list = ["events", "list", "--event", "format.tried"];
    let json = stage.json(&list).await;
    let ids: Vec<&str> = json.as_array().unwrap().iter().map(|event| text(&event["id"])).collect();
    assert_eq!(ids.len(), 3);
    let with = async |more: &[&str]| stage.run(&[&list, more].concat()).await;
    assert_eq!(with(&["-o", "id", "--all"]).await.ok(), format!("{}\n", ids.join("\n")));
    let lines = with(&["-o", "jsonl"]).await.ok();
    let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(Value::from(parsed), json);
    let table = with(&["--limit", "2"]).await;
    assert!(table.err.contains("--all"), "{table:?}");
    let rows: Vec<&str> = table.out.lines().collect();
    assert!(rows.len() == 3 && rows[0].starts_with("ID ") && rows[1].starts_with(ids[0]), "{rows:?}");
    assert!(!table.out.contains('\u{1b}'), "no colours without a terminal");
    // Data is printed as it was sent.
    let event = stage.run(&["events", "get", ids[0], "-o", "json"]).await.ok();
    assert!(event.contains("\"total\": 1.50"), "{event}");
    stage.run(&["events", "erase", ids[0]]).await.ok();
    assert_eq!(stage.json(&["events", "get", ids[0]]).await["payload"], "erased");
    let none = stage.run(&["events", "list", "--event", "never.sent"]).await;
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (0, "", "none found\n"));
    assert_eq!(stage.run(&["events", "list", "--event", "never.sent", "-o", "json"]).await.json(), json!([]));

    // A reader that has seen enough is no failure.
    let mut command = stage.program().args(["events", "list", "--all", "-o", "json"]).command();
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().await.unwrap().success());
}

async fn failures(stage: &Stage) {
    let unknown = "evt_01h455vb4pex5vsknk084sn02q";
    stage.run(&["events", "get", unknown]).await.fails(3, "404");
    stage.run(&["send", "not a type"]).await.fails(4, "event");
    stage.run(&["deliveries", "list", "--status", "lost"]).await.fails(4, "status");
    stage.run(&["events", "list", "--limit", "0"]).await.fails(2, "--limit");
    stage.run(&["events"]).await.fails(2, "Usage");
    stage.run(&["send", "a", "-d", "{"]).await.fails(2, "JSON");
    let with_key = stage.program().args(["events", "list"]).env("POSTRIDER_KEY", "a wrong key");
    super::run(&with_key, "").await.fails(4, "postrider login");
    let elsewhere = stage.program().args(["events", "list"]).env("POSTRIDER_URL", "http://127.0.0.1:1");
    super::run(&elsewhere, "").await.fails(1, "cannot be reached");
}
