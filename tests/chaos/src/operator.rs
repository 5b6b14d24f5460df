//! The operator: deactivates, activates, cancels, retries, recovers, requeues and deletes while faults happen, and
//! reverses its actions at the end, so that everything has to be delivered.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use fastrand::Rng;
use http::Method;
use postrider_core::{DeliveryId, SubscriberId};
use postrider_testkit::{Api, api::Answer};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    audience::{DEAD, FICKLE, SUBSCRIBERS, Subscriber},
    incident::Chronicle,
    member::Address,
    moment,
};

/// How long a call may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The most pages of cancelled deliveries that are retried at once.
const MOST_PAGES: usize = 100;

/// How long to repeat a call that has to succeed.
const RETRY_TIME: Duration = Duration::from_mins(1);
/// How late an unanswered call may still take effect: a stopped server or a hanging link delays it.
const DOUBT: Duration = Duration::from_secs(30);

/// A period in which the fickle subscriber was to receive nothing. Times are Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Off {
    /// When its deactivation was acknowledged.
    pub(crate) from: i64,
    /// When its activation was requested.
    pub(crate) until: i64,
    /// Whether an earlier request to activate it went unanswered and may still take effect.
    pub(crate) in_doubt: bool,
}

/// The result of a request to delete a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// No answer: it may or may not have been deleted.
    Asked,
    /// It is gone.
    Acknowledged,
}

#[derive(Debug)]
pub(crate) struct Operator {
    servers: Vec<Address>,
    key: String,
    /// The ids of the subscribers that it acts on, in the API's form, by path.
    subscribers: BTreeMap<&'static str, String>,
    chronicle: Arc<Chronicle>,
    done: Mutex<BTreeMap<String, usize>>,
    offs: Mutex<Vec<Off>>,
    /// When a request to activate something last went unanswered.
    unanswered: Mutex<Option<i64>>,
    /// By delivery.
    deletions: Mutex<BTreeMap<Uuid, Deletion>>,
}

impl Operator {
    pub(crate) fn new(
        servers: Vec<Address>,
        key: &str,
        subscribers: &HashMap<Uuid, &'static Subscriber>,
        chronicle: &Arc<Chronicle>,
    ) -> Self {
        let id = |id: &Uuid| SubscriberId::from_uuid(*id).to_string();
        Self {
            servers,
            key: key.to_owned(),
            subscribers: subscribers
                .iter()
                .filter(|(_, subscriber)| SUBSCRIBERS.iter().any(|one| one.path == subscriber.path))
                .map(|(uuid, subscriber)| (subscriber.path, id(uuid)))
                .collect(),
            chronicle: Arc::clone(chronicle),
            done: Mutex::default(),
            offs: Mutex::default(),
            unanswered: Mutex::default(),
            deletions: Mutex::default(),
        }
    }

    /// How often each action succeeded.
    pub(crate) fn done(&self) -> BTreeMap<String, usize> {
        lock(&self.done).clone()
    }

    /// The periods in which the fickle subscriber was inactive.
    pub(crate) fn offs(&self) -> Vec<Off> {
        lock(&self.offs).clone()
    }

    /// The requested deletions whose answers do not rule them out.
    pub(crate) fn deletions(&self) -> BTreeMap<Uuid, Deletion> {
        lock(&self.deletions).clone()
    }

    /// Performs one action after the other until `stop`; afterwards every subscriber is active.
    pub(crate) async fn operate(&self, mut rng: Rng, stop: CancellationToken) {
        let fickle = &self.subscribers[FICKLE];
        while !stop.is_cancelled() {
            sleep(Duration::from_millis(rng.u64(100..700))).await;
            let any =
                self.subscribers.values().nth(rng.usize(..self.subscribers.len())).expect("one of them");
            let server = rng.usize(..self.servers.len());
            match rng.u32(..9) {
                0 => self.switch_off(server, fickle, Duration::from_millis(rng.u64(..800))).await,
                1 => {
                    let pending =
                        self.deliveries(server, &format!("subscriber_id={fickle}&status=pending")).await;
                    for id in pending.iter().take(5) {
                        self.post(server, "cancel", &format!("/v1/deliveries/{id}/cancel"), "").await;
                    }
                }
                2 => {
                    let all = self.deliveries(server, &format!("subscriber_id={any}")).await;
                    if let Some(id) = all.get(rng.usize(..50)) {
                        self.post(server, "retry", &format!("/v1/deliveries/{id}/retry"), "").await;
                    }
                }
                3 => {
                    let body = json!({"subscriber_id": any}).to_string();
                    self.post(server, "requeue", "/v1/dead-letters/requeue", &body).await;
                }
                4 => {
                    let millis = u64::try_from(moment::now()).unwrap_or(0).saturating_sub(20_000);
                    let since = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
                    let body =
                        json!({"since": humantime::format_rfc3339_seconds(since).to_string()}).to_string();
                    self.post(server, "recover", &format!("/v1/subscribers/{any}/recover"), &body).await;
                }
                5 | 6 => {
                    let mut dead = Vec::new();
                    for server in 0..self.servers.len() {
                        dead.extend(self.list(server, "/v1/dead-letters?limit=250").await);
                    }
                    let some = rng.usize(..dead.len().max(1));
                    for id in dead.iter().skip(some).take(6) {
                        self.delete(server, id, rng.u32(..4) == 0).await;
                    }
                }
                _ => {
                    // This also closes its breaker if that is open. The dead subscriber makes dead letters only while it is closed.
                    let id = if rng.bool() { any } else { &self.subscribers[DEAD] };
                    self.post(server, "activate", &format!("/v1/subscribers/{id}/activate"), "").await;
                }
            }
        }
    }

