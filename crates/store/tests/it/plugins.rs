//! Plugins of the deployment, and the subscribers that use them.

use postrider_core::plugin::{PluginConfig, PluginName, SelectedPlugin};
use postrider_stage::subscriber_of;
use postrider_store::plugins::{MAX_PLUGINS, Plugin, PluginAdded, PluginRemoved};
use postrider_store::subscribers::{NewSubscriber, SubscriberChange};
use postrider_store::{PageRequest, StoreError};

use crate::stage::{Stage, on_both};

on_both!(
    a_plugin_is_added_replaced_and_removed,
    a_plugin_that_a_subscriber_uses_stays,
    there_are_only_so_many_plugins,
    a_plugin_is_not_removed_while_a_subscriber_chooses_it,
);

fn name(text: &str) -> PluginName {
    text.parse().unwrap()
}

fn selected(plugin: &str) -> SelectedPlugin {
    let config: PluginConfig = serde_json::from_str(r#"{"fields":["card"]}"#).unwrap();
    SelectedPlugin { name: name(plugin), config }
}

async fn add(stage: &Stage, plugin: &str, version: &str, module: &[u8]) -> PluginAdded {
    stage.store.add_plugin(&name(plugin), &version.parse().unwrap(), module.to_vec()).await.unwrap()
}

async fn a_plugin_is_added_replaced_and_removed(stage: &Stage) {
    let store = &stage.store;
    let PluginAdded::Created(first) = add(stage, "redact", "1.0.0", b"module").await else { panic!() };
    // The SHA-256 of "module".
    let checksum = "120970d812836f19888625587a4606a5ad23cef31c8684e601771552548fc6b9";
    let Plugin { checksum: found, size, .. } = &first;
    assert_eq!((found.as_str(), *size), (checksum, 6));
    assert_eq!(add(stage, "redact", "1.0.0", b"other").await, PluginAdded::VersionTaken);
    assert_eq!(store.plugin(&first.name).await.unwrap().as_ref(), Some(&first));
    assert!(
        matches!(add(stage, "redact", "1.0.0", b"module").await, PluginAdded::Replaced(_)),
        "the same again"
    );
    let PluginAdded::Replaced(second) = add(stage, "redact", "1.1.0", b"other").await else { panic!() };
    let (read, module) = store.plugin_module(&first.name).await.unwrap().unwrap();
    assert_eq!((&read, module.as_slice()), (&second, &b"other"[..]));

    add(stage, "a", "1", b"module").await;
    let names: Vec<_> = store.plugins().await.unwrap().into_iter().map(|plugin| plugin.name).collect();
    assert_eq!(names, [name("a"), name("redact")]);
    assert_eq!(store.remove_plugin(&name("a")).await.unwrap(), PluginRemoved::Done);
    assert_eq!(store.remove_plugin(&name("a")).await.unwrap(), PluginRemoved::Missing);
    assert_eq!(store.plugin_module(&name("a")).await.unwrap(), None);
}

async fn a_plugin_that_a_subscriber_uses_stays(stage: &Stage) {
    let (store, tenant) = (&stage.store, &stage.tenant);
    let with = |plugin| NewSubscriber { plugin: Some(selected(plugin)), ..subscriber_of(&["*"]) };
    assert!(matches!(store.create_subscriber(tenant, with("redact")).await, Err(StoreError::PluginMissing)));
    assert!(store.subscribers(tenant, PageRequest::default()).await.unwrap().items.is_empty());
    add(stage, "redact", "1", b"module").await;
    add(stage, "other", "1", b"module").await;
    let subscriber = store.create_subscriber(tenant, with("redact")).await.unwrap();
    assert_eq!(subscriber.plugin, Some(selected("redact")));
    let read = store.subscriber(tenant, subscriber.id).await.unwrap().unwrap();
    assert_eq!(read.plugin, Some(selected("redact")));
    assert_eq!(store.remove_plugin(&name("redact")).await.unwrap(), PluginRemoved::InUse);

    let change = |plugin| SubscriberChange { plugin: Some(plugin), ..SubscriberChange::default() };
    let missing = store.change_subscriber(tenant, subscriber.id, change(Some(selected("gone")))).await;
    assert!(matches!(missing, Err(StoreError::PluginMissing)));
    let changed = store.change_subscriber(tenant, subscriber.id, change(Some(selected("other")))).await;
    assert_eq!(changed.unwrap().unwrap().plugin, Some(selected("other")));
    assert_eq!(store.remove_plugin(&name("redact")).await.unwrap(), PluginRemoved::Done);
    assert_eq!(store.remove_plugin(&name("other")).await.unwrap(), PluginRemoved::InUse);
    let changed = store.change_subscriber(tenant, subscriber.id, change(None)).await.unwrap().unwrap();
    assert_eq!(changed.plugin, None);
    assert_eq!(store.remove_plugin(&name("other")).await.unwrap(), PluginRemoved::Done);

    add(stage, "redact", "1", b"module").await;
    let deleted = store.create_subscriber(tenant, with("redact")).await.unwrap().id;
    assert!(store.delete_subscriber(tenant, deleted).await.unwrap());
    assert_eq!(store.remove_plugin(&name("redact")).await.unwrap(), PluginRemoved::Done);
}

async fn there_are_only_so_many_plugins(stage: &Stage) {
    for number in 0..MAX_PLUGINS {
        let added = add(stage, &format!("p{number}"), "1", b"module").await;
        assert!(matches!(added, PluginAdded::Created(_)), "{number}");
    }
    assert_eq!(add(stage, "one-more", "1", b"module").await, PluginAdded::TooMany);
    assert!(matches!(add(stage, "p0", "2", b"other").await, PluginAdded::Replaced(_)));
}

/// Whichever comes first, no subscriber has a plugin that is gone.
async fn a_plugin_is_not_removed_while_a_subscriber_chooses_it(stage: &Stage) {
    let (store, tenant) = (&stage.store, &stage.tenant);
    for round in 0..20 {
        let plugin = format!("p{round}");
        add(stage, &plugin, "1", b"module").await;
        let new = NewSubscriber { plugin: Some(selected(&plugin)), ..subscriber_of(&["*"]) };
        let gone = name(&plugin);
        let (created, removed) =
            tokio::join!(store.create_subscriber(tenant, new), store.remove_plugin(&gone));
        match (created, removed.unwrap()) {
            (Ok(_), PluginRemoved::InUse) | (Err(StoreError::PluginMissing), PluginRemoved::Done) => {}
            other => panic!("{round}: {other:?}"),
        }
    }
}
