//! Which of several workers claims, each in a process of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postrider_database::{Config, Database};
use postrider_queue::{
    CheckIn, Claim, Duties, Finish, JobId, LaneId, LeaseToken, NewJob, PostgresQueue, Wakeups, WorkerId,
};
use postrider_queue::{JobQueue as _, JobSink as _};
use postrider_testkit::TestDatabase;
use sea_orm::ConnectionTrait as _;
use tokio::time::timeout;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(20);
const LEASE: Duration = Duration::from_mins(1);

/// The queue of a worker.
struct Worker {
    id: u128,
    queue: PostgresQueue,
}

impl Worker {
    async fn new(database: &TestDatabase, id: u128) -> Self {
        let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
        Self { id, queue: PostgresQueue::new(pool) }
    }

    async fn check_in(&self, busy: bool) -> Duties {
        let worker = WorkerId(Uuid::from_u128(self.id));
        let check_in = CheckIn {
            worker,
            host: "here".to_owned(),
            version: "1.0.0".to_owned(),
            in_flight: 3,
            busy,
            lapse: Duration::from_secs(3),
        };
        self.queue.check_in(&check_in).await.unwrap()
    }

    async fn check_out(&self) {
        self.queue.check_out(WorkerId(Uuid::from_u128(self.id))).await.unwrap();
    }

    /// Claims and finishes up to `max` jobs. Returns their lanes.
    async fn work(&self, max: u32) -> Vec<u128> {
        let claim = Claim::new(LeaseToken(fresh()), max, LEASE);
        let jobs = self.queue.claim(&claim).await.unwrap().jobs;
        let done: Vec<_> = jobs.iter().map(|job| (job.lease, Finish::Done)).collect();
        assert_eq!(self.queue.finish(&done).await.unwrap().len(), jobs.len());
        jobs.iter().map(|job| job.lease.lane.0.as_u128()).collect()
    }

    /// Listens, from the hint with which that begins.
    async fn listen(&self) -> Wakeups {
        let mut wakeups = self.queue.wakeups();
        timeout(DEADLINE, wakeups.woken()).await.expect("listening began");
        wakeups.mark_seen();
        wakeups
    }

    fn a_lane_of_its_own(&self) -> u128 {
        (1..1_000)
            .find(|lane| self.queue.serves(LaneId(Uuid::from_u128(*lane))))
            .expect("it serves some lane")
    }
}

async fn workers<const N: usize>(database: &TestDatabase, busy: [bool; N]) -> Vec<Worker> {
    let mut workers = Vec::new();
    for id in 1..=N {
        workers.push(Worker::new(database, id as u128).await);
    }
    // Twice: only then do the first know those who came after them.
    for _ in 0..2 {
        for (worker, busy) in workers.iter().zip(busy) {
            worker.check_in(busy).await;
        }
    }
    workers
}

fn fresh() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) << 64)
}

fn job(lane: u128) -> NewJob {
    NewJob::now(JobId(fresh()), LaneId(Uuid::from_u128(lane)), "acme", Uuid::nil())
}

#[tokio::test]
async fn the_oldest_worker_leads_and_the_next_one_follows() {
    let database = TestDatabase::postgres().await;
    let workers = workers(&database, [false; 3]).await;
    let mut leaders = Vec::new();
    for worker in &workers {
        leaders.push(worker.check_in(false).await.leads);
    }
    assert_eq!(leaders, [true, false, false]);
    workers[0].check_out().await;
    assert!(workers[1].check_in(false).await.leads, "the first has stopped");
    database.advance(Duration::from_secs(4)).await;
    assert!(workers[2].check_in(false).await.leads, "the second has not checked in");
    assert!(workers[1].check_in(false).await.leads, "it is back");
    assert!(!workers[2].check_in(false).await.leads);
}

#[tokio::test]
async fn only_the_worker_that_serves_a_lane_is_woken() {
    let database = TestDatabase::postgres().await;
    let server = Worker::new(&database, 99).await;
    let workers = workers(&database, [true, false, false]).await;
    let (mut first, mut second) = (workers[0].listen().await, workers[1].listen().await);
    let (lanes, mut third) =
        ([workers[0].a_lane_of_its_own(), workers[1].a_lane_of_its_own()], workers[2].queue.wakeups());
    for _ in 0..20 {
        server.queue.enqueue(&[job(lanes[1])]).await.unwrap();
        timeout(DEADLINE, second.woken()).await.expect("the second serves the lane");
        second.mark_seen();
    }
    assert!(timeout(Duration::ZERO, first.woken()).await.is_err(), "the first does not serve it");
    server.queue.enqueue(&[job(lanes[0])]).await.unwrap();
    timeout(DEADLINE, first.woken()).await.expect("the first serves the other lane");
    assert!(timeout(Duration::ZERO, third.woken()).await.is_err(), "the third sleeps");
    // It serves lanes, and hears of them, once the second is busy.
    workers[1].check_in(true).await;
    workers[2].check_in(false).await;
    timeout(DEADLINE, third.woken()).await.expect("the third begins to listen");
    let lane = workers[2].a_lane_of_its_own();
    server.queue.enqueue(&[job(lane)]).await.unwrap();
    // It may be woken once more because it listens now.
    while workers[2].work(100).await.is_empty() {
        timeout(DEADLINE, third.woken()).await.expect("the third serves this lane");
        third.mark_seen();
    }
}

