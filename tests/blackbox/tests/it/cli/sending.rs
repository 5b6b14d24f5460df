//! Dispatching events, and what becomes of them: `send`, `trigger`, deliveries, attempts, dead letters.

use postrider_testkit::{Behaviour, Receiver, eventually, receiver::Gate};
use serde_json::{Value, json};

use super::{Stage, completing, terminal};
use crate::client::{subscribe_with, text};
use crate::deployment::DEADLINE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_sent_and_followed() {
    let stage = Stage::start().await;
    let receiver = &stage.receiver;
    receiver.on("/bad", Behaviour::Status(503));
    let gate = Gate::closed();
    receiver.on("/slow", Behaviour::Status(200).behind(&gate));
    for (path, pattern) in [("/good", "good.*"), ("/bad", "bad.*"), ("/slow", "slow.*")] {
        let subscriber = json!({"url": receiver.url(path), "events": [pattern], "uid": &path[1..]});
        subscribe_with(&stage.api, subscriber).await;
    }
    send(&stage).await;
    top(&stage).await;
    terminal::terminals(&stage).await;
    trigger(&stage).await;
    follow(&stage).await;
    replay(&stage).await;
    completing::ids_and_names(&stage).await;
    doctor(&stage).await;
    // A server that stops waits for requests in flight.
    gate.open();
    stage.stop().await;
}

