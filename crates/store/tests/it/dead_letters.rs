//! Listing, requeueing and deleting dead letters; retrying and cancelling deliveries.

use std::time::Duration;

use postrider_core::Metadata;
use postrider_core::{
    AgentId, DeadReason, DeliveryId, DeliveryStatus, EventId, SubscriberId, TenantId, Timestamp,
};
use postrider_database::{Dialect, Writes};
use postrider_queue::{Claim, LeaseToken};
use postrider_store::PageRequest;
use postrider_store::attempt::DeliveryRef;
use postrider_store::attempt::End;
use postrider_store::dead_letters::{AttemptBudget, DeadFilter, Deleted, Requeued};
use postrider_store::deliveries::Changed;
use postrider_store::intake::{DeliveryRow, EventRow};
use postrider_store::loading::Loaded;
use postrider_store::subscribers::SubscriberChange;
use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait as _, Statement};
use uuid::Uuid;

use crate::stage::{Stage, on_both};

on_both!(
    dead_letters_can_be_filtered_by_each_field,
    requeueing_starts_a_new_round,
    keeping_the_attempts_allows_one_more,
    dead_letters_are_requeued_oldest_first_up_to_the_limit,
    a_delivery_that_dies_again_during_the_call_is_left_out,
    dead_letters_of_inactive_subscribers_are_not_requeued,
    an_ended_delivery_can_be_retried,
    only_dead_letters_are_deleted,
    a_dead_letter_with_many_attempts_is_deleted,
    dead_letters_behind_many_others_are_requeued,
    only_pending_deliveries_are_cancelled,
);

const USED_UP: End = End::Dead(DeadReason::AttemptsUsedUp);

async fn dead_letters_can_be_filtered_by_each_field(stage: &Stage) {
    let one = stage.subscribe(&stage.tenant, true).await;
    let two = stage.subscribe(&stage.tenant, true).await;
    let other: TenantId = "other".parse().unwrap();
    let foreign = stage.subscribe(&other, true).await;
    let die = async |tenant: &TenantId, subscriber, event: &str, reason| {
        let id = stage.dispatch(tenant, subscriber, event, stage.now()).await;
        stage.attempt(End::Dead(reason)).await;
        id
    };
    let old = die(&stage.tenant, one, "a", DeadReason::AttemptsUsedUp).await;
    stage.database.advance(Duration::from_hours(1)).await;
    let middle = die(&stage.tenant, one, "b", DeadReason::RescuedTooOften).await;
    let new = die(&stage.tenant, two, "b", DeadReason::SubscriberFailing).await;
    die(&other, foreign, "a", DeadReason::AttemptsUsedUp).await;
    // Not dead.
    stage.dispatch(&stage.tenant, one, "a", stage.now()).await;
    stage.attempt(End::Succeeded).await;
    stage.dispatch(&stage.tenant, one, "a", stage.now()).await;

    let half_an_hour_ago = stage.now() - Duration::from_mins(30);
    let any = DeadFilter::default;
    for (filter, expected) in [
        (any(), &[new, middle, old][..]),
        (DeadFilter { subscriber: Some(one), ..any() }, &[middle, old]),
        (DeadFilter { event_type: Some("b".parse().unwrap()), ..any() }, &[new, middle]),
        (DeadFilter { event_type: Some("c".parse().unwrap()), ..any() }, &[]),
        (DeadFilter { reason: Some(DeadReason::RescuedTooOften), ..any() }, &[middle]),
        (DeadFilter { reason: Some(DeadReason::Gone), ..any() }, &[]),
        (DeadFilter { since: Some(half_an_hour_ago), ..any() }, &[new, middle]),
        (DeadFilter { until: Some(half_an_hour_ago), ..any() }, &[old]),
        (DeadFilter { ids: Some(vec![old, new, new]), ..any() }, &[new, old]),
        (DeadFilter { ids: Some(vec![]), ..any() }, &[]),
        (
            DeadFilter {
                subscriber: Some(one),
                event_type: Some("b".parse().unwrap()),
                since: Some(half_an_hour_ago),
                ..any()
            },
            &[middle],
        ),
    ] {
        let page = stage.store.dead_letters(&stage.tenant, &filter, PageRequest::default()).await.unwrap();
        let found: Vec<_> = page.items.iter().map(|delivery| delivery.id).collect();
        assert_eq!(found, expected, "{filter:?}");
        assert!(page.items.iter().all(|delivery| delivery.status == DeliveryStatus::Dead));
    }
    let first = PageRequest { limit: 2, before: None };
    let first = stage.store.dead_letters(&stage.tenant, &any(), first).await.unwrap();
    assert_eq!((first.items.len(), first.next), (2, Some(middle)));
    let rest = PageRequest { limit: 2, before: first.next };
    let rest = stage.store.dead_letters(&stage.tenant, &any(), rest).await.unwrap();
    assert_eq!((rest.items[0].id, rest.items.len(), rest.next), (old, 1, None));

    // Another tenant cannot requeue them by id.
    let theirs = DeadFilter { ids: Some(vec![old]), ..any() };
    assert_eq!(
        stage.store.requeue(&other, &theirs, AttemptBudget::FromZero, 10).await.unwrap(),
        Requeued::default()
    );
    stage.assert_counts_agree().await;
}

