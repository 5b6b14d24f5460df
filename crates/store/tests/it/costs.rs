//! What statistics cost: WAL and processor time of PostgreSQL for each delivery.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_core::Metadata;
use postrider_core::SubscriberId;
use postrider_database::Writes;
use postrider_queue::{Claim, LeaseToken, NewJob};
use postrider_store::attempt::{Attempt, End, Outcome, Response};
use postrider_store::intake::{DeliveryRow, EventRow};
use postrider_store::loading::Loaded;
use postrider_store::queue_ids::{lane_of, queued};
use postrider_testkit::TestDatabase;

use crate::stage::Stage;

const BATCH: u32 = 200;
const BATCHES: u32 = 120;

/// `cargo xtask test -- -p postrider-store --test it -- --ignored --nocapture cost_per_delivery`
#[tokio::test]
#[ignore = "takes a minute"]
async fn cost_per_delivery_with_ten_subscribers() {
    measure(10).await;
}

#[tokio::test]
#[ignore = "takes a minute"]
async fn cost_per_delivery_with_two_thousand_subscribers() {
    measure(2_000).await;
}

#[tokio::test]
#[ignore = "takes a minute"]
async fn cost_per_delivery_with_twenty_thousand_subscribers() {
    measure(20_000).await;
}

/// Dispatches, claims and records deliveries to all subscribers in turn, and folds what they counted. A first round fills
/// caches and makes rows.
async fn measure(subscribers: u32) {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    let mut ids = Vec::new();
    for _ in 0..subscribers {
        ids.push(stage.subscribe(&stage.tenant, true).await);
    }
    for round in 0..2 {
        let mut all = Costs::default();
        for batch in 0..BATCHES {
            let to: Vec<_> =
                (0..BATCH).map(|n| ids[((batch * BATCH + n) * 7 % subscribers) as usize]).collect();
            deliver(&stage, &to, &mut all).await;
        }
        all.add(&stage, "fold", async {
            _ = stage.store.fold_statistics().await.unwrap();
        })
        .await;
        if round == 1 {
            all.print(BATCH * BATCHES);
            let updates = "SELECT CAST(100 * sum(n_tup_hot_upd) / sum(n_tup_upd) AS bigint) AS n \
                FROM pg_stat_user_tables WHERE relname LIKE 'deliveries%'";
            println!("{} % of the updates of deliveries changed no index", stage.count(updates).await);
            let size = "SELECT CAST(sum(pg_total_relation_size(oid)) AS bigint) AS n FROM pg_class \
                WHERE relkind = 'r' AND relispartition AND relname ~ '^(deliveries|attempts)'";
            println!(
                "{} bytes on disk for each delivery",
                stage.count(size).await / u64::from(2 * BATCH * BATCHES)
            );
        }
    }
    let stats = stage.stats().await.deliveries;
    assert_eq!(stats.succeeded, 2 * u64::from(BATCH * BATCHES));
}

