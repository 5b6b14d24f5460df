//! Payloads go before their events, unless a delivery can still need them.

use std::time::Duration;

use postrider_core::{DeadReason, DeliveryId, DeliveryStatus, SubscriberId};
use postrider_store::PageRequest;
use postrider_store::attempt::End;
use postrider_store::dead_letters::Deleted;
use postrider_store::deliveries::Changed;
use postrider_store::erasure::PayloadGone;
use postrider_store::retention::{Age, PayloadStep, Retention, Stays, Sweep};
use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};

use crate::retention::{NINETY_DAYS, days, dispatch, exist};
use crate::stage::{Stage, on_both};

on_both!(
    payloads_go_before_their_events,
    a_pending_delivery_keeps_its_payload,
    a_fan_out_that_goes_on_keeps_the_payload,
    a_dead_letter_keeps_its_payload,
    an_event_that_was_erased_stays_erased,
    the_responses_of_a_wide_event_go_in_steps,
);

const WEEK: Retention = Retention { payloads: days(7), ..NINETY_DAYS };
const DEAD: End = End::Dead(DeadReason::AttemptsUsedUp);

/// Takes all steps of a run.
async fn sweep(stage: &Stage, retention: Retention) -> Vec<PayloadStep> {
    let (mut sweep, mut steps) = (Sweep::default(), Vec::new());
    while let Some(step) = stage.store.remove_expired_payloads(retention, &mut sweep).await.unwrap() {
        assert!(steps.len() < 10_000, "the run does not end: {steps:?}");
        if step != PayloadStep::Taken {
            steps.push(step);
        }
    }
    steps
}

/// Whether these steps removed the payloads of the only partition, or of so many events.
fn removed(steps: &[PayloadStep], expected: u64) -> bool {
    match steps {
        [PayloadStep::Removed(_)] => true,
        [PayloadStep::Events(events)] => *events == expected,
        _ => false,
    }
}

async fn gone(stage: &Stage, id: DeliveryId) -> Option<PayloadGone> {
    let event = stage.store.event(&stage.tenant, id.event()).await.unwrap().unwrap();
    let envelopes = stage.store.envelopes(&[(stage.tenant.clone(), id.event())]).await.unwrap();
    assert_eq!(envelopes.is_empty(), event.payload_gone.is_some());
    event.payload_gone
}

async fn body(stage: &Stage, id: DeliveryId) -> String {
    let page = stage.store.attempts(&stage.tenant, id, PageRequest::default()).await.unwrap();
    String::from_utf8_lossy(&page.items[0].response_body).into_owned()
}

async fn execute(stage: &Stage, sql: &str) {
    stage.database.connection().execute_unprepared(sql).await.unwrap();
}

/// Gives all attempts that have rows a body.
async fn answer(stage: &Stage) {
    execute(stage, "UPDATE attempts SET response_body = 'Ada'").await;
}

async fn retry(stage: &Stage, id: DeliveryId, end: End) {
    let retried = stage.store.retry(&stage.tenant, id).await.unwrap();
    assert!(matches!(retried, Changed::Done(_)), "{retried:?}");
    let claimed = stage.claim().await;
    let (lease, delivery) = claimed.iter().find(|(_, delivery)| delivery.id == id).unwrap();
    stage.record(*lease, delivery, Duration::ZERO, end).await;
}

/// Lets so many hours pass, also for when to look at kept payloads again.
async fn hours_later(stage: &Stage, hours: u64) {
    let time = Duration::from_hours(hours);
    stage.database.advance(time).await;
    execute(stage, &format!("UPDATE partitions SET kept_look_at = kept_look_at - {}", time.as_millis()))
        .await;
}

