//! Old days are read whole, and removed only as they were read.

use std::time::Duration;

use postrider_core::{DeadReason, DeliveryId, EventId, TenantId, Timestamp};
use postrider_store::PageRequest;
use postrider_store::archive::{Mark, OldDay, Removal, Row};
use postrider_store::attempt::End;
use postrider_store::retention::{Age, Retention, Stays};
use postrider_testkit::{TestDatabase, eventually};
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};

use crate::retention::dispatch;
use crate::stage::{Stage, on_both};

on_both!(
    a_day_is_read_whole,
    a_page_has_a_bounded_size,
    a_day_stays_while_something_in_it_must,
    a_day_that_is_not_old_is_none,
);

const fn days(days: u64) -> Age {
    Age::For(Duration::from_hours(24 * days))
}

const NINETY_DAYS: Retention = Retention { history: days(90), payloads: days(90), dead: days(90) };

const START: Timestamp = Timestamp::from_millis(0);

async fn old_days(stage: &Stage) -> Vec<OldDay> {
    let (mut found, mut from) = (Vec::new(), START);
    while let Some(day) = stage.store.next_old_day(NINETY_DAYS, from).await.unwrap() {
        from = day.ends_at;
        found.push(day);
    }
    found
}

async fn the_old_day(stage: &Stage) -> OldDay {
    let mut found = old_days(stage).await;
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

async fn pages(stage: &Stage, day: &OldDay) -> Vec<Vec<Row>> {
    let mut rows = stage.store.rows_of(day);
    let mut pages = Vec::new();
    loop {
        let page = rows.next().await.unwrap();
        if page.is_empty() {
            return pages;
        }
        pages.push(page);
    }
}

/// What a row has, as a text.
fn told(row: &Row) -> Vec<String> {
    match row {
        Row::Event { tenant, event, envelope } => vec![format!("{tenant} {event:?} {envelope:?}")],
        Row::Delivery { tenant, delivery, first_attempt } => {
            let attempt = first_attempt.as_ref();
            let attempt = attempt.map(|attempt| format!("{tenant} {} {attempt:?}", delivery.id));
            std::iter::once(format!("{tenant} {delivery:?}")).chain(attempt).collect()
        }
        Row::Attempt { tenant, delivery, attempt } => vec![format!("{tenant} {delivery} {attempt:?}")],
    }
}

/// What the other methods of the store say about deliveries, their events and attempts.
async fn said(stage: &Stage, deliveries: &[(TenantId, DeliveryId)]) -> Vec<String> {
    let store = &stage.store;
    let mut said = Vec::new();
    for (tenant, id) in deliveries {
        let event = store.event(tenant, id.event()).await.unwrap().unwrap();
        let envelope = store.envelopes(&[(tenant.clone(), event.id)]).await.unwrap().remove(&event.id);
        said.push(format!("{tenant} {event:?} {envelope:?}"));
        said.push(format!("{tenant} {:?}", store.delivery(tenant, *id).await.unwrap().unwrap()));
        let attempts = store.attempts(tenant, *id, PageRequest::default()).await.unwrap();
        said.extend(attempts.items.iter().map(|attempt| format!("{tenant} {id} {attempt:?}")));
    }
    said.sort();
    said
}

async fn a_day_is_read_whole(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let other: TenantId = "other".parse().unwrap();
    let others = stage.subscribe(&other, true).await;
    let dead = End::Dead(DeadReason::AttemptsUsedUp);
    let mine = |id| (stage.tenant.clone(), id);
    let mut deliveries = Vec::new();
    for end in [End::Succeeded, End::Cancelled, dead] {
        deliveries.push(mine(dispatch(stage, &stage.tenant, subscriber, 95, Some(end)).await));
        deliveries.push((other.clone(), dispatch(stage, &other, others, 95, Some(end)).await));
    }
    // A second round of attempts, one of which fails.
    let (_, retried) = deliveries[0].clone();
    stage.store.retry(&stage.tenant, retried).await.unwrap();
    let claimed = stage.claim().await;
    stage.fail(claimed[0].0, &claimed[0].1, dead).await;
    let (_, erased) = deliveries[2].clone();
    stage.store.erase_payload(&stage.tenant, erased.event()).await.unwrap();
    dispatch(stage, &stage.tenant, subscriber, 85, Some(End::Succeeded)).await;

    let day = the_old_day(stage).await;
    let mut found: Vec<_> = pages(stage, &day).await.concat().iter().flat_map(told).collect();
    found.sort();
    assert_eq!(found, said(stage, &deliveries).await);
    assert!(found.iter().any(|row| row.contains("payload_gone: Some(Erased)") && row.ends_with("None")));
}

async fn a_page_has_a_bounded_size(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    for _ in 0..4 {
        dispatch(stage, &stage.tenant, subscriber, 95, Some(End::Cancelled)).await;
    }
    let day = the_old_day(stage).await;
    let large = match stage.store.database().dialect() {
        postrider_database::Dialect::Postgres => "convert_to(repeat('x', 3000000), 'UTF8')",
        postrider_database::Dialect::Sqlite => "zeroblob(3000000)",
    };
    let connection = stage.database.connection();
    connection.execute_unprepared(&format!("UPDATE events SET envelope = {large}")).await.unwrap();
    connection
        .execute_unprepared(
            "DELETE FROM deliveries WHERE id > (SELECT id FROM deliveries ORDER BY id LIMIT 1)",
        )
        .await
        .unwrap();
    connection.execute_unprepared("DELETE FROM attempts").await.unwrap();
    stage.multiply(1300).await;
    let sizes: Vec<_> = pages(stage, &day).await.iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2, 500, 500, 300]);
}

