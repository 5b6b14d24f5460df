//! What a receiver gets if nothing fails.

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use postrider_core::auth::{AuthFields, AuthKind};
use postrider_core::policy::{Compression, PolicyFields, RequestMethod};
use postrider_core::signing::{Verifier, sha256};
use postrider_core::{AgentId, Clock as _, DeliveryStatus, EventData, ReceiverAuth, SystemClock};
use postrider_dispatch::NewEvent;
use postrider_store::exchange::SentValue;
use postrider_store::subscribers::{NewAuth, NewSubscriber};
use postrider_testkit::ATTEMPTS;
use serde_json::{Value, json};

use crate::stage::{DEADLINE, SECRET, Stage, config, on_both, tenant};

on_both!(
    one_event_makes_one_request_in_the_documented_form,
    method_and_body_are_what_the_policy_asks_for,
    authentication_is_sent_and_recorded_masked,
    every_matching_active_subscriber_gets_the_event,
    two_workers_share_the_jobs,
);

async fn one_event_makes_one_request_in_the_documented_form(stage: &Stage) {
    stage.subscriber("/hook").await;
    let worker = stage.worker(config()).await;
    // Numbers and keys that parsing and serialising would change.
    let data = r#"{"text":"h\u0000i","big":12345678901234567890123,"a":1.10,"a":2}"#;
    let event = NewEvent {
        data: EventData::from_json(data).unwrap(),
        agent_id: Some("my-agent".parse::<AgentId>().unwrap()),
        ..NewEvent::new("ai.response", &serde_json::json!({})).unwrap()
    };
    let dispatched = stage.dispatcher.dispatch(event).await.unwrap();
    let delivery = stage.ended(dispatched.id).await;
    stage.settled().await;
    worker.stop().await;

    let requests = stage.receiver.requests();
    assert_eq!(requests.len(), 1, "one request");
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/hook"));
    let seconds = dispatched.timestamp.seconds();
    let body =
        format!(r#"{{"event":"ai.response","timestamp":{seconds},"agent_id":"my-agent","data":{data}}}"#);
    assert_eq!(String::from_utf8_lossy(&request.body), body);
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", "AI-Agent-Webhook/1.0"),
        ("x-agent-id", "my-agent"),
        ("x-event-type", "ai.response"),
        ("webhook-id", &dispatched.id.to_string()),
        ("content-length", &body.len().to_string()),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    let names: BTreeSet<_> = request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert_eq!(names.len(), request.headers.len(), "no header occurs twice");
    let expected = "content-length content-type host traceparent user-agent webhook-id webhook-signature \
        webhook-timestamp x-agent-id x-agent-signature x-event-type";
    assert_eq!(names.into_iter().collect::<Vec<_>>().join(" "), expected);
    let verifier = Verifier::new(SECRET).unwrap();
    let message = verifier.verify(|name| request.header(name), &request.body, SystemClock.now()).unwrap();
    assert_eq!(message.id, dispatched.id.to_string());
    verifier.verify_agent(request.header("x-agent-signature").unwrap(), &request.body).unwrap();
    let traceparent: Vec<_> = request.header("traceparent").unwrap().split('-').map(str::len).collect();
    assert_eq!(traceparent, [2, 32, 16, 2]);

    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 1));
    assert_eq!(delivery.response_status, Some(200));
    let attempts = stage.attempts(&delivery).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(
        (attempts[0].number, attempts[0].response_status, attempts[0].verdict.error_kind()),
        (1, Some(200), None)
    );
    assert!(attempts[0].started_at >= dispatched.timestamp);
}