async fn payloads_go_before_their_events(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let cancelled = dispatch(stage, &stage.tenant, subscriber, 10, Some(End::Cancelled)).await;
    let at_once = dispatch(stage, &stage.tenant, subscriber, 10, Some(End::Succeeded)).await;
    let young = dispatch(stage, &stage.tenant, subscriber, 3, Some(End::Cancelled)).await;
    answer(stage).await;
    let with_response = "SELECT count(*) AS n FROM deliveries WHERE first_response IS NOT NULL";
    let with_exchange = "SELECT count(*) AS n FROM (SELECT id FROM deliveries WHERE first_exchange IS NOT NULL \
        UNION ALL SELECT id FROM attempts WHERE exchange IS NOT NULL) AS kept";
    let attempts = stage.count("SELECT count(*) AS n FROM attempts").await;
    assert_eq!((stage.count(with_response).await, stage.count(with_exchange).await), (1, attempts + 1));
    for kept in [
        NINETY_DAYS,
        Retention { payloads: Age::Forever, history: Age::Forever, dead: Age::Forever },
        Retention { payloads: days(11), ..NINETY_DAYS },
    ] {
        assert_eq!(sweep(stage, kept).await, []);
    }
    assert_eq!((gone(stage, cancelled).await, &*body(stage, cancelled).await), (None, "Ada"));

    let steps = sweep(stage, WEEK).await;
    assert!(removed(&steps, 2), "{steps:?}");
    for id in [cancelled, at_once] {
        assert_eq!(gone(stage, id).await, Some(PayloadGone::Expired));
        assert_eq!((exist(stage, id).await, body(stage, id).await), ([true; 3], String::new()));
        let retried = stage.store.retry(&stage.tenant, id).await.unwrap();
        assert!(matches!(retried, Changed::PayloadGone(PayloadGone::Expired)), "{retried:?}");
    }
    assert_eq!((stage.count(with_response).await, stage.count(with_exchange).await), (0, attempts - 1));
    assert_eq!((gone(stage, young).await, &*body(stage, young).await), (None, "Ada"));
    assert_eq!(sweep(stage, WEEK).await, []);
    // The events go as all others.
    stage.store.remove_expired(Retention { history: days(8), ..NINETY_DAYS }).await.unwrap();
    assert!(stage.store.event(&stage.tenant, at_once.event()).await.unwrap().is_none());
    assert_eq!(exist(stage, young).await, [true; 3]);
}

async fn a_pending_delivery_keeps_its_payload(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let pending = dispatch(stage, &stage.tenant, subscriber, 10, None).await;
    for _ in 0..2 {
        let steps = sweep(stage, WEEK).await;
        assert!(steps.iter().all(|step| matches!(step, PayloadStep::Stays(_, Stays::Pending))), "{steps:?}");
        assert_eq!(
            steps.len(),
            usize::from(stage.database.connection().get_database_backend() == sea_orm::DbBackend::Postgres),
            "{steps:?}"
        );
        assert_eq!(gone(stage, pending).await, None);
    }
    stage.store.cancel(&stage.tenant, pending).await.unwrap();
    let steps = sweep(stage, WEEK).await;
    assert!(removed(&steps, 1), "{steps:?}");
    assert_eq!(gone(stage, pending).await, Some(PayloadGone::Expired));
}

async fn a_fan_out_that_goes_on_keeps_the_payload(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let old = dispatch(stage, &stage.tenant, subscriber, 10, Some(End::Succeeded)).await;
    let begin = "INSERT INTO fan_outs (tenant, event_id, event_type, dispatched_at, reached, last, jobs_created, \
            created_at, touched_at) \
        SELECT tenant, id, event_type, dispatched_at, id, id, 0, 0, 0 FROM events";
    execute(stage, begin).await;
    sweep(stage, WEEK).await;
    assert_eq!(gone(stage, old).await, None);
    execute(stage, "DELETE FROM fan_outs").await;
    sweep(stage, WEEK).await;
    assert_eq!(gone(stage, old).await, Some(PayloadGone::Expired));
}

async fn a_dead_letter_keeps_its_payload(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let first = dispatch(stage, &stage.tenant, subscriber, 10, Some(DEAD)).await;
    let second = dispatch(stage, &stage.tenant, subscriber, 10, Some(DEAD)).await;
    let settled = dispatch(stage, &stage.tenant, subscriber, 10, Some(End::Cancelled)).await;
    answer(stage).await;
    let steps = sweep(stage, WEEK).await;
    assert!(removed(&steps, 1), "{steps:?}");
    assert_eq!(gone(stage, settled).await, Some(PayloadGone::Expired));
    for id in [first, second] {
        assert_eq!((gone(stage, id).await, &*body(stage, id).await), (None, "Ada"));
    }
    // It can be delivered again, and needs its payload until it has ended.
    let retried = stage.store.retry(&stage.tenant, first).await.unwrap();
    assert!(matches!(retried, Changed::Done(_)), "{retried:?}");
    hours_later(stage, 2).await;
    assert_eq!(sweep(stage, WEEK).await, []);
    assert_eq!((gone(stage, first).await, gone(stage, second).await), (None, None));
    assert_eq!(stage.load_all().await, ["Deliver"]);
    stage.store.cancel(&stage.tenant, first).await.unwrap();
    hours_later(stage, 2).await;
    assert_eq!(sweep(stage, WEEK).await, [PayloadStep::Events(1)]);
    assert_eq!((gone(stage, first).await, gone(stage, second).await), (Some(PayloadGone::Expired), None));
    while stage.store.erase_responses(100).await.unwrap().is_some() {}
    assert_eq!((body(stage, first).await, &*body(stage, second).await), (String::new(), "Ada"));
    // Once a dead letter is old enough to go, it does not keep its payload.
    hours_later(stage, 20 * 24).await;
    let sooner = Retention { payloads: days(7), history: days(19), dead: days(19) };
    assert_eq!(sweep(stage, sooner).await, [PayloadStep::Events(1)]);
    assert_eq!(gone(stage, second).await, Some(PayloadGone::Expired));
    hours_later(stage, 2).await;
    assert_eq!(sweep(stage, sooner).await, []);
}

