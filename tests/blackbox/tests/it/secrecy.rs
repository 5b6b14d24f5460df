//! Secrets appear only where they are meant to be.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use postrider_testkit::{Api, Behaviour, Receiver, TestDatabase, eventually};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::{Value, json};

use crate::client::{attempts, dispatch, ended, idle, list, read, subscribe_with, text};
use crate::deployment::{ADMIN_KEY, DEADLINE, Deployment, SECRET_KEY};

/// Values that Postrider must not reveal anywhere.
const FIRST_SECRET: &str = "canary-of-the-first-secret";
const SECOND_SECRET: &str = "whsec_Y2FuYXJ5IG9mIHRoZSBzZWNvbmQgc2VjcmV0ISEh";
const HEADER_VALUE: &str = "canary-of-the-header";
const DATA: &str = "canary-of-the-data";
const QUERY: &str = "canary-of-the-query";
const PASSWORD: &str = "canary-of-the-password";
const KEYS: [&str; 6] = [FIRST_SECRET, SECOND_SECRET, HEADER_VALUE, PASSWORD, ADMIN_KEY, SECRET_KEY];

/// Texts to search, with their sources.
struct Haystack(Vec<(String, String)>);

impl Haystack {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// Checks that no text contains any of `needles`, in any of the forms in which logs and tables write bytes.
    fn assert_without(&self, needles: &[&str]) {
        for needle in needles {
            let rest = needle.strip_prefix("whsec_").unwrap_or(needle);
            let decoded = STANDARD.decode(rest).ok();
            let mut forms = vec![
                rest.to_owned(),
                hex::encode(needle),
                STANDARD.encode(needle).trim_end_matches('=').to_owned(),
                // The debug form of bytes.
                format!("{:?}", rest.as_bytes()).trim_matches(['[', ']']).to_owned(),
            ];
            if let Some(bytes) = decoded.filter(|bytes| bytes.len() >= 24) {
                forms.extend([hex::encode(&bytes), format!("{bytes:?}").trim_matches(['[', ']']).to_owned()]);
            }
            for (place, text) in &self.0 {
                for form in &forms {
                    let found = text.find(form.as_str()).map(|at| around(text, at));
                    assert_eq!(found, None, "{needle} in {place}");
                }
            }
        }
    }
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

/// An excerpt of a text for a message.
fn around(text: &str, at: usize) -> String {
    let start = text.floor_char_boundary(at.saturating_sub(200));
    let end = text.ceil_char_boundary((at + 200).min(text.len()));
    text[start..end].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_nowhere() {
    let settings =
        [("POSTRIDER_LOG", "trace"), ("POSTRIDER_MAX_ATTEMPTS", "2"), ("POSTRIDER_RETRY_SCHEDULE", "50ms")];
    let deployment = Deployment::with(1, &settings).await;
    let api = deployment.api.clone();
    let receiver = Receiver::start().await;
    receiver.on("/bad", Behaviour::Status(500));
    receiver.on("/reset", Behaviour::Reset);
    let mut haystack = Haystack(Vec::new());

    let mut subscribers = Vec::new();
    for path in ["/good", "/bad", "/reset"] {
        let body = json!({
            "url": receiver.url(&format!("{path}?key={QUERY}")), "events": ["*"], "secret": FIRST_SECRET,
            "headers": {"authorization": format!("Basic {HEADER_VALUE}"), "x-plain": HEADER_VALUE},
        });
        let basic = json!({"type": "basic", "username": "postrider", "password": PASSWORD});
        let body = if path == "/good" { with(body, "auth", basic) } else { body };
        // This answer may show the secret, but not the headers.
        let mut created = subscribe_with(&api, body).await;
        assert_eq!(created["secret"].take(), FIRST_SECRET);
        haystack.add("the answer to a creation", created.to_string());
        subscribers.push(created);
    }
    let path = format!("/v1/subscribers/{}", text(&subscribers[0]["id"]));
    let event = json!({"event": "order.created", "data": {"card": DATA}});
    assert_eq!(api.post("/v1/events", &event).await.0, 202);
    idle(&api).await;
    assert_eq!(read(&api, &format!("{path}/secret")).await, json!({"secret": FIRST_SECRET}));
    let rotated = api.post(&format!("{path}/secret/rotate"), &json!({"secret": SECOND_SECRET})).await;
    assert_eq!(rotated, (200, json!({"secret": SECOND_SECRET})));
    let last = dispatch(&api, "order.paid").await;
    idle(&api).await;

    // Both outcomes happened, and the values are where they belong: otherwise the search would prove nothing.
    let statuses: Vec<_> = list(&api, "/v1/deliveries")
        .await
        .iter()
        .map(|delivery| text(&delivery["status"]).to_owned())
        .collect();
    assert_eq!(statuses.iter().filter(|status| *status == "succeeded").count(), 2, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| *status == "dead").count(), 4, "{statuses:?}");
    assert_eq!(receiver.requests_to("/good")[0].header("x-plain"), Some(HEADER_VALUE));
    let basic = STANDARD.encode(format!("postrider:{PASSWORD}"));
    let sent = receiver.requests_to("/good")[0].header("authorization").map(str::to_owned);
    assert_eq!(sent, Some(format!("Basic {basic}")));

    collect_listings(&api, &last, &mut haystack).await;
    collect_refusals(&api, &path, &mut haystack).await;
    for (member, name) in deployment.members().zip(["server", "worker"]) {
        let metrics = member.telemetry.send(Method::GET, "/metrics", &[], "").await;
        assert_eq!(metrics.status, 200);
        haystack.add(format!("the {name}'s metrics"), metrics.text());
    }
    // The log level is high enough for there to be something to search.
    let worker = &deployment.workers[0];
    eventually(DEADLINE, || async { worker.output().contains("DEBUG").then_some(()) }).await;
    collect_tables(&deployment.database, &mut haystack).await;
    let mut logs = Haystack(Vec::new());
    for (mut member, name) in
        std::iter::once(deployment.server).chain(deployment.workers).zip(["server", "worker"])
    {
        member.process.terminate().await;
        assert!(member.process.wait(DEADLINE).await.success());
        haystack.add(format!("the {name}'s output"), member.output());
        logs.add(format!("the {name}'s output"), member.output());
    }
    haystack.assert_without(&KEYS);
    haystack.assert_without(&[&basic]);
    // Tables and listings may contain these values; logs may not.
    logs.assert_without(&[DATA, QUERY]);
}

/// Every readable answer of the API, except for the secrets themselves.
async fn collect_listings(api: &Api, event: &Value, haystack: &mut Haystack) {
    let mut paths: Vec<_> = ["subscribers", "events", "deliveries", "dead-letters", "stats"]
        .map(|list| format!("/v1/{list}"))
        .into();
    for subscriber in list(api, "/v1/subscribers").await {
        paths.push(format!("/v1/subscribers/{}", text(&subscriber["id"])));
    }
    for delivery in list(api, "/v1/deliveries").await {
        paths.push(format!("/v1/deliveries/{}", text(&delivery["id"])));
        paths.push(format!("/v1/deliveries/{}/attempts", text(&delivery["id"])));
    }
    paths.push(format!("/v1/events/{}", text(&event["id"])));
    paths.extend(["/openapi.json", "/docs", "/readyz"].map(str::to_owned));
    for path in paths {
        let answer = api.send(Method::GET, &path, &[], "").await;
        assert_eq!(answer.status, 200, "{path}");
        haystack.add(path, format!("{:?} {}", answer.headers, answer.text()));
    }
}

/// Error answers do not repeat secret input.
async fn collect_refusals(api: &Api, subscriber: &str, haystack: &mut Haystack) {
    let with = |field: &str, value: Value| {
        let mut body = json!({"url": "http://127.0.0.1:9/", "events": ["*"], "secret": FIRST_SECRET});
        body[field] = value;
        body
    };
    for body in [
        with("url", json!("ftp://127.0.0.1/")),
        with("secret", json!(format!("{SECOND_SECRET}!"))),
        with("secret", json!(format!("{FIRST_SECRET}\n"))),
        with("secret", json!([FIRST_SECRET])),
        with("headers", json!({"host": HEADER_VALUE})),
        with("headers", json!({"x-a": format!("{HEADER_VALUE}\r\n")})),
        with("headers", json!({"x-a": [HEADER_VALUE]})),
        with("headers", json!(HEADER_VALUE)),
        with("unknown", json!(FIRST_SECRET)),
    ] {
        let answer = api.post_raw("/v1/subscribers", body.to_string()).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        haystack.add(format!("the refusal of {body}"), answer.text());
    }
    for body in [json!({"secret": format!("{SECOND_SECRET}!")}), json!({"secret": {"of": SECOND_SECRET}})] {
        let (status, problem) = api.post(&format!("{subscriber}/secret/rotate"), &body).await;
        assert_eq!(status, 422, "{problem}");
        haystack.add(format!("the refusal of {body}"), problem.to_string());
    }
    for body in [
        json!({"headers": HEADER_VALUE}),
        json!({"headers": {"te": HEADER_VALUE}}),
        json!({"secret": FIRST_SECRET}),
    ] {
        let (status, problem) = api.patch(subscriber, &body).await;
        assert_eq!(status, 422, "{problem}");
        haystack.add(format!("the refusal of {body}"), problem.to_string());
    }
    let broken = format!(r#"{{"url":"http://127.0.0.1:9/","secret":"{FIRST_SECRET}" "headers":1}}"#);
    let answer = api.post_raw("/v1/subscribers", broken).await;
    assert_eq!(answer.status, 400);
    haystack.add("the refusal of broken JSON", answer.text());
    let wrong = [("authorization", &*format!("Bearer {ADMIN_KEY}x"))];
    let answer = api.send(Method::GET, "/v1/stats", &wrong, "").await;
    assert_eq!(answer.status, 401);
    haystack.add("the refusal of a key", answer.text());
}

/// Every row of every table as PostgreSQL prints it, with bytes in hexadecimal.
async fn collect_tables(database: &TestDatabase, haystack: &mut Haystack) {
    let connection = database.connection();
    let query = |sql: String| Statement::from_string(DbBackend::Postgres, sql);
    let names = "SELECT table_name::text AS name FROM information_schema.tables WHERE table_schema = current_schema()";
    let tables = connection.query_all_raw(query(names.to_owned())).await.unwrap();
    let mut rows_in_all = 0;
    for table in &tables {
        let table: String = table.try_get("", "name").unwrap();
        let rows = connection
            .query_all_raw(query(format!(r#"SELECT t::text AS row FROM "{table}" t"#)))
            .await
            .unwrap();
        rows_in_all += rows.len();
        for row in rows {
            haystack.add(format!("table {table}"), row.try_get::<String>("", "row").unwrap());
        }
    }
    assert!(tables.len() > 8 && rows_in_all > 20, "{rows_in_all} rows of {} tables", tables.len());
}

/// Whatever receivers answer, an attempt's message contains no header value and no secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_messages_contain_no_secrets() {
    let settings =
        [("POSTRIDER_MAX_ATTEMPTS", "1"), ("POSTRIDER_CONNECT_TIMEOUT", "2s"), ("POSTRIDER_LOG", "debug")];
    let deployment = Deployment::with(1, &settings).await;
    let api = &deployment.api;
    // Nothing listens at this address any more.
    let closed = Receiver::start().await.address();
    let mut haystack = Haystack(Vec::new());
    for url in [
        format!("http://{closed}/?key={QUERY}"),
        format!("https://{closed}/?key={QUERY}"),
        format!("http://nowhere.invalid/?key={QUERY}"),
    ] {
        let headers = json!({"x-plain": HEADER_VALUE});
        let body = json!({"url": url, "events": ["*"], "secret": FIRST_SECRET, "headers": headers});
        let subscriber = subscribe_with(api, body).await;
        let delivery = ended(api, &dispatch(api, "a").await).await;
        assert_eq!(delivery["status"], "dead");
        let attempts = attempts(api, &delivery).await;
        assert_eq!((attempts.len(), &attempts[0]["response"]), (1, &Value::Null));
        haystack.add(format!("the attempt at {url}"), attempts[0].to_string());
        assert_eq!(api.delete(&format!("/v1/subscribers/{}", text(&subscriber["id"]))).await.0, 204);
    }
    haystack.add("the worker's output", deployment.workers[0].output());
    haystack.assert_without(&[FIRST_SECRET, HEADER_VALUE, QUERY]);
    deployment.stop().await;
}
