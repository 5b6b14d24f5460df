//! What a queue behind SQS promises, on moto's server; and a server of SQS that is busy, or takes a batch in part.
//!
//! Limits, pauses, retries and leases are those of the queue in the database, which passes the conformance suite. Without moto
//! these tests print that they are skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code: a panic with a description is a failed test"
)]

mod busy;

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use postrider_database::{Config, Database};
use postrider_queue::{
    BufferedQueue, Claim, ClaimedJob, Finish, JobId, JobQueue as _, JobSink as _, LaneControl as _, LaneId,
    LaneRate, LaneSettings, LeaseToken, NewJob, Rescue, TransactionalQueue as _,
};
use postrider_queue_sqs::{SqsBuffer, SqsUrl};
use postrider_testkit::moto::Moto;
use postrider_testkit::{TestDatabase, eventually};
use serde_json::json;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_mins(1);
const LEASE: Duration = Duration::from_secs(30);

/// One server for the tests that run at the same time, each with queues of its own.
fn moto() -> Option<Arc<Moto>> {
    static SHARED: Mutex<Weak<Moto>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = shared.upgrade() {
        return Some(running);
    }
    let started = Arc::new(Moto::start()?);
    *shared = Arc::downgrade(&started);
    Some(started)
}

struct Stage {
    queue: BufferedQueue,
    database: TestDatabase,
    moto: Arc<Moto>,
    name: &'static str,
}

impl Stage {
    async fn new(name: &'static str, parameters: &str, database: TestDatabase) -> Option<Self> {
        let moto = moto()?;
        moto.make_queues(name);
        let url = SqsUrl::parse(&format!("{}{parameters}", moto.url(name))).unwrap();
        let buffer = SqsBuffer::connect_as(&url, "id", "secret").await.unwrap();
        let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
        Some(Self { queue: BufferedQueue::new(pool, Arc::new(buffer)), database, moto, name })
    }

    async fn take(&self, max: u32) -> Vec<ClaimedJob> {
        self.queue.claim(&Claim::new(LeaseToken(fresh()), max, LEASE)).await.unwrap().jobs
    }

    /// Claims until there are so many.
    async fn take_all(&self, count: usize) -> Vec<ClaimedJob> {
        let all = tokio::sync::Mutex::new(Vec::new());
        eventually(DEADLINE, || async {
            let mut all = all.lock().await;
            all.extend(self.take(100).await);
            (all.len() >= count).then_some(())
        })
        .await;
        let all = all.into_inner();
        assert_eq!(all.len(), count);
        all
    }

    async fn finish(&self, jobs: &[ClaimedJob], finish: Finish) {
        let ends: Vec<_> = jobs.iter().map(|job| (job.lease, finish)).collect();
        assert_eq!(self.queue.finish(&ends).await.unwrap().len(), jobs.len());
    }

    /// Waits until both queues are empty.
    async fn drained(&self) {
        let fifo = format!("{}.fifo", self.name);
        eventually(DEADLINE, || async {
            let empty = (0, 0);
            (self.moto.messages(self.name) == empty && self.moto.messages(&fifo) == empty).then_some(())
        })
        .await;
    }

    async fn number(&self, sql: &str) -> i64 {
        use sea_orm::ConnectionTrait as _;
        let connection = self.database.connection();
        let statement = sea_orm::Statement::from_string(connection.get_database_backend(), sql);
        connection.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    }
}

#[allow(clippy::disallowed_methods, reason = "test code")]
fn fresh() -> Uuid {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) << 32)
}

fn lane(number: u128) -> LaneId {
    LaneId(Uuid::from_u128(number << 96))
}

fn jobs(lane: LaneId, count: usize) -> Vec<NewJob> {
    (0..count).map(|_| NewJob::now(JobId(fresh()), lane, "acme", fresh())).collect()
}

fn ids(jobs: &[ClaimedJob]) -> HashSet<JobId> {
    jobs.iter().map(|job| job.lease.job).collect()
}