async fn an_event_that_was_erased_stays_erased(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let erased = dispatch(stage, &stage.tenant, subscriber, 10, Some(End::Succeeded)).await;
    let other = dispatch(stage, &stage.tenant, subscriber, 10, Some(End::Succeeded)).await;
    stage.store.erase_payload(&stage.tenant, erased.event()).await.unwrap();
    sweep(stage, WEEK).await;
    assert_eq!(gone(stage, erased).await, Some(PayloadGone::Erased));
    assert_eq!(gone(stage, other).await, Some(PayloadGone::Expired));
}

async fn the_responses_of_a_wide_event_go_in_steps(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let wide = dispatch(stage, &stage.tenant, subscriber, 10, Some(End::Cancelled)).await;
    answer(stage).await;
    execute(stage, "UPDATE events SET subscribers_found = 101").await;
    sweep(stage, WEEK).await;
    assert_eq!(gone(stage, wide).await, Some(PayloadGone::Expired));
    while stage.store.erase_responses(100).await.unwrap().is_some() {}
    assert_eq!(body(stage, wide).await, "");
}

async fn postgres() -> (Stage, SubscriberId) {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    (stage, subscriber)
}

/// Takes the steps of a run until the copies are complete and wait to be put in place.
async fn copy(stage: &Stage, sweep: &mut Sweep) {
    while stage.count("SELECT count(*) AS n FROM strippings WHERE place = 5").await == 0 {
        let step = stage.store.remove_expired_payloads(WEEK, sweep).await.unwrap();
        assert_eq!(step, Some(PayloadStep::Taken));
    }
}

/// All of an event's partition apart from payloads.
async fn fingerprint(stage: &Stage) -> Vec<String> {
    let mut prints = Vec::new();
    for (table, key) in [("events", "id"), ("deliveries", "id"), ("attempts", "delivery_id, id")] {
        let gone = "ARRAY['envelope', 'payload_gone', 'first_response', 'first_exchange', 'response_headers', 'response_body', 'exchange']";
        let sql = format!(
            "SELECT count(*) || ' ' || coalesce(md5(string_agg((to_jsonb(t) - {gone})::text, ',' ORDER BY tenant, {key})), '') \
                AS print FROM {table} AS t"
        );
        prints.push(stage.rows(&sql).await[0].try_get::<String>("", "print").unwrap());
    }
    prints
}

/// The indexes that every partition has, and the privileges.
async fn shape(stage: &Stage) -> Vec<String> {
    let sql = "SELECT parent || ' ' || count(*) || ' ' || coalesce(max(relacl::text), '') || ' ' || max(options) AS line FROM ( \
        SELECT parent, c.relacl, coalesce(c.reloptions::text, '') AS options FROM unnest(ARRAY['events', 'deliveries', 'attempts']) AS parent \
        JOIN pg_inherits AS h ON h.inhparent = parent::regclass JOIN pg_class AS c ON c.oid = h.inhrelid \
        JOIN pg_index AS i ON i.indrelid = c.oid JOIN pg_inherits AS hi ON hi.inhrelid = i.indexrelid \
        WHERE c.relname LIKE '%' || (SELECT suffix FROM partitions ORDER BY starts_at LIMIT 1)) AS all_of_them \
        GROUP BY parent ORDER BY parent";
    stage.rows(sql).await.iter().map(|row| row.try_get("", "line").unwrap()).collect()
}

