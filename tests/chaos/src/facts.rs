//! The contents of the database and of the receiver's log after the run.

use std::collections::HashMap;

use postrider_core::{DeliveryId, EventId};
use postrider_testkit::{ATTEMPTS, Receiver};
use sea_orm::{QueryResult, TryGetable};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    audience::Subscriber,
    cluster::{LEASE, MAX_STANDSTILL, REQUEST_TIMEOUT},
    moment::{Anchor, millis},
    records::Records,
    referee::{ACTIVATIONS, CLAIMS, DELETED},
};

#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) subscribers: HashMap<Uuid, &'static Subscriber>,
    /// Events of the tenant `default`; events for operators are left out.
    pub(crate) events: HashMap<Uuid, Event>,
    pub(crate) deliveries: HashMap<Uuid, Delivery>,
    /// Deliveries that no longer exist.
    pub(crate) deleted: HashMap<Uuid, Deleted>,
    /// Attempts by delivery, ordered by number.
    pub(crate) attempts: HashMap<Uuid, Vec<Attempt>>,
    /// By delivery.
    pub(crate) claims: HashMap<Uuid, Vec<Claim>>,
    /// When inactive subscribers became active, in order.
    pub(crate) activations: Vec<(Uuid, i64)>,
    /// Arrival times of requests by path and event, in order.
    pub(crate) arrivals: HashMap<(String, Uuid), Vec<i64>>,
    /// The number of requests without a valid `webhook-id`.
    pub(crate) nameless: usize,
}

#[derive(Debug)]
pub(crate) struct Event {
    /// The event's number in the ledger, read from its data.
    pub(crate) number: usize,
    pub(crate) subscribers: i32,
}

#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) event: Uuid,
    pub(crate) subscriber: Uuid,
    pub(crate) status: i16,
    pub(crate) attempts: i32,
    /// How many attempts precede the current round; `None` if the delivery was never restarted.
    pub(crate) round_start: i32,
    pub(crate) dead_reason: Option<i16>,
    pub(crate) created_at: i64,
}

/// A deleted delivery, as it was when it was deleted.
#[derive(Debug)]
pub(crate) struct Deleted {
    pub(crate) event: Uuid,
    pub(crate) subscriber: Uuid,
    pub(crate) status: i16,
}

/// Codes of `deliveries.status`.
pub(crate) const SUCCEEDED: i16 = 1;
pub(crate) const DEAD: i16 = 2;
/// Codes of `deliveries.dead_reason`.
pub(crate) const ATTEMPTS_USED_UP: i16 = 0;
pub(crate) const RESCUED_TOO_OFTEN: i16 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) number: i32,
    pub(crate) started_at: i64,
    /// Rounded down to a millisecond.
    pub(crate) ended_at: i64,
    pub(crate) status: Option<i16>,
    /// Whether its request was sent a second time, since a reused connection was closed before it was answered.
    pub(crate) resent: bool,
}

/// A worker's claim on a delivery's job. Times are Unix milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) claimed_at: i64,
    /// How the claim ended, in the referee's words.
    pub(crate) ended: Option<String>,
    pub(crate) ended_at: Option<i64>,
}

impl Claim {
    /// Whether the claim ended without recording a request that it may have made.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.ended.as_deref(), Some("rescued" | "released"))
    }

    /// Whether the claim existed at that moment, so that a request under it might still arrive.
    pub(crate) fn may_send_from(&self, moment: i64) -> bool {
        // A stopped worker does not notice that it lost the claim, and continues with it afterwards.
        let last = if self.is_lost() { millis(LEASE + MAX_STANDSTILL + REQUEST_TIMEOUT) } else { 0 };
        self.claimed_at <= moment && self.ended_at.is_none_or(|ended| moment <= ended + last)
    }
}

