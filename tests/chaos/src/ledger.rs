//! The publisher, and its ledger: what was asked for, and what was acknowledged.

use std::{
    collections::BTreeMap,
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

use crate::{audience::EVENTS, incident::Chronicle, member::Address};

/// How long a publisher waits for its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it goes on asking for an event that has a key.
const PERSISTENCE: Duration = Duration::from_secs(40);
/// How many requests one publisher has open.
const MOST_ASKING: usize = 200;

/// An event that a publisher asked for.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Whether it bears an idempotency key, so that asking again is safe.
    pub(crate) keyed: bool,
    /// How often it was asked for.
    pub(crate) requests: u32,
    /// The first 202, if there was one.
    pub(crate) acknowledged: Option<Acknowledged>,
}

/// What a 202 said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) event: Uuid,
    pub(crate) subscribers: usize,
    pub(crate) jobs: usize,
}

/// All that was asked for; an event's number in here is in its data.
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

    /// How often each answer came.
    pub(crate) fn answers(&self) -> BTreeMap<String, usize> {
        lock(&self.answers).clone()
    }

    /// Publishes until `stop`, about `rate` events a second, whatever becomes of those before; then sees through
    /// what it began.
    pub(crate) async fn publish(self: Arc<Self>, mut rng: Rng, rate: f64, stop: CancellationToken) {
        let mut asking = JoinSet::new();
        while !stop.is_cancelled() {
            if asking.len() < MOST_ASKING {
                asking.spawn(Arc::clone(&self).insist(rng.fork()));
            }
            while asking.try_join_next().is_some() {}
            sleep(Duration::from_secs_f64(rng.f64() * 2.0 / rate)).await;
        }
        asking.join_all().await;
    }

    /// Asks for an event; again and again if it has a key.
    async fn insist(self: Arc<Self>, mut rng: Rng) {
        let event = EVENTS[rng.usize(..EVENTS.len())];
        let keyed = rng.bool();
        let number = self.enter(keyed);
        let started = Instant::now();
        loop {
            let server = rng.usize(..self.servers.len());
            let acknowledged = self.ask(number, event, server).await;
            // What has no key must not be asked for twice.
            if acknowledged || !keyed || started.elapsed() > PERSISTENCE {
                return;
            }
            sleep(Duration::from_millis(rng.u64(50..300))).await;
        }
    }

    /// Asks one server for an event of its own; whether it was acknowledged, and by which event.
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

    async fn ask(&self, number: usize, event: &str, server: usize) -> bool {
        let Some(address) = self.servers[server].live().api else {
            sleep(Duration::from_millis(50)).await;
            return false;
        };
        let mut body = json!({"event": event, "data": {"number": number}});
        let keyed = {
            let entry = &mut lock(&self.entries)[number];
            entry.requests += 1;
            entry.keyed
        };
        if keyed {
            body["id"] = format!("chaos-{number}").into();
        }
        let api = Api::new(format!("http://{address}"), &self.key);
        let json = [("content-type", "application/json")];
        let asked = api.try_send(Method::POST, "/v1/events", &json, body.to_string());
        let answer = match timeout(PATIENCE, asked).await {
            Err(_) => return self.count("no answer within 5 s"),
            Ok(Err(_)) => return self.count("no connection, or it broke"),
            Ok(Ok(answer)) => answer,
        };
        self.count(&answer.status.to_string());
        match answer.status {
            202 => self.acknowledge(number, &answer.json()),
            503 if answer.header("retry-after").is_none() => {
                self.chronicle.violation("a 503 has no Retry-After".to_owned());
            }
            503 => {}
            status => self.chronicle.violation(format!("POST /v1/events: {status}: {}", answer.text())),
        }
        answer.status == 202
    }

    fn acknowledge(&self, number: usize, answer: &Value) {
        let event = answer["id"].as_str().and_then(|id| id.parse::<EventId>().ok());
        let count = |name: &str| answer[name].as_u64().and_then(|count| usize::try_from(count).ok());
        let (Some(event), Some(subscribers), Some(jobs)) =
            (event, count("subscribers_found"), count("jobs_created"))
        else {
            self.chronicle.violation(format!("a 202 that makes no sense: {answer}"));
            return;
        };
        let acknowledged = Acknowledged { event: event.uuid(), subscribers, jobs };
        lock(&self.entries)[number].acknowledged = Some(acknowledged);
    }

    fn count(&self, answer: &str) -> bool {
        *lock(&self.answers).entry(answer.to_owned()).or_default() += 1;
        false
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