async fn requeueing_starts_a_new_round(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let id = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    let before = stage.delivery(id).await;
    stage.attempt(End::RetryIn(Duration::from_secs(1))).await;
    stage.attempt(USED_UP).await;
    stage.assert_counts_agree().await;

    let requeued = stage.requeue(AttemptBudget::FromZero, 10).await;
    assert_eq!(requeued, Requeued { deliveries: 1, more: false, without_payload: 0 });
    assert_eq!(
        stage.requeue(AttemptBudget::FromZero, 10).await,
        Requeued::default(),
        "the delivery is no longer dead"
    );
    stage.assert_counts_agree().await;
    let now = stage.delivery(id).await;
    assert_eq!((now.status, now.attempts), (DeliveryStatus::Pending, 2));
    assert_eq!((now.next_attempt_at, now.dead_reason, now.ended_at), (None, None, None));
    assert_eq!(now.event_id, before.event_id, "the webhook-id stays the same");
    assert_ne!(now.job, before.job);
    assert_eq!(stage.jobs().await, 1);

    let claimed = stage.claim().await;
    let [(_, delivery)] = &claimed[..] else { panic!("one job: {claimed:?}") };
    assert_eq!((delivery.id, delivery.attempts, delivery.round_start), (id, 2, 2));
    stage.record(claimed[0].0, delivery, Duration::ZERO, End::Succeeded).await;
    stage.assert_counts_agree().await;
    let attempts = stage.store.attempts(&stage.tenant, id, PageRequest::default()).await.unwrap();
    let numbers: Vec<_> = attempts.items.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [3, 2, 1], "the attempts of all rounds stay");
    assert_eq!(stage.jobs().await, 0);
}

async fn keeping_the_attempts_allows_one_more(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let id = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    stage.attempt(End::RetryIn(Duration::from_secs(1))).await;
    stage.attempt(USED_UP).await;
    assert_eq!(stage.requeue(AttemptBudget::Keep, 10).await.deliveries, 1);
    let claimed = stage.claim().await;
    // It has used up its two attempts, so the worker makes this one the last.
    assert_eq!((claimed[0].1.attempts, claimed[0].1.round_start), (2, 0));
    stage.record(claimed[0].0, &claimed[0].1, Duration::ZERO, USED_UP).await;
    assert_eq!(
        (stage.delivery(id).await.status, stage.delivery(id).await.attempts),
        (DeliveryStatus::Dead, 3)
    );
    stage.assert_counts_agree().await;
}

async fn dead_letters_are_requeued_oldest_first_up_to_the_limit(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let dead = stage.bury(subscriber, 1_203).await;
    stage.assert_counts_agree().await;

    assert_eq!(
        stage.requeue(AttemptBudget::FromZero, 0).await,
        Requeued { deliveries: 0, more: true, without_payload: 0 }
    );
    assert_eq!(
        stage.requeue(AttemptBudget::FromZero, 3).await,
        Requeued { deliveries: 3, more: true, without_payload: 0 }
    );
    let page = stage
        .store
        .dead_letters(&stage.tenant, &DeadFilter::default(), PageRequest::default())
        .await
        .unwrap();
    assert_eq!(page.items[0].id, dead[1_202], "the newest is still dead");
    for id in &dead[..3] {
        assert_eq!(stage.delivery(*id).await.status, DeliveryStatus::Pending);
    }
    // More than one batch, and then exactly the rest.
    assert_eq!(
        stage.requeue(AttemptBudget::FromZero, 700).await,
        Requeued { deliveries: 700, more: true, without_payload: 0 }
    );
    stage.assert_counts_agree().await;
    assert_eq!(
        stage.requeue(AttemptBudget::FromZero, 500).await,
        Requeued { deliveries: 500, more: false, without_payload: 0 }
    );
    assert_eq!(stage.requeue(AttemptBudget::FromZero, 500).await, Requeued::default());
    assert_eq!(stage.jobs().await, 1_203);
    stage.assert_counts_agree().await;
}