    /// Deactivates a subscriber for a while.
    async fn switch_off(&self, server: usize, id: &str, time: Duration) {
        let off = self.post(server, "deactivate", &format!("/v1/subscribers/{id}/deactivate"), "").await;
        let from = moment::now();
        sleep(time).await;
        if off {
            let asked = *lock(&self.unanswered);
            let in_doubt = asked.is_some_and(|asked| asked + moment::millis(DOUBT) > from);
            lock(&self.offs).push(Off { from, until: moment::now(), in_doubt });
        }
        self.insist("activate", &format!("/v1/subscribers/{id}/activate")).await;
    }

    /// Deletes a dead letter; if `contested`, asks another server at the same time to retry it.
    async fn delete(&self, server: usize, id: &str, contested: bool) {
        let delivery = id.parse::<DeliveryId>().expect("an id").uuid();
        let before = lock(&self.deletions).insert(delivery, Deletion::Asked);
        let path = format!("/v1/dead-letters/{id}");
        let retry = async {
            if contested {
                let other = (server + 1) % self.servers.len();
                self.post(other, "retry during a deletion", &format!("/v1/deliveries/{id}/retry"), "").await;
            }
        };
        let (answer, ()) = tokio::join!(self.send(server, Method::DELETE, &path, ""), retry);
        match answer.map(|answer| answer.status) {
            Some(204) if before != Some(Deletion::Acknowledged) => {
                lock(&self.deletions).insert(delivery, Deletion::Acknowledged);
                self.count("delete");
            }
            // An earlier request whose answer was lost has taken effect.
            Some(404) if before.is_some() => {
                lock(&self.deletions).insert(delivery, Deletion::Acknowledged);
            }
            // This call did not do it.
            Some(409) => {
                let mut deletions = lock(&self.deletions);
                deletions.remove(&delivery);
                deletions.extend(before.map(|before| (delivery, before)));
            }
            None | Some(503) => {}
            Some(status) => self.chronicle.violation(format!("DELETE {path}: {status}, after {before:?}")),
        }
    }

    /// Closes all breakers and retries everything that was cancelled.
    pub(crate) async fn make_up(&self) {
        for id in self.subscribers.values() {
            self.insist("activate", &format!("/v1/subscribers/{id}/activate")).await;
        }
        let cancelled = format!("subscriber_id={}&status=cancelled", self.subscribers[FICKLE]);
        // A page at a time. Those of the page before are pending now.
        for _ in 0..MOST_PAGES {
            let page = self.deliveries(0, &cancelled).await;
            if page.is_empty() {
                return;
            }
            for id in page {
                self.insist("retry", &format!("/v1/deliveries/{id}/retry")).await;
            }
        }
    }

    /// Asks one server after the other until one succeeds.
    async fn insist(&self, what: &'static str, path: &str) {
        let started = Instant::now();
        for server in (0..self.servers.len()).cycle() {
            if self.post(server, what, path, "").await {
                return;
            }
            if started.elapsed() > RETRY_TIME {
                return self
                    .chronicle
                    .violation(format!("POST {path} has not succeeded within {RETRY_TIME:?}"));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn post(&self, server: usize, what: &'static str, path: &str, body: &str) -> bool {
        let done = self.call(server, Method::POST, path, body).await.is_some();
        if done {
            self.count(what);
        } else if what == "activate" {
            *lock(&self.unanswered) = Some(moment::now());
        }
        done
    }

    /// The ids of the newest matching deliveries.
    async fn deliveries(&self, server: usize, query: &str) -> Vec<String> {
        self.list(server, &format!("/v1/deliveries?limit=250&{query}")).await
    }

    async fn list(&self, server: usize, path: &str) -> Vec<String> {
        let list = self.call(server, Method::GET, path, "").await;
        let items =
            list.as_ref().and_then(|list| list["data"].as_array()).map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(|item| item["id"].as_str().map(str::to_owned)).collect()
    }

    /// The answer, if it is a success. A server may be down, and a delivery may have changed its status.
    async fn call(&self, server: usize, method: Method, path: &str, body: &str) -> Option<Value> {
        let answer = self.send(server, method.clone(), path, body).await?;
        match answer.status {
            200..=299 => Some(answer.json()),
            409 | 503 => None,
            404 if self.may_be_deleted(path) => None,
            status => {
                self.chronicle.violation(format!("{method} {path}: {status}: {}", answer.text()));
                None
            }
        }
    }

    /// The answer, whatever its status; `None` if there is none.
    async fn send(&self, server: usize, method: Method, path: &str, body: &str) -> Option<Answer> {
        let address = self.servers[server].live().api?;
        let api = Api::new(format!("http://{address}"), &self.key);
        let json = [("content-type", "application/json")];
        let headers = if body.is_empty() { &json[..0] } else { &json[..] };
        timeout(ANSWER_TIMEOUT, api.try_send(method, path, headers, body.to_owned())).await.ok()?.ok()
    }

    /// Whether the path names a delivery that the operator asked to delete.
    fn may_be_deleted(&self, path: &str) -> bool {
        let deletions = lock(&self.deletions);
        path.split('/')
            .filter_map(|part| part.parse::<DeliveryId>().ok())
            .any(|id| deletions.contains_key(&id.uuid()))
    }

    fn count(&self, what: &str) {
        *lock(&self.done).entry(what.to_owned()).or_default() += 1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
