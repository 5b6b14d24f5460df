//! What the console shows: data of every kind, some of it long.

use std::time::Duration;

use postrider_testkit::{Api, Behaviour, Receiver, eventually};
use serde_json::{Value, json};

use crate::client::{list, subscribe_with, text};
use crate::deployment::DEADLINE;

/// How many events are dispatched.
const EVENTS: usize = 60;

/// Shortens lists: axe-core looks at every cell.
const SHORT: &str = "limit=12";

pub(super) struct Story {
    pub(super) api: Api,
    pub(super) receiver: Receiver,
    /// An event with several deliveries.
    pub(super) event: String,
    failing: String,
    working: String,
    dead: String,
    replay: String,
    key: String,
}

impl Story {
    pub(super) async fn tell(api: &Api) -> Self {
        let receiver = Receiver::start().await;
        let answers = (1..=200).map(|number| {
            let body =
                format!("{{\"error\":\"under maintenance\",\"request\":{number},\"until\":\"19:00\"}}");
            Behaviour::respond(503, body)
        });
        receiver.on("/failing", Behaviour::Sequence(answers.collect()));
        receiver.on("/slow", Behaviour::Status(200).after(Duration::from_millis(20)));
        let long = format!(
            "/failing?account=acme-eu-central-1&stage=production&callback={}",
            "0123456789abcdef".repeat(8)
        );
        let failing = subscribe_with(
            api,
            json!({
                "url": receiver.url(&long), "events": ["user.*"], "description": "Customer relations", "uid": "crm",
                "policy": {"max_attempts": 2},
            }),
        );
        let failing = failing.await;
        let working = subscribe_with(
            api,
            json!({
                "url": receiver.url("/slow"), "events": ["order.*", "user.*"], "uid": "orders",
                "filter": "!has(data.total) || data.total >= 0.0", "metadata": {"team": "orders"},
                "transform": {"steps": [{"op": "mask", "path": "/card/number", "keep": 4}]},
                "policy": {"rate_limit": {"per_second": 1000}, "timeout": "10s"},
            }),
        );
        let working = working.await;
        for number in 0..8 {
            let url = receiver.url(&format!("/customer/{number}"));
            subscribe_with(api, json!({"url": url, "events": [format!("customer.{number}.*")]})).await;
        }
        let paused =
            subscribe_with(api, json!({"url": receiver.url("/paused"), "events": ["order.*"]})).await;
        api.post(&format!("/v1/subscribers/{}/pause", text(&paused["id"])), &json!({})).await;
        let registered = json!({
            "name": "order.created", "description": "An order was placed and paid.", "group": "orders", "mode": "warn",
            "schema": {"type": "object", "properties": {"order": {"type": "integer"}}}, "example": {"order": 1},
        });
        assert_eq!(api.post("/v1/event-types", &registered).await.0, 201);
        for (id, name) in [("acme", "Acme Ltd."), ("globex", "Globex Corporation")] {
            assert_eq!(api.post("/v1/tenants", &json!({"id": id, "name": name})).await.0, 201);
        }
        let key = json!({"name": "shop backend", "tenant": "default", "scopes": ["publisher"], "limits": {"event_types": ["order.*"]}});
        let (_, key) = api.post("/v1/keys", &key).await;
        let event = Self::dispatch(api).await;
        let dead = eventually(DEADLINE, async || {
            let dead = list(api, "/v1/dead-letters").await;
            // A third of the events are of the failing subscriber.
            (dead.len() == EVENTS / 3).then(|| text(&dead[0]["id"]).to_owned())
        })
        .await;
        let change = json!({"description": "Orders and users", "policy": {"max_attempts": 9}});
        api.patch("/v1/subscribers/orders", &change).await;
        let replay = json!({"filter": {"event": "order.created"}, "mode": "all"});
        let (_, replay) = api.post("/v1/replays", &replay).await;
        let id = |value: &Value| text(&value["id"]).to_owned();
        Self {
            api: api.clone(),
            receiver,
            event,
            failing: id(&failing),
            working: id(&working),
            dead,
            replay: id(&replay),
            key: id(&key),
        }
    }

    /// Dispatches events of three types, and returns the id of the last one.
    async fn dispatch(api: &Api) -> String {
        let events: Vec<Value> = (0..EVENTS)
            .map(|number| {
                let event_type = ["order.created", "user.created", "order.paid"][number % 3];
                json!({
                    "event": event_type, "agent_id": "shop",
                    "data": {"order": number, "total": 19.90, "customer": {"name": "Ada Lovelace"}, "card": {"number": "4242424242424242"}},
                })
            })
            .collect();
        let (status, answer) = api.post("/v1/events/batch", &json!({"events": events})).await;
        assert!(status < 300, "{answer}");
        let dispatched = list(api, "/v1/events?event=user.created&limit=1").await;
        text(&dispatched[0]["id"]).to_owned()
    }

