//! What each hot statement of the store costs must not grow with its tables, in any state that they go through.
//!
//! The statements of the queue alone are checked in `crates/queue/tests/it/plans.rs`.

use std::time::Duration;

use postrider_core::Metadata;
use postrider_core::id::TailPlaceId;
use postrider_core::replay::ReplayMode;
use postrider_core::{
    AgentId, Channels, DeadReason, DeliveryStatus, ErrorKind, EventId, EventType, SubscriberId, TenantId,
    Verdict, id,
};
use postrider_database::{Guarded, Writes};
use postrider_queue::{Claim, LaneId, Lease, LeaseToken, NewJob};
use postrider_store::attempt::{Attempt, DeliveryRef, End, Outcome, Response};
use postrider_store::dead_letters::{AttemptBudget, DeadFilter};
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::fan_out::{FanOutRow, FannedOut};
use postrider_store::health::BreakerPolicy;
use postrider_store::intake::{Audience, Crowd, DeliveryRow, EventRow, Everyone, KeyRow};
use postrider_store::loading::Loaded;
use postrider_store::replays::{ReplayChange, Started};
use postrider_store::retention::{Age, Retention};
use postrider_store::stats::StatsFilter;
use postrider_store::subscribers::{SubscriberChange, SubscriberFilter};
use postrider_store::tail::TailFrom;
use postrider_store::tenants::NewTenant;
use postrider_store::{PageRequest, Store};
use postrider_testkit::TestDatabase;
use postrider_testkit::explain::Plans;
use sea_orm::ConnectionTrait as _;

use crate::stage::Stage;

/// Nothing but the test may analyse or vacuum: the states are states of what the planner knows, too.
const BY_HAND: &str = "DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relkind = 'r' AND (relispartition OR relname IN ('jobs', 'lanes', 'rollups', 'rollup_deltas', 'health')) LOOP
        EXECUTE format('ALTER TABLE %I SET (autovacuum_enabled = off)', name);
    END LOOP;
END $$";

