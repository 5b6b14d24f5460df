//! Notices to the owners of subscribers that fail, or whose certificates expire.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider_core::auth::{AuthFields, AuthKind};
use postrider_core::signing::Verifier;
use postrider_core::{Clock as _, ReceiverAuth, SubscriberId, SystemClock};
use postrider_store::health::BreakerPolicy;
use postrider_store::subscribers::{NewAuth, NewSubscriber, Notify};
use postrider_testkit::receiver::ReceivedRequest;
use postrider_testkit::{Behaviour, eventually};
use postrider_worker::{Config, Mailer};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::{DEADLINE, SECRET, Stage, config, on_both, retry, tenant};

on_both!(
    an_owner_is_notified_once_of_each_stage_by_whichever_worker,
    a_notice_is_sent_again_until_it_arrives,
    a_recovered_subscriber_has_no_notices,
    mail_goes_through_the_relay,
    an_expiring_certificate_is_announced_once,
);

const HOUR: Duration = Duration::from_hours(1);

fn failing() -> Config {
    let breaker = BreakerPolicy { breaker_failures: 3, ..BreakerPolicy::default() };
    Config { breaker, retry: retry(&[1000], 1), ..config() }
}

/// A subscriber of orders whose receiver fails.
async fn subscriber(stage: &Stage, notify: Notify) -> SubscriberId {
    stage.receiver.on("/hook", Behaviour::Status(500));
    let events = vec!["order.*".parse().unwrap()];
    let new = NewSubscriber { events, notify, ..stage.new_subscriber("/hook") };
    stage.store.create_subscriber(&tenant(), new).await.unwrap().id
}

fn by_webhook(stage: &Stage) -> Notify {
    Notify { url: Some(stage.receiver.url("/notices").parse().unwrap()), email: None }
}

async fn watcher(stage: &Stage, path: &str, pattern: &str) {
    let events = vec![pattern.parse().unwrap()];
    let new = NewSubscriber { events, ..stage.new_subscriber(path) };
    stage.store.create_subscriber(&tenant(), new).await.unwrap();
}

fn notices(stage: &Stage, path: &str) -> Vec<ReceivedRequest> {
    let requests = stage.receiver.requests_to(path).into_iter();
    requests.filter(|request| request.header("x-event-type").unwrap().starts_with("subscriber.")).collect()
}

/// Waits until a path has got this many notices, and returns their data.
async fn received(stage: &Stage, path: &str, count: usize) -> Vec<Value> {
    let found = eventually(DEADLINE, || async {
        let found = notices(stage, path);
        (found.len() >= count).then_some(found)
    })
    .await;
    assert_eq!(found.len(), count, "{path}");
    let verifier = Verifier::new(SECRET).unwrap();
    for request in &found {
        verifier.verify(|name| request.header(name), &request.body, SystemClock.now()).unwrap();
        assert_eq!(request.header("x-agent-id"), Some("postrider"));
    }
    found.iter().map(|request| request.json()["data"].take()).collect()
}

async fn advance(stage: &Stage, by: Duration) {
    // Advancing the clock must not expire a lease.
    eventually(DEADLINE, || async {
        (stage.count("SELECT count(*) FROM jobs WHERE lease_token IS NOT NULL").await == 0).then_some(())
    })
    .await;
    stage.database.advance(by).await;
}

/// Waits until no notice waits.
async fn all_sent(stage: &Stage) {
    eventually(DEADLINE, || async {
        let waiting = "SELECT (SELECT count(*) FROM owner_notices) + (SELECT count(*) FROM jobs)";
        (stage.count(waiting).await == 0).then_some(())
    })
    .await;
}

