//! The web console, read as HTML. One deployment serves all checks.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use http::Method;
use postrider_testkit::api::Answer;
use postrider_testkit::{Api, Behaviour, Program, Receiver, eventually};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::client::{dispatch_with, ended, list, subscribe_with, text};
use crate::deployment::{ADMIN_KEY, DEADLINE, Deployment, Member, program};

/// The most bytes of a page, compressed.
const LARGEST_PAGE: usize = 20 * 1024;
const LARGEST_STYLE: usize = 8 * 1024;
const LARGEST_SCRIPT: usize = 8 * 1024;

const HOSTILE: &str = "</title></script><script>alert('x')</script><img src=x onerror=alert(1)>\"'";

/// Somebody with a browser.
pub(crate) struct Browser {
    pub(crate) api: Api,
    /// `name=value`, once signed in.
    pub(crate) cookie: String,
}

impl Browser {
    pub(crate) fn new(url: &str) -> Self {
        Self { api: Api::without_key(url), cookie: String::new() }
    }

    async fn signed_in(url: &str, key: &str) -> Self {
        let mut browser = Self::new(url);
        let answer = browser.sign_in(key, "").await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }

    async fn sign_in(&mut self, key: &str, more: &str) -> Answer {
        let answer = self.post("/console/login", &format!("key={key}{more}")).await;
        if let Some(cookie) = answer.header("set-cookie") {
            cookie.split(';').next().unwrap_or_default().clone_into(&mut self.cookie);
        }
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.api.send(Method::GET, path, &[("cookie", &self.cookie)], "").await
    }

    pub(crate) async fn post(&self, path: &str, form: &str) -> Answer {
        self.post_from(path, form, &[("sec-fetch-site", "same-origin")]).await
    }

    pub(crate) async fn post_from(&self, path: &str, form: &str, headers: &[(&str, &str)]) -> Answer {
        let own = [("cookie", self.cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        self.api.send(Method::POST, path, &[&own, headers].concat(), form.to_owned()).await
    }

    /// The id of its session.
    fn session(&self) -> String {
        let token = hex::decode(self.cookie.split('=').nth(1).unwrap()).unwrap();
        hex::encode(ring::digest::digest(&ring::digest::SHA256, &token))
    }

    /// A page that must be shown.
    pub(crate) async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.text()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_shows_what_its_key_may_see() {
    let deployment = Deployment::with(1, &[("POSTRIDER_RETRY_SCHEDULE", "100ms")]).await;
    let url = deployment.server_url().await;
    signing_in(&deployment, &url).await;
    writes_of_other_sites_are_refused(&url).await;
    headers_keep_a_page_to_itself(&url).await;
    let operator = Browser::signed_in(&url, ADMIN_KEY).await;
    empty_pages_teach(&operator).await;
    let story = Story::tell(&deployment).await;
    the_story_of_an_event(&operator, &story).await;
    actions(&deployment, &operator, &story).await;
    search(&operator, &story).await;
    hostile_data_stays_text(&operator, &story).await;
    another_tenant_sees_nothing(&deployment, &url, &story).await;
    scopes_are_named(&deployment, &url).await;
    sessions_end(&deployment, &url).await;
    links_work_below_a_prefix(&operator, &story).await;
    it_can_have_an_address_of_its_own(&deployment).await;
    deployment.stop().await;
}

async fn signing_in(deployment: &Deployment, url: &str) {
    let mut browser = Browser::new(url);
    let form = browser.page("/console/login").await;
    assert!(form.contains("type=\"password\"") && form.contains("name=\"key\""), "{form}");
    let sent = browser.get("/console/deliveries?status=dead").await;
    assert_eq!(
        (sent.status, sent.header("location")),
        (303, Some("./login?next=deliveries%3Fstatus%3Ddead"))
    );
    let sent = browser.sign_in("wrong", "").await;
    assert_eq!(sent.status, 401);
    assert!(
        sent.text().contains("the key is wrong") && sent.header("set-cookie").is_none(),
        "{}",
        sent.text()
    );
    assert_eq!(browser.get("/console").await.status, 303, "still nobody");
    let sent = browser.sign_in(ADMIN_KEY, "&next=deliveries%3Fstatus%3Ddead").await;
    assert_eq!((sent.status, sent.header("location")), (303, Some("./deliveries?status=dead")));
    let cookie = sent.header("set-cookie").expect("a cookie").to_owned();
    for part in ["postrider=", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie} lacks {part}");
    }
    assert!(!cookie.contains(ADMIN_KEY) && !cookie.contains("Secure"));
    for elsewhere in ["https://evil.example", "//evil.example", "../../x", "javascript:alert(1)"] {
        let sent = Browser::new(url).sign_in(ADMIN_KEY, &format!("&next={elsewhere}")).await;
        assert_eq!(sent.header("location"), Some("./"), "{elsewhere}");
    }
    // Over https.
    let form = format!("key={ADMIN_KEY}");
    let secure = [("origin", "https://console.example"), ("host", "console.example")];
    let sent = Browser::new(url).post_from("/console/login", &form, &secure).await;
    let cookie = sent.header("set-cookie").expect("a cookie");
    assert!(cookie.starts_with("__Host-postrider=") && cookie.contains("; Secure"), "{cookie}");

    // What is stored gives no access.
    let sql = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, "SELECT id FROM sessions");
    let rows = deployment.database.connection().query_all_raw(sql).await.unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let id: Vec<u8> = row.try_get("", "id").unwrap();
        assert!(!browser.cookie.contains(&hex::encode(id)));
    }
    let trail = list(&deployment.api, "/v1/audit?action=session.created").await;
    assert!(trail.iter().all(|entry| entry["actor"] == "environment"), "{trail:?}");
    assert!(trail.len() >= 2, "{trail:?}");
}