async fn a_delivery_that_dies_again_during_the_call_is_left_out(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let dead = stage.bury(subscriber, 3).await;
    // As if the first batch of the call had requeued it, and it had died again before the last batch.
    let sql = "UPDATE deliveries SET died_at = died_at + 3600000 WHERE id = $1";
    let connection = stage.database.connection();
    let statement =
        Statement::from_sql_and_values(connection.get_database_backend(), sql, [dead[0].uuid().into()]);
    connection.execute_raw(statement).await.unwrap();
    assert_eq!(
        stage.requeue(AttemptBudget::Keep, 10).await,
        Requeued { deliveries: 2, more: false, without_payload: 0 }
    );
    assert_eq!(stage.delivery(dead[0]).await.status, DeliveryStatus::Dead);
    // The next call requeues it.
    stage.database.advance(Duration::from_hours(2)).await;
    assert_eq!(
        stage.requeue(AttemptBudget::Keep, 10).await,
        Requeued { deliveries: 1, more: false, without_payload: 0 }
    );
}

async fn dead_letters_of_inactive_subscribers_are_not_requeued(stage: &Stage) {
    let inactive = stage.subscribe(&stage.tenant, true).await;
    let active = stage.subscribe(&stage.tenant, true).await;
    let of_inactive = stage.bury(inactive, 2).await;
    let of_active = stage.bury(active, 1).await;
    stage.set_active(inactive, false).await;
    assert_eq!(
        stage.requeue(AttemptBudget::FromZero, 10).await,
        Requeued { deliveries: 1, more: false, without_payload: 0 }
    );
    assert_eq!(stage.delivery(of_active[0]).await.status, DeliveryStatus::Pending);
    for id in &of_inactive {
        assert_eq!(
            stage.delivery(*id).await.status,
            DeliveryStatus::Dead,
            "it stays dead while its subscriber is inactive"
        );
    }
    stage.set_active(inactive, true).await;
    assert_eq!(
        stage.requeue(AttemptBudget::FromZero, 10).await,
        Requeued { deliveries: 2, more: false, without_payload: 0 }
    );
    stage.assert_counts_agree().await;
}

async fn an_ended_delivery_can_be_retried(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    for (end, status) in [
        (End::Succeeded, DeliveryStatus::Succeeded),
        (USED_UP, DeliveryStatus::Dead),
        (End::Cancelled, DeliveryStatus::Cancelled),
    ] {
        let id = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
        let before = stage.delivery(id).await;
        let retry = async || stage.store.retry(&stage.tenant, id).await.unwrap();
        assert!(matches!(retry().await, Changed::Not(DeliveryStatus::Pending)));
        stage.attempt(End::RetryIn(Duration::from_secs(1))).await;
        assert!(
            matches!(retry().await, Changed::Not(DeliveryStatus::Pending)),
            "its next attempt is still due"
        );
        stage.attempt(end).await;
        assert_eq!(stage.delivery(id).await.status, status);

        let Changed::Done(now) = retry().await else { panic!("{status} is retried") };
        assert_eq!((now.status, now.ended_at, now.next_attempt_at), (DeliveryStatus::Pending, None, None));
        assert_eq!(now.event_id, before.event_id, "the webhook-id stays the same");
        stage.assert_counts_agree().await;
        let claimed = stage.claim().await;
        assert_eq!(
            (claimed[0].1.attempts, claimed[0].1.round_start),
            (2, 2),
            "the whole schedule starts again"
        );
        stage.record(claimed[0].0, &claimed[0].1, Duration::ZERO, End::Succeeded).await;
        stage.assert_counts_agree().await;
    }
    let unknown = stage.store.ids().next();
    assert!(matches!(stage.store.retry(&stage.tenant, unknown).await.unwrap(), Changed::Missing));
    assert_eq!(stage.jobs().await, 0);
}

