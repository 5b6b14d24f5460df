//! Failed attempts are retried on the schedule, and not for ever.

use std::time::Duration;

use postrider_testkit::{Behaviour, Receiver};
use serde_json::{Value, json};

use crate::client::{attempts, dispatch, ended, idle, list, read, subscribe, text};
use crate::deployment::{DEADLINE, Deployment};

const SCHEDULE: (&str, &str) = ("POSTRIDER_RETRY_SCHEDULE", "100ms,200ms,300ms,400ms,500ms,5s");
const DELAYS: [u64; 5] = [100, 200, 300, 400, 500];

/// How many bytes of an answer's body are stored.
const LIMIT: usize = 5000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_follow_the_schedule() {
    let deployment = Deployment::with(2, &[SCHEDULE]).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/hook", Behaviour::respond(500, "x".repeat(LIMIT + 1)));
    subscribe(api, &receiver.url("/hook")).await;
    let event = dispatch(api, "order.created").await;

    receiver.wait_for(6, DEADLINE).await;
    let delivery = ended(api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("dead"), &json!(6)), "{delivery}");
    assert_eq!(delivery["dead_reason"], "attempts_used_up");
    assert_eq!((&delivery["response_code"], &delivery["error_kind"]), (&json!(500), &json!("status")));
    assert_eq!(delivery["next_attempt_at"], Value::Null);
    let dead: Vec<_> = list(api, "/v1/dead-letters").await;
    assert_eq!((dead.len(), &dead[0]["id"]), (1, &delivery["id"]));

    let attempts = attempts(api, &delivery).await;
    assert_eq!(attempts.len(), 6);
    for (attempt, number) in attempts.iter().zip(1..) {
        assert_eq!((&attempt["number"], &attempt["error"]["kind"]), (&json!(number), &json!("status")));
        let response = &attempt["response"];
        assert_eq!((&response["status"], &response["truncated"]), (&json!(500), &json!(true)));
        assert_eq!(text(&response["body"]), "x".repeat(LIMIT));
    }

    idle(api).await;
    deployment.stop().await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 6, "none after the sixth");
    for (pair, delay) in requests.windows(2).zip(DELAYS) {
        let gap = pair[1].arrived - pair[0].arrived;
        // Due times have millisecond resolution.
        assert!(
            gap + Duration::from_millis(1) >= Duration::from_millis(delay),
            "{gap:?} is under {delay} ms"
        );
    }
    let body = &requests[0].body;
    let id = requests[0].header("webhook-id");
    assert!(requests.iter().all(|request| request.body == *body && request.header("webhook-id") == id));
}

/// A receiver that recovers gets one more request; a body within the limit is not cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_recovers_gets_the_event() {
    let deployment = Deployment::with(1, &[SCHEDULE]).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let failure = Behaviour::respond(503, vec![0xff; LIMIT]);
    // The second attempt's connection is reused, so its request is sent once more.
    let behaviours = vec![failure, Behaviour::Reset, Behaviour::Reset, Behaviour::Status(204)];
    receiver.on("/hook", Behaviour::Sequence(behaviours));
    subscribe(api, &receiver.url("/hook")).await;
    let event = dispatch(api, "order.created").await;

    let delivery = ended(api, &event).await;
    assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!("succeeded"), &json!(3)), "{delivery}");
    let attempts = attempts(api, &delivery).await;
    assert_eq!(attempts.len(), 3);
    let first = &attempts[0]["response"];
    assert_eq!((&first["truncated"], &first["body_encoding"]), (&json!(false), &json!("base64")));
    assert_eq!(text(&first["body"]).len(), LIMIT.div_ceil(3) * 4);
    assert_eq!((&attempts[1]["response"], &attempts[1]["error"]["kind"]), (&Value::Null, &json!("reset")));
    let resent: Vec<_> = attempts.iter().map(|attempt| attempt["resent"].as_bool().unwrap()).collect();
    assert_eq!((&resent[..], receiver.requests().len()), (&[false, true, false][..], 4));
    assert_eq!((&attempts[2]["response"]["status"], &attempts[2]["error"]), (&json!(204), &Value::Null));

    let stats = read(api, "/v1/stats").await;
    assert_eq!(stats["deliveries"]["succeeded"], 1);
    assert_eq!(
        (&stats["deliveries"]["avg_attempts"], &stats["deliveries"]["success_rate"]),
        (&json!(3.0), &json!(1.0))
    );
    deployment.stop().await;
    assert_eq!(receiver.requests().len(), 4);
}

/// `Retry-After` lengthens the delay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_lengthens_a_delay() {
    let deployment = Deployment::with(1, &[SCHEDULE]).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    let busy = Behaviour::Respond {
        status: 429,
        headers: vec![("retry-after".to_owned(), "2".to_owned())],
        body: Vec::new(),
    };
    receiver.on("/hook", Behaviour::Sequence(vec![busy, Behaviour::Status(200)]));
    subscribe(api, &receiver.url("/hook")).await;
    let event = dispatch(api, "order.created").await;
    assert_eq!(ended(api, &event).await["status"], "succeeded");
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].arrived - requests[0].arrived >= Duration::from_millis(1999));
}
