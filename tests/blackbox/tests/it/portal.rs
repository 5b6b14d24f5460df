//! The portal of subscribers' owners, read as HTML. One deployment serves all checks.

use std::fs;
use std::time::Duration;

use postrider_testkit::api::Answer;
use postrider_testkit::receiver::ReceivedRequest;
use postrider_testkit::{Api, Behaviour, Receiver, eventually};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::client::{list, subscribe_with, text};
use crate::console::Browser;
use crate::deployment::{ADMIN_KEY, DEADLINE, Deployment};
use crate::verifiers::run;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_looks_after_their_endpoints() {
    let deployment =
        Deployment::with(1, &[("POSTRIDER_RETRY_SCHEDULE", "100ms"), ("POSTRIDER_MAX_ATTEMPTS", "2")]).await;
    let url = deployment.server_url().await;
    what_a_link_may_be(&deployment.api).await;
    let (status, registered) = deployment
        .api
        .put("/v1/event-types/order.created", &json!({"description": "An order was placed."}))
        .await;
    assert!(status < 300, "{registered}");
    a_link_works_once(&deployment, &url).await;
    let request = an_endpoint_of_their_own(&deployment, &url).await;
    only_what_the_link_allows(&deployment, &url).await;
    framed_by_those_who_may(&deployment, &url).await;
    a_session_ends_with_its_key(&deployment, &url).await;
    the_samples_verify(&request).await;
    deployment.stop().await;
}

async fn link(api: &Api, body: &Value) -> String {
    let (status, link) = api.post("/v1/portal/links", body).await;
    assert_eq!(status, 201, "{link}");
    text(&link["url"]).to_owned()
}

/// Opens a link as the script does.
async fn enter(url: &str, link: &str) -> (Browser, Answer) {
    let mut browser = Browser::new(url);
    let secret = link.rsplit('#').next().unwrap();
    let answer = browser.post("/portal/enter", &format!("link=%23{secret}")).await;
    if let Some(cookie) = answer.header("set-cookie") {
        cookie.split(';').next().unwrap_or_default().clone_into(&mut browser.cookie);
    }
    (browser, answer)
}

async fn visit(url: &str, link: &str) -> Browser {
    let (browser, answer) = enter(url, link).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("./endpoints")), "{}", answer.text());
    browser
}

async fn what_a_link_may_be(api: &Api) {
    for (body, field) in [
        (json!({"scopes": ["keys:manage"]}), "scopes[0]"),
        (json!({"scopes": ["nothing"]}), "scopes[0]"),
        (json!({"scopes": []}), "scopes"),
        (json!({"expires_in": 0}), "expires_in"),
        (json!({"expires_in": 86_401}), "expires_in"),
        (json!({"session_ttl": 59}), "session_ttl"),
        (json!({"session_ttl": "13h"}), "session_ttl"),
        (json!({"expires_in": "soon"}), "expires_in"),
        (json!({"return_url": "javascript:alert(1)"}), "return_url"),
        (json!({"frame_ancestors": ["https://a.example/path"]}), "frame_ancestors[0]"),
        (json!({"frame_ancestors": ["https://a.example; script-src *"]}), "frame_ancestors[0]"),
        (json!({"theme": {"accent": "#ffff00"}}), "theme.accent"),
        (json!({"theme": {"accent": "red; } body { display: none"}}), "theme.accent"),
        (json!({"theme": {"font": "#000000"}}), "theme.font"),
        (json!({"tenant": "UPPER"}), "tenant"),
        (json!({"subscriber_ids": ["nonsense"]}), "subscriber_ids[0]"),
        // Nobody means everything by it.
        (json!({"subscriber_ids": []}), "subscriber_ids"),
    ] {
        let (status, problem) = api.post("/v1/portal/links", &body).await;
        assert_eq!(status, 422, "{body}: {problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{body}: {problem}");
    }
}

