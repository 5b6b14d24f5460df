//! The publisher, and its ledger of requested and acknowledged events.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use http::Method;
use postrider_core::EventId;
use postrider_testkit::Api;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    audience::{EVENTS, WIDE, WIDE_ONE_IN},
    incident::Chronicle,
    member::Address,
};

/// How long a publisher waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it repeats the request for an event with a key.
const RETRY_TIME: Duration = Duration::from_secs(40);
/// How many requests a publisher may have in flight.
const MAX_IN_FLIGHT: usize = 200;

/// An event that the publisher requested.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Whether it has an idempotency key, so that the request is safe to repeat.
    pub(crate) keyed: bool,
    /// How many requests were made for it.
    pub(crate) requests: u32,
    /// The first 202, if there was one.
    pub(crate) acknowledged: Option<Acknowledged>,
}

/// The contents of a 202.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) event: Uuid,
    pub(crate) subscribers: usize,
    /// The jobs that existed at the time of the answer.
    pub(crate) jobs: usize,
    /// Whether more were to be made.
    pub(crate) continues: bool,
}

/// All requested events. An event's data holds its index in this list.
#[derive(Debug)]
pub(crate) struct Ledger {
    entries: Mutex<Vec<Entry>>,
    answers: Mutex<BTreeMap<String, usize>>,
    servers: Vec<Address>,
    key: String,
    chronicle: Arc<Chronicle>,
}