async fn only_dead_letters_are_deleted(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let id = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    let delete = async |tenant: &TenantId| stage.store.delete_dead_letter(tenant, id).await.unwrap();
    assert_eq!(delete(&stage.tenant).await, Deleted::Not(DeliveryStatus::Pending));
    stage.attempt(End::Succeeded).await;
    assert_eq!(delete(&stage.tenant).await, Deleted::Not(DeliveryStatus::Succeeded));
    stage.store.retry(&stage.tenant, id).await.unwrap();
    stage.attempt(USED_UP).await;
    assert_eq!(delete(&"other".parse().unwrap()).await, Deleted::Missing);
    let counted = stage.stats().await.deliveries;
    assert_eq!(delete(&stage.tenant).await, Deleted::Done);
    assert_eq!(delete(&stage.tenant).await, Deleted::Missing);
    assert!(stage.store.delivery(&stage.tenant, id).await.unwrap().is_none());
    assert_eq!(stage.count("SELECT count(*) AS n FROM attempts").await, 0);
    assert_eq!(stage.stats().await.deliveries, counted, "statistics still count it");
    assert!(matches!(stage.store.retry(&stage.tenant, id).await.unwrap(), Changed::Missing));
}

async fn a_dead_letter_with_many_attempts_is_deleted(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let id = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    stage.attempt(USED_UP).await;
    let sql = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < 2500) \
        INSERT INTO attempts (id, tenant, delivery_id, number, started_at, duration_us, response_truncated) \
        SELECT {}, tenant, delivery_id, n, started_at, duration_us, false FROM attempts, numbers",
        copied_id(stage)
    );
    stage.database.connection().execute_unprepared(&sql).await.unwrap();
    assert_eq!(stage.store.delete_dead_letter(&stage.tenant, id).await.unwrap(), Deleted::Done);
    assert_eq!(stage.count("SELECT count(*) AS n FROM attempts").await, 0);
}

/// An id that begins with the time of a row's id, for a copy of it.
fn copied_id(stage: &Stage) -> &'static str {
    match stage.store.database().dialect() {
        Dialect::Postgres => {
            "(substr(replace(id::text, '-', ''), 1, 12) || '7' \
                || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid"
        }
        Dialect::Sqlite => "unhex(substr(hex(id), 1, 12) || '7' || substr(hex(randomblob(16)), 14))",
    }
}

async fn dead_letters_behind_many_others_are_requeued(stage: &Stage) {
    let off = stage.subscribe(&stage.tenant, true).await;
    let on = stage.subscribe(&stage.tenant, true).await;
    stage.bury(off, 1).await;
    // More than one statement examines, and older than the others by id and by death.
    let sql = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < 20500) \
        INSERT INTO deliveries (id, tenant, event_type, subscriber_id, status, attempts, round_start, \
            dead_reason, created_at, died_at, ended_at) \
        SELECT {}, tenant, event_type, subscriber_id, status, attempts, round_start, \
            dead_reason, created_at, died_at - n, ended_at FROM deliveries, numbers",
        copied_id(stage)
    );
    stage.database.connection().execute_unprepared(&sql).await.unwrap();
    stage.set_active(off, false).await;
    stage.bury(on, 3).await;
    let requeue = async |filter: DeadFilter, most| {
        let requeued = stage.store.requeue(&stage.tenant, &filter, AttemptBudget::FromZero, most).await;
        requeued.map(|requeued| (requeued.deliveries, requeued.more)).unwrap()
    };
    assert_eq!(requeue(DeadFilter::default(), 2).await, (2, true));
    assert_eq!(requeue(DeadFilter::default(), 1).await, (1, false));
    assert_eq!(requeue(DeadFilter::default(), 9).await, (0, false));

    // Of one subscriber, whose last death alone has the reason.
    stage.set_active(off, true).await;
    let last = "UPDATE deliveries SET dead_reason = 1 WHERE died_at = (SELECT max(died_at) FROM deliveries)";
    stage.database.connection().execute_unprepared(last).await.unwrap();
    let reason = DeadReason::from_code(1);
    let of_off = DeadFilter { subscriber: Some(off), reason, ..DeadFilter::default() };
    assert_eq!(requeue(of_off.clone(), 9).await, (1, false));
    assert_eq!(requeue(of_off.clone(), 9).await, (0, false));
    let all_of_off = DeadFilter { reason: None, ..of_off };
    assert_eq!(requeue(all_of_off, 1_200).await, (1_200, true));
}

