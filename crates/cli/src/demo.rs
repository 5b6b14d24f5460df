//! `postrider demo`: delivers events to a healthy, a flaky and a dead receiver, prints each attempt as it arrives, and
//! checks the result.

mod receivers;
mod report;

use std::time::Duration;

use postrider_core::retry::Steps;
use postrider_core::{Keyring, RetryPolicy, RetrySchedule, Secret, SystemRandom, TenantId};
use postrider_delivery::Client;
use postrider_dispatch::{Dispatcher, NewEvent};
use postrider_program::StartError;
use postrider_store::Store;
use postrider_store::health::BreakerPolicy;
use postrider_store::subscribers::NewSubscriber;
use postrider_worker::Worker;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::receivers::{Character, Receiver};
use self::report::Report;
use crate::embedded;
use crate::say::say;

/// Delays for four attempts within two seconds; the default schedule has six within a quarter of an hour.
const DELAYS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(800)];

/// How long the demo waits for all deliveries to end, which takes about two seconds.
const DEADLINE: Duration = Duration::from_secs(12);

pub(crate) async fn run() -> Result<(), StartError> {
    say(format_args!(
        "Postrider delivers five events to three receivers: one healthy, one flaky, one dead.\n"
    ));
    let folder = tempfile::tempdir()?;
    let keyring = Keyring::parse(&Keyring::generate_key(&SystemRandom))?;
    let store = embedded::open(folder.path(), keyring).await?;

    let mut receivers = Vec::new();
    for character in Character::ALL {
        let secret = Secret::generate(&SystemRandom);
        let receiver = Receiver::start(character, &secret).await?;
        let subscriber = subscribe(&store, &receiver, secret).await?;
        receivers.push((receiver, subscriber));
    }

    let stop = CancellationToken::new();
    let worker = tokio::spawn(worker(&store)?.run(stop.clone()));
    let dispatcher = Dispatcher::new(store.clone(), postrider_dispatch::Config::default())?;
    let events = dispatch(&dispatcher).await?;

    let deadline = tokio::time::Instant::now() + DEADLINE;
    while pending(&store).await? > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    worker.await?;

    let report = Report::make(&store, &receivers, events).await?;
    say(format_args!("\n{report}"));
    store.database().close().await;
    report.verdict()
}

/// Returns a worker that may also deliver to 127.0.0.1, where the receivers are.
fn worker(store: &Store) -> Result<Worker, StartError> {
    let mut delivery = postrider_delivery::Config::default();
    delivery.targets.addresses = delivery.targets.addresses.allowing(vec!["127.0.0.1/32".parse()?]);
    let schedule = RetrySchedule::Steps(Steps::try_new(DELAYS.to_vec())?);
    let retry = RetryPolicy::try_new(schedule, 1 + u32::try_from(DELAYS.len())?, 10)?;
    // The dead receiver would open its circuit breaker, and the demo would have to wait for the next probe.
    let breaker = BreakerPolicy { breaker_failures: 0, ..BreakerPolicy::default() };
    let config = postrider_worker::Config { retry, breaker, ..postrider_worker::Config::default() };
    Ok(Worker::new(store.clone(), Client::new(delivery)?, config)?)
}

async fn subscribe(
    store: &Store,
    receiver: &Receiver,
    secret: Secret,
) -> Result<postrider_store::subscribers::Subscriber, StartError> {
    let new = NewSubscriber {
        description: receiver.character().as_str().to_owned(),
        ..NewSubscriber::new(receiver.url().parse()?, vec!["order.*".parse()?], secret)
    };
    Ok(store.create_subscriber(&TenantId::default(), new).await?)
}

async fn dispatch(dispatcher: &Dispatcher) -> Result<usize, StartError> {
    let orders = [
        ("order.created", 1),
        ("order.created", 2),
        ("order.paid", 1),
        ("order.shipped", 1),
        ("order.paid", 2),
    ];
    for (event, number) in orders {
        let event = NewEvent::new(event, &json!({"order": number, "total": "19.90"}))?;
        let answer = dispatcher.dispatch(event).await?;
        say(format_args!(
            "dispatched {} {} to {} subscribers",
            answer.id,
            answer.event_type,
            answer.subscribers.len()
        ));
    }
    Ok(orders.len())
}

async fn pending(store: &Store) -> Result<u64, StartError> {
    let stats = store.stats(&TenantId::default(), &postrider_store::stats::StatsFilter::default()).await?;
    Ok(stats.deliveries.pending)
}