impl Facts {
    pub(crate) async fn gather(
        records: &Records,
        subscribers: HashMap<Uuid, &'static Subscriber>,
        receiver: &Receiver,
        anchor: Anchor,
    ) -> Self {
        let mut facts = Self {
            subscribers,
            events: HashMap::new(),
            deliveries: HashMap::new(),
            deleted: HashMap::new(),
            attempts: HashMap::new(),
            claims: HashMap::new(),
            activations: Vec::new(),
            arrivals: HashMap::new(),
            nameless: 0,
        };
        let sql = "SELECT id, envelope, subscribers_found FROM events WHERE tenant = 'default'";
        for row in records.rows(sql).await {
            let envelope: Vec<u8> = get(&row, "envelope");
            let envelope: Value = serde_json::from_slice(&envelope).expect("an envelope is JSON");
            let number = envelope["data"]["number"].as_u64().and_then(|number| usize::try_from(number).ok());
            let number = number.expect("the number that was published");
            let event = Event { number, subscribers: get(&row, "subscribers_found") };
            facts.events.insert(get(&row, "id"), event);
        }
        let sql = "SELECT id, subscriber_id, status, attempts, round_start, dead_reason, created_at FROM deliveries";
        for row in records.rows(sql).await {
            let delivery = Delivery {
                event: DeliveryId::from_uuid(get(&row, "id")).event().uuid(),
                subscriber: get(&row, "subscriber_id"),
                status: get(&row, "status"),
                attempts: get(&row, "attempts"),
                round_start: get(&row, "round_start"),
                dead_reason: get(&row, "dead_reason"),
                created_at: get(&row, "created_at"),
            };
            facts.deliveries.insert(get(&row, "id"), delivery);
        }
        let sql = format!(
            "SELECT delivery_id, number, started_at, duration_us, response_status, resent FROM {ATTEMPTS} \
            ORDER BY delivery_id, number, id"
        );
        for row in records.rows(&sql).await {
            let started_at: i64 = get(&row, "started_at");
            let attempt = Attempt {
                number: get(&row, "number"),
                started_at,
                ended_at: started_at + get::<i64>(&row, "duration_us") / 1000,
                status: get(&row, "response_status"),
                resent: get::<Option<bool>>(&row, "resent").unwrap_or(false),
            };
            facts.attempts.entry(get(&row, "delivery_id")).or_default().push(attempt);
        }
        for row in records.rows(DELETED).await {
            let deleted = Deleted {
                event: get(&row, "event"),
                subscriber: get(&row, "subscriber"),
                status: get(&row, "status"),
            };
            facts.deleted.insert(get(&row, "delivery"), deleted);
        }
        for row in records.rows(CLAIMS).await {
            let claim = Claim {
                claimed_at: get(&row, "claimed_at"),
                ended: get(&row, "ended"),
                ended_at: get(&row, "ended_at"),
            };
            facts.claims.entry(get(&row, "delivery")).or_default().push(claim);
        }
        for row in records.rows(ACTIVATIONS).await {
            facts.activations.push((get(&row, "subscriber"), get(&row, "at")));
        }
        for request in receiver.requests() {
            let event = request.header("webhook-id").and_then(|id| id.parse::<EventId>().ok());
            let Some(event) = event else {
                facts.nameless += 1;
                continue;
            };
            let arrived = anchor.millis(request.arrived);
            facts.arrivals.entry((request.path().to_owned(), event.uuid())).or_default().push(arrived);
        }
        for arrivals in facts.arrivals.values_mut() {
            arrivals.sort_unstable();
        }
        facts
    }

    /// The arrival times of a delivery's requests.
    pub(crate) fn arrivals_of(&self, delivery: &Delivery) -> &[i64] {
        self.arrivals_at(delivery.subscriber, delivery.event)
    }

    /// The arrival times of an event's requests at a subscriber.
    pub(crate) fn arrivals_at(&self, subscriber: Uuid, event: Uuid) -> &[i64] {
        let Some(subscriber) = self.subscribers.get(&subscriber) else { return &[] };
        let key = (subscriber.path.to_owned(), event);
        self.arrivals.get(&key).map_or(&[], Vec::as_slice)
    }

    /// How many attempts one round of this delivery may have.
    pub(crate) fn max_attempts(&self, delivery: &Delivery) -> i32 {
        self.subscribers.get(&delivery.subscriber).map_or(0, |subscriber| subscriber.max_attempts())
    }

    pub(crate) fn claims_of(&self, delivery: Uuid) -> &[Claim] {
        self.claims.get(&delivery).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn attempts_of(&self, delivery: Uuid) -> &[Attempt] {
        self.attempts.get(&delivery).map_or(&[], Vec::as_slice)
    }
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> T {
    row.try_get("", column).unwrap_or_else(|error| panic!("column `{column}`: {error}"))
}
