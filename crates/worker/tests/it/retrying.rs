//! Failing receivers.

use std::time::{Duration, Instant};

use postrider_core::subscriber::PolicyFields;
use postrider_core::{DeactivationReason, DeadReason, DeliveryStatus, ErrorKind};
use postrider_store::subscribers::SubscriberState;
use postrider_testkit::Behaviour;
use postrider_worker::Config;

use crate::stage::{Stage, config, on_both, retry, tenant};

on_both!(
    a_failed_delivery_is_retried_on_schedule,
    a_receiver_that_always_fails_makes_a_dead_letter,
    retry_after_lengthens_the_delay,
    a_receiver_that_answers_410_is_deactivated,
);

async fn a_failed_delivery_is_retried_on_schedule(stage: &Stage) {
    const DELAYS: [u64; 3] = [300, 100, 500];
    stage.subscriber("/hook").await;
    stage.receiver.on(
        "/hook",
        Behaviour::Sequence(vec![
            Behaviour::Status(500),
            // On a reused connection, so the request is sent once more within the second attempt.
            Behaviour::Reset,
            Behaviour::Reset,
            Behaviour::Status(302),
            Behaviour::Status(204),
        ]),
    );
    let worker = stage.worker(Config { retry: retry(&DELAYS, 6), ..config() }).await;
    let event = stage.dispatch().await.id;
    let delivery = stage.ended(event).await;
    stage.settled().await;
    worker.stop().await;

    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 4));
    let attempts = stage.attempts(&delivery).await;
    let seen: Vec<_> = attempts.iter().map(|one| (one.number, one.response_status)).collect();
    assert_eq!(seen, [(1, Some(500)), (2, None), (3, Some(302)), (4, Some(204))]);
    assert_eq!(attempts[0].verdict.error_kind(), Some(ErrorKind::Status));
    assert!(attempts[1].verdict.error_kind().is_some() && attempts[3].verdict.error_kind().is_none());
    assert_eq!(attempts.iter().map(|one| one.resent).collect::<Vec<_>>(), [false, true, false, false]);
    let mut arrived: Vec<Instant> = stage.receiver.requests().iter().map(|request| request.arrived).collect();
    assert_eq!(arrived.len(), 5);
    arrived.remove(2);
    for (number, delay) in DELAYS.into_iter().enumerate() {
        let waited = arrived[number + 1].duration_since(arrived[number]);
        let by_record = attempts[number + 1].started_at.since(attempts[number].started_at);
        println!("attempt {} came {waited:?} after the one before it; due after {delay} ms", number + 2);
        assert!(waited >= Duration::from_millis(delay), "not before it is due");
        assert!(by_record >= Duration::from_millis(delay), "not before it is due, by the stored times");
        assert!(waited < Duration::from_millis(delay) + Duration::from_secs(30), "not much later");
    }
    let ids: Vec<_> =
        stage.receiver.requests().iter().map(|r| r.header("webhook-id").map(str::to_owned)).collect();
    assert!(ids.iter().all(|id| *id == Some(event.to_string())));
}

async fn a_receiver_that_always_fails_makes_a_dead_letter(stage: &Stage) {
    stage.subscriber("/hook").await;
    stage.receiver.on("/hook", Behaviour::respond(503, "not today"));
    let worker = stage.worker(Config { retry: retry(&[50, 100], 5), ..config() }).await;
    let event = stage.dispatch().await.id;
    let delivery = stage.ended(event).await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Dead, 5));
    assert_eq!(delivery.dead_reason, Some(DeadReason::AttemptsUsedUp));
    assert_eq!((delivery.response_status, delivery.next_attempt_at), (Some(503), None));
    let attempts = stage.attempts(&delivery).await;
    assert_eq!(attempts.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(attempts.iter().all(|one| &one.response_body[..] == b"not today"));
    assert_eq!(stage.receiver.requests().len(), 5, "no more than the maximum");
}

async fn retry_after_lengthens_the_delay(stage: &Stage) {
    stage.subscriber("/hook").await;
    let wait = |seconds: &str| Behaviour::Respond {
        status: 429,
        headers: vec![("Retry-After".into(), seconds.into())],
        body: Vec::new(),
    };
    stage.receiver.on("/hook", Behaviour::Sequence(vec![wait("2"), wait("0"), Behaviour::Status(200)]));
    let worker = stage.worker(Config { retry: retry(&[100, 500], 3), ..config() }).await;
    let delivery = stage.ended(stage.dispatch().await.id).await;
    worker.stop().await;
    assert_eq!(delivery.status, DeliveryStatus::Succeeded);
    let arrived: Vec<Instant> = stage.receiver.requests().iter().map(|request| request.arrived).collect();
    let (first, second) = (arrived[1] - arrived[0], arrived[2] - arrived[1]);
    assert!(first >= Duration::from_secs(2), "at least as long as Retry-After: {first:?}");
    assert!(second >= Duration::from_millis(500), "no shorter than the schedule: {second:?}");
}

async fn a_receiver_that_answers_410_is_deactivated(stage: &Stage) {
    // One at a time, so that the others are pending when the first is answered.
    let one_at_a_time = PolicyFields { concurrency: Some(1), ..PolicyFields::default() };
    let subscriber = stage.subscriber_with("/gone", one_at_a_time).await;
    stage.subscriber("/here").await;
    stage.receiver.on("/gone", Behaviour::Status(410));
    let events = stage.dispatch_many(4).await;
    let worker = stage.worker(config()).await;
    stage.settled().await;
    worker.stop().await;
    assert_eq!(stage.receiver.requests_to("/gone").len(), 1);
    assert_eq!(stage.receiver.requests_to("/here").len(), 4);
    for (number, event) in events.iter().enumerate() {
        for delivery in stage.deliveries(event.id).await {
            let (status, reason, attempts) = match number {
                _ if delivery.subscriber != subscriber => (DeliveryStatus::Succeeded, None, 1),
                0 => (DeliveryStatus::Dead, Some(DeadReason::Gone), 1),
                _ => (DeliveryStatus::Cancelled, None, 0),
            };
            assert_eq!(
                (delivery.status, delivery.dead_reason, delivery.attempts),
                (status, reason, attempts)
            );
        }
    }
    let now = stage.store.subscriber(&tenant(), subscriber).await.unwrap().unwrap().state;
    assert!(matches!(now, SubscriberState::Inactive { reason: DeactivationReason::Gone, .. }), "{now:?}");
    assert_eq!(stage.dispatch().await.subscribers.len(), 1, "it gets no further events");
}
