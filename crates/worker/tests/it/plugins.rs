//! The cache of plugins: it loads a plugin once, notices that it was replaced, and survives an outage.

use std::time::Duration;

use postrider_core::plugin::{PluginConfig, SelectedPlugin};
use postrider_shape::plugins::{PluginCache, PluginInput, PluginRun, PluginRunError};
use postrider_store::plugins::{PluginAdded, PluginRemoved};
use postrider_testkit::eventually;
use serde_json::Map;

use crate::stage::{Stage, on_both};

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

on_both!(a_replaced_plugin_takes_effect_within_seconds, many_calls_share_one_plugin);
