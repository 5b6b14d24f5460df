//! Plugins: loaded once, replaced within seconds, and applied at the attempt.

use std::time::Duration;

use postrider_core::format::Format;
use postrider_core::plugin::{PluginConfig, SelectedPlugin};
use postrider_core::{DeliveryStatus, ErrorKind};
use postrider_shape::plugins::{PluginCache, PluginInput, PluginRun, PluginRunError};
use postrider_store::plugins::{PluginAdded, PluginRemoved};
use postrider_store::subscribers::{NewSubscriber, SubscriberChange};
use postrider_testkit::{Behaviour, eventually};
use postrider_worker::Config;
use serde_json::Map;

use crate::stage::{Stage, config, on_both, retry, tenant};

on_both!(
    a_replaced_plugin_takes_effect_within_seconds,
    many_calls_share_one_plugin,
    a_delivery_goes_through_the_plugin_of_its_subscriber,
);

/// A module that returns `{"data":…}` with these digits.
fn module(digits: u32) -> Vec<u8> {
    let output = format!(r#"{{\"data\":{digits}}}"#);
    // Without the two backslashes of the text format.
    let length = output.len() - 2;
    let text = format!(
        r#"(module (memory (export "memory") 1) (data (i32.const 0) "{output}")
            (func (export "postrider_abi") (result i32) (i32.const 1))
            (func (export "postrider_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "postrider_transform") (param i32 i32) (result i64) (i64.const {length})))"#
    );
    wat::parse_str(text).unwrap()
}

fn selected() -> SelectedPlugin {
    SelectedPlugin { name: "numbers".parse().unwrap(), config: PluginConfig::try_from(Map::new()).unwrap() }
}

fn input() -> PluginInput {
    PluginInput {
        id: "evt_01h455vb4pex5vsknk084sn02q".into(),
        event_type: "order.created".into(),
        agent_id: "shop".into(),
        timestamp: 1_700_000_000,
        channels: Vec::new(),
        data: "{}".into(),
    }
}

async fn add(stage: &Stage, version: &str, digits: u32) {
    let added = stage.store.add_plugin(&selected().name, &version.parse().unwrap(), module(digits)).await;
    assert!(matches!(added.unwrap(), PluginAdded::Created(_) | PluginAdded::Replaced(_)));
}

async fn run(cache: &PluginCache) -> Result<PluginRun, PluginRunError> {
    cache.run(&selected(), input(), 1024).await
}

async fn a_replaced_plugin_takes_effect_within_seconds(stage: &Stage) {
    let cache = PluginCache::new(stage.store.clone());
    assert!(matches!(run(&cache).await, Err(PluginRunError::Missing(name)) if name == selected().name));
    add(stage, "1", 17).await;
    let first = run(&cache).await.unwrap();
    assert_eq!((first.output.data.as_str(), first.version.as_str()), ("17", "1"));
    add(stage, "2", 18).await;
    let second = eventually(Duration::from_secs(5), || async {
        let found = run(&cache).await.unwrap();
        (found.version.as_str() == "2").then_some(found)
    })
    .await;
    assert_eq!(second.output.data, "18");
    assert_ne!(first.checksum, second.checksum);
    assert_eq!(stage.store.remove_plugin(&selected().name).await.unwrap(), PluginRemoved::Done);
    eventually(Duration::from_secs(5), || async {
        matches!(run(&cache).await, Err(PluginRunError::Missing(_))).then_some(())
    })
    .await;
}

async fn many_calls_share_one_plugin(stage: &Stage) {
    add(stage, "1", 17).await;
    let cache = PluginCache::new(stage.store.clone());
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { run(&cache).await.unwrap().output.data })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), "17");
    }
}

async fn a_delivery_goes_through_the_plugin_of_its_subscriber(stage: &Stage) {
    add(stage, "1", 17).await;
    let transform = serde_json::from_str(r#"{"steps": [{"op": "drop", "path": "/number"}]}"#).unwrap();
    let new = NewSubscriber {
        plugin: Some(selected()),
        transform: Some(transform),
        format: Format::Data,
        ..stage.new_subscriber("/hook")
    };
    let subscriber = stage.store.create_subscriber(&tenant(), new).await.unwrap().id;
    stage.receiver.on("/hook", Behaviour::Sequence(vec![Behaviour::Status(500), Behaviour::Status(204)]));
    let worker = stage.worker(Config { retry: retry(&[50], 30), ..config() }).await;
    let event = stage.dispatch().await.id;
    let delivery = stage.ended(event).await;
    assert_eq!(delivery.status, DeliveryStatus::Succeeded);
    let bodies: Vec<_> = stage.receiver.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [b"17", b"17"]);
    let attempts = stage.attempts(&delivery).await;
    let versions: Vec<_> = attempts.into_iter().map(|one| one.exchange.unwrap().request.transform).collect();
    assert!(versions[0].is_some() && versions[0] == versions[1]);

    let change = SubscriberChange { plugin: Some(None), ..SubscriberChange::default() };
    stage.store.change_subscriber(&tenant(), subscriber, change).await.unwrap().unwrap();
    assert_eq!(stage.store.remove_plugin(&selected().name).await.unwrap(), PluginRemoved::Done);
    let refused: Vec<u8> = wat::parse_str(
        r#"(module (memory (export "memory") 1)
            (func (export "postrider_abi") (result i32) (i32.const 1))
            (func (export "postrider_alloc") (param i32) (result i32) (i32.const 1024))
            (func (export "postrider_transform") (param i32 i32) (result i64) unreachable))"#,
    )
    .unwrap();
    let other = SelectedPlugin { name: "broken".parse().unwrap(), ..selected() };
    stage.store.add_plugin(&other.name, &"1".parse().unwrap(), refused).await.unwrap();
    let change = SubscriberChange { plugin: Some(Some(other)), ..SubscriberChange::default() };
    stage.store.change_subscriber(&tenant(), subscriber, change).await.unwrap().unwrap();
    let event = stage.dispatch().await.id;
    let delivery = stage.attempted(event, 2).await;
    worker.stop().await;
    let attempts = stage.attempts(&delivery).await;
    assert_eq!(attempts[0].verdict.error_kind(), Some(ErrorKind::Transform));
    assert_eq!(stage.receiver.requests().len(), 2, "nothing was sent");
    let health = stage.store.subscriber(&tenant(), subscriber).await.unwrap().unwrap().health;
    assert_eq!(health.failures, 0);
}