async fn a_day_stays_while_something_in_it_must(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let id = dispatch(stage, &stage.tenant, subscriber, 95, None).await;
    let day = the_old_day(stage).await;
    assert_eq!(stage.store.why_day_stays(&day).await.unwrap(), Some(Stays::Pending));
    assert_eq!(remove(stage, &day).await, Removal::Stays(Stays::Pending));
    let claimed = stage.claim().await;
    stage.fail(claimed[0].0, &claimed[0].1, End::Dead(DeadReason::AttemptsUsedUp)).await;
    assert_eq!(stage.store.why_day_stays(&day).await.unwrap(), Some(Stays::DeadLetters));
    assert_eq!(remove(stage, &day).await, Removal::Stays(Stays::DeadLetters));
    let died = "UPDATE deliveries SET died_at = 1";
    stage.database.connection().execute_unprepared(died).await.unwrap();
    assert_eq!(stage.store.why_day_stays(&day).await.unwrap(), None);
    let fan_out = "INSERT INTO fan_outs (tenant, event_id, event_type, dispatched_at, reached, last, jobs_created, \
            created_at, touched_at) \
        SELECT tenant, id, event_type, dispatched_at, id, id, 0, 0, 0 FROM events";
    stage.database.connection().execute_unprepared(fan_out).await.unwrap();
    assert_eq!(stage.store.why_day_stays(&day).await.unwrap(), Some(Stays::Pending));
    assert_eq!(remove(stage, &day).await, Removal::Stays(Stays::Pending));
    stage.database.connection().execute_unprepared("DELETE FROM fan_outs").await.unwrap();
    assert_eq!(remove(stage, &day).await, Removal::Removed);
    assert!(stage.store.delivery(&stage.tenant, id).await.unwrap().is_none());
    assert_eq!(old_days(stage).await, []);
}

/// Marks the present, once all transactions have ended that other tests had begun before the day's last change.
pub(crate) async fn settled_mark(stage: &Stage, day: &OldDay) -> Mark {
    let settled = async || {
        let mark = stage.store.mark().await.unwrap();
        let changed = stage.store.day_has_changed(day, mark).await.unwrap();
        (!changed).then_some(mark)
    };
    eventually(Duration::from_mins(1), settled).await
}

/// Removes a day that has been copied just now.
async fn remove(stage: &Stage, day: &OldDay) -> Removal {
    match stage.store.database().dialect() {
        postrider_database::Dialect::Postgres => {
            let mark = settled_mark(stage, day).await;
            stage.store.drop_day(day, mark).await.unwrap()
        }
        postrider_database::Dialect::Sqlite => stage.store.delete_day(day, &mut |_| true).await.unwrap(),
    }
}

async fn a_day_that_is_not_old_is_none(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    dispatch(stage, &stage.tenant, subscriber, 89, Some(End::Succeeded)).await;
    assert_eq!(old_days(stage).await, []);
    let forever = Retention { history: Age::Forever, payloads: Age::Forever, dead: Age::Forever };
    dispatch(stage, &stage.tenant, subscriber, 1000, Some(End::Succeeded)).await;
    assert_eq!(stage.store.next_old_day(forever, START).await.unwrap(), None);
    dispatch(stage, &stage.tenant, subscriber, 900, Some(End::Succeeded)).await;
    let found = old_days(stage).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_at <= found[1].starts_at && found[0].name < found[1].name, "{found:?}");
}