async fn an_owner_is_notified_once_of_each_stage_by_whichever_worker(stage: &Stage) {
    let id = subscriber(stage, by_webhook(stage)).await;
    watcher(stage, "/named", "subscriber.failing").await;
    watcher(stage, "/prefix", "subscriber.*").await;
    watcher(stage, "/all", "*").await;
    let mut workers = vec![stage.worker(failing()).await, stage.worker(failing()).await];
    stage.dispatch_many(3).await;
    let data = received(stage, "/notices", 1).await.remove(0);
    assert_eq!((&data["stage"], &data["failures"]), (&"circuit_opened".into(), &3.into()), "{data}");
    assert_eq!(
        (&data["subscriber_id"], &data["url"]),
        (&id.to_string().into(), &stage.receiver.url("/hook").into())
    );
    assert!(data["deactivation_at"].as_str().unwrap() > data["failing_since"].as_str().unwrap(), "{data}");

    for (minutes, name, count) in [(24 * 60, "failing_for_a_day", 2), (72 * 60, "deactivation_near", 3)] {
        all_sent(stage).await;
        advance(stage, Duration::from_mins(minutes - 1)).await;
        // Another worker goes on where this one has stopped.
        workers.remove(0).stop().await;
        workers.push(stage.worker(failing()).await);
        advance(stage, Duration::from_mins(2)).await;
        assert_eq!(received(stage, "/notices", count).await[count - 1]["stage"], name);
    }
    for path in ["/named", "/prefix"] {
        let stages: Vec<_> =
            received(stage, path, 3).await.iter().map(|data| data["stage"].clone()).collect();
        assert_eq!(stages, ["circuit_opened", "failing_for_a_day", "deactivation_near"], "{path}");
    }
    all_sent(stage).await;
    advance(stage, 12 * HOUR).await;

    // After a success everything begins again.
    stage.receiver.on("/hook", Behaviour::sequence([200, 500]));
    stage.dispatch().await;
    stage.settled().await;
    stage.dispatch_many(3).await;
    assert_eq!(received(stage, "/notices", 4).await[3]["stage"], "circuit_opened");
    all_sent(stage).await;
    for worker in workers {
        worker.stop().await;
    }
    let ids: BTreeSet<_> = notices(stage, "/notices")
        .iter()
        .map(|request| request.header("webhook-id").unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 4);
    assert!(notices(stage, "/all").is_empty(), "only subscribers that name the type get it");
}

async fn a_notice_is_sent_again_until_it_arrives(stage: &Stage) {
    stage.receiver.on("/notices", Behaviour::sequence([500, 200]));
    subscriber(stage, by_webhook(stage)).await;
    let worker = stage.worker(failing()).await;
    stage.dispatch_many(3).await;
    received(stage, "/notices", 1).await;
    eventually(DEADLINE, || async {
        let put_off = "SELECT count(*) FROM owner_notices WHERE attempts = 1 AND channel = 1 AND due_at - created_at < 100000";
        (stage.count(put_off).await == 1).then_some(())
    })
    .await;
    advance(stage, Duration::from_mins(1)).await;
    received(stage, "/notices", 2).await;
    all_sent(stage).await;
    worker.stop().await;
    let requests = notices(stage, "/notices");
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    // The time of the event is a column, which the test has moved.
    assert_eq!(requests[0].json()["data"], requests[1].json()["data"]);
}

async fn a_recovered_subscriber_has_no_notices(stage: &Stage) {
    stage.receiver.on("/notices", Behaviour::Status(500));
    subscriber(stage, by_webhook(stage)).await;
    let worker = stage.worker(failing()).await;
    stage.dispatch_many(3).await;
    received(stage, "/notices", 1).await;
    advance(stage, Duration::from_secs(31)).await;
    stage.receiver.on("/hook", Behaviour::Status(200));
    stage.dispatch().await;
    stage.settled().await;
    advance(stage, 5 * HOUR).await;
    all_sent(stage).await;
    worker.stop().await;
    assert_eq!(notices(stage, "/notices").len(), 1);
}