async fn method_and_body_are_what_the_policy_asks_for(stage: &Stage) {
    let (put, gzip) = (RequestMethod::Put, Compression::Gzip);
    for (path, method, compression) in [
        ("/get", Some(RequestMethod::Get), Some(gzip)),
        ("/patch", Some(RequestMethod::Patch), None),
        ("/put", Some(put), Some(gzip)),
        ("/default", None, None),
    ] {
        stage.subscriber_with(path, PolicyFields { method, compression, ..PolicyFields::default() }).await;
    }
    let worker = stage.worker(config()).await;
    // The second is not read with its jobs, and is compressed on another thread.
    for size in [10, 100_000] {
        let data = json!({ "text": "a".repeat(size) });
        let event = NewEvent::new("order.created", &data).unwrap();
        let dispatched = stage.dispatcher.dispatch(event).await.unwrap();
        stage.settled().await;
        let id = dispatched.id.to_string();
        let mut sent = Vec::new();
        for request in stage.receiver.requests() {
            if request.header("webhook-id") != Some(&id) {
                continue;
            }
            let (content_type, encoding) =
                (request.header("content-type"), request.header("content-encoding"));
            let shape = (request.method.as_str(), content_type.is_some(), encoding.is_some());
            let expected = match request.path() {
                "/get" => ("GET", false, false),
                "/patch" => ("PATCH", true, false),
                "/put" => ("PUT", true, size > 1000),
                _ => ("POST", true, false),
            };
            assert_eq!(shape, expected, "{}", request.target);
            let mut body = request.body.clone();
            if encoding == Some("gzip") {
                assert!(body.len() < size / 10, "{}", body.len());
                body.clear();
                GzDecoder::new(&*request.body).read_to_end(&mut body).unwrap();
            }
            if request.method == "GET" {
                assert!(body.is_empty());
            } else {
                assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["data"], data);
            }
            let verifier = Verifier::new(SECRET).unwrap();
            verifier.verify(|name| request.header(name), &request.body, SystemClock.now()).unwrap();
            verifier.verify_agent(request.header("x-agent-signature").unwrap(), &request.body).unwrap();
            sent.push((request.method.clone(), sha256(&request.body)));
        }
        let mut recorded = Vec::new();
        for delivery in stage.deliveries(dispatched.id).await {
            let request = stage.attempts(&delivery).await.remove(0).exchange.unwrap().request;
            recorded.push((request.method, request.body_sha256));
        }
        sent.sort_unstable();
        recorded.sort_unstable();
        assert_eq!((sent.len(), sent), (4, recorded));
    }
    worker.stop().await;
}

async fn authentication_is_sent_and_recorded_masked(stage: &Stage) {
    let fields = AuthFields {
        username: Some("Aladdin".to_owned()),
        password: Some("open sesame".to_owned().into()),
        ..AuthFields::new(AuthKind::Basic)
    };
    let auth = Some(NewAuth { auth: ReceiverAuth::try_from(fields).unwrap(), expires_at: None });
    let new = NewSubscriber { auth, ..stage.new_subscriber("/hook") };
    stage.store.create_subscriber(&tenant(), new).await.unwrap();
    let worker = stage.worker(config()).await;
    let dispatched = stage.dispatch().await;
    let delivery = stage.ended(dispatched.id).await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!(delivery.status, DeliveryStatus::Succeeded);
    let requests = stage.receiver.requests();
    assert_eq!(requests[0].header("authorization"), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    let recorded = stage.attempts(&delivery).await.remove(0).exchange.unwrap().request;
    let masked = ("authorization".to_owned(), SentValue::Masked);
    assert!(recorded.headers.contains(&masked), "{:?}", recorded.headers);
}

async fn every_matching_active_subscriber_gets_the_event(stage: &Stage) {
    for path in ["/one", "/two", "/three"] {
        stage.subscriber(path).await;
    }
    let inactive = NewSubscriber { active: false, ..stage.new_subscriber("/inactive") };
    stage.store.create_subscriber(&tenant(), inactive).await.unwrap();
    let others = vec!["invoice.*".parse().unwrap()];
    let unmatched = NewSubscriber { events: others, ..stage.new_subscriber("/unmatched") };
    stage.store.create_subscriber(&tenant(), unmatched).await.unwrap();
    let worker = stage.worker(config()).await;
    let dispatched = stage.dispatch().await;
    assert_eq!(dispatched.jobs.len(), 3);
    stage.settled().await;
    worker.stop().await;
    let mut paths: Vec<_> = stage.receiver.requests().into_iter().map(|request| request.target).collect();
    paths.sort();
    assert_eq!(paths, ["/one", "/three", "/two"]);
    let deliveries = stage.deliveries(dispatched.id).await;
    assert!(deliveries.iter().all(|delivery| delivery.status == DeliveryStatus::Succeeded));
}

async fn two_workers_share_the_jobs(stage: &Stage) {
    stage.subscriber("/one").await;
    stage.subscriber("/two").await;
    let workers = [stage.worker(config()).await, stage.worker(config()).await];
    stage.dispatch_many(200).await;
    let requests = stage.receiver.wait_for(400, DEADLINE).await;
    stage.settled().await;
    for worker in workers {
        worker.stop().await;
    }
    let distinct: BTreeSet<_> = requests
        .iter()
        .map(|request| (request.path().to_owned(), request.header("webhook-id").unwrap().to_owned()))
        .collect();
    assert_eq!((stage.receiver.requests().len(), distinct.len()), (400, 400), "one request per delivery");
    assert_eq!(stage.count(&format!("SELECT count(*) FROM {ATTEMPTS}")).await, 400);
}