async fn deliver(stage: &Stage, to: &[SubscriberId], all: &mut Costs) {
    let (ids, at) = (stage.store.ids(), stage.now());
    stage.store.ensure_partition(stage.store.database().connection(), at).await.unwrap();
    let deliveries: Vec<_> = to
        .iter()
        .map(|subscriber| DeliveryRow {
            id: ids.next::<postrider_core::id::Event>().delivery(1).unwrap(),
            tenant: stage.tenant.clone(),
            event_type: "order.created".parse().unwrap(),
            subscriber: *subscriber,
            job: ids.next(),
            created_at: at,
        })
        .collect();
    let events = deliveries
        .iter()
        .map(|delivery| EventRow {
            id: delivery.id.event(),
            tenant: stage.tenant.clone(),
            event_type: delivery.event_type.clone(),
            agent_id: postrider_core::AgentId::default(),
            envelope: "x".repeat(500).into(),
            subscribers_found: 1,
            dispatched_at: at,
            channels: None,
            metadata: Metadata::default(),
            key: None,
        })
        .collect();
    let jobs: Vec<_> = deliveries
        .iter()
        .map(|one| {
            NewJob::now(queued(one.job), lane_of(one.subscriber), stage.tenant.as_str(), one.id.uuid())
        })
        .collect();
    let mut writes = Writes::new();
    stage.store.insert_with(events, &deliveries, &mut writes);
    stage.store.queue().enqueue_with(&jobs, &mut writes);
    all.add(stage, "dispatch", async { writes.execute(stage.store.database().connection()).await.unwrap() })
        .await;

    let mut jobs = Vec::new();
    all.add(stage, "claim", async {
        while jobs.len() < to.len() {
            let token = LeaseToken(ids.next_uuid());
            let claim = Claim::new(token, 200, Duration::from_mins(1));
            jobs.extend(stage.store.queue().claim(&claim).await.unwrap().jobs);
        }
    })
    .await;
    let mut loaded = Vec::new();
    all.add(stage, "load", async { loaded = stage.store.load(&jobs).await.unwrap() }).await;
    let outcomes: Vec<_> = jobs
        .iter()
        .zip(loaded)
        .map(|(job, loaded)| {
            let Loaded::Deliver(work) = loaded else { panic!("{loaded:?}") };
            let response =
                Response { status: 200, headers: headers(), body: "{\"ok\":true}".into(), truncated: false };
            let attempt = Attempt {
                started_at: work.delivery.created_at + Duration::from_millis(5),
                duration: Duration::from_millis(3),
                response: Some(response),
                verdict: postrider_core::Verdict::Success,
                exchange: None,
            };
            Outcome { lease: job.lease, delivery: work.delivery, attempt: Some(attempt), end: End::Succeeded }
        })
        .collect();
    all.add(stage, "record", async {
        assert!(stage.store.record_fast(&outcomes.iter().collect::<Vec<_>>()).await.unwrap());
    })
    .await;
}

/// What receivers usually answer.
fn headers() -> Vec<(String, Bytes)> {
    [
        ("content-type", "application/json"),
        ("content-length", "11"),
        ("date", "Fri, 27 Nov 2026 12:00:00 GMT"),
        ("server", "nginx/1.27.2"),
    ]
    .map(|(name, value)| (name.to_owned(), value.into()))
    .into()
}

/// WAL bytes, processor time of the backends, and the time that passed, by step.
#[derive(Default)]
struct Costs(BTreeMap<&'static str, (i64, Duration, Duration)>);

impl Costs {
    async fn add(&mut self, stage: &Stage, step: &'static str, work: impl Future<Output = ()>) {
        let before = (wal(stage).await, processor_time(stage).await, Instant::now());
        work.await;
        let took = before.2.elapsed();
        let spent = processor_time(stage).await.saturating_sub(before.1);
        let cost = self.0.entry(step).or_default();
        cost.0 += wal(stage).await - before.0;
        cost.1 += spent;
        cost.2 += took;
    }

    fn print(&self, deliveries: u32) {
        let each = |time: &Duration| time.as_secs_f64() * 1e6 / f64::from(deliveries);
        for (step, (wal, spent, took)) in &self.0 {
            println!(
                "{step}: {} bytes of WAL, {:.1} µs of processor time, {:.1} µs for each delivery",
                wal / i64::from(deliveries),
                each(spent),
                each(took)
            );
        }
    }
}

async fn wal(stage: &Stage) -> i64 {
    let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS n";
    i64::try_from(stage.count(sql).await).unwrap()
}

/// The processor time of the sessions of this database, if the server runs on this machine.
async fn processor_time(stage: &Stage) -> Duration {
    let sql =
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut ticks = 0;
    for row in stage.rows(sql).await {
        let pid: i32 = row.try_get("", "pid").unwrap();
        let Ok(line) = std::fs::read_to_string(format!("/proc/{pid}/schedstat")) else { continue };
        ticks += line.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
    }
    Duration::from_nanos(ticks)
}
