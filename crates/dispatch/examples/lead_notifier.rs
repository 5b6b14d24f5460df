//! A CRM that announces a qualified lead in three independent ways:
//!
//! - through the dispatcher, if the CRM has a database: stored, signed, retried, for any number of subscribers of
//!   `lead.qualified`;
//! - to Slack directly, in Slack's own format (Block Kit);
//! - to one configured webhook URL with its own secret, without a subscriber.
//!
//! Each reports its own result. None waits for another, and a failure of one does not stop the others.
//!
//! ```text
//! CRM_DATABASE_URL=sqlite://crm.db CRM_SECRET_KEY=… CRM_SLACK_URL=https://hooks.slack.com/… \
//!     cargo run -p postrider-dispatch --example lead_notifier
//! ```
#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use postrider_core::policy::RequestMethod;
use postrider_core::signing::Signer;
use postrider_core::{
    AgentId, CustomHeaders, Envelope, EventData, EventId, EventType, IdGenerator, Keyring, Secret, TargetUrl,
    chain,
};
use postrider_database::{Config as DatabaseConfig, Database};
use postrider_delivery::{Client, Encoded, Failure, Request, Webhook};
use postrider_dispatch::{Config, DispatchError, Dispatched, Dispatcher, NewEvent, NewEventError};
use postrider_store::Store;
use serde::Serialize;
use serde_json::json;

const EVENT_TYPE: &str = "lead.qualified";

/// A person or company that may buy.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Lead {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) company: String,
    pub(crate) email: String,
    /// From 0 to 100.
    pub(crate) score: u8,
}

/// Announces qualified leads.
pub(crate) struct LeadNotifier {
    pub(crate) client: Client,
    pub(crate) ids: IdGenerator,
    pub(crate) agent_id: AgentId,
    /// `None` if the CRM has no database.
    pub(crate) dispatcher: Option<Dispatcher>,
    pub(crate) slack: Option<TargetUrl>,
    pub(crate) webhook: Option<DirectWebhook>,
}

/// A configured webhook: one URL, one secret, one attempt.
pub(crate) struct DirectWebhook {
    pub(crate) url: TargetUrl,
    pub(crate) secret: Secret,
}

/// The result of each way; `None` for a way that is not configured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) dispatched: Option<Result<Dispatched, NotifyError>>,
    pub(crate) slack: Option<Result<(), NotifyError>>,
    pub(crate) webhook: Option<Result<EventId, NotifyError>>,
}

