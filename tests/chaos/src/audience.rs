//! The subscribers: one receiver that records every request and behaves differently for each subscriber.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use fastrand::Rng;
use postrider_testkit::{Behaviour, Receiver};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cluster::MAX_ATTEMPTS;

/// The event type of the final probes; only the probe subscribes to it.
pub(crate) const PROBE: &str = "probe";

/// The path of the subscriber that the operator deactivates from time to time, and whose deliveries it cancels.
pub(crate) const FICKLE: &str = "/fickle";

/// The path of the subscriber whose deliveries become dead letters.
pub(crate) const DEAD: &str = "/dead";

/// How a subscriber answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// 200 at once.
    Steady,
    /// 200 after up to half a second.
    Late,
    /// Sometimes 200, sometimes an error status.
    Moody,
    /// Resets connections, hangs, answers late.
    Rough,
    /// 200 after a large part of the request timeout.
    Slow,
    /// Always 500 until the faults are over.
    Dead,
}

/// A subscriber; its path at the receiver is its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscriber {
    pub(crate) path: &'static str,
    events: &'static [&'static str],
    manner: Manner,
    policy: &'static str,
}

const fn subscriber(
    path: &'static str,
    events: &'static [&'static str],
    manner: Manner,
    policy: &'static str,
) -> Subscriber {
    Subscriber { path, events, manner, policy }
}

pub(crate) const SUBSCRIBERS: &[Subscriber] = &[
    subscriber("/steady", &["order.*", "user.*"], Manner::Steady, "{}"),
    subscriber("/late", &["order.*"], Manner::Late, "{}"),
    subscriber("/moody", &["order.created", "user.*"], Manner::Moody, "{}"),
    subscriber("/rough", &["order.created", "order.paid"], Manner::Rough, "{}"),
    subscriber("/ordered", &["user.new"], Manner::Moody, r#"{"ordered":true}"#),
    subscriber("/limited", &["order.paid"], Manner::Steady, r#"{"rate_limit":{"per_second":20,"burst":3}}"#),
    subscriber("/slow", &["order.shipped", "user.lost"], Manner::Slow, "{}"),
    // Slow, so that deliveries are always pending when it is deactivated.
    subscriber(FICKLE, &["order.shipped", "order.paid"], Manner::Late, r#"{"concurrency":2}"#),
    subscriber(DEAD, &["user.lost", "order.shipped"], Manner::Dead, r#"{"max_attempts":2}"#),
    subscriber("/probe", &[PROBE], Manner::Steady, "{}"),
];

/// The event type with many subscribers.
pub(crate) const WIDE: &str = "news";

/// One in so many requests is for an event with many subscribers.
pub(crate) const WIDE_ONE_IN: usize = 300;

/// How many subscribers such an event has: its deliveries are made in several steps.
const CROWD: usize = 600;

/// The subscribers of events with many. They always answer 200, and the operator leaves them alone.
pub(crate) fn crowd() -> impl Iterator<Item = &'static Subscriber> {
    static CROWDED: LazyLock<Vec<Subscriber>> = LazyLock::new(|| {
        let path = |number| -> &'static str { format!("/crowd/{number}").leak() };
        (0..CROWD).map(|number| subscriber(path(number), &[WIDE], Manner::Steady, "{}")).collect()
    });
    CROWDED.iter()
}

/// The published event types, in proportion to their number of entries.
pub(crate) const EVENTS: [&str; 8] = [
    "order.created",
    "order.created",
    "order.paid",
    "order.paid",
    "order.shipped",
    "user.new",
    "user.new",
    "user.lost",
];

impl Subscriber {
    /// The request that creates it.
    pub(crate) fn request(&self, receiver: &Receiver) -> Value {
        json!({"url": receiver.url(self.path), "events": self.events, "policy": self.policy()})
    }

    /// How many attempts a round may have.
    pub(crate) fn max_attempts(&self) -> i32 {
        let own = self.policy()["max_attempts"].as_i64().and_then(|own| i32::try_from(own).ok());
        own.unwrap_or(MAX_ATTEMPTS)
    }

    fn policy(&self) -> Value {
        serde_json::from_str(self.policy).expect("a policy in JSON")
    }

    /// Whether its receiver always answers 200, so that every delivery must succeed.
    pub(crate) fn is_steady(&self) -> bool {
        self.manner == Manner::Steady
    }

    /// Whether its receiver may close a connection instead of answering, so that the request is sent a second time.
    pub(crate) fn resets_connections(&self) -> bool {
        self.manner == Manner::Rough
    }

    fn behaviour(&self, rng: &mut Rng) -> Behaviour {
        let late = |rng: &mut Rng, most| Duration::from_millis(rng.u64(20..most));
        match (self.manner, rng.u32(..10)) {
            (Manner::Steady, _) | (Manner::Moody, 5..) | (Manner::Rough, 6..) => Behaviour::Status(200),
            (Manner::Late, _) => Behaviour::Status(200).after(late(rng, 500)),
            (Manner::Slow, _) => Behaviour::Status(200).after(Duration::from_millis(rng.u64(700..1500))),
            (Manner::Moody, 3..) => Behaviour::Status(503),
            (Manner::Rough, 0..2) => Behaviour::Reset,
            (Manner::Rough, 2) => Behaviour::Hang,
            (Manner::Rough, 3) => Behaviour::Status(200).after(late(rng, 3000)),
            (Manner::Rough, _) => Behaviour::Reset.after(late(rng, 300)),
            (Manner::Moody | Manner::Dead, _) => Behaviour::Status(500),
        }
    }

    /// How it behaves once the faults are over.
    fn after_faults(&self) -> Behaviour {
        match self.manner {
            Manner::Late | Manner::Slow => Behaviour::Status(200).after(Duration::from_millis(20)),
            _ => Behaviour::Status(200),
        }
    }
}

/// Changes the behaviour of each subscriber several times per second until `stop`.
pub(crate) async fn behave(receiver: Arc<Receiver>, mut rng: Rng, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let subscriber = &SUBSCRIBERS[rng.usize(..SUBSCRIBERS.len())];
        receiver.on(subscriber.path, subscriber.behaviour(&mut rng));
        sleep(Duration::from_millis(rng.u64(10..80))).await;
    }
    for subscriber in SUBSCRIBERS {
        receiver.on(subscriber.path, subscriber.after_faults());
    }
}
