//! Limits that a subscriber's policy and a worker's concurrency set.

use std::time::{Duration, Instant};

use postrider_core::subscriber::{PolicyFields, RateLimitFields, Span};
use postrider_core::{Policy, TenantId};
use postrider_dispatch::NewEvent;
use postrider_store::subscribers::NewSubscriber;
use postrider_testkit::Behaviour;
use postrider_testkit::receiver::Gate;
use postrider_worker::Config;
use serde_json::json;

use crate::stage::{DEADLINE, Stage, at_once, config, delays, event, on_both, tenant};

on_both!(
    an_ordered_subscriber_gets_events_in_order_despite_failures,
    a_rate_limit_holds_over_all_workers,
    a_concurrency_limit_holds_over_all_workers,
    a_concurrency_limit_holds_while_workers_claim_ahead,
    a_small_worker_does_not_wait_for_the_poll,
    a_tenant_whose_receivers_hang_leaves_room_for_others,
    receivers_that_hang_leave_slots_to_others_of_their_tenant,
);

async fn an_ordered_subscriber_gets_events_in_order_despite_failures(stage: &Stage) {
    const EVENTS: usize = 30;
    let policy = PolicyFields {
        ordered: Some(true),
        schedule: Some(delays(&[20])),
        jitter_percent: Some(0),
        max_attempts: Some(30),
        ..PolicyFields::default()
    };
    stage.subscriber_with("/hook", policy).await;
    // One in three fails, without a pattern.
    let mut dice = 12_345_u32;
    let statuses: Vec<u16> = (0..600)
        .map(|_| {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if (dice >> 16).is_multiple_of(3) { 500 } else { 200 }
        })
        .collect();
    stage.receiver.on("/hook", Behaviour::sequence(statuses.clone()));
    let workers = [stage.worker(config()).await, stage.worker(config()).await, stage.worker(config()).await];
    let events = stage.dispatch_many(EVENTS).await;
    stage.settled().await;
    for worker in workers {
        worker.stop().await;
    }
    let requests = stage.receiver.requests();
    let expected: Vec<String> = events.iter().map(|event| event.id.to_string()).collect();
    let got = |(request, status): (&postrider_testkit::receiver::ReceivedRequest, &u16)| {
        (*status == 200).then(|| request.header("webhook-id").unwrap().to_owned())
    };
    let arrived: Vec<String> = requests.iter().zip(&statuses).filter_map(got).collect();
    assert_eq!(arrived, expected);
    assert!(requests.len() > EVENTS, "some failed");
    let mut turns: Vec<_> = requests.iter().map(|request| request.header("webhook-id").unwrap()).collect();
    turns.dedup();
    assert_eq!(turns, expected, "no event is attempted before all earlier ones have arrived");
    assert_eq!(stage.receiver.peak_in_flight(), 1);
}

async fn a_rate_limit_holds_over_all_workers(stage: &Stage) {
    const EVENTS: u32 = 20;
    const BURST: u32 = 5;
    const INTERVAL: Duration = Duration::from_millis(50);
    let rate_limit = Some(RateLimitFields { per_second: 20.0, burst: Some(BURST) });
    stage.subscriber_with("/hook", PolicyFields { rate_limit, ..PolicyFields::default() }).await;
    // With a long poll interval, the workers depend on the opening time that a claim reports for the rate.
    let config = Config { poll: Duration::from_mins(1), ..config() };
    let workers = [stage.worker(config.clone()).await, stage.worker(config).await];
    let began = Instant::now();
    stage.dispatch_many(EVENTS as usize).await;
    let requests = stage.receiver.wait_for(EVENTS as usize, DEADLINE).await;
    stage.settled().await;
    for worker in workers {
        worker.stop().await;
    }
    for (place, request) in (0..).zip(&requests) {
        let earliest = INTERVAL * (place + 1_u32).saturating_sub(BURST);
        // The rate is computed in whole milliseconds.
        let at = request.arrived - began + Duration::from_millis(2);
        assert!(at >= earliest, "request {place} came after {at:?}, not before {earliest:?}");
    }
    let took = requests.last().unwrap().arrived - began;
    println!("{EVENTS} requests at 20 a second with a burst of {BURST} took {took:?}");
}

async fn a_concurrency_limit_holds_over_all_workers(stage: &Stage) {
    let policy = PolicyFields { concurrency: Some(3), ..PolicyFields::default() };
    stage.subscriber_with("/hook", policy).await;
    stage.receiver.on("/hook", Behaviour::Status(200).after(Duration::from_millis(40)));
    stage.dispatch_many(40).await;
    let workers = [stage.worker(config()).await, stage.worker(config()).await];
    stage.settled().await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(stage.receiver.requests().len(), 40);
    assert_eq!(stage.receiver.peak_in_flight(), 3);
}