/// More rows than one step copies, of several tenants; nothing else about them changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_payloads_is_otherwise_the_same() {
    let (stage, subscriber) = postgres().await;
    dispatch(&stage, &stage.tenant, subscriber, 10, Some(End::Succeeded)).await;
    let dead = dispatch(&stage, &stage.tenant, subscriber, 10, Some(DEAD)).await;
    // Each of them as often for two more tenants, with ids that differ before the number of the delivery.
    let id =
        |id: &str| format!("(left({id}::text, 14) || to_char(n, 'FM0000') || substr({id}::text, 19))::uuid");
    let copies = |table: &str, ids: &[&str]| {
        let gone: Vec<_> = ids.iter().map(|name| format!("'{name}', {}", id(&format!("t.{name}")))).collect();
        format!(
            "INSERT INTO {table} SELECT (jsonb_populate_record(t, \
                jsonb_build_object('tenant', 'tenant' || (n % 2), {}))).* FROM {table} AS t, generate_series(0, 2999) AS n",
            gone.join(", ")
        )
    };
    for sql in
        [copies("events", &["id"]), copies("deliveries", &["id"]), copies("attempts", &["delivery_id"])]
    {
        execute(&stage, &sql).await;
    }
    answer(&stage).await;
    execute(&stage, "UPDATE events SET envelope = convert_to(repeat(md5(id::text), 40), 'UTF8')").await;
    let (before, shape_before) = (fingerprint(&stage).await, shape(&stage).await);
    assert!(before[0].starts_with("6002 ") && before[2].starts_with("3001 "), "{before:?}");
    let bytes = async || stage.store.expiring(WEEK).await.unwrap()[0].clone();
    execute(&stage, "ANALYZE").await;
    let large = bytes().await;
    assert!(large.payload_bytes > 6_000 * 1_000 && large.payload_bytes < large.bytes, "{large:?}");
    let mut steps = sweep(&stage, WEEK).await;
    // Autovacuum, after so many changed rows, may hold a lock; then the step is repeated.
    steps.retain(|step| *step != PayloadStep::GaveWay);
    assert!(matches!(steps[..], [PayloadStep::Removed(_)]), "{steps:?}");
    assert_eq!(fingerprint(&stage).await, before);
    let shape_after = shape(&stage).await;
    let without_options =
        |lines: &[String]| lines.iter().map(|line| line.replace("{fillfactor=30}", "")).collect::<Vec<_>>();
    assert_eq!(without_options(&shape_after), without_options(&shape_before));
    assert_eq!((gone(&stage, dead).await, &*body(&stage, dead).await), (None, "Ada"));
    for (of_whom, left) in [
        ("events WHERE envelope IS NOT NULL AND payload_gone IS NULL", 3_001),
        ("events WHERE envelope IS NULL AND payload_gone = 2", 3_001),
        ("attempts WHERE response_body IS NOT NULL", 3_001),
        ("attempts WHERE exchange IS NOT NULL", 3_001),
        ("deliveries WHERE first_response IS NOT NULL OR first_exchange IS NOT NULL", 0),
    ] {
        assert_eq!(stage.count(&format!("SELECT count(*) AS n FROM {of_whom}")).await, left, "{of_whom}");
    }
    assert!(bytes().await.bytes < large.bytes * 2 / 3, "{large:?} {:?}", bytes().await);
    assert_eq!(leftovers(&stage).await, 0);
}