async fn writes_of_other_sites_are_refused(url: &str) {
    let browser = Browser::signed_in(url, ADMIN_KEY).await;
    let host = url.trim_start_matches("http://");
    for headers in [
        &[][..],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", url)],
        &[("sec-fetch-site", "none")],
    ] {
        for path in ["/console/logout", "/console/login", "/console/deliveries/replay"] {
            assert_eq!(browser.post_from(path, "key=x", headers).await.status, 403, "{path} {headers:?}");
        }
    }
    assert_eq!(browser.get("/console/sessions").await.status, 200, "still signed in");
    let own = [("origin", url), ("host", host)];
    assert_eq!(browser.post_from("/console/logout", "", &own).await.status, 303);
    assert_eq!(browser.get("/console/sessions").await.status, 303, "signed out");
    // A link on another site comes without the cookie, and is asked for again.
    let linked =
        browser.api.send(Method::GET, "/console/events", &[("sec-fetch-site", "cross-site")], "").await;
    assert!(linked.text().contains("http-equiv=\"refresh\""), "{}", linked.text());
}

async fn headers_keep_a_page_to_itself(url: &str) {
    let browser = Browser::signed_in(url, ADMIN_KEY).await;
    for path in ["/console/login", "/console", "/console/nothing", "/console/tail"] {
        let page = browser.get(path).await;
        let policy = page.header("content-security-policy").unwrap_or_default().to_owned();
        for part in
            ["default-src 'none'", "frame-ancestors 'none'", "script-src 'self'", "trusted-types 'none'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(page.header("referrer-policy"), Some("same-origin"), "{path}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        let html = page.text();
        assert!(!html.contains("<style") && !html.contains(" style="), "{path}: {html}");
        assert!(!html.contains(" onclick") && !html.contains("<script>"), "{path}: {html}");
    }
    let page = browser.page("/console").await;
    for (ending, largest) in [("css\"", LARGEST_STYLE), ("js\"", LARGEST_SCRIPT)] {
        let link = attributes(&page)
            .into_iter()
            .find(|link| format!("{link}\"").ends_with(ending))
            .expect("an asset");
        let asset = browser.api.send(Method::GET, &resolved("/console", &link), &[], "").await;
        assert_eq!(asset.status, 200, "{link} needs no session");
        assert!(asset.header("cache-control").unwrap_or_default().contains("immutable"), "{link}");
        assert!(compressed(&asset.text()).await <= largest, "{link}");
    }
    assert_eq!(browser.get("/console/assets/console.0000000000000000.css").await.status, 404);
}

async fn empty_pages_teach(browser: &Browser) {
    for (path, words) in [
        ("/console", "No subscriber fails"),
        ("/console/events", "curl"),
        ("/console/deliveries", "curl"),
        ("/console/tail", "curl"),
    ] {
        let html = browser.page(path).await;
        assert!(html.contains(words), "{path}: {html}");
    }
    assert_eq!(browser.get("/console/events/evt_00000000000000000000000000").await.status, 404);
    assert_eq!(browser.get("/console/events/nonsense").await.status, 404);
    let wrong = browser.get("/console/deliveries?status=gone").await;
    assert_eq!(wrong.status, 422);
    assert!(wrong.text().contains("<code>status</code>"), "{}", wrong.text());
}

/// An event with two deliveries and one subscriber that did not get it, and another event with hostile data.
struct Story {
    event: String,
    dead: String,
    hostile: String,
    subscriber: String,
    _receiver: Receiver,
}

impl Story {
    async fn tell(deployment: &Deployment) -> Self {
        let receiver = Receiver::start().await;
        receiver.on(
            "/bad",
            Behaviour::respond(503, format!("{{\"why\": \"{}\"}}", HOSTILE.replace('"', "\\\""))),
        );
        let api = &deployment.api;
        let subscribe = async |path: &str, events: &str| {
            let body = json!({
                "url": receiver.url(path), "events": [events], "description": HOSTILE, "metadata": {"note": HOSTILE},
                "policy": {"max_attempts": 2},
            });
            subscribe_with(api, body).await
        };
        subscribe("/good?token=s3cret&x=<script>", "order.*").await;
        let subscriber = text(&subscribe("/bad", "order.*").await["id"]).to_owned();
        subscribe("/other", "user.*").await;
        // Through the bytes: digits, order and duplicate names.
        let bytes =
            r#"{"event":"order.created","data":{"b":1.10,"a":12345678901234567890,"a":2},"id":"given-1"}"#;
        let answer = api.post_raw("/v1/events", bytes).await.json();
        let event = text(&answer["id"]).to_owned();
        let dead = eventually(DEADLINE, || async {
            let found = list(api, &format!("/v1/deliveries?event_id={event}&status=dead")).await;
            found.first().map(|delivery| text(&delivery["id"]).to_owned())
        })
        .await;
        let hostile = dispatch_with(
            api,
            json!({"event": "user.created", "agent_id": "<b>agent</b>", "data": {HOSTILE: HOSTILE}, "metadata": {"m": HOSTILE}, "id": HOSTILE}),
        )
        .await;
        ended(api, &hostile).await;
        Self { event, dead, hostile: text(&hostile["id"]).to_owned(), subscriber, _receiver: receiver }
    }
}

async fn the_story_of_an_event(browser: &Browser, story: &Story) {
    let list = browser.page("/console/events?event=order.created").await;
    assert!(list.contains(&story.event) && !list.contains(&story.hostile), "{list}");
    let html = browser.page(&format!("/console/events/{}", story.event)).await;
    let plain = without_tags(&html);
    for part in [
        r#""b": 1.10"#,
        r#""a": 12345678901234567890"#,
        r#"{"b":1.10,"a":12345678901234567890,"a":2}"#,
        "None of its patterns matches the type.",
        "given-1",
        "✕ dead",
        "✓ succeeded",
    ] {
        assert!(plain.contains(part), "no {part} in {plain}");
    }
    let html = browser.page(&format!("/console/deliveries/{}", story.dead)).await;
    let plain = without_tags(&html);
    for part in [
        "Attempt 1",
        "Attempt 2",
        "503",
        "attempts used up",
        "Look up the request",
        "webhook-id",
        "Compare attempt",
    ] {
        assert!(plain.contains(part), "no {part} in {plain}");
    }
    let diff = browser.page(&format!("/console/deliveries/{}/diff?from=1&to=2", story.dead)).await;
    assert!(diff.contains("class=\"minus\"") && diff.contains("class=\"plus\""), "{diff}");
    assert_eq!(
        browser.get(&format!("/console/deliveries/{}/diff?from=1&to=9", story.dead)).await.status,
        404
    );
    let curl = without_tags(&browser.page(&format!("/console/deliveries/{}/curl", story.dead)).await);
    assert!(curl.contains("curl -sS -X 'POST'") && curl.contains("--data-binary"), "{curl}");
    assert!(!curl.contains("s3cret"), "{curl}");
    for path in ["/console", "/console/", "/console?span=1h", "/console?span=30d", "/console?span=x"] {
        let now = browser.page(path).await;
        assert!(now.contains("new dead letter") && now.contains("<svg class=\"spark"), "{now}");
    }
    // The filter of one page is the filter of the API.
    let filtered =
        browser.page("/console/deliveries?status=dead&response_code=5xx&event=order.*&min_attempts=2").await;
    assert!(filtered.contains(&story.dead), "{filtered}");
    let older = browser.page("/console/deliveries?status=dead&since=2100-01-01T00:00:00Z").await;
    assert!(older.contains("The newest older match") && older.contains(&story.dead), "{older}");
    let stream = browser.get("/console/tail/stream?types=order.*").await;
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
}

async fn actions(deployment: &Deployment, browser: &Browser, story: &Story) {
    let api = &deployment.api;
    let status = async || {
        let (_, delivery) = api.get(&format!("/v1/deliveries/{}", story.dead)).await;
        text(&delivery["status"]).to_owned()
    };
    let path = format!("/console/deliveries/{}", story.dead);
    let sent = browser.post(&format!("{path}/retry"), "").await;
    let back = sent.header("location").unwrap_or_default().to_owned();
    assert_eq!(
        (sent.status, back.as_str()),
        (303, format!("../../deliveries/{}?notice=retried", story.dead).as_str())
    );
    assert!(browser.page(&format!("{path}?notice=retried")).await.contains("The delivery is pending again."));
    assert!(!browser.page(&format!("{path}?notice=hello")).await.contains("hello"));
    eventually(DEADLINE, || async { (status().await == "dead").then_some(()) }).await;
    assert_eq!(browser.post(&format!("{path}/cancel"), "").await.status, 409, "it has ended");
    let trail = list(api, &format!("/v1/audit?target={}", story.dead)).await;
    assert_eq!(trail[0]["action"], "delivery.retried");

    // The count of a dry run is confirmed, and what happens later does not join it.
    let filter = "status=dead&event=order.*&min_attempts=1";
    let confirm = browser.page(&format!("/console/deliveries/replay?{filter}&mode=dead")).await;
    assert!(confirm.contains("Replay 1 delivery") && confirm.contains("name=\"until\""), "{confirm}");
    let nothing = browser.page("/console/deliveries/replay?status=dead&event=none.*&mode=dead").await;
    assert!(nothing.contains("Nothing matches"), "{nothing}");
    let form = fields(&confirm);
    let sent = browser.post("/console/deliveries/replay", &form).await;
    assert_eq!(sent.status, 303, "{}", sent.text());
    let replays = list(api, "/v1/replays").await;
    assert_eq!(
        (&replays[0]["total"], &replays[0]["filter"]["min_attempts"]),
        (&json!(1), &json!(1)),
        "{replays:?}"
    );
    assert!(sent.header("location").unwrap_or_default().contains(text(&replays[0]["id"])));

    cancel_all_that_match(browser, api, story).await;

    let ask = browser.page(&format!("/console/events/{}/erase", story.event)).await;
    assert!(ask.contains("Erase for good"), "{ask}");
    eventually(DEADLINE, || async { (status().await == "dead").then_some(()) }).await;
    assert_eq!(browser.post(&format!("/console/events/{}/erase", story.event), "").await.status, 303);
    let erased = browser.page(&format!("/console/events/{}", story.event)).await;
    assert!(erased.contains("The payload was erased"), "{erased}");
}

async fn search(browser: &Browser, story: &Story) {
    for (words, location) in [
        (story.event.as_str(), format!("./events/{}", story.event)),
        (story.dead.as_str(), format!("./deliveries/{}", story.dead)),
        (
            "status%3Adead+code%3A5xx+type%3Aorder.*",
            "./deliveries?status=dead&response_code=5xx&event=order.*".to_owned(),
        ),
    ] {
        let sent = browser.get(&format!("/console/search?q={words}")).await;
        assert_eq!((sent.status, sent.header("location")), (303, Some(location.as_str())), "{words}");
    }
    let unknown = browser.page("/console/search?q=%3Cscript%3E").await;
    assert!(unknown.contains("<code>&lt;script&gt;</code>"), "{unknown}");
    // An operator's tenant stays in links.
    let sent = browser.get("/console/search?q=dead&tenant=acme").await;
    assert_eq!(sent.header("location"), Some("./deliveries?status=dead&tenant=acme"));
    let other = browser.page("/console/events?tenant=acme").await;
    assert!(!other.contains(&story.event) && other.contains("./events?tenant=acme"), "{other}");
}

/// The pages that show something of a story.
fn pages(story: &Story) -> Vec<String> {
    let Story { event, dead, hostile, subscriber, .. } = story;
    let mut pages: Vec<String> = [
        "",
        "/events",
        "/deliveries",
        "/tail",
        "/sessions",
        "/search",
        "/deliveries?status=dead",
        "/dead-letters",
        "/dead-letters/requeue",
        "/dead-letters/delete",
        "/subscribers",
        "/subscribers/new",
        "/event-types",
        "/event-types/new",
        "/queue",
        "/replays",
        "/replays/new",
        "/keys",
        "/keys/new",
        "/tenants",
        "/tenants/new",
        "/tenants/default",
        "/audit",
        "/settings",
    ]
    .map(|page| format!("/console{page}"))
    .into();
    for page in ["", "/edit", "/try", "/rotate", "/deactivate", "/delete"] {
        pages.push(format!("/console/subscribers/{subscriber}{page}"));
    }
    for event in [event, hostile] {
        pages.push(format!("/console/events/{event}"));
        pages.push(format!("/console/events/{event}/erase"));
        pages.push(format!("/console/deliveries?event_id={event}"));
        pages.push(format!("/console/deliveries/replay?mode=all&event_id={event}"));
    }
    for page in ["", "/diff?from=1&to=2", "/curl", "/cancel"] {
        pages.push(format!("/console/deliveries/{dead}{page}"));
    }
    pages
}

async fn hostile_data_stays_text(browser: &Browser, story: &Story) {
    let mut seen = String::new();
    for path in pages(story) {
        let html = browser.page(&path).await;
        assert!(
            !html.contains("<script>alert") && !html.contains("<img src=x") && !html.contains("<b>agent"),
            "{path}: {html}"
        );
        assert!(!html.contains("href=\"javascript"), "{path}");
        assert!(compressed(&html).await <= LARGEST_PAGE, "{path} is too large");
        seen.push_str(&html);
    }
    assert!(seen.matches("&lt;script&gt;alert").count() >= 3, "the hostile data was shown at all");
    for query in ["event=%3Cscript%3E", "subscriber_id=%22%3E%3Cscript%3Ealert(1)", "cursor=%00", "since=%FF"]
    {
        let answer = browser.get(&format!("/console/deliveries?{query}")).await;
        assert!((400..500).contains(&answer.status), "{query}: {}", answer.status);
        assert!(!answer.text().contains("<script>"), "{query}");
    }
}

async fn another_tenant_sees_nothing(deployment: &Deployment, url: &str, story: &Story) {
    let key =
        new_key(&deployment.api, json!({"name": "other", "tenant": "other", "scopes": ["tenant_admin"]}))
            .await;
    let browser = Browser::signed_in(url, &key).await;
    for path in pages(story) {
        // Also if it asks for the tenant of the story.
        for path in
            [path.clone(), format!("{path}{}tenant=default", if path.contains('?') { '&' } else { '?' })]
        {
            let html = browser.get(&path).await.text();
            // What it asked for may be repeated, what it was not told may not.
            for secret in ["12345678901234567890", "given-1", "s3cret", "/good", "/bad", "sub_0", "<b>"] {
                assert!(!html.contains(secret), "{path} shows {secret}: {html}");
            }
            let linked = attributes(&html);
            assert!(
                !linked.iter().any(|link| link.contains(&story.dead) && !path.contains(&story.dead)),
                "{path}"
            );
        }
    }
    assert_eq!(browser.post(&format!("/console/deliveries/{}/retry", story.dead), "").await.status, 404);
    assert_eq!(browser.post(&format!("/console/events/{}/erase", story.hostile), "").await.status, 404);
}

/// Of what is pending, what a filter matches, with the count confirmed.
async fn cancel_all_that_match(browser: &Browser, api: &Api, story: &Story) {
    let path = format!("/v1/subscribers/{}", story.subscriber);
    assert_eq!(api.post(&format!("{path}/pause"), &json!({})).await.0, 200);
    for _ in 0..3 {
        dispatch_with(api, json!({"event": "order.wrong", "data": {}})).await;
    }
    let filter = format!("event=order.wrong&subscriber_id={}", story.subscriber);
    let list_of = browser.page(&format!("/console/deliveries?{filter}")).await;
    assert!(list_of.contains("Cancel all that match"), "{list_of}");
    let dead = browser.page("/console/deliveries?status=dead").await;
    assert!(!dead.contains("Cancel all that match"), "nothing of it can be cancelled");
    let nothing = browser.page("/console/deliveries/cancel?event=none.*").await;
    assert!(nothing.contains("Nothing matches"), "{nothing}");
    let confirm = browser.page(&format!("/console/deliveries/cancel?{filter}")).await;
    assert!(confirm.contains("Cancel 3 deliveries") && confirm.contains("name=\"until\""), "{confirm}");
    // It does not join what was confirmed.
    dispatch_with(api, json!({"event": "order.wrong", "data": {}})).await;
    let sent = browser.post("/console/deliveries/cancel", &fields(&confirm)).await;
    assert_eq!(sent.status, 303, "{}", sent.text());
    let job = list(api, "/v1/replays").await.remove(0);
    assert_eq!((&job["mode"], &job["total"]), (&json!("cancel"), &json!(3)), "{job}");
    let page = format!("/console/replays/{}", text(&job["id"]));
    assert!(sent.header("location").unwrap_or_default().contains(text(&job["id"])));
    let done = async || list(api, "/v1/replays").await[0]["status"] == "done";
    eventually(DEADLINE, || async { done().await.then_some(()) }).await;
    assert!(browser.page(&page).await.contains("Cancellation of 3 deliveries"));
    let of = |status: &str| format!("/v1/deliveries?status={status}&{filter}");
    assert_eq!((list(api, &of("cancelled")).await.len(), list(api, &of("pending")).await.len()), (3, 1));
    assert_eq!(api.post(&format!("{path}/resume"), &json!({})).await.0, 200);
    let attempt = browser.get("/console/search?q=att_01h455vb4pex5vsknk084sn02q").await;
    assert!(attempt.text().contains("Attempts are kept by their delivery"), "{}", attempt.text());
}

async fn scopes_are_named(deployment: &Deployment, url: &str) {
    let key =
        new_key(&deployment.api, json!({"name": "few", "tenant": "default", "scopes": ["deliveries:read"]}))
            .await;
    let browser = Browser::signed_in(url, &key).await;
    let refused = browser.get("/console/events").await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.text().contains("<code>events:read</code>") && refused.text().contains("req_"),
        "{}",
        refused.text()
    );
    let now = browser.page("/console").await;
    assert!(now.contains("stats:read") && !now.contains(">Keys</a>"), "{now}");
    let deliveries = browser.page("/console/deliveries").await;
    assert!(!deliveries.contains("Replay all that match"), "{deliveries}");
}

