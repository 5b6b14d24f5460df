//! Benchmarks of single components on a delivery's path: `cargo xtask postgres -- cargo bench -p postrider-bench`.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a tool for the person who runs it"
)]

use std::{env, sync::LazyLock, time::Duration};

use divan::{Bencher, black_box, counter::ItemsCount};
use postrider_core::{
    AgentId, Envelope, EventData, EventPattern, EventType, IdGenerator, Keyring, Secret, SystemRandom,
    TenantId, Timestamp, signing::Signer,
};
use postrider_database::{Config, Database};
use postrider_dispatch::{Dispatcher, NewEvent};
use postrider_queue::{Claim, ClaimedJob, LeaseToken};
use postrider_store::{
    Store,
    attempt::{Attempt, End, Outcome, Response},
    health::BreakerPolicy,
    loading::Loaded,
    subscribers::NewSubscriber,
};
use postrider_testkit::TestDatabase;
use serde_json::value::RawValue;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

const BATCH: u32 = 200;
const DATA: &str = r#"{"n":1,"text":"a payload of about half a kilobyte","pad":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#;

fn event_type() -> EventType {
    "order.created".parse().unwrap()
}

#[divan::bench]
fn sign(bencher: Bencher<'_, '_>) {
    let signer = Signer::new(&Secret::generate(&SystemRandom), &[]);
    bencher.bench(|| {
        let body = black_box(DATA.as_bytes());
        (
            signer.agent_signature(body),
            signer.webhook_signature("evt_01h455vb4pex5vsknk084sn000", 1_700_000_007, body),
        )
    });
}

#[divan::bench]
fn prepare_signer(bencher: Bencher<'_, '_>) {
    let secret = Secret::generate(&SystemRandom);
    bencher.bench(|| Signer::new(black_box(&secret), &[]));
}

#[divan::bench]
fn parse_data(bencher: Bencher<'_, '_>) {
    bencher.bench(|| EventData::from_json(black_box(DATA)).unwrap());
}

#[divan::bench]
fn serialise_envelope(bencher: Bencher<'_, '_>) {
    let (event, agent_id) = (event_type(), AgentId::default());
    let data = EventData::from_json(DATA).unwrap();
    let envelope = Envelope {
        event_type: &event,
        timestamp: Timestamp::from_millis(1_700_000_000_000),
        agent_id: &agent_id,
        data: &data,
    };
    bencher.bench(|| black_box(&envelope).to_bytes());
}

#[divan::bench]
fn patterns_of_an_event(bencher: Bencher<'_, '_>) {
    let event: EventType = "shop.order.line.created".parse().unwrap();
    bencher.bench(|| black_box(&event).matching_patterns().collect::<Vec<_>>());
}

#[divan::bench]
fn match_a_pattern(bencher: Bencher<'_, '_>) {
    let (event, pattern): (EventType, EventPattern) = (event_type(), "order.*".parse().unwrap());
    bencher.bench(|| black_box(&pattern).matches(black_box(&event)));
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// SQLite, and PostgreSQL if a server is configured.
fn databases() -> impl Iterator<Item = &'static str> {
    let postgres = env::var_os(xtask::postgres::URL_VARIABLE).map(|_| "postgres");
    postgres.into_iter().chain(["sqlite"])
}

/// A store with one subscriber of all events.
struct Stage {
    store: Store,
    dispatcher: Dispatcher,
    _database: TestDatabase,
}

impl Stage {
    async fn set(database: &str) -> Self {
        let database =
            if database == "sqlite" { TestDatabase::sqlite().await } else { TestDatabase::postgres().await };
        let keyring = Keyring::parse(&Keyring::generate_key(&SystemRandom)).unwrap();
        let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
        let store = Store::new(pool.clone(), postrider_queue::open(&pool), keyring, IdGenerator::system());
        let url = "https://example.com/hook".parse().unwrap();
        let new = NewSubscriber::new(url, vec!["*".parse().unwrap()], Secret::generate(&SystemRandom));
        store.create_subscriber(&TenantId::default(), new).await.unwrap();
        let dispatcher = Dispatcher::new(store.clone(), postrider_dispatch::Config::default()).unwrap();
        Self { store, dispatcher, _database: database }
    }

    fn events() -> Vec<NewEvent> {
        let data: &RawValue = serde_json::from_str(DATA).unwrap();
        (0..BATCH).map(|_| NewEvent::new("order.created", data).unwrap()).collect()
    }