/// Copies, triggers and notes that a run leaves behind.
async fn leftovers(stage: &Stage) -> u64 {
    stage
        .count(
            "SELECT (SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE '%stripped') \
                + (SELECT count(*) FROM pg_trigger WHERE tgname = 'postrider_note_change') \
                + (SELECT count(*) FROM pg_constraint WHERE conname = 'within') \
                + (SELECT count(*) FROM strippings) + (SELECT count(*) FROM stripping_changes) AS n",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_a_partition_is_copied_is_copied_too() {
    let (stage, subscriber) = postgres().await;
    let mut ids = Vec::new();
    for end in [End::Succeeded, DEAD, DEAD, End::Cancelled, End::Succeeded] {
        ids.push(dispatch(&stage, &stage.tenant, subscriber, 10, Some(end)).await);
    }
    let [died, revived, deleted, erased, pending] = ids[..] else { unreachable!() };
    answer(&stage).await;
    let mut run = Sweep::default();
    copy(&stage, &mut run).await;
    let late = dispatch(&stage, &stage.tenant, subscriber, 10, Some(End::Succeeded)).await;
    retry(&stage, died, DEAD).await;
    retry(&stage, revived, End::Succeeded).await;
    let deletion = stage.store.delete_dead_letter(&stage.tenant, deleted).await.unwrap();
    assert!(matches!(deletion, Deleted::Done), "{deletion:?}");
    stage.store.erase_payload(&stage.tenant, erased.event()).await.unwrap();
    stage.store.retry(&stage.tenant, pending).await.unwrap();
    let steps = sweep(&stage, WEEK).await;
    assert!(matches!(steps[..], [PayloadStep::Stays(_, Stays::Pending)]), "{steps:?}");
    assert_eq!(gone(&stage, pending).await, None);
    stage.store.cancel(&stage.tenant, pending).await.unwrap();
    let before = fingerprint(&stage).await;
    let steps = sweep(&stage, WEEK).await;
    assert!(matches!(steps[..], [PayloadStep::Removed(_)]), "{steps:?}");
    assert_eq!(fingerprint(&stage).await, before);
    for (id, expected) in [
        (late, Some(PayloadGone::Expired)),
        (died, None),
        (revived, Some(PayloadGone::Expired)),
        (deleted, Some(PayloadGone::Expired)),
        (erased, Some(PayloadGone::Erased)),
        (pending, Some(PayloadGone::Expired)),
    ] {
        assert_eq!(gone(&stage, id).await, expected, "{id}");
    }
    assert_eq!(exist(&stage, deleted).await, [true, false, false]);
    let status = stage.store.delivery(&stage.tenant, died).await.unwrap().unwrap().status;
    assert_eq!(status, DeliveryStatus::Dead);
    assert_eq!(leftovers(&stage).await, 0);
}

/// Nobody waits behind a step that would have to wait.
#[tokio::test(flavor = "multi_thread")]
async fn removing_payloads_gives_way_to_readers() {
    let (stage, subscriber) = postgres().await;
    let old = dispatch(&stage, &stage.tenant, subscriber, 10, Some(End::Succeeded)).await;
    let mut run = Sweep::default();
    copy(&stage, &mut run).await;
    let reader = stage.database.connection().begin().await.unwrap();
    reader.execute_unprepared("SELECT count(*) FROM deliveries").await.unwrap();
    for _ in 0..2 {
        let step = stage.store.remove_expired_payloads(WEEK, &mut run).await.unwrap();
        assert_eq!(step, Some(PayloadStep::GaveWay));
    }
    // The partition may change again.
    retry(&stage, old, End::Succeeded).await;
    assert_eq!(gone(&stage, old).await, None);
    reader.commit().await.unwrap();
    let step = stage.store.remove_expired_payloads(WEEK, &mut run).await.unwrap();
    assert!(matches!(step, Some(PayloadStep::Removed(_))), "{step:?}");
    assert_eq!(gone(&stage, old).await, Some(PayloadGone::Expired));
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_not_needed_any_more_are_removed() {
    let (stage, subscriber) = postgres().await;
    let old = dispatch(&stage, &stage.tenant, subscriber, 10, Some(End::Succeeded)).await;
    copy(&stage, &mut Sweep::default()).await;
    assert!(leftovers(&stage).await > 0);
    assert_eq!(sweep(&stage, NINETY_DAYS).await, []);
    assert_eq!((leftovers(&stage).await, gone(&stage, old).await), (0, None));
    // The same if the partition was dropped.
    copy(&stage, &mut Sweep::default()).await;
    let short = Retention { history: days(8), payloads: days(7), dead: days(8) };
    assert_eq!(stage.store.remove_expired(short).await.unwrap().partitions.len(), 1);
    assert_eq!(sweep(&stage, short).await, []);
    assert_eq!(leftovers(&stage).await, 0);
}

/// As a migration does while a partition is being copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_begun_again_after_a_column_was_added() {
    let (stage, subscriber) = postgres().await;
    let old = dispatch(&stage, &stage.tenant, subscriber, 10, Some(End::Succeeded)).await;
    copy(&stage, &mut Sweep::default()).await;
    execute(&stage, "ALTER TABLE events ADD COLUMN later text DEFAULT 'given'").await;
    assert!(matches!(sweep(&stage, WEEK).await[..], [PayloadStep::Removed(_)]));
    assert_eq!(gone(&stage, old).await, Some(PayloadGone::Expired));
    assert_eq!(stage.count("SELECT count(*) AS n FROM events WHERE later = 'given'").await, 1);
    assert_eq!(leftovers(&stage).await, 0);
}

/// A role that may only read and write rows takes all steps, and can use the new tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_right_to_change_the_schema_removes_payloads() {
    let (stage, subscriber) = postgres().await;
    let old = dispatch(&stage, &stage.tenant, subscriber, 10, Some(DEAD)).await;
    let admin = stage.database.connection();
    let role = format!("stripper_{}", std::process::id());
    let grant = format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}; \
         REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    );
    admin.execute_unprepared(&grant).await.unwrap();
    let suffix: String = stage.rows("SELECT suffix FROM partitions ORDER BY starts_at LIMIT 1").await[0]
        .try_get("", "suffix")
        .unwrap();
    let forever = 9_000_000_000_000_000_i64;
    for _ in 0..20 {
        let step = format!(
            "SET SESSION AUTHORIZATION {role}; SELECT postrider_strip_step('{suffix}', {forever}, -1); \
             RESET SESSION AUTHORIZATION"
        );
        admin.execute_unprepared(&step).await.unwrap();
    }
    assert_eq!(
        stage.count("SELECT count(*) AS n FROM partitions WHERE stripped AND kept_look_at IS NOT NULL").await,
        1
    );
    let kept = format!(
        "SET SESSION AUTHORIZATION {role}; \
         SELECT postrider_strip_kept('{suffix}', {forever}, '', '00000000-0000-0000-0000-000000000000'); \
         UPDATE deliveries_{suffix} SET attempts = attempts; SELECT FROM events_{suffix}; RESET SESSION AUTHORIZATION"
    );
    admin.execute_unprepared(&kept).await.unwrap();
    assert_eq!(gone(&stage, old).await, Some(PayloadGone::Expired));
    let refused = format!(
        "REVOKE DELETE ON events FROM {role}; SET SESSION AUTHORIZATION {role}; SELECT postrider_strip_abandon('{suffix}')"
    );
    let refused = admin.execute_unprepared(&refused).await.unwrap_err().to_string();
    assert!(refused.contains("needs the right to delete events"), "{refused}");
    let drop = format!("RESET SESSION AUTHORIZATION; DROP OWNED BY {role}; DROP ROLE {role}");
    admin.execute_unprepared(&drop).await.unwrap();
}