/// Jobs of two lanes, one of them ordered, come out once each and leave nothing behind.
async fn jobs_come_out_once_each(name: &'static str, database: TestDatabase) {
    let Some(stage) = Stage::new(name, "", database).await else { return };
    let settings = LaneSettings { ordered: true, ..LaneSettings::default() };
    stage.queue.configure(lane(2), "acme", settings).await.unwrap();
    let (many, ordered) = (jobs(lane(1), 25), jobs(lane(2), 12));
    // Taken while others still come in.
    stage.take(100).await;
    stage.queue.enqueue(&many).await.unwrap();
    for job in &ordered {
        stage.queue.enqueue(std::slice::from_ref(job)).await.unwrap();
    }
    let depth = stage.queue.depth().await.unwrap();
    assert!(depth.ready <= 37, "{depth:?}");

    // One job of the ordered lane at a time, in order.
    let mut seen = Vec::new();
    let taken = tokio::sync::Mutex::new(Vec::new());
    while seen.len() < ordered.len() {
        let next = eventually(DEADLINE, || async {
            let claimed = stage.take(100).await;
            let (mine, others): (Vec<_>, Vec<_>) =
                claimed.into_iter().partition(|job| job.lease.lane == lane(2));
            taken.lock().await.extend(others);
            assert!(mine.len() <= 1);
            mine.into_iter().next()
        })
        .await;
        seen.push(next.lease.job);
        stage.finish(&[next], Finish::Done).await;
    }
    assert_eq!(seen, ordered.iter().map(|job| job.id).collect::<Vec<_>>());
    let mut taken = taken.into_inner();
    if taken.len() < many.len() {
        taken.extend(stage.take_all(many.len() - taken.len()).await);
    }
    assert_eq!(ids(&taken), many.iter().map(|job| job.id).collect());
    stage.finish(&taken, Finish::Done).await;
    stage.drained().await;
    assert!(stage.take(100).await.is_empty());
    let left = "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM taken_jobs)";
    assert_eq!(stage.number(left).await, 0);
    eventually(DEADLINE, || async { (stage.number("SELECT count(*) FROM outbox").await == 0).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_come_out_once_each_on_postgresql() {
    jobs_come_out_once_each("once-postgresql", TestDatabase::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_come_out_once_each_on_sqlite() {
    jobs_come_out_once_each("once-sqlite", TestDatabase::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delays_limits_and_leases_are_those_of_the_database() {
    let Some(stage) = Stage::new("limits", "", TestDatabase::postgres().await).await else { return };
    let one = NonZeroU32::new(1);
    let rate = LaneRate { interval: Duration::from_mins(1), burst: NonZeroU32::MIN };
    let capped = LaneSettings { concurrency: one, ..LaneSettings::default() };
    stage.queue.configure(lane(1), "acme", capped).await.unwrap();
    let slow = LaneSettings { rate: Some(rate), ..LaneSettings::default() };
    stage.queue.configure(lane(2), "acme", slow).await.unwrap();
    stage.queue.pause(lane(3), Duration::from_mins(10)).await.unwrap();
    stage.queue.configure(lane(3), "acme", LaneSettings::default()).await.unwrap();
    stage.queue.pause(lane(3), Duration::from_mins(10)).await.unwrap();
    // Longer than SQS can delay a message.
    let mut late = jobs(lane(4), 1);
    late[0].delay = Duration::from_hours(1);
    let all = [jobs(lane(1), 3), jobs(lane(2), 3), jobs(lane(3), 3), late].concat();
    stage.queue.enqueue(&all).await.unwrap();

    let first = stage.take_all(2).await;
    assert_eq!(
        first.iter().map(|job| job.lease.lane).collect::<HashSet<_>>(),
        HashSet::from([lane(1), lane(2)])
    );
    // The rest is in the database, where lanes hold it back, and not on SQS, where it would be in the way.
    stage.drained().await;
    assert_eq!(stage.number("SELECT count(*) FROM jobs").await, 9);
    assert_eq!(stage.number("SELECT count(*) FROM scheduled_jobs").await, 1);
    assert!(stage.take(100).await.is_empty());

    // A retry of any length waits there, too, and its lane goes on.
    let capped: Vec<_> = first.into_iter().filter(|job| job.lease.lane == lane(1)).collect();
    stage.finish(&capped, Finish::RetryIn(Duration::from_hours(1))).await;
    let second = stage.take_all(1).await;
    assert_eq!(second[0].lease.lane, lane(1));

    // A lease that has expired fences the worker that had it.
    stage.database.advance(LEASE + Duration::from_secs(1)).await;
    let rescue = Rescue { max: 10, max_rescues: 5, token: LeaseToken(fresh()), lease: LEASE };
    stage.queue.rescue(&rescue).await.unwrap();
    assert!(stage.queue.finish(&[(second[0].lease, Finish::Done)]).await.unwrap().is_empty());
    stage.database.advance(Duration::from_hours(1)).await;
    stage.queue.promote(100).await.unwrap();
    let lanes: HashSet<_> = stage.take(100).await.iter().map(|job| job.lease.lane).collect();
    assert!(lanes.contains(&lane(4)) && lanes.contains(&lane(1)), "{lanes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_comes_twice_is_known() {
    let Some(stage) = Stage::new("twice", "", TestDatabase::postgres().await).await else { return };
    let mut job = jobs(lane(1), 1);
    stage.queue.enqueue(&job).await.unwrap();
    let claimed = stage.take_all(1).await;
    let remote = stage.queue.remote().unwrap();
    // Offered by two programs, after a crash between the offer and the end of its row.
    remote.offer(&job).await.unwrap();
    remote.offer(&job).await.unwrap();
    stage.take(100).await;
    stage.drained().await;
    assert!(stage.take(100).await.is_empty());
    // The same while it waits to be tried again.
    stage.finish(&claimed, Finish::RetryIn(Duration::from_hours(1))).await;
    remote.offer(&job).await.unwrap();
    stage.take(100).await;
    stage.drained().await;
    assert!(stage.take(100).await.is_empty());
    // A refill offers only what the database does not have.
    job.extend(jobs(lane(1), 2));
    assert_eq!(remote.offer_again(&job).await.unwrap(), 2);
    stage.take_all(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_cannot_be_read_is_not_in_the_way_and_not_lost() {
    let Some(stage) = Stage::new("unreadable", "", TestDatabase::postgres().await).await else { return };
    for body in ["not ours", "{\"job\":\"x\"}"] {
        stage.moto.call(
            "SendMessage",
            &json!({"QueueUrl": stage.moto.queue_url("unreadable"), "MessageBody": body}),
        );
    }
    stage.queue.enqueue(&jobs(lane(1), 5)).await.unwrap();
    let claimed = stage.take_all(5).await;
    stage.finish(&claimed, Finish::Done).await;
    eventually(DEADLINE, || async { (stage.moto.messages("unreadable") == (0, 2)).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fifo_queue_ordered_lanes_stay_in_the_database() {
    let Some(stage) = Stage::new("no-fifo", "&fifo=none", TestDatabase::postgres().await).await else {
        return;
    };
    let settings = LaneSettings { ordered: true, ..LaneSettings::default() };
    stage.queue.configure(lane(1), "acme", settings).await.unwrap();
    let ordered = jobs(lane(1), 3);
    stage.queue.enqueue(&ordered).await.unwrap();
    for job in ordered {
        let claimed = stage.take_all(1).await;
        assert_eq!(claimed[0].lease.job, job.id);
        stage.finish(&claimed, Finish::Done).await;
    }
    assert_eq!(stage.moto.messages("no-fifo"), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_that_cannot_be_used_are_named() {
    let Some(moto) = moto() else { return };
    moto.make_queues("fits");
    moto.call("CreateQueue", &json!({"QueueName": "lonely"}));
    for (name, parameters, complaint) in [
        ("nowhere", "", "there is no queue \"nowhere\" in this region and account; create it first"),
        ("lonely", "", "there is no queue \"lonely.fifo\""),
    ] {
        let url = SqsUrl::parse(&format!("{}{parameters}", moto.url(name))).unwrap();
        let error = SqsBuffer::connect_as(&url, "id", "secret").await.unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
    // What tells that a queue was made again, and with it lost its messages.
    let url = SqsUrl::parse(&moto.url("fits")).unwrap();
    let run = async || {
        use postrider_queue::Buffer as _;
        SqsBuffer::connect_as(&url, "id", "secret").await.unwrap().run().await.unwrap()
    };
    let before = run().await;
    assert_eq!(before, run().await);
    moto.call("DeleteQueue", &json!({"QueueUrl": moto.queue_url("fits")}));
    moto.call("CreateQueue", &json!({"QueueName": "fits"}));
    assert_ne!(before, run().await);
}