/// Partitions for three days, and ids of the first two of them, random or of these numbers.
const PARTITIONS: &str = "CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql STABLE AS
        $$ SELECT (extract(epoch FROM now()) * 1000)::bigint $$;
    SELECT postrider_add_partition(now_ms() + day * 86400000, 86400000) FROM generate_series(-1, 1) AS day;
    CREATE FUNCTION id_of(n int) RETURNS uuid LANGUAGE sql VOLATILE AS $$
        SELECT (lpad(to_hex(now_ms() - n % 2 * 86400000), 12, '0') || '7'
            || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid $$";

/// The states, each reached from the one before.
const STATES: [(&str, &str); 5] = [
    ("empty", ""),
    (
        "analysed while empty",
        "DELETE FROM events; DELETE FROM deliveries; DELETE FROM attempts; DELETE FROM rollups; \
            DELETE FROM rollup_deltas; VACUUM; ANALYZE",
    ),
    ("full, with plans for few rows", MANY),
    (
        "drained and full of dead rows",
        "ANALYZE; DELETE FROM jobs; DELETE FROM scheduled_jobs; DELETE FROM events; DELETE FROM deliveries; DELETE FROM attempts; DELETE FROM health; DELETE FROM rollups",
    ),
    ("a million jobs in ten thousand lanes", MANY),
];

/// None of these jobs is ready, so that claims get those of the test.
const MANY: &str = "INSERT INTO lanes (id, owner, ordered, rate_next_us, running, paused_until, probing)
        SELECT lpad(to_hex(n), 32, '0')::uuid, 'default', false, 0, 0, 0, false FROM generate_series(1, 10000) AS n
        ON CONFLICT (id) DO NOTHING;
    INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues, lease_token)
        SELECT gen_random_uuid(), lpad(to_hex(n % 10000 + 1), 32, '0')::uuid, 'default', gen_random_uuid(),
            0, 9000000000000, 0, 0, gen_random_uuid() FROM generate_series(1, {jobs}) AS n;
    INSERT INTO scheduled_jobs (id, lane, owner, subject, priority, available_at, claims, rescues)
        SELECT gen_random_uuid(), lpad(to_hex(n % 10000 + 1), 32, '0')::uuid, 'default', gen_random_uuid(),
            0, 9000000000000, 0, 0 FROM generate_series(1, {jobs} / 10) AS n;
    INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at)
        SELECT id_of(n), 'default', 'order.created', 'agent', '', 1, n FROM generate_series(1, 50000) AS n;
    INSERT INTO deliveries (id, tenant, subscriber_id, event_type, status, attempts, round_start, job_id, created_at)
        SELECT id_of(n), 'default', lpad(to_hex(n % 10000 + 1), 32, '0')::uuid,
            'order.created', n % 4, 0, 0, gen_random_uuid(), n FROM generate_series(1, 50000) AS n;
    INSERT INTO attempts (id, tenant, delivery_id, number, started_at, duration_us, response_truncated)
        SELECT gen_random_uuid(), 'default', id_of(n), 1, n, n, false FROM generate_series(1, 50000) AS n;
    INSERT INTO health (subscriber_id, failures, first_failed_at, openings, opened_at, open_until)
        SELECT gen_random_uuid(), 10, 1, 1, 1, n * 1000000000::bigint FROM generate_series(1, 10000) AS n;
    INSERT INTO rollups (tenant, subscriber_id, event_type, span, start, created, succeeded, dead, cancelled, spent, attempts, counts)
        SELECT 'default', gen_random_uuid(), '', 1 + n % 4, 9000000, 0, 0, 0, 0, 0, 0, '' FROM generate_series(1, 50000) AS n;
    INSERT INTO rollup_deltas (tenant, entries, counts)
        SELECT 'other' || n, 0, '\\x01000000'::bytea FROM generate_series(1, 3000) AS n;
    INSERT INTO subscribers (id, tenant, url, description, secret, policy, active, channels, created_at, updated_at)
        SELECT lpad(to_hex(n + 1000000), 32, '0')::uuid, 'default', 'https://example.com/', '', '', '{}', true, 'c' || n, 0, 0
        FROM generate_series(1, 10000) AS n ON CONFLICT DO NOTHING;
    INSERT INTO channel_subscriptions (tenant, channel, pattern, subscriber_id)
        SELECT 'default', 'c' || n, '*', lpad(to_hex(n + 1000000), 32, '0')::uuid
        FROM generate_series(1, 10000) AS n ON CONFLICT DO NOTHING";