/// Retries and cancels this delivery until its payload has expired. Returns how often it was retried.
async fn change(stage: &Stage, id: DeliveryId) -> u32 {
    let mut retried = 0;
    loop {
        match stage.store.retry(&stage.tenant, id).await.unwrap() {
            Changed::PayloadGone(PayloadGone::Expired) => return retried,
            Changed::Done(_) => retried += 1,
            other => panic!("{other:?}"),
        }
        // A delivery that is pending has its payload.
        assert_eq!(gone(stage, id).await, None);
        let cancelled = stage.store.cancel(&stage.tenant, id).await.unwrap();
        assert!(matches!(cancelled, Changed::Done(_)), "{cancelled:?}");
    }
}

/// Whatever others do to the partition at the same time is in the copies, and no pending delivery loses its payload.
#[tokio::test(flavor = "multi_thread")]
async fn changes_during_each_step_are_not_lost() {
    let (stage, subscriber) = postgres().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(dispatch(&stage, &stage.tenant, subscriber, 10, Some(End::Succeeded)).await);
    }
    let expiring = async {
        loop {
            let steps = sweep(&stage, WEEK).await;
            match steps[..] {
                [.., PayloadStep::Removed(_)] => return,
                [.., PayloadStep::Stays(_, Stays::Pending)] => {}
                // Each run ends with one of them, whatever it gave way to.
                _ => panic!("{steps:?}"),
            }
        }
    };
    let deadline = Duration::from_mins(1);
    let all = async { tokio::join!(expiring, change(&stage, ids[0]), change(&stage, ids[1])) };
    let ((), a, b) =
        Box::pin(tokio::time::timeout(deadline, all)).await.expect("the partition is stripped in between");
    for (id, retried) in ids.iter().zip([a, b]) {
        let delivery = stage.store.delivery(&stage.tenant, *id).await.unwrap().unwrap();
        let expected = if retried > 0 { DeliveryStatus::Cancelled } else { DeliveryStatus::Succeeded };
        assert_eq!((delivery.status, delivery.attempts), (expected, 1), "{retried} retries");
    }
    assert!(a + b > 0);
    assert_eq!(leftovers(&stage).await, 0);
}
