//! How subscribers matched events at the time of an event, and which subscribers match a filter.

use std::time::Duration;

use postrider_core::{EventPattern, SubscriberId, Timestamp};
use postrider_store::PageRequest;
use postrider_store::explain::MatchingThen;
use postrider_store::retention::{Age, Retention};
use postrider_store::subscribers::{NewSubscriber, SubscriberChange, SubscriberFilter};
use postrider_store::versions::KEPT;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use crate::stage::{Stage, on_both};
use postrider_stage::subscriber_of;

on_both!(
    a_change_keeps_what_a_subscriber_matched,
    an_unchanged_subscriber_keeps_no_version,
    as_many_versions_are_kept_as_promised,
    deliveries_are_found_by_their_subscribers,
    subscribers_are_found_by_what_they_are,
);

async fn change(stage: &Stage, id: SubscriberId, change: SubscriberChange) -> Timestamp {
    tokio::time::sleep(Duration::from_millis(2)).await;
    let changed = stage.store.change_subscriber(&stage.tenant, id, change).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(2)).await;
    changed.updated_at
}

async fn then(stage: &Stage, id: SubscriberId, moment: Timestamp) -> MatchingThen {
    let subscriber = stage.store.subscriber(&stage.tenant, id).await.unwrap().unwrap();
    let then = stage.store.matching_then(&[subscriber], moment).await.unwrap();
    then[&id].clone()
}

async fn versions(stage: &Stage) -> i64 {
    let connection = stage.database.connection();
    let sql = "SELECT count(*) AS number FROM subscriber_versions";
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_one_raw(statement).await.unwrap().unwrap().try_get("", "number").unwrap()
}

fn patterns(words: &[&str]) -> Vec<EventPattern> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

async fn a_change_keeps_what_a_subscriber_matched(stage: &Stage) {
    let new = NewSubscriber { channels: Some("eu".parse().unwrap()), ..subscriber_of(&["order.*", "a.b"]) };
    let created = stage.store.create_subscriber(&stage.tenant, new).await.unwrap();
    let id = created.id;
    let filter = SubscriberChange {
        filter: Some(Some("data.total > 1".parse().unwrap())),
        channels: Some(None),
        ..SubscriberChange::default()
    };
    let filtered = change(stage, id, filter).await;
    let other = SubscriberChange { events: Some(patterns(&["*"])), ..SubscriberChange::default() };
    let widened = change(stage, id, other).await;
    let off = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
    let stopped = change(stage, id, off).await;

    let first = then(stage, id, created.created_at).await;
    assert!(first.is_of_then && first.matching.active);
    assert_eq!(first.matching.events, patterns(&["a.b", "order.*"]));
    assert_eq!(first.matching.channels, Some("eu".parse().unwrap()));
    assert_eq!(first.matching.filter, None);
    assert_eq!(then(stage, id, filtered - Duration::from_millis(1)).await, first);
    let second = then(stage, id, filtered).await.matching;
    assert_eq!((second.channels, second.filter), (None, Some("data.total > 1".parse().unwrap())));
    assert_eq!(then(stage, id, widened).await.matching.events, patterns(&["*"]));
    let present = then(stage, id, stopped).await;
    assert!(present.is_of_then && !present.matching.active);
    assert!(then(stage, id, stopped - Duration::from_millis(1)).await.matching.active);

    // Without versions the present is all that is known.
    let never = Retention { history: Age::Forever, payloads: Age::Forever, dead: Age::Forever };
    assert!(!stage.store.remove_old_versions(never).await.unwrap());
    assert_eq!(versions(stage).await, 3);
    let nothing = Retention { dead: Age::For(Duration::ZERO), ..never };
    assert!(!stage.store.remove_old_versions(nothing).await.unwrap());
    assert_eq!(versions(stage).await, 0);
    let unknown = then(stage, id, created.created_at).await;
    assert!(!unknown.is_of_then && !unknown.matching.active, "{unknown:?}");
    change(stage, id, SubscriberChange { active: Some(true), ..SubscriberChange::default() }).await;
    assert_eq!(versions(stage).await, 1);
    assert!(stage.store.delete_subscriber(&stage.tenant, id).await.unwrap());
    assert_eq!(versions(stage).await, 0);
}