    async fn dispatch(&self, events: Vec<NewEvent>) {
        for result in self.dispatcher.dispatch_batch(events).await {
            result.unwrap();
        }
    }

    async fn claim(&self) -> Vec<ClaimedJob> {
        let token = LeaseToken(self.store.ids().next_uuid());
        let claim = Claim {
            lane_concurrency: 100_000.try_into().unwrap(),
            ..Claim::new(token, BATCH, Duration::from_mins(1))
        };
        self.store.queue().claim(&claim).await.unwrap().jobs
    }

    async fn outcomes(&self, jobs: Vec<ClaimedJob>) -> Vec<Outcome> {
        let loaded = self.store.load(&jobs).await.unwrap();
        let outcome = |(job, loaded): (ClaimedJob, Loaded)| {
            let Loaded::Deliver(work) = loaded else { panic!("{loaded:?}") };
            let response = Response { status: 200, headers: Vec::new(), body: "".into(), truncated: false };
            let attempt = Attempt {
                started_at: work.delivery.created_at,
                duration: Duration::from_millis(3),
                response: Some(response),
                verdict: postrider_core::Verdict::Success,
                exchange: None,
            };
            Outcome { lease: job.lease, delivery: work.delivery, attempt: Some(attempt), end: End::Succeeded }
        };
        jobs.into_iter().zip(loaded).map(outcome).collect()
    }

    async fn claimed_outcomes(&self) -> Vec<Outcome> {
        self.dispatch(Self::events()).await;
        self.outcomes(self.claim().await).await
    }

    /// Records as a worker does: on the fast path if possible.
    async fn record_fast(&self, outcomes: &[Outcome]) {
        let well: Vec<&Outcome> = outcomes.iter().collect();
        if !self.store.record_fast(&well).await.unwrap() {
            self.record(outcomes).await;
        }
    }

    async fn record(&self, outcomes: &[Outcome]) {
        let recorded = self.store.record(outcomes, &[], &BreakerPolicy::default()).await.unwrap();
        assert!(recorded.lost.is_empty());
    }
}

#[divan::bench(args = databases(), sample_count = 30, sample_size = 1)]
fn dispatch(bencher: Bencher<'_, '_>, database: &str) {
    let stage = RUNTIME.block_on(Stage::set(database));
    bencher
        .with_inputs(Stage::events)
        .counter(ItemsCount::new(BATCH))
        .bench_values(|events| RUNTIME.block_on(stage.dispatch(events)));
}

#[divan::bench(args = databases(), sample_count = 30, sample_size = 1)]
fn claim(bencher: Bencher<'_, '_>, database: &str) {
    let stage = RUNTIME.block_on(Stage::set(database));
    bencher
        .with_inputs(|| RUNTIME.block_on(stage.dispatch(Stage::events())))
        .counter(ItemsCount::new(BATCH))
        .bench_values(|()| assert_eq!(RUNTIME.block_on(stage.claim()).len(), BATCH as usize));
}

#[divan::bench(args = databases(), sample_count = 30, sample_size = 1)]
fn load(bencher: Bencher<'_, '_>, database: &str) {
    let stage = RUNTIME.block_on(Stage::set(database));
    let jobs = RUNTIME.block_on(async {
        stage.dispatch(Stage::events()).await;
        stage.claim().await
    });
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench(|| assert_eq!(RUNTIME.block_on(stage.store.load(&jobs)).unwrap().len(), BATCH as usize));
}

#[divan::bench(args = databases(), sample_count = 30, sample_size = 1)]
fn record(bencher: Bencher<'_, '_>, database: &str) {
    let stage = RUNTIME.block_on(Stage::set(database));
    bencher
        .with_inputs(|| RUNTIME.block_on(stage.claimed_outcomes()))
        .counter(ItemsCount::new(BATCH))
        .bench_refs(|outcomes| RUNTIME.block_on(stage.record(outcomes)));
}

#[divan::bench(args = databases(), sample_count = 30, sample_size = 1)]
fn record_fast(bencher: Bencher<'_, '_>, database: &str) {
    let stage = RUNTIME.block_on(Stage::set(database));
    bencher
        .with_inputs(|| RUNTIME.block_on(stage.claimed_outcomes()))
        .counter(ItemsCount::new(BATCH))
        .bench_refs(|outcomes| RUNTIME.block_on(stage.record_fast(outcomes)));
}