/// A stage with an old day, on which a delivery has died long ago.
async fn with_an_old_day() -> (Stage, DeliveryId, OldDay) {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let id = dispatch(&stage, &stage.tenant, subscriber, 95, Some(End::Succeeded)).await;
    let day = the_old_day(&stage).await;
    (stage, id, day)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_with_rows_written_after_the_mark_is_not_dropped() {
    let (stage, id, day) = with_an_old_day().await;
    let store = &stage.store;
    let connection = stage.database.connection();
    let changes = [
        "UPDATE deliveries SET ended_at = ended_at",
        "UPDATE events SET envelope = NULL, payload_gone = 1",
        "INSERT INTO attempts (id, tenant, delivery_id, number, started_at, duration_us, response_truncated) \
            SELECT id, tenant, id, 1, 1, 1, false FROM deliveries",
        "UPDATE attempts SET response_body = NULL",
    ];
    for change in changes {
        let mark = settled_mark(&stage, &day).await;
        connection.execute_unprepared(change).await.unwrap();
        assert!(store.day_has_changed(&day, mark).await.unwrap(), "{change}");
        assert_eq!(store.drop_day(&day, mark).await.unwrap(), Removal::Changed, "{change}");
    }
    // Written before the mark and committed after it: nobody who reads in between sees it.
    let writer = connection.begin().await.unwrap();
    writer.execute_unprepared("UPDATE deliveries SET ended_at = ended_at").await.unwrap();
    let mark = store.mark().await.unwrap();
    assert_eq!(store.drop_day(&day, mark).await.unwrap(), Removal::Busy);
    writer.commit().await.unwrap();
    assert_eq!(store.drop_day(&day, mark).await.unwrap(), Removal::Changed);
    assert!(store.delivery(&stage.tenant, id).await.unwrap().is_some());

    // Other days may change as they like.
    let mark = settled_mark(&stage, &day).await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    connection.execute_unprepared("VACUUM (FREEZE) deliveries").await.unwrap();
    assert_eq!(store.drop_day(&day, mark).await.unwrap(), Removal::Removed);
    assert!(store.delivery(&stage.tenant, id).await.unwrap().is_none());
    assert_eq!(store.drop_day(&day, mark).await.unwrap(), Removal::Gone);
    assert!(store.rows_of(&day).next().await.is_err(), "its rows are not taken for none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_is_dropped_without_waiting_for_readers() {
    let (stage, id, day) = with_an_old_day().await;
    let mark = settled_mark(&stage, &day).await;
    let reader = stage.database.connection().begin().await.unwrap();
    reader.execute_unprepared("SELECT count(*) FROM attempts").await.unwrap();
    assert_eq!(stage.store.drop_day(&day, mark).await.unwrap(), Removal::Busy);
    assert!(stage.store.delivery(&stage.tenant, id).await.unwrap().is_some());
    reader.commit().await.unwrap();
    assert_eq!(stage.store.drop_day(&day, mark).await.unwrap(), Removal::Removed);
}

/// Rows are compared with the copy in the transaction that deletes them, a batch at a time.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_deletes_what_the_copy_has_and_nothing_else() {
    let stage = Stage::of(TestDatabase::sqlite().await).await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    for number in 0..230 {
        dispatch(&stage, &stage.tenant, subscriber, 95, Some(End::Succeeded)).await;
        if number == 0 {
            dispatch(&stage, &stage.tenant, subscriber, 85, Some(End::Succeeded)).await;
        }
    }
    let other: TenantId = "other".parse().unwrap();
    let others = stage.subscribe(&other, true).await;
    dispatch(&stage, &other, others, 95, Some(End::Succeeded)).await;
    let day = the_old_day(&stage).await;
    let copy = pages(&stage, &day).await.concat();
    let events = copy.iter().filter_map(|row| match row {
        Row::Event { event, .. } => Some(event.id),
        _ => None,
    });
    let events: Vec<EventId> = events.collect();
    assert_eq!(events.len(), 231);

    // The copy does not have the delivery of the 151st event.
    let missing = events[150].deliveries();
    let mut has =
        |row: &Row| !matches!(row, Row::Delivery { delivery, .. } if missing.contains(&delivery.id));
    assert_eq!(stage.store.delete_day(&day, &mut has).await.unwrap(), Removal::Changed);
    let left = async || {
        let count = async |table: &str| stage.count(&format!("SELECT count(*) AS n FROM {table}")).await;
        [count("events").await, count("deliveries").await]
    };
    assert_eq!(left().await, [132, 132], "the first batch is gone, and the young day is there");

    let mut asked = Vec::new();
    let mut ask = |row: &Row| {
        asked.push(row.clone());
        true
    };
    assert_eq!(stage.store.delete_day(&day, &mut ask).await.unwrap(), Removal::Removed);
    assert_eq!(left().await, [1, 1]);
    let of = |rows: &[Row], kind: fn(&Row) -> bool| -> Vec<_> {
        rows.iter().filter(|row| kind(row)).flat_map(told).collect()
    };
    for kind in
        [|row: &Row| matches!(row, Row::Event { .. }), |row: &Row| matches!(row, Row::Delivery { .. })]
    {
        assert_eq!(of(&asked, kind), of(&copy, kind)[of(&copy, kind).len() - of(&asked, kind).len()..]);
    }
}