async fn send(stage: &Stage) {
    let file = stage.home.path().join("data.json");
    std::fs::write(&file, r#"{"from":"a file","total":1.50}"#).unwrap();
    let at_file = format!("@{}", file.display());
    let sent = [
        "send",
        "good.one",
        "-d",
        &at_file,
        "--id",
        "one",
        "--metadata",
        "run=1",
        "--agent",
        "tests",
        "--wait",
    ];
    let deliveries = stage.json(&sent).await;
    assert_eq!((deliveries.as_array().unwrap().len(), &deliveries[0]["status"]), (1, &json!("succeeded")));
    let body = String::from_utf8(stage.receiver.requests()[0].body.clone()).unwrap();
    assert!(body.contains(r#"{"from":"a file","total":1.50}"#) && body.contains("tests"), "{body}");
    let again = stage.json(&sent[..sent.len() - 1]).await;
    assert_eq!(again["duplicate"], true);

    stage.run_with(&["send", "good.two", "-d", "-", "--wait"], r#"{"from":"standard input"}"#).await.ok();
    let nobody = stage.run(&["send", "nobody.hears", "--wait"]).await;
    assert!(nobody.code == 0 && nobody.err.contains("no subscriber"), "{nobody:?}");
    let bad = stage.run(&["send", "bad.one", "--wait"]).await;
    assert!(bad.out.contains("dead"), "{bad:?}");
    bad.fails(1, "1 of 1 deliveries did not succeed");
    stage.run(&["send", "slow.one", "--wait", "--timeout", "1"]).await.fails(5, "pending");
}

async fn trigger(stage: &Stage) {
    stage.run(&["trigger", "good.example"]).await.fails(3, "404");
    stage.run(&["types", "create", "good.example"]).await.ok();
    stage.run(&["trigger", "good.example"]).await.fails(3, "--from");
    stage
        .run(&["types", "change", "good.example", "--set", r#"/example={"order":{"id":"o1","total":9}}"#])
        .await
        .ok();
    let data = async |more: &[&str]| {
        let id = stage.run(&[&["trigger", "good.example", "-o", "id"], more].concat()).await.ok();
        stage.json(&["events", "get", id.trim()]).await["data"].take()
    };
    assert_eq!(data(&["--set", "/order/total=7"]).await, json!({"order": {"id": "o1", "total": 7}}));
    let earlier = stage.run(&["send", "good.other", "-d", r#"{"earlier":true}"#, "-o", "id"]).await.ok();
    assert_eq!(
        data(&["--from", earlier.trim(), "--set", "/note=a b"]).await,
        json!({"earlier": true, "note": "a b"})
    );
    // An editor that replaces what it is given.
    let editor = stage.program().env("EDITOR", r#"sh -c 'echo "{\"edited\":1}" > "$1"' editor"#);
    let edited = super::run(&editor.args(["trigger", "good.example", "--edit", "-o", "id"]), "").await.ok();
    assert_eq!(stage.json(&["events", "get", edited.trim()]).await["data"], json!({"edited": 1}));
}

async fn follow(stage: &Stage) {
    let dead = stage.json(&["dead", "list", "--subscriber-id", "bad"]).await;
    let id = text(&dead[0]["id"]).to_owned();
    assert_eq!(stage.json(&["dead", "get", &id]).await["status"], "dead");
    let attempts = stage.json(&["attempts", "list", &id]).await;
    let numbers: Vec<&Value> =
        attempts.as_array().unwrap().iter().map(|attempt| &attempt["number"]).collect();
    assert_eq!(numbers, [2, 1]);
    let table = stage.run(&["attempts", "list", &id]).await.ok();
    assert!(table.contains("NUMBER") && table.contains("503"), "{table}");

    let [one, two] = [1, 2].map(|number| format!("{id}/{number}"));
    let diff = stage.run(&["diff", &one, &two]).await.ok();
    assert!(diff.contains("-  \"number\": 1,") && diff.contains("+  \"number\": 2,"), "{diff}");
    let ids = [text(&attempts[1]["id"]), text(&attempts[0]["id"])];
    assert!(stage.run(&["diff", ids[0], ids[1]]).await.ok().contains("+  \"number\": 2,"));
    assert!(stage.run(&["diff", ids[0], ids[1], "--delivery", &id]).await.ok().contains("+  \"number\": 2,"));
    stage.run(&["diff", &one, "att_01h455vb4pex5vsknk084sn02q"]).await.fails(3, "--delivery");

    stage.run(&["dead", "requeue", "--subscriber-id", "bad"]).await.fails(2, "--yes");
    stage.run(&["dead", "requeue", "--yes"]).await.fails(4, "all");
    stage.receiver.on("/bad", Behaviour::Status(200));
    assert_eq!(stage.json(&["dead", "requeue", &id, "--yes"]).await["requeued"], 1);
    eventually(DEADLINE, || async {
        (stage.json(&["deliveries", "get", &id]).await["status"] == "succeeded").then_some(())
    })
    .await;

    let before = stage.receiver.requests_to("/bad").len();
    let curl = stage.run(&["curl", &id]).await.ok();
    assert!(
        curl.starts_with("curl -sS -X 'POST' 'http://127.0.0.1:") && curl.contains("webhook-signature"),
        "{curl}"
    );
    let has_curl = tokio::process::Command::new("sh").args(["-c", "command -v curl"]).output().await.unwrap();
    if has_curl.status.success() {
        let ran = tokio::process::Command::new("sh").args(["-c", &curl]).output().await.unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let requests = stage.receiver.requests_to("/bad");
        assert_eq!(requests.len(), before + 1);
        assert_eq!(requests[before].body, requests[before - 1].body);
    } else {
        println!("skipped: curl is not installed");
    }

    let slow = stage.json(&["deliveries", "list", "--subscriber-id", "slow", "--status", "pending"]).await;
    let slow = text(&slow[0]["id"]).to_owned();
    stage.run(&["deliveries", "cancel", &slow]).await.ok();
    assert_eq!(stage.json(&["deliveries", "get", &slow]).await["status"], "cancelled");
    let sent = stage.receiver.requests_to("/bad").len();
    stage.run(&["deliveries", "retry", &id]).await.ok();
    eventually(DEADLINE, || async {
        let delivery = stage.json(&["deliveries", "get", &id]).await;
        (stage.receiver.requests_to("/bad").len() > sent && delivery["status"] == "succeeded").then_some(())
    })
    .await;
    stage.receiver.on("/bad", Behaviour::Status(410));
    let gone = stage.json(&["send", "bad.gone"]).await;
    let of_gone = format!("/v1/deliveries?event_id={}", text(&gone["id"]));
    let delivery = eventually(DEADLINE, || async {
        let delivery = crate::client::list(&stage.api, &of_gone).await.remove(0);
        (delivery["status"] == "dead").then_some(delivery)
    })
    .await;
    stage.run(&["dead", "delete", text(&delivery["id"])]).await.ok();
}

async fn replay(stage: &Stage) {
    let before = stage.receiver.requests_to("/good").len();
    let again =
        ["replay", "--mode", "all", "--event", "good.*", "--response-code", "2xx", "--max-attempts", "1"];
    let replay = stage.json(&[&again[..], &["--yes", "--wait"]].concat()).await;
    assert_eq!((&replay["status"], &replay["failed"]), (&json!("done"), &json!(0)), "{replay}");
    let total = usize::try_from(replay["total"].as_u64().unwrap()).unwrap();
    assert!(total > 0, "{replay}");
    stage.receiver.wait_for_path("/good", before + total, DEADLINE).await;
    stage.run(&[&again[..], &["--dry-run", "--wait"]].concat()).await.fails(2, "--dry-run");
    stage.run(&["replay", "--error-kind", "no such", "--yes"]).await.fails(4, "error_kind");
}

async fn top(stage: &Stage) {
    let text = stage.run(&["top", "--count", "2", "--interval", "1"]).await.ok();
    for part in ["created 0.0/s", "queue ", "p99 ", "FAILURES", "/bad"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    let once = stage.run(&["top"]).await.ok();
    assert_eq!(once.matches("latency").count(), 1, "without a terminal it prints one look: {once}");
    let json = stage.run(&["top", "--count", "1", "-o", "jsonl"]).await.json();
    assert!(json["stats"]["deliveries"]["succeeded"].as_u64().unwrap() > 0, "{json}");
}

async fn doctor(stage: &Stage) {
    let checks = stage.json(&["doctor"]).await;
    let result = |name: &str| {
        let check = checks.as_array().unwrap().iter().find(|check| check["check"] == name);
        check.unwrap_or_else(|| panic!("no {name} in {checks}"))["result"].clone()
    };
    // Plain HTTP on loopback is only a warning.
    assert_eq!(
        ["transport", "server", "readiness", "clock", "key"].map(result),
        ["warning", "ok", "ok", "ok", "ok"]
    );
    let good = stage.run(&["doctor", "good"]).await.ok();
    assert!(good.contains("succeeded with 200"), "{good}");
    for part in ["127.0.0.1 (loopback", "POSTRIDER_ALLOW_NETS", "accepted it in", "plain HTTP", "server"] {
        assert!(good.contains(part), "{part}: {good}");
    }
    // Neither this machine nor the server trusts the authority of this receiver.
    let tls = Receiver::start_tls("127.0.0.1").await;
    let subscriber = json!({"url": tls.url("/"), "events": ["tls.*"], "uid": "tls"});
    subscribe_with(&stage.api, subscriber).await;
    let tls = stage.run(&["doctor", "tls", "-o", "json"]).await;
    let checks: Value = serde_json::from_str(&tls.out).unwrap();
    let check = |name: &str, from: &str| {
        let is_it = |check: &&Value| check["check"] == name && check["from"] == from;
        let check = checks.as_array().unwrap().iter().find(is_it);
        check.unwrap_or_else(|| panic!("no {name} from {from} in {checks}")).clone()
    };
    assert_eq!(check("connection", "here")["result"], "ok");
    assert_eq!(check("tls", "here")["result"], "failed");
    let certificate = text(&check("certificate", "here")["detail"]).to_owned();
    assert!(
        certificate.contains("it is for 127.0.0.1, issued by") && certificate.contains("until "),
        "{certificate}"
    );
    assert!(text(&check("attempt", "server")["detail"]).contains("not trusted"), "{checks}");
    tls.fails(1, "checks failed");
    let bad = stage.run(&["doctor", "bad"]).await;
    assert!(bad.out.contains("it is not active: gone"), "{bad:?}");
    bad.fails(1, "1 of ");
    stage.run(&["doctor", "unknown"]).await.fails(3, "404");
    let elsewhere = stage.program().env("POSTRIDER_URL", "http://127.0.0.1:1").arg("doctor");
    super::run(&elsewhere, "").await.fails(1, "checks failed");
}