async fn sessions_end(deployment: &Deployment, url: &str) {
    let body = json!({"name": "ends", "tenant": "default", "scopes": ["observer"]});
    let (status, created) = deployment.api.post("/v1/keys", &body).await;
    assert_eq!(status, 201, "{created}");
    let (key, id) = (text(&created["key"]).to_owned(), text(&created["id"]).to_owned());
    let (first, second) = (Browser::signed_in(url, &key).await, Browser::signed_in(url, &key).await);
    let sessions = first.page("/console/sessions").await;
    assert!(sessions.contains("(this session)"), "{sessions}");
    let ids: BTreeSet<_> = sessions.split("name=\"id\" value=\"").skip(1).map(|rest| &rest[..64]).collect();
    assert_eq!(ids.len(), 2, "those of its own key only");
    let (own, other) = (first.session(), second.session());
    assert!(ids.contains(own.as_str()) && ids.contains(other.as_str()));
    assert_eq!(first.post("/console/sessions", &format!("id={other}")).await.status, 303);
    assert_eq!(second.get("/console").await.status, 303, "ended by the other one");
    assert_eq!(first.post("/console/sessions", &format!("id={other}")).await.status, 404, "it has ended");
    assert_eq!(first.post("/console/sessions", &format!("id={own}")).await.status, 303);
    assert_eq!(first.get("/console").await.status, 303);
    let trail = list(&deployment.api, "/v1/audit?action=session.revoked").await;
    assert!(trail.iter().filter(|entry| entry["actor"] == id.as_str()).count() >= 2, "{trail:?}");

    let third = Browser::signed_in(url, &key).await;
    assert_eq!(third.get("/console").await.status, 200);
    let sql = "UPDATE sessions SET expires_at = 1";
    deployment.database.connection().execute_unprepared(sql).await.unwrap();
    assert_eq!(third.get("/console").await.status, 303, "it has expired");
    let fourth = Browser::signed_in(url, &key).await;
    assert_eq!(deployment.api.delete(&format!("/v1/keys/{id}")).await.0, 204);
    assert_eq!(fourth.get("/console").await.status, 303, "its key was revoked");
    let sent = Browser::new(url).sign_in(&key, "").await;
    assert_eq!(sent.status, 401, "{}", sent.text());
}

