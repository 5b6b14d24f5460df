//! The example lead notifier, against receivers.

use std::time::Duration;

use postrider_core::signing::Verifier;
use postrider_core::target::{AddressPolicy, TargetPolicy};
use postrider_core::{IdGenerator, Secret, TenantId};
use postrider_delivery::{Client, Config as DeliveryConfig};
use postrider_dispatch::{Config, DispatchError, Transforms, hook};
use postrider_store::stats::StatsFilter;
use postrider_testkit::{Behaviour, Receiver};
use serde_json::json;

use self::lead_notifier::{DirectWebhook, Lead, LeadNotifier, NotifyError};
use crate::stage::{Stage, on_both};

#[path = "../../examples/lead_notifier.rs"]
mod lead_notifier;

on_both!(
    all_three_ways_report_their_result,
    a_failed_way_does_not_stop_the_others,
    without_a_database_the_other_ways_work
);

/// A client that may send to loopback addresses.
pub(crate) fn local_client() -> Client {
    let addresses = AddressPolicy::public_only().allowing(vec!["127.0.0.0/8".parse().unwrap()]);
    let targets = TargetPolicy { addresses, https_only: false };
    Client::new(DeliveryConfig { targets, ..DeliveryConfig::default() }).unwrap()
}

const SECRET: &str = "client-secret";

fn notifier(receiver: &Receiver) -> LeadNotifier {
    LeadNotifier {
        client: local_client(),
        ids: IdGenerator::system(),
        agent_id: "crm".parse().unwrap(),
        dispatcher: None,
        slack: Some(receiver.url("/slack").parse().unwrap()),
        webhook: Some(DirectWebhook {
            url: receiver.url("/webhook").parse().unwrap(),
            secret: Secret::parse(SECRET).unwrap(),
        }),
    }
}

fn lead() -> Lead {
    Lead {
        id: 17,
        name: "Ada <!channel> & Co".to_owned(),
        company: "Analytical Engines".to_owned(),
        email: "ada@example.com".to_owned(),
        score: 92,
    }
}

async fn all_three_ways_report_their_result(stage: &Stage) {
    let subscriber = stage.subscribe(&["lead.*"]).await;
    let receiver = Receiver::start().await;
    let notifier = LeadNotifier { dispatcher: Some(stage.dispatcher()), ..notifier(&receiver) };
    let report = notifier.qualified(&lead()).await;

    let dispatched = report.dispatched.expect("a database is configured").expect("dispatched");
    assert_eq!(dispatched.subscribers, [subscriber]);
    assert_eq!((dispatched.event_type.as_str(), dispatched.agent_id.as_str()), ("lead.qualified", "crm"));
    assert_eq!(stage.rows_of("jobs").await, 1);
    assert!(stage.envelopes().await[0].contains(r#""email":"ada@example.com""#));

    report.slack.expect("configured").expect("posted");
    let slack = &receiver.wait_for_path("/slack", 1, Duration::from_secs(10)).await[0];
    assert_eq!(slack.header("content-type"), Some("application/json"));
    assert_eq!(slack.header("x-agent-signature"), None, "Slack has its own format");
    let message = slack.json();
    assert_eq!(message["text"], "Qualified lead: Ada &lt;!channel&gt; &amp; Co");
    assert_eq!(message["blocks"][0]["type"], "header");
    assert_eq!(message["blocks"][0]["text"]["type"], "plain_text");
    let field = json!({ "type": "mrkdwn", "text": "*Company*\nAnalytical Engines" });
    assert_eq!(message["blocks"][1]["fields"][0], field);

    let id = report.webhook.expect("configured").expect("posted");
    let webhook = &receiver.wait_for_path("/webhook", 1, Duration::from_secs(10)).await[0];
    let verifier = Verifier::new(SECRET).unwrap();
    verifier.verify_agent(webhook.header("x-agent-signature").unwrap(), &webhook.body).unwrap();
    let now = stage.store.ids().clock().now();
    let signed = verifier.verify(|name| webhook.header(name), &webhook.body, now).unwrap();
    assert_eq!(signed.id, id.to_string());
    assert_eq!(
        (webhook.header("x-event-type"), webhook.header("x-agent-id")),
        (Some("lead.qualified"), Some("crm"))
    );
    let body = webhook.json();
    assert_eq!((&body["event"], &body["data"]["score"]), (&json!("lead.qualified"), &json!(92)));
    assert_eq!(receiver.requests().len(), 2);
}

async fn a_failed_way_does_not_stop_the_others(stage: &Stage) {
    stage.subscribe(&["*"]).await;
    let receiver = Receiver::start().await;
    let whole = || LeadNotifier { dispatcher: Some(stage.dispatcher()), ..notifier(&receiver) };

    receiver.on("/slack", Behaviour::Status(500));
    let report = whole().qualified(&lead()).await;
    assert!(matches!(report.slack, Some(Err(NotifyError::Rejected(500)))), "{report:?}");
    assert!(matches!((report.dispatched, report.webhook), (Some(Ok(_)), Some(Ok(_)))));

    receiver.on("/slack", Behaviour::Status(200));
    receiver.on("/webhook", Behaviour::Reset);
    let report = whole().qualified(&lead()).await;
    assert!(matches!(report.webhook, Some(Err(NotifyError::NoAnswer(_)))), "{report:?}");
    assert!(matches!((report.dispatched, report.slack), (Some(Ok(_)), Some(Ok(())))));

    receiver.on("/webhook", Behaviour::Status(200));
    let mut transforms = Transforms::new();
    transforms.register("*", hook("broken", |_| panic!("a hook that panics"))).unwrap();
    let broken = stage.dispatcher_with(Config { transforms, ..Config::default() });
    let report = LeadNotifier { dispatcher: Some(broken), ..notifier(&receiver) }.qualified(&lead()).await;
    assert!(matches!(
        report.dispatched,
        Some(Err(NotifyError::Dispatch(DispatchError::HookPanicked { .. })))
    ));
    assert!(matches!((report.slack, report.webhook), (Some(Ok(())), Some(Ok(_)))));

    // With neither a database nor a receiver, each way reports its own error.
    let report = {
        let mut offline = whole();
        let gone = Receiver::start().await;
        offline.slack = Some(gone.url("/slack").parse().unwrap());
        offline.webhook = None;
        drop(gone);
        stage.store.database().close().await;
        offline.qualified(&lead()).await
    };
    assert!(
        matches!(report.dispatched, Some(Err(NotifyError::Dispatch(DispatchError::Store(_))))),
        "{report:?}"
    );
    assert!(matches!(report.slack, Some(Err(NotifyError::NoAnswer(_)))));
    assert!(report.webhook.is_none());
}

async fn without_a_database_the_other_ways_work(stage: &Stage) {
    let receiver = Receiver::start().await;
    let report = notifier(&receiver).qualified(&lead()).await;
    assert!(report.dispatched.is_none());
    assert!(matches!((report.slack, report.webhook), (Some(Ok(())), Some(Ok(_)))));
    let stats = stage.store.stats(&TenantId::default(), &StatsFilter::default()).await.unwrap();
    assert_eq!(stats.deliveries.total, 0);
}