#[tokio::test]
async fn no_hot_statement_scans_or_sorts_a_large_table() {
    let test = Test::new().await;
    let mut faults = Vec::new();
    for (place, (state, reached_by)) in STATES.into_iter().enumerate() {
        let jobs = if place + 1 == STATES.len() { "1000000" } else { "50000" };
        // One statement at a time: VACUUM runs in no transaction.
        for sql in reached_by.replace("{jobs}", jobs).split(';').filter(|sql| !sql.trim().is_empty()) {
            test.stage.database.connection().execute_unprepared(sql).await.unwrap();
        }
        if place + 1 == STATES.len() {
            test.stage.database.connection().execute_unprepared("ANALYZE").await.unwrap();
        }
        for tables in [Named::Partition, Named::WholeTables] {
            faults.extend(test.faults(state, tables).await);
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn a_missing_index_is_noticed() {
    let test = Test::new().await;
    let sql = "ALTER TABLE deliveries DROP CONSTRAINT deliveries_pkey";
    test.stage.database.connection().execute_unprepared(sql).await.unwrap();
    for tables in [Named::Partition, Named::WholeTables] {
        let faults = test.faults("without deliveries_pkey", tables).await.join("\n");
        assert!(faults.contains("load: a s") && faults.contains("record: a s"), "{faults}");
    }
}

/// What the statements name: the partition that has their rows, or, as if they had rows in several, the whole tables.
#[derive(Clone, Copy, Debug)]
enum Named {
    Partition,
    WholeTables,
}

struct Test {
    stage: Stage,
    plans: Plans,
}

impl Test {
    async fn new() -> Self {
        let database = TestDatabase::postgres().await;
        database.connection().execute_unprepared(PARTITIONS).await.unwrap();
        database.connection().execute_unprepared(BY_HAND).await.unwrap();
        let plans = Plans::of(&database).await;
        Self { stage: Stage::of(database).await, plans }
    }

    /// Runs the hot statements of the store over new connections, and returns what is wrong with their plans.
    #[allow(clippy::too_many_lines, reason = "one part for each statement")]
    async fn faults(&self, state: &str, tables: Named) -> Vec<String> {
        let store = self.stage.another_store().await;
        if let Named::Partition = tables {
            store.keep_partitions().await.unwrap();
        }
        let subscriber = self.stage.subscribe(&self.stage.tenant, true).await;
        let tenant = &self.stage.tenant;
        self.plans.take();
        let mut faults = Vec::new();
        let mut check = |statement: &str| {
            let plans = self.plans.take();
            assert!(!plans.is_empty(), "{state}: {statement}: no plan was reported");
            for plan in plans {
                for fault in plan.faults() {
                    faults.push(format!("{state}: {tables:?}: {statement}: {fault}\n{plan}"));
                }
            }
        };

        let asked = [(tenant.clone(), "order.created".parse::<EventType>().unwrap())];
        let found = store.subscribers_of(store.database().connection(), &asked).await.unwrap();
        let found: Vec<_> = found.into_iter().map(Option::unwrap).collect();
        check("subscribers");
        let channels: Channels = "c1 c2".parse().unwrap();
        let in_channels = [(tenant.clone(), asked[0].1.clone(), channels.clone())];
        let own = store.subscribers_in_channels(store.database().connection(), &in_channels).await.unwrap();
        assert!(own[0].as_ref().unwrap().len() <= 2, "{state}: each of many has a channel of its own");
        check("subscribers in channels");
        let connection = store.database().connection();
        store.audience_of(connection, tenant, &asked[0].1, Some(&channels)).await.unwrap();
        check("audience in channels");
        let deliveries = rows(&store, tenant, subscriber);
        let mut guarded = Guarded::new(insert(&store, tenant, &deliveries));
        store.expect_subscribers(&asked, &found, &mut guarded);
        assert!(guarded.execute(store.database().connection()).await.unwrap());
        check("dispatch");
        let key = [key(&store, tenant, deliveries[0].id.event())];
        assert!(store.take_keys(store.database().connection(), &key).await.unwrap()[0].is_none());
        assert!(store.take_keys(store.database().connection(), &key).await.unwrap()[0].is_some());
        check("keys");

        let claim = Claim::new(LeaseToken(store.ids().next_uuid()), 100, Duration::from_mins(1));
        let jobs = store.queue().claim(&claim).await.unwrap().jobs;
        self.plans.take();
        let loaded = store.load(&jobs).await.unwrap();
        check("load");
        let claimed: Vec<_> =
            jobs.iter().map(|job| job.lease).zip(loaded.into_iter().map(delivery_of)).collect();
        assert_eq!(claimed.len(), deliveries.len());
        let (first, second) = claimed.split_at(claimed.len() / 2);
        let outcomes: Vec<_> = first.iter().map(|held| outcome(held, End::Succeeded)).collect();
        assert!(store.record_fast(&outcomes.iter().collect::<Vec<_>>()).await.unwrap());
        check("record on the fast path");
        let ends = [End::Succeeded, End::RetryIn(Duration::from_mins(1))].into_iter().cycle();
        let outcomes: Vec<_> = second.iter().zip(ends).map(|(held, end)| outcome(held, end)).collect();
        let recorded = store.record(&outcomes, &[], &BreakerPolicy::default()).await.unwrap();
        assert!(recorded.lost.is_empty());
        check("record");
        for held in [&first[0], &second[0]] {
            let made = outcome(held, End::Succeeded).attempt.unwrap();
            assert!(store.has_attempt(tenant, held.1.id, &made).await.unwrap());
        }
        check("look up an attempt");

        let again = insert(&store, tenant, &rows(&store, tenant, subscriber));
        again.execute(store.database().connection()).await.unwrap();
        let inactive = SubscriberChange { active: Some(false), ..SubscriberChange::default() };
        store.change_subscriber(tenant, subscriber, inactive).await.unwrap().unwrap();
        self.plans.take();
        let drained = store.drain(None, 100).await.unwrap().unwrap();
        assert!(drained.deliveries.values().sum::<u64>() > 8);
        check("drain");

        let other = self.stage.subscribe(tenant, true).await;
        self.plans.take();
        let audience =
            store.audience_of(store.database().connection(), tenant, &asked[0].1, None).await.unwrap();
        assert!(
            matches!(audience, Audience::Few(few) if few.iter().any(|matched| matched.subscriber == other))
        );
        check("audience");
        let events: Vec<_> = rows(&store, tenant, other);
        let promise = |delivery: &DeliveryRow| FanOutRow {
            event_id: delivery.id.event(),
            tenant: tenant.clone(),
            event_type: delivery.event_type.clone(),
            dispatched_at: delivery.created_at,
            channels: None,
            crowd: Crowd { size: 1, last: other },
            trace: None,
        };
        let mut writes = Writes::new();
        store.promise_with(&events.iter().map(promise).collect::<Vec<_>>(), &mut writes);
        writes.execute(store.database().connection()).await.unwrap();
        check("promise");
        let step = store.fan_out(None, 100, &Everyone).await.unwrap();
        assert!(matches!(step, FannedOut::Step(step) if step.jobs > 0 && step.complete));
        assert!(!store.fan_outs_wait(Duration::from_mins(1)).await.unwrap());
        check("fan out");
        for outcome in &outcomes {
            assert!(store.erase_payload(tenant, outcome.delivery.event_id).await.unwrap());
        }
        while store.erase_responses(100).await.unwrap().is_some() {}
        check("erase");
        let gone: TenantId = "gone".parse().unwrap();
        assert!(store.register_tenant(&NewTenant::named(gone.clone())).await.unwrap());
        store.tenants(PageRequest { limit: 2, before: None }).await.unwrap();
        self.stage.subscribe(&gone, true).await;
        store.delete_tenant(&gone).await.unwrap();
        store.closed_tenants(10).await.unwrap();
        self.plans.take();
        self.stage.database.advance(Duration::from_mins(1)).await;
        self.plans.take();
        while store.delete_tenant_data().await.unwrap().is_some() {}
        check("delete a tenant");
        // The next state's claims get jobs of its own.
        for sql in [
            "DELETE FROM fan_outs",
            "DELETE FROM jobs WHERE lease_token IS NULL",
            "DELETE FROM lanes WHERE owner = 'gone'",
        ] {
            self.stage.database.connection().execute_unprepared(sql).await.unwrap();
        }
        self.plans.take();
        for filter in [
            DeadFilter::default(),
            DeadFilter { subscriber: Some(subscriber), ..DeadFilter::default() },
            DeadFilter { event_type: Some("order.created".parse().unwrap()), ..DeadFilter::default() },
        ] {
            store.requeue(tenant, &filter, AttemptBudget::FromZero, 10).await.unwrap();
        }
        check("requeue");
        self.replay(&store, other).await;
        check("replay");
        let after = TailPlaceId::first_at(self.stage.now());
        store.watch_tail(std::slice::from_ref(tenant)).await.unwrap();
        store.read_tail(TailFrom { tenant, after, events: true }).await.unwrap();
        store.remove_old_tail().await.unwrap();
        check("tail");
        self.stage.database.connection().execute_unprepared("DELETE FROM tail_watches").await.unwrap();
        let made = "DELETE FROM jobs WHERE lease_token IS NULL";
        self.stage.database.connection().execute_unprepared(made).await.unwrap();
        self.plans.take();
        assert_eq!(store.remove_old_keys(Duration::from_hours(24)).await.unwrap(), 0);
        check("remove keys");

        let filters = [None, Some(subscriber)].map(|subscriber| StatsFilter {
            subscriber,
            event_type: None,
            since: Some(store.ids().clock().now() - Duration::from_hours(25)),
        });
        for filter in [StatsFilter::default()].iter().chain(&filters) {
            store.stats(tenant, filter).await.unwrap();
        }
        store.breakers().await.unwrap();
        check("statistics");
        looks(&store, tenant, deliveries[0].id.event()).await;
        check("lists and explanations");
        let due = "UPDATE health SET notify_at = 1 WHERE subscriber_id IN (SELECT subscriber_id FROM health LIMIT 3);
            UPDATE subscribers SET auth_expires_at = 1, auth_warn_at = 1 WHERE id IN (SELECT id FROM subscribers LIMIT 3)";
        self.stage.database.connection().execute_unprepared(due).await.unwrap();
        self.plans.take();
        store.raise_failing(&BreakerPolicy::default(), true, 10).await.unwrap();
        store.raise_certificates(true, 10).await.unwrap();
        for notice in store.take_notices(true, 10, Duration::ZERO).await.unwrap() {
            store.put_notice_off(notice.id, Duration::ZERO).await.unwrap();
            store.remove_notice(notice.id).await.unwrap();
        }
        store.remove_stale_notices().await.unwrap();
        store.subscribers_by_name(tenant, &"subscriber.failing".parse().unwrap(), 10).await.unwrap();
        check("notify owners");
        store.statistics_are_due().await.unwrap();
        assert!(store.fold_statistics().await.unwrap().deltas > 2);
        check("fold statistics");
        let old = "INSERT INTO rollups (tenant, subscriber_id, event_type, span, start, created, succeeded, dead, \
                cancelled, spent, attempts, counts)
            SELECT 'default', gen_random_uuid(), '', 1 + n % 4, n, 0, 0, 0, 0, 0, 0, '' FROM generate_series(1, 40) AS n";
        self.stage.database.connection().execute_unprepared(old).await.unwrap();
        self.plans.take();
        store.remove_old_statistics().await.unwrap();
        check("remove statistics");
        store.database().close().await;
        faults
    }
}

/// Lists of deliveries and subscribers with filters, and what explains an event.
async fn looks(store: &Store, tenant: &TenantId, event: EventId) {
    let all = DeliveryFilter::default;
    let recently = store.ids().clock().now() - Duration::from_hours(1);
    for filter in [
        all(),
        DeliveryFilter { event_type: Some("order.*".parse().unwrap()), min_attempts: Some(1), ..all() },
        DeliveryFilter { response_status: Some(500..=599), since: Some(recently), ..all() },
        DeliveryFilter { error_kind: Some(ErrorKind::Status), until: Some(recently), ..all() },
        DeliveryFilter { status: Some(DeliveryStatus::Dead), dead_reason: Some(DeadReason::Gone), ..all() },
    ] {
        store.deliveries(tenant, &filter, PageRequest::default()).await.unwrap();
    }
    let everyone = SubscriberFilter::default;
    for filter in [
        SubscriberFilter { event_type: Some("order.created".parse().unwrap()), ..everyone() },
        SubscriberFilter { failing: Some(true), url: Some("hook".to_owned()), ..everyone() },
    ] {
        store.find_subscribers(tenant, &filter, PageRequest::default()).await.unwrap();
    }
    let page = store.subscribers(tenant, PageRequest::default()).await.unwrap().items;
    let ids: Vec<_> = page.iter().map(|subscriber| subscriber.id).collect();
    store.deliveries_to(tenant, event, &ids).await.unwrap();
    store.matching_then(&page, recently).await.unwrap();
    let year = Age::For(Duration::from_hours(9_000));
    let retention = Retention { history: year, payloads: year, dead: year };
    store.remove_old_versions(retention).await.unwrap();
}

impl Test {
    /// Takes steps of replays of each mode, of everything and of one subscriber.
    async fn replay(&self, store: &Store, subscriber: SubscriberId) {
        let tenant = &self.stage.tenant;
        let late = self.stage.subscribe(tenant, true).await;
        self.plans.take();
        for subscriber in [None, Some(subscriber), Some(late)] {
            for mode in [ReplayMode::Dead, ReplayMode::All, ReplayMode::Missed, ReplayMode::Cancel] {
                let since = Some(self.stage.now() - Duration::from_hours(1));
                let filter = DeliveryFilter { subscriber, since, ..DeliveryFilter::default() };
                let Started::Replay(replay) = store.start_replay(tenant, mode, &filter).await.unwrap() else {
                    panic!("too many replays");
                };
                for _ in 0..3 {
                    store.step_replay(tenant, replay.id, &Everyone).await.unwrap();
                }
                store.change_replay(tenant, replay.id, ReplayChange::Cancel).await.unwrap();
            }
        }
        store.replays(tenant, PageRequest::default()).await.unwrap();
        while store.clean_replays().await.unwrap() {}
    }
}

/// Deliveries of as many events to one subscriber.
fn rows(store: &Store, tenant: &TenantId, subscriber: SubscriberId) -> Vec<DeliveryRow> {
    let ids = store.ids();
    let row = |_| DeliveryRow {
        id: ids.next::<id::Event>().delivery(1).unwrap(),
        tenant: tenant.clone(),
        event_type: "order.created".parse().unwrap(),
        subscriber,
        job: ids.next(),
        created_at: ids.clock().now(),
    };
    (0..8).map(row).collect()
}

fn insert(store: &Store, tenant: &TenantId, deliveries: &[DeliveryRow]) -> Writes {
    let event = |delivery: &DeliveryRow| EventRow {
        id: delivery.id.event(),
        tenant: tenant.clone(),
        event_type: delivery.event_type.clone(),
        agent_id: AgentId::default(),
        envelope: "{}".into(),
        subscribers_found: 1,
        dispatched_at: delivery.created_at,
        channels: None,
        metadata: Metadata::default(),
        key: None,
    };
    let job = |delivery: &DeliveryRow| {
        let lane = LaneId(delivery.subscriber.uuid());
        NewJob::now(postrider_queue::JobId(delivery.job.uuid()), lane, "default", delivery.id.uuid())
    };
    let mut writes = Writes::new();
    store.insert_with(deliveries.iter().map(event).collect(), deliveries, &mut writes);
    store.queue().enqueue_with(&deliveries.iter().map(job).collect::<Vec<_>>(), &mut writes);
    writes
}

fn key(store: &Store, tenant: &TenantId, event_id: EventId) -> KeyRow {
    KeyRow {
        tenant: tenant.clone(),
        key: event_id.to_string(),
        request_hash: [0; 32],
        event_id,
        jobs: Vec::new(),
        created_at: store.ids().clock().now(),
    }
}

fn delivery_of(loaded: Loaded) -> DeliveryRef {
    match loaded {
        Loaded::Deliver(work) => work.delivery,
        other => panic!("{other:?}"),
    }
}

fn outcome((lease, delivery): &(Lease, DeliveryRef), end: End) -> Outcome {
    let (status, verdict) = match end {
        End::Succeeded => (204, Verdict::Success),
        _ => (500, Verdict::failure(ErrorKind::Status, "HTTP 500")),
    };
    let response = Response { status, headers: Vec::new(), body: "".into(), truncated: false };
    let attempt = Attempt {
        started_at: delivery.created_at,
        duration: Duration::from_millis(3),
        response: Some(response),
        verdict,
        exchange: None,
    };
    Outcome { lease: *lease, delivery: delivery.clone(), attempt: Some(attempt), end }
}