async fn an_unchanged_subscriber_keeps_no_version(stage: &Stage) {
    let id = stage.store.create_subscriber(&stage.tenant, subscriber_of(&["a", "b"])).await.unwrap().id;
    let same = SubscriberChange {
        active: Some(true),
        events: Some(patterns(&["b", "a"])),
        channels: Some(None),
        filter: Some(None),
        description: Some("other".into()),
        paused: Some(true),
        ..SubscriberChange::default()
    };
    let at = change(stage, id, same).await;
    assert_eq!(versions(stage).await, 0);
    assert!(then(stage, id, at - Duration::from_millis(1)).await.is_of_then);
}

async fn as_many_versions_are_kept_as_promised(stage: &Stage) {
    let id = stage.subscribe(&stage.tenant, true).await;
    let mut moments = Vec::new();
    for number in 0..KEPT + 3 {
        let events = Some(patterns(&[&format!("type{number}")]));
        moments.push(change(stage, id, SubscriberChange { events, ..SubscriberChange::default() }).await);
    }
    assert_eq!(versions(stage).await, i64::from(KEPT));
    assert!(!then(stage, id, moments[0]).await.is_of_then, "too old");
    let kept = then(stage, id, moments[3]).await;
    assert_eq!((kept.is_of_then, kept.matching.events), (true, patterns(&["type3"])));
}

async fn deliveries_are_found_by_their_subscribers(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let other = stage.subscribe(&stage.tenant, true).await;
    let delivery = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    stage.dispatch(&stage.tenant, other, "a", stage.now()).await;
    let both = [subscriber, other];
    let found = stage.store.deliveries_to(&stage.tenant, delivery.event(), &both).await.unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [(subscriber, delivery)]);
    let foreign = "foreign".parse().unwrap();
    assert!(stage.store.deliveries_to(&foreign, delivery.event(), &both).await.unwrap().is_empty());
}

async fn subscribers_are_found_by_what_they_are(stage: &Stage) {
    let make = async |new: NewSubscriber| stage.store.create_subscriber(&stage.tenant, new).await.unwrap().id;
    let plain = make(subscriber_of(&["order.*"])).await;
    let off = make(NewSubscriber { active: false, ..subscriber_of(&["*", "order.created"]) }).await;
    let in_channel =
        make(NewSubscriber { channels: Some("eu".parse().unwrap()), ..subscriber_of(&["order.created"]) })
            .await;
    let url = "https://example.com/100%_hook".parse();
    let named = make(NewSubscriber { url: url.unwrap(), ..subscriber_of(&["invoice"]) }).await;
    let fail = match stage.database.connection().get_database_backend() {
        DbBackend::Sqlite => format!("unhex('{}')", plain.uuid().simple()),
        _ => format!("'{}'", plain.uuid()),
    };
    let sql = format!(
        "INSERT INTO health (subscriber_id, failures, first_failed_at, openings) VALUES ({fail}, 2, 1, 0)"
    );
    stage.database.connection().execute_unprepared(&sql).await.unwrap();

    let find = async |filter: SubscriberFilter| {
        let mut found = Vec::new();
        let mut page = PageRequest { limit: 1, before: None };
        loop {
            let read = stage.store.find_subscribers(&stage.tenant, &filter, page).await.unwrap();
            found.extend(read.items.into_iter().map(|subscriber| subscriber.id));
            page.before = read.next;
            if page.before.is_none() {
                return found;
            }
        }
    };
    let all = SubscriberFilter::default;
    assert_eq!(find(all()).await, [named, in_channel, off, plain]);
    let of_type = |word: &str| SubscriberFilter { event_type: Some(word.parse().unwrap()), ..all() };
    assert_eq!(find(of_type("order.created")).await, [in_channel, off, plain]);
    assert_eq!(find(of_type("order")).await, [off]);
    assert_eq!(find(SubscriberFilter { active: Some(true), ..of_type("order.paid") }).await, [plain]);
    assert_eq!(find(SubscriberFilter { active: Some(false), ..all() }).await, [off]);
    assert_eq!(find(SubscriberFilter { failing: Some(true), ..all() }).await, [plain]);
    assert_eq!(find(SubscriberFilter { failing: Some(false), ..all() }).await, [named, in_channel, off]);
    let with_url = |part: &str| SubscriberFilter { url: Some(part.into()), ..all() };
    assert_eq!(find(with_url("/100%_h")).await, [named], "no character is a wildcard");
    assert_eq!(find(with_url("/100__h")).await, []);
    let among = |ids: &[SubscriberId]| SubscriberFilter { ids: Some(ids.to_vec()), ..all() };
    assert_eq!(find(among(&[plain, off])).await, [off, plain]);
    assert_eq!(find(among(&[])).await, []);
}
