//! The names that applications give to subscribers.

use postrider_core::SubscriberUid;
use postrider_stage::subscriber_of;
use postrider_store::StoreError;
use postrider_store::subscribers::{NewSubscriber, SubscriberChange};

use crate::stage::{Stage, on_both};

on_both!(a_uid_is_taken_by_one_subscriber_of_a_tenant, of_several_that_take_a_uid_at_once_one_gets_it);

fn uid(text: &str) -> SubscriberUid {
    text.parse().unwrap()
}

fn named(text: &str) -> NewSubscriber {
    NewSubscriber { uid: Some(uid(text)), ..subscriber_of(&["*"]) }
}

async fn a_uid_is_taken_by_one_subscriber_of_a_tenant(stage: &Stage) {
    let (store, tenant, other) = (&stage.store, &stage.tenant, "other".parse().unwrap());
    let a = store.create_subscriber(tenant, named("a")).await.unwrap().id;
    let b = store.create_subscriber(tenant, named("b")).await.unwrap().id;
    let theirs = store.create_subscriber(&other, named("a")).await.unwrap().id;
    assert!(matches!(store.create_subscriber(tenant, named("a")).await, Err(StoreError::UidTaken)));
    let rename = |to| SubscriberChange { uid: Some(to), ..SubscriberChange::default() };
    let taken = store.change_subscriber(tenant, b, rename(Some(uid("a")))).await;
    assert!(matches!(taken, Err(StoreError::UidTaken)));
    for (of, name, id) in
        [(tenant, "a", Some(a)), (tenant, "b", Some(b)), (&other, "a", Some(theirs)), (&other, "b", None)]
    {
        assert_eq!(store.subscriber_with_uid(of, &uid(name)).await.unwrap(), id, "{name}");
    }
    store.change_subscriber(tenant, a, rename(None)).await.unwrap();
    store.change_subscriber(tenant, b, rename(Some(uid("a")))).await.unwrap();
    assert_eq!(store.subscriber_with_uid(tenant, &uid("a")).await.unwrap(), Some(b));
    assert!(store.delete_subscriber(tenant, b).await.unwrap());
    store.create_subscriber(tenant, named("a")).await.unwrap();
    for _ in 0..2 {
        store.create_subscriber(tenant, subscriber_of(&["*"])).await.unwrap();
    }
}

async fn of_several_that_take_a_uid_at_once_one_gets_it(stage: &Stage) {
    let create = || stage.store.create_subscriber(&stage.tenant, named("a"));
    let results: [_; 4] = tokio::join!(create(), create(), create(), create()).into();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(StoreError::UidTaken))), "{results:?}");
}