/// A worker claims ahead of what a fast receiver is done with, and still keeps the limit. So do all workers together.
async fn a_concurrency_limit_holds_while_workers_claim_ahead(stage: &Stage) {
    const EVENTS: usize = 1_500;
    let policy = PolicyFields { concurrency: Some(4), ..PolicyFields::default() };
    stage.subscriber_with("/hook", policy).await;
    stage.receiver.on("/hook", Behaviour::Status(200).after(Duration::from_millis(1)));
    let workers = [stage.worker(config()).await, stage.worker(config()).await];
    for _ in 0..3 {
        stage.dispatch_many(EVENTS / 3).await;
    }
    let mut most = 0;
    while stage.receiver.requests().len() < EVENTS {
        most = most.max(stage.count("SELECT CAST(max(running) AS bigint) FROM lanes").await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stage.settled().await;
    for worker in workers {
        worker.stop().await;
    }
    println!("at most {most} jobs were claimed, and {} in flight", stage.receiver.peak_in_flight());
    assert_eq!(stage.receiver.peak_in_flight(), 4);
    assert!(most > 4, "the worker claimed ahead");
}

/// Finished jobs free their slots at once, even if a single lane may not fill the worker.
async fn a_small_worker_does_not_wait_for_the_poll(stage: &Stage) {
    stage.subscriber("/hook").await;
    let poll = Duration::from_secs(30);
    for concurrency in [1, 4] {
        let small = Config { concurrency: at_once(concurrency), poll, ..config() };
        let worker = stage.worker(small).await;
        let began = Instant::now();
        stage.dispatch_many(40).await;
        stage.settled().await;
        let took = began.elapsed();
        println!("40 deliveries by a worker of {concurrency} took {took:?}");
        assert!(took < poll, "{took:?}");
        worker.stop().await;
    }
}

/// With many subscribers that each stay below their limit, a tenant could still take every slot of a worker.
async fn a_tenant_whose_receivers_hang_leaves_room_for_others(stage: &Stage) {
    const HANGING: usize = 20;
    let gate = Gate::closed();
    stage.receiver.on("/hanging", Behaviour::Status(200).behind(&gate));
    let patient = PolicyFields { timeout: Some(Span(2 * DEADLINE)), ..PolicyFields::default() };
    for _ in 0..HANGING {
        stage.subscriber_with("/hanging", patient.clone()).await;
    }
    let other: TenantId = "other".parse().unwrap();
    stage.store.create_subscriber(&other, stage.new_subscriber("/healthy")).await.unwrap();
    let of_other = |number| NewEvent { tenant: other.clone(), ..event(number) };
    let small = Config { concurrency: at_once(16), ..config() };
    let worker = stage.worker(small).await;
    stage.dispatcher.dispatch(of_other(0)).await.unwrap();
    stage.receiver.wait_for_path("/healthy", 1, DEADLINE).await;
    stage.dispatch_many(2).await;
    stage.receiver.wait_for_path("/hanging", 14, DEADLINE).await;
    for number in 1..20 {
        stage.dispatcher.dispatch(of_other(number)).await.unwrap();
    }
    stage.receiver.wait_for_path("/healthy", 20, DEADLINE).await;
    assert_eq!(stage.receiver.requests_to("/hanging").len(), 14, "two of sixteen slots are left");
    gate.open();
    stage.settled().await;
    worker.stop().await;
}

/// With turns alone, the healthy one would get one event for each 20 that time out.
async fn receivers_that_hang_leave_slots_to_others_of_their_tenant(stage: &Stage) {
    const HANGING: usize = 20;
    const EVENTS: usize = 30;
    let gate = Gate::closed();
    stage.receiver.on("/hanging", Behaviour::Status(200).behind(&gate));
    let policy = PolicyFields {
        timeout: Some(Span(Duration::from_secs(2))),
        max_attempts: Some(1),
        ..PolicyFields::default()
    };
    for _ in 0..HANGING {
        let new = NewSubscriber {
            policy: Policy::try_from(policy.clone()).unwrap(),
            events: vec!["slow".parse().unwrap()],
            ..stage.new_subscriber("/hanging")
        };
        stage.store.create_subscriber(&tenant(), new).await.unwrap();
    }
    let healthy =
        NewSubscriber { events: vec!["order.*".parse().unwrap()], ..stage.new_subscriber("/healthy") };
    stage.store.create_subscriber(&tenant(), healthy).await.unwrap();
    let slow = (0..EVENTS).map(|_| NewEvent::new("slow", &json!({})).unwrap()).collect();
    stage.dispatcher.dispatch_batch(slow).await.into_iter().for_each(|event| drop(event.unwrap()));
    let worker = stage.worker(Config { concurrency: at_once(8), ..config() }).await;
    // Each has had a request that timed out.
    stage.receiver.wait_for_path("/hanging", HANGING + 8, DEADLINE).await;
    stage.dispatch_many(EVENTS).await;
    stage.receiver.wait_for_path("/healthy", EVENTS, DEADLINE).await;
    let timed_out = stage.receiver.requests_to("/hanging").len();
    println!("while {timed_out} requests timed out");
    assert!(timed_out < HANGING * EVENTS);
    gate.open();
    worker.stop().await;
}