async fn a_link_works_once(deployment: &Deployment, url: &str) {
    let link = link(&deployment.api, &json!({})).await;
    assert!(link.starts_with(&format!("{url}/portal?link=")), "{link}");
    let (page, secret) = link.split_once('#').unwrap();
    let door = Browser::new(url).page(page.trim_start_matches(url)).await;
    assert!(door.contains("data-enter") && !door.contains(secret), "{door}");
    let owner = visit(url, &link).await;
    let empty = owner.page("/portal/endpoints").await;
    assert!(empty.contains("No endpoints yet"), "{empty}");
    let (_, again) = enter(url, &link).await;
    assert_eq!(again.status, 403);
    assert!(again.text().contains("used already or has expired") && again.header("set-cookie").is_none());
    assert_eq!(enter(url, &format!("#{}", "0".repeat(64))).await.1.status, 403);
    // The session is one of the portal, and neither of the console nor of the API.
    let mut console = Browser::new(url);
    console.cookie = owner.cookie.replace("postrider-portal=", "postrider=");
    assert_eq!(console.get("/console/events").await.status, 303);
    let mut portal = Browser::new(url);
    let signed_in = portal.post("/console/login", &format!("key={ADMIN_KEY}")).await;
    portal.cookie = signed_in.header("set-cookie").unwrap().replace("postrider=", "postrider-portal=");
    assert_eq!(portal.get("/portal/endpoints").await.status, 401);
    assert_eq!(owner.post_from("/portal/logout", "", &[("sec-fetch-site", "cross-site")]).await.status, 403);
    assert_eq!(owner.post("/portal/logout", "").await.status, 200);
    assert_eq!(owner.get("/portal/endpoints").await.status, 401);
    let trail = list(&deployment.api, "/v1/audit?action=portal_link.used").await;
    assert_eq!(trail.len(), 1, "{trail:?}");
    assert_eq!(trail[0]["actor_name"], "portal, by environment", "{trail:?}");
}

/// Everything that an owner can do. Returns a request that their endpoint got, and its secret.
async fn an_endpoint_of_their_own(deployment: &Deployment, url: &str) -> (ReceivedRequest, String) {
    let receiver = Receiver::start().await;
    receiver.on("/hook", Behaviour::sequence([200, 500, 500, 200]));
    let owner = visit(url, &link(&deployment.api, &json!({})).await).await;
    let form = owner.page("/portal/endpoints/new").await;
    assert!(form.contains("value=\"order.created\"") && form.contains("An order was placed."), "{form}");
    let wrong = owner.post("/portal/endpoints/new", "url=nonsense&event=order.created").await;
    assert_eq!(wrong.status, 422, "{}", wrong.text());
    let target = receiver.url("/hook");
    let fields = format!("url={target}&event=order.created&patterns=invoice.*+test.%2A");
    let added = owner.post("/portal/endpoints/new", &fields).await;
    assert_eq!(added.status, 303, "{}", added.text());
    let subscribers = list(&deployment.api, "/v1/subscribers").await;
    let id = text(&subscribers[0]["id"]);
    assert_eq!(subscribers[0]["events"], json!(["invoice.*", "order.created", "test.*"]));
    assert!(owner.page("/portal/endpoints").await.contains(&target));

    let verify = format!("/portal/endpoints/{id}/verify");
    assert!(!owner.page(&verify).await.contains("whsec_M"), "not without being asked");
    let shown = owner.post(&verify, "").await.text();
    let (_, secrets) = deployment.api.get(&format!("/v1/subscribers/{id}/secret")).await;
    let secret = text(&secrets["secret"]).to_owned();
    assert!(shown.contains(&secret) && shown.contains("Node.js"), "{shown}");

    let path = format!("/portal/endpoints/{id}");
    assert_eq!(owner.post(&format!("{path}/test"), "").await.status, 303);
    let request = receiver.wait_for(1, DEADLINE).await.remove(0);
    assert_eq!(owner.post(&format!("{path}/test"), "").await.status, 303);
    let dead = format!("/v1/deliveries?subscriber_id={id}&status=dead");
    let dead = eventually(DEADLINE, || async { list(&deployment.api, &dead).await.pop() }).await;
    let page = owner.page(&format!("{path}?status=dead")).await;
    let delivery = text(&dead["id"]);
    assert!(page.contains(delivery) && page.contains("in a row"), "{page}");
    let story = owner.page(&format!("/portal/deliveries/{delivery}")).await;
    assert!(story.contains("Attempt 2") && story.contains("class=\"advice\""), "{story}");
    assert_eq!(owner.post(&format!("{path}/recover"), "hours=1").await.status, 303);
    receiver.wait_for(4, DEADLINE).await;

    for (what, field, value) in [("pause", "paused_at", false), ("resume", "paused_at", true)] {
        assert_eq!(owner.post(&format!("{path}/{what}"), "").await.status, 303);
        let (_, subscriber) = deployment.api.get(&format!("/v1/subscribers/{id}")).await;
        assert_eq!(subscriber[field].is_null(), value, "{what}: {subscriber}");
    }
    let edit = format!("url={target}&event=order.created&description=Mine");
    assert_eq!(owner.post(&format!("{path}/edit"), &edit).await.status, 303);
    assert_eq!(owner.post(&format!("{path}/rotate"), "overlap=1").await.status, 303);
    let (_, changed) = deployment.api.get(&format!("/v1/subscribers/{id}/secret")).await;
    assert_ne!(text(&changed["secret"]), secret);
    let trail = list(&deployment.api, &format!("/v1/audit?target={id}")).await;
    let actors: Vec<_> = trail.iter().map(|entry| &entry["actor_name"]).collect();
    assert!(actors.iter().any(|actor| *actor == "portal, by environment"), "{trail:?}");
    (request, secret)
}