    /// A new key.
    pub(super) async fn key(&self, body: Value) -> String {
        let (status, created) = self.api.post("/v1/keys", &body).await;
        assert_eq!(status, 201, "{created}");
        text(&created["key"]).to_owned()
    }

    /// The ids of all dead letters.
    pub(super) async fn dead(&self) -> Vec<String> {
        let dead = list(&self.api, "/v1/dead-letters?limit=250").await;
        dead.iter().map(|delivery| text(&delivery["id"]).to_owned()).collect()
    }

    /// What another tenant must not see on any page.
    pub(super) fn secrets(&self) -> Vec<String> {
        let ids = [&self.event, &self.failing, &self.working, &self.dead, &self.replay, &self.key];
        let words = ["acme-eu-central-1", "Customer relations", "Ada Lovelace", "shop backend"];
        ids.into_iter().cloned().chain(words.map(str::to_owned)).collect()
    }

    /// A link to the portal.
    pub(super) async fn portal_link(&self) -> String {
        let (status, link) =
            self.api.post("/v1/portal/links", &json!({"return_url": "https://app.example.com/"})).await;
        assert_eq!(status, 201, "{link}");
        text(&link["url"]).to_owned()
    }

    /// Every page of the portal, below its URL.
    pub(super) fn portal_below(&self, root: &str) -> Vec<(&'static str, String)> {
        let Self { failing, working, dead, .. } = self;
        [
            ("portal-endpoints", "/endpoints".to_owned()),
            ("portal-new-endpoint", "/endpoints/new".to_owned()),
            ("portal-endpoint", format!("/endpoints/{failing}")),
            ("portal-edit-endpoint", format!("/endpoints/{working}/edit")),
            ("portal-recover", format!("/endpoints/{failing}/recover")),
            ("portal-verify", format!("/endpoints/{working}/verify?language=python")),
            ("portal-delivery", format!("/deliveries/{dead}")),
        ]
        .map(|(name, path)| (name, format!("{root}{path}")))
        .into()
    }

    /// Every screen of the console, below its URL.
    pub(super) fn screens_below(&self, root: &str) -> Vec<(&'static str, String)> {
        self.screens().into_iter().map(|(name, path)| (name, format!("{root}{path}"))).collect()
    }

    /// Every screen: a name for its picture, and its path.
    pub(super) fn screens(&self) -> Vec<(&'static str, String)> {
        let Self { event, failing, working, dead, replay, key, .. } = self;
        [
            ("now", String::new()),
            ("events", format!("/events?{SHORT}")),
            ("event", format!("/events/{event}")),
            ("erase", format!("/events/{event}/erase")),
            ("deliveries", format!("/deliveries?{SHORT}")),
            ("delivery", format!("/deliveries/{dead}")),
            ("diff", format!("/deliveries/{dead}/diff?from=1&to=2")),
            ("curl", format!("/deliveries/{dead}/curl")),
            ("replay-confirm", "/deliveries/replay?mode=dead".to_owned()),
            ("cancel-confirm", "/deliveries/cancel".to_owned()),
            ("dead-letters", format!("/dead-letters?{SHORT}")),
            ("requeue", format!("/dead-letters/requeue?subscriber_id={failing}")),
            ("delete-dead-letters", "/dead-letters/delete".to_owned()),
            ("tail", "/tail".to_owned()),
            ("subscribers", format!("/subscribers?{SHORT}")),
            ("no-subscribers", "/subscribers?url=nothing".to_owned()),
            ("new-subscriber", "/subscribers/new".to_owned()),
            ("subscriber", format!("/subscribers/{working}")),
            ("failing-subscriber", format!("/subscribers/{failing}")),
            ("edit-subscriber", format!("/subscribers/{working}/edit")),
            ("try", format!("/subscribers/{working}/try")),
            ("rotate-secret", format!("/subscribers/{working}/rotate")),
            ("delete-subscriber", format!("/subscribers/{working}/delete")),
            ("event-types", "/event-types".to_owned()),
            ("event-type", "/event-types/order.created".to_owned()),
            ("edit-event-type", "/event-types/order.created/edit".to_owned()),
            ("queue", "/queue".to_owned()),
            ("replays", "/replays".to_owned()),
            ("replay", format!("/replays/{replay}")),
            ("new-replay", "/replays/new".to_owned()),
            ("keys", "/keys".to_owned()),
            ("key", format!("/keys/{key}")),
            ("new-key", "/keys/new".to_owned()),
            ("rotate-key", format!("/keys/{key}/rotate")),
            ("tenants", "/tenants".to_owned()),
            ("tenant", "/tenants/acme".to_owned()),
            ("edit-tenant", "/tenants/acme/edit".to_owned()),
            ("delete-tenant", "/tenants/acme/delete".to_owned()),
            ("audit", format!("/audit?{SHORT}")),
            ("settings", "/settings?given=true".to_owned()),
            ("sessions", "/sessions".to_owned()),
            ("search", "/search".to_owned()),
        ]
        .into()
    }
}