/// Why one way failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    #[error("the lead cannot be made into an event")]
    Event(#[from] NewEventError),
    #[error("the event was not dispatched")]
    Dispatch(#[from] DispatchError),
    #[error("the receiver did not answer")]
    NoAnswer(#[from] Failure),
    #[error("the receiver rejected the request with status {0}")]
    Rejected(u16),
}

impl LeadNotifier {
    /// Announces a qualified lead in every configured way.
    pub(crate) async fn qualified(&self, lead: &Lead) -> Report {
        let (dispatched, slack, webhook) =
            tokio::join!(self.dispatch(lead), self.post_to_slack(lead), self.post_webhook(lead));
        Report { dispatched, slack, webhook }
    }

    async fn dispatch(&self, lead: &Lead) -> Option<Result<Dispatched, NotifyError>> {
        let dispatcher = self.dispatcher.as_ref()?;
        let event = NewEvent::new(EVENT_TYPE, lead).map(|mut event| {
            event.agent_id = Some(self.agent_id.clone());
            event
        });
        Some(match event {
            Ok(event) => dispatcher.dispatch(event).await.map_err(NotifyError::from),
            Err(error) => Err(error.into()),
        })
    }

    async fn post_to_slack(&self, lead: &Lead) -> Option<Result<(), NotifyError>> {
        let url = self.slack.clone()?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = Bytes::from(slack_message(lead).to_string());
        let (method, timeout) = (RequestMethod::Post, None);
        Some(self.post(Request { method, url, headers, body, timeout, auth: None, proxy: None }).await)
    }

    async fn post_webhook(&self, lead: &Lead) -> Option<Result<EventId, NotifyError>> {
        let webhook = self.webhook.as_ref()?;
        let id: EventId = self.ids.next();
        let sent = match self.sign(webhook, id, lead) {
            Ok(request) => self.post(request).await,
            Err(error) => Err(error),
        };
        Some(sent.map(|()| id))
    }

    /// Makes a request with the envelope and headers of a delivery, so that a receiver can treat both alike.
    fn sign(&self, webhook: &DirectWebhook, id: EventId, lead: &Lead) -> Result<Request, NotifyError> {
        let timestamp = self.ids.clock().now();
        let event_type: EventType = EVENT_TYPE.parse().map_err(NewEventError::from)?;
        let data = EventData::from_value(lead).map_err(NewEventError::from)?;
        let body =
            Envelope { event_type: &event_type, timestamp, agent_id: &self.agent_id, data: &data }.to_bytes();
        let webhook_to_send = Webhook {
            method: RequestMethod::Post,
            event_id: id,
            event_type: &event_type,
            agent_id: &self.agent_id,
            body: Encoded::plain(body),
            content_type: "application/json",
            content_headers: &[],
            timestamp,
            signer: &Signer::new(&webhook.secret, &[]),
            headers: &CustomHeaders::default(),
            traceparent: None,
        };
        Ok(webhook_to_send.request(webhook.url.clone(), None)?)
    }

    async fn post(&self, request: Request) -> Result<(), NotifyError> {
        let response = self.client.send(request).await.result?;
        if response.is_success() { Ok(()) } else { Err(NotifyError::Rejected(response.status)) }
    }
}

/// Returns a message in Block Kit. Slack's notifications show its `text`.
fn slack_message(lead: &Lead) -> serde_json::Value {
    let title = format!("Qualified lead: {}", lead.name);
    let field = |name: &str, value: &str| json!({ "type": "mrkdwn", "text": cut(&format!("*{name}*\n{}", escape(value)), 2000) });
    json!({
        "text": escape(&title),
        "blocks": [
            { "type": "header", "text": { "type": "plain_text", "text": cut(&title, 150) } },
            { "type": "section", "fields": [
                field("Company", &lead.company),
                field("Email", &lead.email),
                field("Score", &format!("{} of 100", lead.score)),
                field("Lead", &lead.id.to_string()),
            ] },
        ],
    })
}

/// Escapes text that a person typed, so that it does not become a link or a mention (Slack's manual, "Formatting text").
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Truncates text. Slack rejects a message if one of its texts is too long.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[allow(dead_code, reason = "the tests use only the notifier")]
fn describe<T: std::fmt::Debug>(way: Option<Result<T, NotifyError>>) -> String {
    match way {
        None => "not configured".to_owned(),
        Some(Ok(done)) => format!("done {done:?}"),
        Some(Err(error)) => format!("failed: {}", chain(&error)),
    }
}

#[allow(dead_code, reason = "the tests use only the notifier")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let setting = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let dispatcher = match setting("CRM_DATABASE_URL") {
        Some(url) => {
            let key = setting("CRM_SECRET_KEY").ok_or("set CRM_SECRET_KEY to the base64 of 32 bytes")?;
            let database = Database::connect(DatabaseConfig::new(url.parse()?)).await?;
            let queue = postrider_queue::open(&database);
            let store = Store::new(database, queue, Keyring::parse(&key)?, IdGenerator::system());
            Some(Dispatcher::new(store, Config::default())?)
        }
        None => None,
    };
    let webhook = match (setting("CRM_WEBHOOK_URL"), setting("CRM_WEBHOOK_SECRET")) {
        (Some(url), Some(secret)) => {
            Some(DirectWebhook { url: url.parse()?, secret: Secret::parse(&secret)? })
        }
        _ => None,
    };
    let notifier = LeadNotifier {
        client: Client::new(postrider_delivery::Config::default())?,
        ids: IdGenerator::system(),
        agent_id: "crm".parse()?,
        dispatcher,
        slack: setting("CRM_SLACK_URL").map(|url| url.parse()).transpose()?,
        webhook,
    };
    let lead = Lead {
        id: 17,
        name: "Ada Lovelace".to_owned(),
        company: "Analytical Engines".to_owned(),
        email: "ada@example.com".to_owned(),
        score: 92,
    };
    let Report { dispatched, slack, webhook } = notifier.qualified(&lead).await;
    let id = |dispatched: Dispatched| dispatched.id;
    println!("dispatcher: {}", describe(dispatched.map(|result| result.map(id))));
    println!("slack: {}", describe(slack));
    println!("webhook: {}", describe(webhook));
    Ok(())
}