async fn only_what_the_link_allows(deployment: &Deployment, url: &str) {
    let mine =
        subscribe_with(&deployment.api, json!({"url": "http://127.0.0.1:9/mine", "events": ["none"]})).await;
    let theirs =
        subscribe_with(&deployment.api, json!({"url": "http://127.0.0.1:9/theirs", "events": ["none"]}))
            .await;
    let (mine, theirs) = (text(&mine["id"]), text(&theirs["id"]));
    let body = json!({"subscriber_ids": [mine], "scopes": ["subscribers:read", "types:read"]});
    let owner = visit(url, &link(&deployment.api, &body).await).await;
    let all = owner.page("/portal/endpoints").await;
    assert!(all.contains("/mine") && !all.contains("/theirs") && !all.contains("Add an endpoint"), "{all}");
    let one = owner.page(&format!("/portal/endpoints/{mine}")).await;
    for action in ["Send a test", "Change", "Pause", "Recover", "<h2>Deliveries"] {
        assert!(!one.contains(action), "{action}: {one}");
    }
    assert_eq!(owner.get(&format!("/portal/endpoints/{theirs}")).await.status, 404);
    for (path, form) in [
        ("edit", "url=http://127.0.0.1:9/x&event=a"),
        ("test", ""),
        ("pause", ""),
        ("rotate", ""),
        ("verify", ""),
    ] {
        let refused = owner.post(&format!("/portal/endpoints/{mine}/{path}"), form).await;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text());
    }
    let refused = owner.post("/portal/endpoints/new", "url=http://127.0.0.1:9/x&event=a").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    // Of another tenant it sees nothing.
    let other = json!({"tenant": "acme"});
    let operator = deployment.api.post("/v1/portal/links", &other).await;
    assert_eq!(operator.0, 201, "{}", operator.1);
    let owner = visit(url, text(&operator.1["url"])).await;
    assert!(owner.page("/portal/endpoints").await.contains("No endpoints yet"));
    assert_eq!(owner.get(&format!("/portal/endpoints/{mine}")).await.status, 404);
    assert_eq!(owner.get(&format!("/portal/endpoints/{mine}?tenant=default")).await.status, 404);
}

async fn framed_by_those_who_may(deployment: &Deployment, url: &str) {
    let plain = visit(url, &link(&deployment.api, &json!({})).await).await;
    let page = plain.get("/portal/endpoints").await;
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    let body = json!({
        "frame_ancestors": ["https://app.example.com"], "return_url": "https://app.example.com/back",
        "theme": {"accent": "#7a1fa2", "background": "#fffdf7"},
    });
    let link = link(&deployment.api, &body).await;
    let door = Browser::new(url).get(link.split_once('#').unwrap().0.trim_start_matches(url)).await;
    let secret = link.rsplit('#').next().unwrap();
    let mut owner = Browser::new(url);
    let secure = [("origin", "https://hooks.example.com"), ("host", "hooks.example.com")];
    let entered = owner.post_from("/portal/enter", &format!("link=%23{secret}"), &secure).await;
    let cookie = entered.header("set-cookie").expect("a cookie");
    for part in ["__Host-postrider-portal=", "SameSite=None", "Secure", "Partitioned", "HttpOnly"] {
        assert!(cookie.contains(part), "{cookie} lacks {part}");
    }
    cookie.split(';').next().unwrap_or_default().clone_into(&mut owner.cookie);
    let page = owner.get("/portal/endpoints").await;
    for answer in [&door, &page] {
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("frame-ancestors https://app.example.com;"), "{policy}");
        assert_eq!(answer.header("x-frame-options"), None);
    }
    assert!(page.text().contains("https://app.example.com/back") && page.text().contains("theme.css"));
    let theme = owner.page("/portal/theme.css").await;
    assert!(theme.contains("--accent: #7a1fa2;") && theme.contains("--ground: #fffdf7;"), "{theme}");
}

