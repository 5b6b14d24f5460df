//! What the database and the receiver hold when all is over.

use std::collections::HashMap;

use postrider_core::EventId;
use postrider_testkit::Receiver;
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, QueryResult, Statement, TryGetable};
use serde_json::Value;
use uuid::Uuid;

use crate::{audience::Subscriber, moment::Anchor, referee::LOST_CLAIMS};

#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) subscribers: HashMap<Uuid, &'static Subscriber>,
    /// Of the tenant `default`: the operator's events are not ours.
    pub(crate) events: HashMap<Uuid, Event>,
    pub(crate) deliveries: HashMap<Uuid, Delivery>,
    /// By delivery, in the order of their numbers.
    pub(crate) attempts: HashMap<Uuid, Vec<Attempt>>,
    /// How many claims of a delivery ended without a record of their request, if they had made one.
    pub(crate) lost_claims: HashMap<Uuid, i64>,
    /// When requests came, by path and event, in order.
    pub(crate) arrivals: HashMap<(String, Uuid), Vec<i64>>,
    /// Requests without a `webhook-id` that makes sense.
    pub(crate) nameless: usize,
}

#[derive(Debug)]
pub(crate) struct Event {
    /// The ledger's number, from its data.
    pub(crate) number: usize,
    pub(crate) subscribers: i32,
}

#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) event: Uuid,
    pub(crate) subscriber: Uuid,
    pub(crate) status: i16,
    pub(crate) attempts: i32,
    /// How many of them came before the present round, or were of no round; none if it was never begun anew.
    pub(crate) round_start: i32,
    pub(crate) dead_reason: Option<i16>,
    pub(crate) created_at: i64,
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
}

impl Facts {
    pub(crate) async fn gather(
        database: &DatabaseConnection,
        subscribers: HashMap<Uuid, &'static Subscriber>,
        receiver: &Receiver,
        anchor: Anchor,
    ) -> Self {
        let mut facts = Self {
            subscribers,
            events: HashMap::new(),
            deliveries: HashMap::new(),
            attempts: HashMap::new(),
            lost_claims: HashMap::new(),
            arrivals: HashMap::new(),
            nameless: 0,
        };
        let sql = "SELECT id, envelope, subscribers_found FROM events WHERE tenant = 'default'";
        for row in rows(database, sql).await {
            let envelope: Vec<u8> = get(&row, "envelope");
            let envelope: Value = serde_json::from_slice(&envelope).expect("an envelope is JSON");
            let number = envelope["data"]["number"].as_u64().and_then(|number| usize::try_from(number).ok());
            let number = number.expect("the number that was published");
            let event = Event { number, subscribers: get(&row, "subscribers_found") };
            facts.events.insert(get(&row, "id"), event);
        }
        let sql = "SELECT id, event_id, subscriber_id, status, attempts, round_start, dead_reason, created_at FROM deliveries";
        for row in rows(database, sql).await {
            let delivery = Delivery {
                event: get(&row, "event_id"),
                subscriber: get(&row, "subscriber_id"),
                status: get(&row, "status"),
                attempts: get(&row, "attempts"),
                round_start: get(&row, "round_start"),
                dead_reason: get(&row, "dead_reason"),
                created_at: get(&row, "created_at"),
            };
            facts.deliveries.insert(get(&row, "id"), delivery);
        }
        let sql = "SELECT delivery_id, number, started_at, duration_us, response_status FROM attempts \
            ORDER BY delivery_id, number, id";
        for row in rows(database, sql).await {
            let started_at: i64 = get(&row, "started_at");
            let attempt = Attempt {
                number: get(&row, "number"),
                started_at,
                ended_at: started_at + get::<i64>(&row, "duration_us") / 1000,
                status: get(&row, "response_status"),
            };
            facts.attempts.entry(get(&row, "delivery_id")).or_default().push(attempt);
        }
        for row in rows(database, LOST_CLAIMS).await {
            facts.lost_claims.insert(get(&row, "delivery"), get(&row, "lost"));
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

    /// When the requests of a delivery came.
    pub(crate) fn arrivals_of(&self, delivery: &Delivery) -> &[i64] {
        let Some(subscriber) = self.subscribers.get(&delivery.subscriber) else { return &[] };
        let key = (subscriber.path.to_owned(), delivery.event);
        self.arrivals.get(&key).map_or(&[], Vec::as_slice)
    }

    /// How many attempts a round of this delivery has.
    pub(crate) fn max_attempts(&self, delivery: &Delivery) -> i32 {
        self.subscribers.get(&delivery.subscriber).map_or(0, |subscriber| subscriber.max_attempts())
    }

    pub(crate) fn attempts_of(&self, delivery: Uuid) -> &[Attempt] {
        self.attempts.get(&delivery).map_or(&[], Vec::as_slice)
    }
}

pub(crate) async fn rows(database: &DatabaseConnection, sql: &str) -> Vec<QueryResult> {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    database.query_all_raw(statement).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// A single number.
pub(crate) async fn count(database: &DatabaseConnection, sql: &str) -> i64 {
    let rows = rows(database, sql).await;
    rows.first().map_or(0, |row| row.try_get_by_index(0).expect("a number"))
}

fn get<T: TryGetable>(row: &QueryResult, column: &str) -> T {
    row.try_get("", column).unwrap_or_else(|error| panic!("column `{column}`: {error}"))
}