/// Waking happens in the process where that is enough, without a notification.
#[tokio::test]
async fn a_process_whose_worker_serves_the_lane_wakes_only_it() {
    let database = TestDatabase::postgres().await;
    let workers = workers(&database, [true, false]).await;
    let (mut first, mut second) = (workers[0].listen().await, workers[1].listen().await);
    let lane = workers[0].a_lane_of_its_own();
    workers[0].queue.enqueue(&[job(lane)]).await.unwrap();
    assert!(timeout(Duration::ZERO, first.woken()).await.is_ok(), "at once");
    first.mark_seen();
    workers[1].queue.enqueue(&[job(lane)]).await.unwrap();
    assert!(timeout(Duration::ZERO, second.woken()).await.is_err(), "the second does not serve it");
    timeout(DEADLINE, first.woken()).await.expect("the other process notified it");
}

#[tokio::test]
async fn lanes_that_nobody_serves_are_taken_over_and_others_are_not() {
    let database = TestDatabase::postgres().await;
    let workers = workers(&database, [false; 2]).await;
    let (owner, other) = (&workers[0], &workers[1]);
    owner.queue.enqueue(&[job(1), job(1), job(1), job(2)]).await.unwrap();
    assert_eq!(other.work(10).await, [], "they have not waited");
    database.advance(Duration::from_millis(400)).await;
    assert_eq!(owner.work(1).await, [1]);
    assert_eq!(other.work(10).await, [2], "the first lane is being served");
    database.advance(Duration::from_millis(400)).await;
    assert_eq!(other.work(10).await, [1, 1], "the owner has died");
    owner.queue.enqueue(&[job(1)]).await.unwrap();
    assert_eq!(other.work(10).await, []);
    assert_eq!(owner.work(10).await, [1]);
}

/// A paused lane, or one that is full, waits for its limits and not for a worker.
#[tokio::test]
async fn a_lane_that_is_full_is_not_taken_over() {
    let database = TestDatabase::postgres().await;
    let workers = workers(&database, [false; 2]).await;
    let (owner, other) = (&workers[0], &workers[1]);
    owner.queue.enqueue(&(0..40).map(|_| job(1)).collect::<Vec<_>>()).await.unwrap();
    let claim = Claim::new(LeaseToken(fresh()), 100, LEASE);
    let running = owner.queue.claim(&claim).await.unwrap().jobs;
    assert_eq!(running.len(), 32);
    database.advance(Duration::from_secs(1)).await;
    assert_eq!(other.work(100).await, []);
    let done: Vec<_> = running.iter().map(|job| (job.lease, Finish::Done)).collect();
    owner.queue.finish(&done).await.unwrap();
    assert_eq!(other.work(100).await.len(), 8, "the owner has had a second to claim");
}

/// All lanes, whatever their number: a search of a sleeping worker reads one page, and the next one continues.
#[tokio::test]
async fn a_sleeping_worker_takes_over_any_number_of_lanes() {
    let database = TestDatabase::postgres().await;
    let workers = workers(&database, [false; 2]).await;
    workers[0].queue.enqueue(&(1..=1_500).map(job).collect::<Vec<_>>()).await.unwrap();
    database.advance(Duration::from_secs(1)).await;
    let mut lanes = Vec::new();
    for _ in 0..30 {
        lanes.extend(workers[1].work(200).await);
    }
    lanes.sort_unstable();
    assert!(lanes.into_iter().eq(1..=1_500));
}

#[tokio::test]
async fn a_worker_leaves_no_row_behind() {
    let database = TestDatabase::postgres().await;
    let workers = workers(&database, [false; 2]).await;
    workers[0].check_out().await;
    database.advance(Duration::from_mins(2)).await;
    let third = Worker::new(&database, 3).await;
    third.check_in(false).await;
    let count = "SELECT count(*) AS rows FROM workers WHERE id <> $1";
    let connection = database.connection();
    let row =
        postrider_database::sql::query_one(&connection, count, [Uuid::from_u128(3).into()]).await.unwrap();
    let rows: i64 = postrider_database::sql::column(&row.unwrap(), "rows").unwrap();
    assert_eq!(rows, 0, "one has stopped, and the other has died");
    database.connection().execute_unprepared("TRUNCATE workers").await.unwrap();
    assert!(third.check_in(false).await.leads, "as after a crash of the database");
}
