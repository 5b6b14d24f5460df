//! Only failures that blame the receiver count against a subscriber.

use std::time::Duration;

use postrider_core::{ErrorKind, SubscriberId, Verdict};
use postrider_store::attempt::{Attempt, End, Outcome};
use postrider_store::health::{Breaker, BreakerPolicy, Breakers, Health};
use sea_orm::ConnectionTrait as _;

use crate::stage::{Stage, on_both};

on_both!(
    failures_on_our_side_do_not_count_against_the_subscriber,
    failures_of_the_receiver_open_the_breaker,
    breakers_are_counted_by_their_state,
);

/// The health of a subscriber after enough failed attempts to open its breaker.
async fn fail(stage: &Stage, error: ErrorKind) -> Health {
    let subscriber: SubscriberId = stage.subscribe(&stage.tenant, true).await;
    let breaker = BreakerPolicy { breaker_failures: 3, ..BreakerPolicy::default() };
    for _ in 0..4 {
        stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    }
    let outcomes: Vec<Outcome> = stage
        .claim()
        .await
        .into_iter()
        .map(|(lease, delivery)| Outcome {
            lease,
            attempt: Some(Attempt {
                started_at: delivery.created_at,
                duration: Duration::from_millis(3),
                response: None,
                verdict: Verdict::failure(error, "why it failed"),
                exchange: None,
            }),
            delivery,
            end: End::RetryIn(Duration::from_hours(1)),
        })
        .collect();
    assert_eq!(outcomes.len(), 4);
    stage.store.record(&outcomes, &[], &breaker).await.unwrap();
    stage.store.subscriber(&stage.tenant, subscriber).await.unwrap().unwrap().health
}

async fn failures_on_our_side_do_not_count_against_the_subscriber(stage: &Stage) {
    for error in [ErrorKind::Proxy, ErrorKind::Internal] {
        assert_eq!(fail(stage, error).await, Health::default(), "{error:?}");
    }
}

async fn failures_of_the_receiver_open_the_breaker(stage: &Stage) {
    for error in [ErrorKind::Connect, ErrorKind::Dns] {
        let health = fail(stage, error).await;
        assert_eq!(health.failures, 4, "{error:?}");
        assert!(matches!(health.breaker, Breaker::Open(_)), "{error:?}: {health:?}");
    }
}

async fn breakers_are_counted_by_their_state(stage: &Stage) {
    let breakers = async || stage.store.breakers().await.unwrap();
    assert_eq!(breakers().await, Breakers::default());
    stage.subscribe(&stage.tenant, true).await;
    stage.subscribe(&stage.tenant, false).await;
    // The inactive subscriber is not counted.
    assert_eq!(breakers().await, Breakers { closed: 1, ..Breakers::default() });
    fail(stage, ErrorKind::Internal).await;
    fail(stage, ErrorKind::Connect).await;
    assert_eq!(breakers().await, Breakers { closed: 2, open: 1, half_open: 0 });
    let connection = stage.store.database().connection();
    connection.execute_unprepared("UPDATE health SET open_until = 1").await.unwrap();
    assert_eq!(breakers().await, Breakers { closed: 2, open: 0, half_open: 1 });
}