async fn links_work_below_a_prefix(operator: &Browser, story: &Story) {
    // The session of the operator was ended with all others.
    let mut browser = Browser { api: operator.api.clone(), cookie: String::new() };
    browser.sign_in(ADMIN_KEY, "").await;
    for page in pages(story) {
        let html = browser.page(&page).await;
        for link in attributes(&html) {
            let outside = ["http://", "https://", "#"].iter().any(|start| link.starts_with(start));
            assert!(outside || !link.starts_with('/'), "{page} links to {link}");
            let resolved = resolved(&page, &link);
            assert!(
                outside || resolved.starts_with("/console"),
                "{page} links to {link}, which is {resolved}"
            );
        }
    }
}

async fn it_can_have_an_address_of_its_own(deployment: &Deployment) {
    let start = async |own: &[(&str, &str)]| {
        let program: Program = program("postrider-server", deployment.database.url(), own);
        Member::start(&program).await
    };
    let apart = start(&[("POSTRIDER_CONSOLE_LISTEN", "127.0.0.1:0")]).await;
    let is_console = |line: &str| line.contains("listening") && line.contains(r#"service="console""#);
    let address = apart.process.wait_for_address(is_console, DEADLINE).await;
    let browser = Browser::signed_in(&format!("http://{address}"), ADMIN_KEY).await;
    assert!(browser.page("/console/events").await.contains("order.created"));
    assert_eq!(browser.get("/").await.header("location"), Some("console"));
    assert_eq!(browser.get("/v1/events").await.status, 404, "the API is not there");
    let api = Browser::new(&format!("http://{}", apart.api_address().await));
    assert_eq!(api.get("/console/login").await.status, 404, "and the console not here");
    apart.stop().await;
    let off = start(&[("POSTRIDER_CONSOLE", "off")]).await;
    let api = Browser::new(&format!("http://{}", off.api_address().await));
    assert_eq!(api.get("/console/login").await.status, 404);
    off.stop().await;
}

async fn new_key(api: &Api, body: Value) -> String {
    let (status, created) = api.post("/v1/keys", &body).await;
    assert_eq!(status, 201, "{created}");
    text(&created["key"]).to_owned()
}

/// The links, forms and files of a page.
fn attributes(html: &str) -> Vec<String> {
    let of = |name: &str| -> Vec<String> {
        let start = format!(" {name}=\"");
        let values = html.split(start.as_str()).skip(1);
        values.filter_map(|rest| rest.split('"').next()).map(|link| link.replace("&amp;", "&")).collect()
    };
    ["href", "action", "src", "data-stream"].iter().flat_map(|name| of(name)).collect()
}

/// Resolves a link on a page as a browser does.
fn resolved(page: &str, link: &str) -> String {
    let page = page.split('?').next().unwrap_or_default();
    let link = link.split(['?', '#']).next().unwrap_or_default();
    if link.is_empty() {
        return page.to_owned();
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The hidden fields of a page's form, as a browser sends them.
fn fields(html: &str) -> String {
    let fields = html.split("<input type=\"hidden\" name=\"").skip(1).filter_map(|rest| {
        let (name, rest) = rest.split_once("\" value=\"")?;
        Some(format!("{name}={}", rest.split('"').next()?.replace('+', "%2B")))
    });
    fields.collect::<Vec<_>>().join("&")
}

fn without_tags(html: &str) -> String {
    let (mut text, mut within) = (String::new(), false);
    for character in html.chars() {
        match character {
            '<' => within = true,
            '>' => within = false,
            character if !within => text.push(character),
            _ => {}
        }
    }
    text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The size of a text once it is compressed.
async fn compressed(text: &str) -> usize {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let gzip = Command::new("gzip").arg("-c").arg(file.path()).output();
    let output = tokio::time::timeout(Duration::from_secs(20), gzip).await.unwrap().unwrap();
    output.stdout.len()
}