async fn mail_goes_through_the_relay(stage: &Stage) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    let received = Arc::new(Mutex::new(Vec::new()));
    let into = received.clone();
    let relay = tokio::spawn(async move {
        // The first message is to be sent again later.
        for refused in [true, false, false] {
            let (stream, _) = listener.accept().await.unwrap();
            if let Some(message) = smtp(stream, refused).await {
                into.lock().unwrap().push(message);
            }
        }
    });
    let email = Some("ops@example.com".parse().unwrap());
    subscriber(stage, Notify { url: None, email }).await;
    let mailer = Some(Mailer::new(&url, "hooks@example.com").unwrap());
    let worker = stage.worker(Config { mailer, ..failing() }).await;
    stage.dispatch_many(3).await;
    eventually(DEADLINE, || async {
        let put_off = "SELECT count(*) FROM owner_notices WHERE attempts = 1 AND channel = 2 AND due_at - created_at < 100000";
        (stage.count(put_off).await == 1).then_some(())
    })
    .await;
    advance(stage, Duration::from_mins(1)).await;
    all_sent(stage).await;
    worker.stop().await;
    relay.abort();
    let messages = received.lock().unwrap().clone();
    let [message] = &messages[..] else { panic!("{messages:?}") };
    assert!(message.starts_with("MAIL FROM:<hooks@example.com>\nRCPT TO:<ops@example.com>\n"), "{message}");
    assert!(message.contains("Subject: Deliveries to "), "{message}");
    assert!(message.contains("\nTo: ops@example.com\n") && message.contains("Subscriber: sub_"), "{message}");
}

/// Speaks as much SMTP (RFC 5321) as it takes to accept one message, or to refuse it for now.
async fn smtp(stream: TcpStream, refused: bool) -> Option<String> {
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading).lines();
    let mut message = String::new();
    let mut accepted = false;
    writing.write_all(b"220 relay.test ESMTP\r\n").await.ok()?;
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "MAIL" | "RCPT" => {
                message.push_str(line.split(" BODY=").next().unwrap_or_default());
                message.push('\n');
                if refused { "451 try again later" } else { "250 ok" }
            }
            "DATA" => {
                writing.write_all(b"354 go on\r\n").await.ok()?;
                while let Ok(Some(line)) = lines.next_line().await {
                    if line == "." {
                        break;
                    }
                    message.push_str(&line);
                    message.push('\n');
                }
                accepted = true;
                "250 accepted"
            }
            "QUIT" => {
                writing.write_all(b"221 bye\r\n").await.ok()?;
                break;
            }
            _ => "250 relay.test",
        };
        writing.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
    accepted.then_some(message)
}

async fn an_expiring_certificate_is_announced_once(stage: &Stage) {
    let fields = AuthFields { ca: Some("PEM".to_owned()), ..AuthFields::new(AuthKind::Tls) };
    let auth = ReceiverAuth::try_from(fields).unwrap();
    for (path, days) in [("/soon", 13), ("/later", 15)] {
        let auth =
            Some(NewAuth { auth: auth.clone(), expires_at: Some(SystemClock.now() + days * 24 * HOUR) });
        let new = NewSubscriber { auth, notify: by_webhook(stage), ..stage.new_subscriber(path) };
        stage.store.create_subscriber(&tenant(), new).await.unwrap();
    }
    for _ in 0..2 {
        let worker = stage.worker(failing()).await;
        let data = received(stage, "/notices", 1).await.remove(0);
        assert_eq!(data["stage"], "certificate_expiring", "{data}");
        assert_eq!(data["url"], stage.receiver.url("/soon"));
        assert!(data["expires_at"].as_str().unwrap().ends_with('Z'), "{data}");
        all_sent(stage).await;
        worker.stop().await;
    }
    assert_eq!(notices(stage, "/notices")[0].header("x-event-type"), Some("subscriber.certificate_expiring"));
    let due = "SELECT count(*) FROM subscribers WHERE auth_warn_at IS NOT NULL";
    assert_eq!(stage.count(due).await, 1, "the other one is due later");
}