async fn only_pending_deliveries_are_cancelled(stage: &Stage) {
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let id = stage.dispatch(&stage.tenant, subscriber, "a", stage.now()).await;
    stage.attempt(End::RetryIn(Duration::from_secs(1))).await;
    let cancel = async |tenant: &TenantId| stage.store.cancel(tenant, id).await.unwrap();
    assert!(matches!(cancel(&"other".parse().unwrap()).await, Changed::Missing));
    let Changed::Done(cancelled) = cancel(&stage.tenant).await else { panic!("it is pending") };
    assert_eq!((cancelled.status, cancelled.next_attempt_at), (DeliveryStatus::Cancelled, None));
    assert!(cancelled.ended_at.is_some());
    assert!(matches!(cancel(&stage.tenant).await, Changed::Not(DeliveryStatus::Cancelled)));
    stage.assert_counts_agree().await;

    // Its job is gone; one that was running would still exist. A retry gives it a second job, and the first one has no
    // effect.
    assert_eq!(stage.jobs().await, 0);
    assert!(matches!(stage.store.retry(&stage.tenant, id).await.unwrap(), Changed::Done(_)));
    let token = LeaseToken(stage.store.ids().next_uuid());
    let first = stage.store.queue().claim(&Claim::new(token, 10, Duration::from_mins(1))).await.unwrap();
    assert!(matches!(cancel(&stage.tenant).await, Changed::Done(_)));
    assert!(matches!(stage.store.retry(&stage.tenant, id).await.unwrap(), Changed::Done(_)));
    stage.release(first.jobs[0].lease).await;
    assert_eq!(stage.jobs().await, 2);
    let token = LeaseToken(stage.store.ids().next_uuid());
    let claimed = stage.store.queue().claim(&Claim::new(token, 10, Duration::from_mins(1))).await.unwrap();
    let loaded = stage.store.load(&claimed.jobs).await.unwrap();
    let deliveries: Vec<&DeliveryRef> = loaded
        .iter()
        .filter_map(|loaded| match loaded {
            Loaded::Deliver(work) => Some(&work.delivery),
            Loaded::Nothing => None,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((loaded.len(), deliveries.len(), deliveries[0].id), (2, 1, id));
    stage.assert_counts_agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requeues_requeue_each_dead_letter_once() {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    let dead = stage.bury(subscriber, 2_345).await;
    let any = DeadFilter::default();
    let by_id = DeadFilter { ids: Some(dead[..1_000].to_vec()), ..any.clone() };
    let requeue = |filter| stage.store.requeue(&stage.tenant, filter, AttemptBudget::FromZero, 10_000);
    let (one, two, three) = tokio::try_join!(requeue(&any), requeue(&any), requeue(&by_id)).unwrap();
    assert_eq!(one.deliveries + two.deliveries + three.deliveries, 2_345, "{one:?} {two:?} {three:?}");
    assert!(!one.more && !two.more && !three.more, "{one:?} {two:?} {three:?}");
    assert_eq!(stage.jobs().await, 2_345);
    let own = "SELECT count(*) AS n FROM deliveries JOIN jobs ON jobs.id = deliveries.job_id \
        AND jobs.subject = deliveries.id WHERE deliveries.status = 0";
    assert_eq!(stage.count(own).await, 2_345, "each delivery has its own job");
    stage.assert_counts_agree().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_concurrent_retries_requeues_and_deletes_succeeds() {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    for (round, id) in stage.bury(subscriber, 40).await.into_iter().enumerate() {
        let (tenant, store) = (&stage.tenant, &stage.store);
        let filter = DeadFilter { ids: Some(vec![id]), ..DeadFilter::default() };
        let (one, two, requeued, deleted) = tokio::try_join!(
            store.retry(tenant, id),
            store.retry(tenant, id),
            store.requeue(tenant, &filter, AttemptBudget::FromZero, 10),
            store.delete_dead_letter(tenant, id),
        )
        .unwrap();
        let done = [&one, &two].iter().filter(|changed| matches!(changed, Changed::Done(_))).count() as u64
            + requeued.deliveries
            + u64::from(deleted == Deleted::Done);
        assert_eq!(done, 1, "{round}: {one:?} {two:?} {requeued:?} {deleted:?}");
    }
    let pending = stage.count("SELECT count(*) AS n FROM deliveries WHERE status = 0").await;
    assert_eq!(stage.jobs().await, pending);
    assert_eq!(stage.count("SELECT count(*) AS n FROM deliveries WHERE status <> 0").await, 0);
}

impl Stage {
    async fn requeue(&self, attempts: AttemptBudget, most: u64) -> Requeued {
        self.store.requeue(&self.tenant, &DeadFilter::default(), attempts, most).await.unwrap()
    }

    async fn delivery(&self, id: DeliveryId) -> postrider_store::deliveries::Delivery {
        self.store.delivery(&self.tenant, id).await.unwrap().expect("it exists")
    }

    /// Creates deliveries that are dead after one attempt, oldest first.
    pub(super) async fn bury(&self, subscriber: SubscriberId, count: usize) -> Vec<DeliveryId> {
        let ids = self.store.ids();
        let (event_id, at): (EventId, Timestamp) = (ids.next(), self.now());
        let event = EventRow {
            id: event_id,
            tenant: self.tenant.clone(),
            event_type: "a".parse().unwrap(),
            agent_id: AgentId::default(),
            envelope: "{}".into(),
            subscribers_found: 1,
            dispatched_at: at,
            channels: None,
            metadata: Metadata::default(),
            key: None,
        };
        let rows: Vec<_> = (0..count)
            .map(|number| DeliveryRow {
                id: event_id.delivery(number + 1).unwrap(),
                tenant: self.tenant.clone(),
                event_type: "a".parse().unwrap(),
                subscriber,
                job: ids.next(),
                created_at: at,
            })
            .collect();
        let transaction = self.store.database().begin().await.unwrap();
        let mut writes = Writes::new();
        self.store.insert_with(vec![event], &rows, &mut writes);
        writes.execute(&transaction).await.unwrap();
        let sql = "UPDATE deliveries SET status = 2, attempts = 1, dead_reason = 0, died_at = created_at, \
            ended_at = created_at WHERE subscriber_id = $1 AND status = 0";
        let backend = transaction.get_database_backend();
        let ids = [subscriber.uuid().into(), Uuid::nil().into()];
        let statement = Statement::from_sql_and_values(backend, sql, ids[..1].to_vec());
        transaction.execute_raw(statement).await.unwrap();
        transaction.commit().await.unwrap();
        self.store.fold_statistics().await.unwrap();
        let sql = format!(
            "UPDATE rollups SET dead = dead + {count}, spent = spent + {count} \
             WHERE span = 3 AND start = {} AND subscriber_id IN ($1, $2)",
            at.millis() / 86_400_000 * 1440
        );
        let statement = Statement::from_sql_and_values(backend, sql, ids);
        self.database.connection().execute_raw(statement).await.unwrap();
        rows.into_iter().map(|row| row.id).collect()
    }

    async fn set_active(&self, subscriber: SubscriberId, active: bool) {
        let change = SubscriberChange { active: Some(active), ..SubscriberChange::default() };
        self.store.change_subscriber(&self.tenant, subscriber, change).await.unwrap().expect("it exists");
    }

    async fn jobs(&self) -> u64 {
        self.count("SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM scheduled_jobs) AS n").await
    }

    pub(super) async fn count(&self, sql: &str) -> u64 {
        let connection = self.database.connection();
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        let row = connection.query_one_raw(statement).await.unwrap().unwrap();
        u64::try_from(row.try_get::<i64>("", "n").unwrap()).unwrap()
    }

    /// Checks that the counts agree with the deliveries.
    async fn assert_counts_agree(&self) {
        let counted = self.stats().await.deliveries;
        let of = async |status: u8| {
            self.count(&format!(
                "SELECT count(*) AS n FROM deliveries WHERE tenant = 'default' AND status = {status}"
            ))
            .await
        };
        let stored = [of(0).await, of(1).await, of(2).await, of(3).await];
        assert_eq!([counted.pending, counted.succeeded, counted.dead, counted.cancelled], stored);
        let spent = self
            .count(
                "SELECT CAST(coalesce(sum(attempts), 0) AS bigint) AS n FROM deliveries \
                 WHERE tenant = 'default' AND status <> 0",
            )
            .await;
        self.store.fold_statistics().await.unwrap();
        let counted_attempts = self
            .count(
                "SELECT CAST(coalesce(sum(spent), 0) AS bigint) AS n FROM rollups \
                 WHERE tenant = 'default' AND span = 3 AND event_type = '' \
                    AND subscriber_id IN (SELECT subscriber_id FROM deliveries)",
            )
            .await;
        assert_eq!(counted_attempts, spent, "the attempts of ended deliveries");
    }
}
