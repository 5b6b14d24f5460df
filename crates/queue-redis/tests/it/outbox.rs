//! What reaches Redis through the outbox: in which order, and how long a worker waits for Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postrider_database::{Config, Database, Writes};
use postrider_queue::{
    Claim, ClaimedJob, Finish, Finished, JobId, JobQueue as _, JobSink as _, LaneControl as _, LaneId,
    LaneSettings, LeaseToken, NewJob, OutboxQueue, TransactionalQueue as _,
};
use postrider_testkit::redis::{Keeps, RedisServer};
use postrider_testkit::{TestDatabase, eventually};
use uuid::Uuid;

use crate::{OverRedis, connect};

const DEADLINE: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_mins(1);

fn lane(number: u128) -> LaneId {
    LaneId(Uuid::from_u128(number << 96))
}

fn fresh() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(u64::MAX);
    Uuid::from_u128(u128::from(NEXT.fetch_sub(1, Ordering::Relaxed)) << 64)
}

fn jobs(lane: LaneId, count: usize) -> Vec<NewJob> {
    (0..count).map(|_| NewJob::now(JobId(fresh()), lane, "acme", fresh())).collect()
}

fn ids(jobs: &[NewJob]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

async fn take(queue: &OutboxQueue) -> Option<ClaimedJob> {
    queue.claim(&Claim::new(LeaseToken(fresh()), 1, LEASE)).await.unwrap().jobs.pop()
}

async fn take_in_turn(queue: &OutboxQueue, count: usize) -> Vec<JobId> {
    let mut order = Vec::new();
    while order.len() < count {
        let job = eventually(DEADLINE, || take(queue)).await;
        order.push(job.lease.job);
        queue.finish(&[(job.lease, Finish::Done)]).await.unwrap();
    }
    order
}

/// Offers that fail or come late leave their rows in the outbox, as a process does that dies after its commit.
async fn ordered_lanes_wait_for_what_is_left_in_the_outbox(database: TestDatabase) {
    let Some(fixture) = OverRedis::single().await else { return };
    let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
    let queue = OutboxQueue::new(pool.clone(), Arc::clone(&fixture.queue) as _);
    let ordered = LaneSettings { ordered: true, ..LaneSettings::default() };
    queue.configure(lane(1), "acme", ordered).await.unwrap();
    queue.relay().await.unwrap();

    let (left, late) = (jobs(lane(1), 3), jobs(lane(1), 2));
    let (other_left, other) = (jobs(lane(2), 1), jobs(lane(2), 1));
    for left in [&left[..1], &[&left[1..], &other_left].concat()] {
        let mut writes = Writes::new();
        queue.enqueue_with(left, &mut writes);
        writes.execute(pool.connection()).await.unwrap();
    }
    queue.enqueue(&other).await.unwrap();
    assert_eq!(take_in_turn(&queue, 1).await, ids(&other), "a lane without an order does not wait");
    queue.enqueue(&late).await.unwrap();
    assert_eq!(take_in_turn(&queue, 5).await, ids(&[left, late].concat()));

    // What is relayed after that is the other lane's job, and jobs that have ended.
    database.advance(Duration::from_secs(1)).await;
    queue.relay().await.unwrap();
    assert!(take_in_turn(&queue, 4).await.contains(&other_left[0].id));
    assert_eq!(queue.backlog().await.unwrap().unwrap().transactions, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordered_lanes_wait_for_what_is_left_in_the_outbox_of_postgresql() {
    ordered_lanes_wait_for_what_is_left_in_the_outbox(TestDatabase::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordered_lanes_wait_for_what_is_left_in_the_outbox_of_sqlite() {
    ordered_lanes_wait_for_what_is_left_in_the_outbox(TestDatabase::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_a_second_for_redis_which_hears_of_the_end_later() {
    let Some(server) = RedisServer::start(Keeps::Nothing) else { return };
    let database = TestDatabase::sqlite().await;
    let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
    let queue = OutboxQueue::new(pool, connect(&server.url()).await);
    queue.enqueue(&jobs(lane(1), 1)).await.unwrap();
    let job = eventually(DEADLINE, || take(&queue)).await;

    server.cli(&["CLIENT", "PAUSE", "1800"]);
    let since = Instant::now();
    queue.finished(&[Finished { lease: job.lease, finish: Finish::Done, about: None }]).await;
    let waited = since.elapsed();
    assert!((1000..1700).contains(&waited.as_millis()), "{waited:?}");
    eventually(DEADLINE, || async { queue.depth().await.ok().filter(|depth| depth.running == 0) }).await;
}
