//! What a claim costs does not depend on what it does not claim.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postrider_database::{Config, Database};
use postrider_queue::{
    Claim, ClaimedJob, Finish, JobId, LaneId, LaneRate, LaneSettings, LeaseToken, NewJob, TransactionalQueue,
};
use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use uuid::Uuid;

const LEASE: Duration = Duration::from_mins(1);

struct Test {
    database: TestDatabase,
    queue: Arc<dyn TransactionalQueue>,
}

impl Test {
    async fn on(database: TestDatabase) -> Self {
        let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
        Self { queue: postrider_queue::open(&pool), database }
    }

    async fn claim(&self, max: u32) -> Vec<ClaimedJob> {
        self.queue.claim(&Claim::new(LeaseToken(fresh()), max, LEASE)).await.unwrap().jobs
    }

    async fn finish(&self, jobs: &[ClaimedJob]) {
        let done: Vec<_> = jobs.iter().map(|job| (job.lease, Finish::Done)).collect();
        assert_eq!(self.queue.finish(&done).await.unwrap().len(), jobs.len());
    }

    /// The shortest time of several claims, each of jobs that were enqueued in these lanes before it.
    async fn shortest_claim(&self, lanes: std::ops::RangeInclusive<u128>, rounds: usize) -> Duration {
        let mut shortest = Duration::MAX;
        for _ in 0..rounds {
            let jobs: Vec<_> = lanes.clone().flat_map(|lane| (0..20).map(move |_| job(lane))).collect();
            self.queue.enqueue(&jobs).await.unwrap();
            let started = Instant::now();
            let claimed = self.claim(200).await;
            shortest = shortest.min(started.elapsed());
            assert_eq!(claimed.len(), jobs.len().min(200));
            self.finish(&claimed).await;
        }
        shortest
    }
}

fn fresh() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) << 64)
}

fn lane(number: u128) -> LaneId {
    LaneId(Uuid::from_u128(number << 96))
}

fn job(number: u128) -> NewJob {
    NewJob::now(JobId(fresh()), lane(number), "acme", Uuid::nil())
}

/// The snapshot keeps the index entries of all jobs that are removed after it.
#[tokio::test]
async fn claims_stay_fast_beside_an_open_snapshot() {
    let test = Test::on(TestDatabase::postgres().await).await;
    test.shortest_claim(1..=10, 20).await;
    let before = test.shortest_claim(1..=10, 20).await;
    let other = test.database.connect().await;
    let snapshot = other.begin().await.unwrap();
    let sql = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM jobs";
    snapshot.execute_unprepared(sql).await.unwrap();
    test.shortest_claim(1..=10, 150).await;
    let beside = test.shortest_claim(1..=10, 20).await;
    snapshot.rollback().await.unwrap();
    assert!(beside < 4 * before, "{beside:?} beside 34,000 removed jobs, {before:?} before");
}

/// A transaction that has inserted a job holds back the heads of lanes, and its job is found when it commits.
#[tokio::test]
async fn a_job_that_is_committed_late_is_found() {
    let test = Test::on(TestDatabase::postgres().await).await;
    test.shortest_claim(1..=1, 1).await;
    let mut writes = postrider_database::Writes::new();
    test.queue.enqueue_with(&[job(1)], &mut writes);
    let slow = test.queue.database().begin().await.unwrap();
    writes.execute(&slow).await.unwrap();
    test.shortest_claim(1..=1, 70).await;
    let crowded = "SELECT count(*) AS n FROM lanes WHERE crowded";
    let row =
        postrider_database::sql::query_one(&test.database.connection(), crowded, []).await.unwrap().unwrap();
    assert_eq!(postrider_database::sql::column::<i64>(&row, "n").unwrap(), 1);
    slow.commit().await.unwrap();
    assert_eq!(test.claim(200).await.len(), 1);
}

/// Without heads, a job that is given back would be the first of its lane; with them, too.
#[tokio::test]
async fn a_job_of_a_crowded_lane_that_is_given_back_is_found() {
    let test = Test::on(TestDatabase::postgres().await).await;
    test.shortest_claim(1..=1, 70).await;
    test.queue.enqueue(&(0..40).map(|_| job(1)).collect::<Vec<_>>()).await.unwrap();
    let claimed = test.claim(10).await;
    for _ in 0..2 {
        let more = test.claim(10).await;
        test.finish(&more).await;
    }
    let released: Vec<_> = claimed.iter().map(|job| (job.lease, Finish::Release)).collect();
    assert_eq!(test.queue.finish(&released[..5]).await.unwrap().len(), 5);
    let ids = |jobs: &[ClaimedJob]| jobs.iter().map(|job| job.lease.job).collect::<Vec<_>>();
    assert_eq!(ids(&test.claim(5).await), ids(&claimed[..5]), "released");
    test.database.advance(2 * LEASE).await;
    let rescue =
        postrider_queue::Rescue { max: 100, max_rescues: 5, token: LeaseToken(fresh()), lease: LEASE };
    assert_eq!(test.queue.rescue(&rescue).await.unwrap().returned, 10);
    assert_eq!(ids(&test.claim(10).await), ids(&claimed), "rescued");
}