async fn a_session_ends_with_its_key(deployment: &Deployment, url: &str) {
    let body = json!({"name": "app", "tenant": "default", "scopes": ["portal:mint", "subscribers:read"]});
    let (status, key) = deployment.api.post("/v1/keys", &body).await;
    assert_eq!(status, 201, "{key}");
    let minter = Api::new(url, text(&key["key"]));
    let (status, refused) = minter.post("/v1/portal/links", &json!({"scopes": ["secrets:read"]})).await;
    assert_eq!(status, 422, "no stronger than the key: {refused}");
    let (status, refused) = minter.post("/v1/portal/links", &json!({"tenant": "acme"})).await;
    assert_eq!(status, 422, "{refused}");
    let owner = visit(url, &link(&minter, &json!({})).await).await;
    let unused = link(&minter, &json!({})).await;
    assert_eq!(owner.get("/portal/endpoints").await.status, 200);
    // A key that is limited later lets nobody see more than it may itself.
    let key_path = format!("/v1/keys/{}", text(&key["id"]));
    let limits = json!({"limits": {"subscriber_ids": ["sub_01h455vb4pex5vsknk084sn02q"]}});
    assert_eq!(deployment.api.patch(&key_path, &limits).await.0, 200);
    let gone = || async { (owner.get("/portal/endpoints").await.status == 401).then_some(()) };
    eventually(DEADLINE, gone).await;
    assert_eq!(deployment.api.patch(&key_path, &json!({"limits": null})).await.0, 200);
    let back = || async { (owner.get("/portal/endpoints").await.status == 200).then_some(()) };
    eventually(DEADLINE, back).await;
    assert_eq!(deployment.api.delete(&format!("/v1/keys/{}", text(&key["id"]))).await.0, 204);
    let gone = || async { (owner.get("/portal/endpoints").await.status == 401).then_some(()) };
    eventually(DEADLINE, gone).await;
    assert_eq!(enter(url, &unused).await.1.status, 403);
}

/// The code that the portal shows, run on a request that an endpoint got.
async fn the_samples_verify((request, secret): &(ReceivedRequest, String)) {
    const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/console/src/portal/samples");
    let folder = tempfile::tempdir().unwrap();
    let headers: serde_json::Map<String, Value> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), String::from_utf8_lossy(value).into()))
        .collect();
    let body = String::from_utf8(request.body.clone()).unwrap();
    let input = json!({"secret": secret, "body": body, "headers": headers}).to_string();
    fs::write(folder.path().join("input.json"), input).unwrap();
    for (name, program, file, text) in [
        (
            "verify.mjs",
            &["node", "run.mjs"][..],
            "run.mjs",
            "import { readFileSync } from 'node:fs';\nimport { verify } from './verify.mjs';\n\
             const { secret, body, headers } = JSON.parse(readFileSync('input.json'));\n\
             console.log(verify(secret, Buffer.from(body), headers), verify(secret, Buffer.from(body + ' '), headers));\n",
        ),
        (
            "verify.py",
            &["python3", "run.py"][..],
            "run.py",
            "import json\nfrom verify import verify\ngiven = json.load(open('input.json'))\n\
             secret, body, headers = given['secret'], given['body'].encode(), given['headers']\n\
             print(str(verify(secret, body, headers)).lower(), str(verify(secret, body + b' ', headers)).lower())\n",
        ),
        (
            "verify.go",
            &["go", "run", "."][..],
            "main.go",
            "package main\n\nimport (\n\t\"encoding/json\"\n\t\"fmt\"\n\t\"net/http\"\n\t\"os\"\n\t\"sample/webhooks\"\n)\n\n\
             func main() {\n\tvar given struct {\n\t\tSecret, Body string\n\t\tHeaders map[string]string\n\t}\n\
             \ttext, _ := os.ReadFile(\"input.json\")\n\t_ = json.Unmarshal(text, &given)\n\theaders := http.Header{}\n\
             \tfor name, value := range given.Headers {\n\t\theaders.Set(name, value)\n\t}\n\
             \tfmt.Println(webhooks.Verify(given.Secret, []byte(given.Body), headers), webhooks.Verify(given.Secret, []byte(given.Body+\" \"), headers))\n}\n",
        ),
    ] {
        let target = if program[0] == "go" {
            fs::create_dir(folder.path().join("webhooks")).unwrap();
            fs::write(folder.path().join("go.mod"), "module sample\n\ngo 1.20\n").unwrap();
            folder.path().join("webhooks").join(name)
        } else {
            folder.path().join(name)
        };
        fs::copy(format!("{SAMPLES}/{name}"), target).unwrap();
        fs::write(folder.path().join(file), text).unwrap();
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).current_dir(folder.path());
        match run(command, Duration::from_mins(2)).await {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert_eq!(said.trim(), "true false", "{name}: {}", String::from_utf8_lossy(&output.stderr));
            }
            Err(reason) => println!("skipped: {name}: {reason}"),
        }
    }
}