impl Ledger {
    pub(crate) fn new(servers: Vec<Address>, key: &str, chronicle: &Arc<Chronicle>) -> Self {
        Self {
            entries: Mutex::default(),
            answers: Mutex::default(),
            servers,
            key: key.to_owned(),
            chronicle: Arc::clone(chronicle),
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        lock(&self.entries).clone()
    }

    /// How often each kind of answer was received.
    pub(crate) fn answers(&self) -> BTreeMap<String, usize> {
        lock(&self.answers).clone()
    }

    /// Publishes about `rate` events per second until `stop`, whatever the fate of earlier ones; then completes
    /// what it has begun.
    pub(crate) async fn publish(self: Arc<Self>, mut rng: Rng, rate: f64, stop: CancellationToken) {
        let mut asking = JoinSet::new();
        while !stop.is_cancelled() {
            if asking.len() < MAX_IN_FLIGHT {
                asking.spawn(Arc::clone(&self).insist(rng.fork()));
            }
            while asking.try_join_next().is_some() {}
            sleep(Duration::from_secs_f64(rng.f64() * 2.0 / rate)).await;
        }
        asking.join_all().await;
    }

    /// Requests an event or a batch of them, and repeats the request if they have keys.
    async fn insist(self: Arc<Self>, mut rng: Rng) {
        let keyed = rng.bool();
        let size = if rng.u32(..8) == 0 { rng.usize(2..6) } else { 1 };
        let event = |rng: &mut Rng| {
            if rng.usize(..WIDE_ONE_IN) == 0 { WIDE } else { EVENTS[rng.usize(..EVENTS.len())] }
        };
        let mut asked: Vec<_> = (0..size).map(|_| (self.enter(keyed), event(&mut rng))).collect();
        let started = Instant::now();
        loop {
            let server = rng.usize(..self.servers.len());
            match asked[..] {
                [(number, event)] => self.ask(number, event, server).await,
                _ => self.ask_batch(&asked, server).await,
            }
            asked.retain(|(number, _)| lock(&self.entries)[*number].acknowledged.is_none());
            // Without a key, a second request would make a second event.
            if asked.is_empty() || !keyed || started.elapsed() > RETRY_TIME {
                return;
            }
            sleep(Duration::from_millis(rng.u64(50..300))).await;
        }
    }

    /// Requests one event from one server. Returns its id if it was acknowledged.
    pub(crate) async fn publish_one(&self, event: &str, server: usize) -> Option<Uuid> {
        let number = self.enter(false);
        self.ask(number, event, server).await;
        lock(&self.entries)[number].acknowledged.map(|acknowledged| acknowledged.event)
    }

    fn enter(&self, keyed: bool) -> usize {
        let mut entries = lock(&self.entries);
        entries.push(Entry { keyed, requests: 0, acknowledged: None });
        entries.len() - 1
    }

    async fn ask(&self, number: usize, event: &str, server: usize) {
        let Some(address) = self.reach(server).await else { return };
        let body = self.body(number, event);
        if let Some(answer) = self.post(address, "/v1/events", &body).await {
            self.acknowledge(number, &answer);
        }
    }

    /// Requests several events at once; each has its own result, in order.
    async fn ask_batch(&self, asked: &[(usize, &str)], server: usize) {
        let Some(address) = self.reach(server).await else { return };
        let events: Vec<_> = asked.iter().map(|(number, event)| self.body(*number, event)).collect();
        let Some(answer) = self.post(address, "/v1/events/batch", &json!({"events": events})).await else {
            return;
        };
        let results = answer["results"].as_array().map(Vec::as_slice).unwrap_or_default();
        if results.len() != asked.len() {
            self.chronicle.violation(format!("the answer to a batch of {} is {answer}", asked.len()));
        }
        for ((number, _), result) in asked.iter().zip(results) {
            match result["status"].as_u64() {
                None => self.acknowledge(*number, result),
                Some(503) => self.count("503 inside a batch"),
                Some(_) => self.chronicle.violation(format!("inside a batch: {result}")),
            }
        }
    }

    /// The address of a server, if it is running.
    async fn reach(&self, server: usize) -> Option<SocketAddr> {
        let address = self.servers[server].live().api;
        if address.is_none() {
            sleep(Duration::from_millis(50)).await;
        }
        address
    }

    /// The request body of an event; counts the request.
    fn body(&self, number: usize, event: &str) -> Value {
        let mut body = json!({"event": event, "data": {"number": number}});
        let mut entries = lock(&self.entries);
        let entry = &mut entries[number];
        entry.requests += 1;
        if entry.keyed {
            body["id"] = format!("chaos-{number}").into();
        }
        body
    }

    /// The body of the answer, if it is a 202.
    async fn post(&self, address: SocketAddr, path: &str, body: &Value) -> Option<Value> {
        let api = Api::new(format!("http://{address}"), &self.key);
        let json = [("content-type", "application/json")];
        let asked = api.try_send(Method::POST, path, &json, body.to_string());
        let answer = match timeout(ANSWER_TIMEOUT, asked).await {
            Err(_) => {
                self.count("no answer within 5 s");
                return None;
            }
            Ok(Err(_)) => {
                self.count("connection failed");
                return None;
            }
            Ok(Ok(answer)) => answer,
        };
        self.count(&format!("{} to {path}", answer.status));
        match answer.status {
            202 => return Some(answer.json()),
            503 if answer.header("retry-after").is_none() => {
                self.chronicle.violation("a 503 has no Retry-After".to_owned());
            }
            503 => {}
            status => self.chronicle.violation(format!("POST {path}: {status}: {}", answer.text())),
        }
        None
    }

    fn acknowledge(&self, number: usize, answer: &Value) {
        let event = answer["id"].as_str().and_then(|id| id.parse::<EventId>().ok());
        let count = |name: &str| answer[name].as_u64().and_then(|count| usize::try_from(count).ok());
        let (Some(event), Some(subscribers), Some(jobs)) =
            (event, count("subscribers_found"), count("jobs_created"))
        else {
            self.chronicle.violation(format!("a 202 without the expected fields: {answer}"));
            return;
        };
        let continues = answer["fan_out"] == "continuing";
        let acknowledged = Acknowledged { event: event.uuid(), subscribers, jobs, continues };
        lock(&self.entries)[number].acknowledged = Some(acknowledged);
    }

    fn count(&self, answer: &str) {
        *lock(&self.answers).entry(answer.to_owned()).or_default() += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