#[tokio::test]
async fn lanes_that_others_have_locked_do_not_hide_open_ones() {
    let test = Test::on(TestDatabase::postgres().await).await;
    test.queue.enqueue(&(1..=300).map(job).collect::<Vec<_>>()).await.unwrap();
    let other = test.database.connect().await.begin().await.unwrap();
    let lock = format!("SELECT id FROM lanes WHERE id <= '{}' FOR UPDATE", lane(200).0);
    other.execute_unprepared(&lock).await.unwrap();
    assert_eq!(test.claim(200).await.len(), 100);
    other.rollback().await.unwrap();
    assert_eq!(test.claim(200).await.len(), 200);
}

/// Lanes above their rate, with jobs.
async fn above_their_rate(test: &Test, lanes: std::ops::Range<u128>) {
    let rate = LaneRate { interval: Duration::from_mins(50), burst: std::num::NonZeroU32::MIN };
    let settings = LaneSettings { rate: Some(rate), ..LaneSettings::default() };
    for number in lanes.clone() {
        test.queue.configure(lane(number), "acme", settings).await.unwrap();
    }
    test.queue
        .enqueue(&lanes.clone().flat_map(|lane| [job(lane), job(lane)]).collect::<Vec<_>>())
        .await
        .unwrap();
    let mut claimed = 0;
    while claimed < lanes.end - lanes.start {
        let jobs = test.claim(200).await;
        assert!(!jobs.is_empty());
        claimed += jobs.len() as u128;
        test.finish(&jobs).await;
    }
    assert_eq!(test.claim(200).await.len(), 0);
}

#[tokio::test]
async fn lanes_above_their_rate_cost_claims_nothing_on_postgres() {
    lanes_above_their_rate_cost_nothing(Test::on(TestDatabase::postgres().await).await).await;
}

#[tokio::test]
async fn lanes_above_their_rate_cost_claims_nothing_on_sqlite() {
    lanes_above_their_rate_cost_nothing(Test::on(TestDatabase::sqlite().await).await).await;
}

async fn lanes_above_their_rate_cost_nothing(test: Test) {
    let healthy = 5_000..=5_009;
    test.shortest_claim(healthy.clone(), 10).await;
    let before = test.shortest_claim(healthy.clone(), 10).await;
    above_their_rate(&test, 1..2_001).await;
    let beside = test.shortest_claim(healthy, 10).await;
    assert!(beside < 4 * before, "{beside:?} beside lanes above their rate, {before:?} before");
}

/// Many ready jobs in few lanes.
#[tokio::test]
async fn long_lanes_cost_claims_nothing_on_sqlite() {
    let test = Test::on(TestDatabase::sqlite().await).await;
    test.shortest_claim(1..=10, 5).await;
    let before = test.shortest_claim(1..=10, 10).await;
    let many: Vec<_> = (1..=10).flat_map(|lane| (0..1_800).map(move |_| job(lane))).collect();
    test.queue.enqueue(&many).await.unwrap();
    let beside = test.shortest_claim(1..=10, 10).await;
    assert!(beside < 4 * before, "{beside:?} with 18,000 ready jobs, {before:?} with few");
}

/// Joined with each other, four hundred lanes would be 160,000 pairs.
#[tokio::test]
async fn a_job_of_each_of_many_lanes_costs_not_much_more_than_many_jobs_of_few() {
    const JOBS: u32 = 400;
    let test = Test::on(TestDatabase::postgres().await).await;
    let mut shortest = [Duration::MAX; 2];
    // More than a lane may run by default.
    let claim = || Claim {
        lane_concurrency: JOBS.try_into().unwrap(),
        ..Claim::new(LeaseToken(fresh()), JOBS, LEASE)
    };
    for _ in 0..20 {
        for (lanes, shortest) in [10, JOBS].into_iter().zip(&mut shortest) {
            let jobs: Vec<_> = (0..JOBS).map(|number| job(u128::from(1 + number % lanes))).collect();
            test.queue.enqueue(&jobs).await.unwrap();
            let started = Instant::now();
            let claimed = test.queue.claim(&claim()).await.unwrap().jobs;
            *shortest = started.elapsed().min(*shortest);
            assert_eq!(claimed.len(), jobs.len());
            test.finish(&claimed).await;
        }
    }
    let [few, many] = shortest;
    println!("a claim from 10 lanes took {few:?}, from 400 {many:?}");
    assert!(many < 6 * few, "a claim from 10 lanes took {few:?}, from 400 {many:?}");
}
