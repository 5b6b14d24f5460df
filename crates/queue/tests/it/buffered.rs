//! The queue in the database behind a buffer that is in memory and can be unavailable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use postrider_database::{Config, Database, Writes};
use postrider_queue::{
    Buffer, BufferedJob, BufferedQueue, Claim, ClaimedJob, Finish, JobId, JobQueue as _, JobSink as _,
    LaneControl as _, LaneId, LaneSettings, LeaseToken, NewJob, QueueError, Receipt, Taken,
    TransactionalQueue as _,
};
use postrider_testkit::explain::Plans;
use postrider_testkit::{TestDatabase, eventually};
use sea_orm_migration::sea_orm::{ConnectionTrait as _, Statement};
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_mins(1);

/// Gives jobs in the order in which it got them.
#[derive(Debug, Default)]
pub(crate) struct InMemory {
    jobs: Mutex<VecDeque<NewJob>>,
    new: Notify,
    is_away: AtomicBool,
    failures: AtomicU64,
}

#[async_trait]
impl Buffer for InMemory {
    fn keeps_order(&self) -> bool {
        true
    }

    async fn put(&self, jobs: &[BufferedJob<'_>]) -> Result<Vec<JobId>, QueueError> {
        if self.is_away.load(Ordering::Relaxed) {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return Err(QueueError::Unavailable("away".into()));
        }
        self.jobs.lock().await.extend(jobs.iter().map(|one| one.job.clone()));
        self.new.notify_one();
        Ok(Vec::new())
    }

    fn sources(&self) -> usize {
        1
    }

    async fn take(&self, _: usize) -> Result<Vec<Taken>, QueueError> {
        if self.jobs.lock().await.is_empty() {
            let _ = timeout(Duration::from_secs(1), self.new.notified()).await;
        }
        let mut jobs = self.jobs.lock().await;
        let first = jobs.len().min(10);
        let receipt = Receipt(String::new());
        let taken = jobs.drain(..first);
        Ok(taken.map(|job| Taken { job, receipt: receipt.clone(), waited: Duration::ZERO }).collect())
    }

    async fn remove(&self, _: usize, _: &[Receipt]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn waiting(&self) -> Result<u64, QueueError> {
        Ok(self.jobs.lock().await.len() as u64)
    }

    async fn run(&self) -> Result<String, QueueError> {
        Ok("only".to_owned())
    }
}

struct Stage {
    queue: BufferedQueue,
    buffer: Arc<InMemory>,
    pool: Database,
    database: TestDatabase,
}

impl Stage {
    async fn new(database: TestDatabase) -> Self {
        let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
        let buffer = Arc::new(InMemory::default());
        let queue = BufferedQueue::new(pool.clone(), Arc::clone(&buffer) as Arc<dyn Buffer>);
        Self { queue, buffer, pool, database }
    }

    async fn make_ordered(&self, lane: LaneId) {
        let settings = LaneSettings { ordered: true, ..LaneSettings::default() };
        self.queue.configure(lane, "acme", settings).await.unwrap();
    }

    /// What another process leaves that dies after its commit.
    async fn commit_only(&self, jobs: &[NewJob]) {
        let mut writes = Writes::new();
        self.queue.enqueue_with(jobs, &mut writes);
        writes.execute(self.pool.connection()).await.unwrap();
    }

    async fn take(&self, max: u32) -> Vec<ClaimedJob> {
        self.queue.claim(&Claim::new(LeaseToken(fresh()), max, LEASE)).await.unwrap().jobs
    }

    /// Claims and ends jobs, one after the other, as an ordered lane gives them.
    async fn take_in_turn(&self, count: usize) -> Vec<JobId> {
        let mut order = Vec::new();
        while order.len() < count {
            let job = eventually(DEADLINE, || async { self.take(1).await.pop() }).await;
            order.push(job.lease.job);
            self.queue.finish(&[(job.lease, Finish::Done)]).await.unwrap();
        }
        order
    }

    async fn number(&self, sql: &str) -> i64 {
        let connection = self.database.connection();
        let statement = Statement::from_string(connection.get_database_backend(), sql);
        connection.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    }

    async fn outbox_has(&self, rows: i64) {
        let count = "SELECT count(*) FROM outbox";
        eventually(DEADLINE, || async { (self.number(count).await == rows).then_some(()) }).await;
    }
}

fn ids(jobs: &[NewJob]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

fn lane(number: u128) -> LaneId {
    LaneId(Uuid::from_u128(number << 96))
}

/// Ids that shrink: the clock of no process decides which job came first.
fn fresh() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(u64::MAX);
    Uuid::from_u128(u128::from(NEXT.fetch_sub(1, Ordering::Relaxed)) << 64)
}

fn jobs(lane: LaneId, count: usize) -> Vec<NewJob> {
    (0..count).map(|_| NewJob::now(JobId(fresh()), lane, "acme", fresh())).collect()
}

async fn jobs_of_an_ordered_lane_do_not_overtake_those_that_could_not_be_offered(database: TestDatabase) {
    let stage = Stage::new(database).await;
    stage.make_ordered(lane(1)).await;
    let jobs = [jobs(lane(1), 2), jobs(lane(1), 2), jobs(lane(1), 1)].concat();
    stage.buffer.is_away.store(true, Ordering::Relaxed);
    stage.queue.enqueue(&jobs[..2]).await.unwrap();
    let failures = || async { (stage.buffer.failures.load(Ordering::Relaxed) > 0).then_some(()) };
    eventually(DEADLINE, failures).await;
    stage.commit_only(&jobs[2..4]).await;
    stage.buffer.is_away.store(false, Ordering::Relaxed);
    // Nobody relays: the offer of the last job brings the others along.
    stage.queue.enqueue(&jobs[4..]).await.unwrap();
    assert_eq!(stage.take_in_turn(jobs.len()).await, ids(&jobs));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_an_ordered_lane_do_not_overtake_those_that_could_not_be_offered_on_postgresql() {
    jobs_of_an_ordered_lane_do_not_overtake_those_that_could_not_be_offered(TestDatabase::postgres().await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_an_ordered_lane_do_not_overtake_those_that_could_not_be_offered_on_sqlite() {
    jobs_of_an_ordered_lane_do_not_overtake_those_that_could_not_be_offered(TestDatabase::sqlite().await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_lanes_do_not_wait_for_the_outbox() {
    let stage = Stage::new(TestDatabase::postgres().await).await;
    stage.make_ordered(lane(1)).await;
    let (left, ordered, other) = (jobs(lane(2), 1), jobs(lane(1), 1), jobs(lane(2), 1));
    stage.commit_only(&left).await;
    let both = [ordered, other].concat();
    stage.queue.enqueue(&both).await.unwrap();
    let mut taken = stage.take_in_turn(2).await;
    taken.sort_unstable_by_key(|job| job.0);
    let mut expected = ids(&both);
    expected.sort_unstable_by_key(|job| job.0);
    assert_eq!(taken, expected);
    // What is left waits until somebody relays it.
    stage.outbox_has(1).await;
    stage.database.advance(Duration::from_secs(1)).await;
    assert_eq!(stage.queue.relay().await.unwrap().jobs, 1);
    assert_eq!(stage.take_in_turn(1).await, ids(&left));
    stage.outbox_has(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_outbox_is_relayed_in_order() {
    let stage = Stage::new(TestDatabase::postgres().await).await;
    stage.make_ordered(lane(1)).await;
    let jobs = jobs(lane(1), 60);
    for job in &jobs[..59] {
        stage.commit_only(std::slice::from_ref(job)).await;
    }
    // More rows wait than an offer looks at.
    stage.queue.enqueue(&jobs[59..]).await.unwrap();
    assert_eq!(stage.take_in_turn(10).await, ids(&jobs[..10]));
    stage.database.advance(Duration::from_secs(1)).await;
    stage.queue.relay().await.unwrap();
    // A relay offers jobs that have ended again, and the worker drops them. The others come in order.
    let mut others = Vec::new();
    while others.len() < 50 {
        let next = stage.take_in_turn(1).await;
        if !ids(&jobs[..10]).contains(&next[0]) && !others.contains(&next[0]) {
            others.extend(next);
        }
    }
    assert_eq!(others, ids(&jobs[10..]));
    stage.outbox_has(0).await;
}

/// Two processes take the same jobs into the tables, while a third one ends them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_the_same_jobs_twice_neither_deadlocks_nor_doubles_them() {
    let stage = Stage::new(TestDatabase::postgres().await).await;
    let rest = "CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_sleep(0.002); IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$;
        CREATE TRIGGER rest BEFORE INSERT OR DELETE ON taken_jobs FOR EACH ROW EXECUTE FUNCTION rest();
        CREATE TRIGGER rest BEFORE UPDATE ON lanes FOR EACH ROW EXECUTE FUNCTION rest()";
    stage.database.connection().execute_unprepared(rest).await.unwrap();
    let one_way: Vec<NewJob> = (1..=20).flat_map(|number| jobs(lane(number), 2)).collect();
    // Without a delay they would wait in the buffer.
    let one_way: Vec<_> =
        one_way.into_iter().map(|job| NewJob { delay: Duration::from_millis(1), ..job }).collect();
    let other_way: Vec<_> = one_way.iter().rev().cloned().collect();
    let other = BufferedQueue::new(stage.pool.clone(), Arc::new(InMemory::default()));
    let (first, second) = (stage.queue.remote().unwrap(), other.remote().unwrap());
    let taking = async {
        for jobs in
            one_way.chunks(10).zip(other_way.chunks(10)).chain(other_way.chunks(10).zip(one_way.chunks(10)))
        {
            let (one, other) = tokio::join!(first.offer(jobs.0), second.offer(jobs.1));
            one.unwrap();
            other.unwrap();
        }
    };
    let ending = async {
        let mut ended = Vec::new();
        while ended.len() < one_way.len() {
            stage.queue.promote(100).await.unwrap();
            let jobs = stage.take(100).await;
            let ends: Vec<_> = jobs.iter().map(|job| (job.lease, Finish::RetryIn(LEASE))).collect();
            assert_eq!(stage.queue.finish(&ends).await.unwrap().len(), ends.len());
            ended.extend(jobs.into_iter().map(|job| job.lease.job));
        }
        ended
    };
    let ((), mut ended) = timeout(DEADLINE, async { tokio::join!(taking, ending) }).await.unwrap();
    let mut expected = ids(&one_way);
    ended.sort_unstable_by_key(|job| job.0);
    expected.sort_unstable_by_key(|job| job.0);
    assert_eq!(ended, expected);
    assert_eq!(stage.number("SELECT count(*) FROM taken_jobs").await, 40);
    assert_eq!(stage.number("SELECT count(*) FROM scheduled_jobs").await, 40);
}

/// States of `outbox` and `taken_jobs`, each reached from the one before.
const STATES: [(&str, &str); 5] = [
    (
        "empty",
        "ALTER TABLE outbox SET (autovacuum_enabled = off); ALTER TABLE taken_jobs SET (autovacuum_enabled = off)",
    ),
    ("analysed while empty", "ANALYZE outbox, taken_jobs"),
    (
        "full of dead rows",
        "INSERT INTO outbox (id, created_at, jobs) SELECT gen_random_uuid(), 0, '[]' FROM generate_series(1, 20000);
         INSERT INTO taken_jobs (id) SELECT gen_random_uuid() FROM generate_series(1, 50000);
         ANALYZE outbox, taken_jobs; DELETE FROM outbox; DELETE FROM taken_jobs",
    ),
    (
        "many rows",
        "INSERT INTO outbox (id, created_at, jobs) SELECT gen_random_uuid(), 0, '[]' FROM generate_series(1, 1000);
         INSERT INTO taken_jobs (id) SELECT gen_random_uuid() FROM generate_series(1, 50000)",
    ),
    (
        "many rows, analysed",
        "INSERT INTO outbox (id, created_at, jobs) SELECT gen_random_uuid(), 0, '[]' FROM generate_series(1, 1000);
         ANALYZE outbox, taken_jobs",
    ),
];

#[tokio::test]
async fn no_statement_of_the_outbox_or_the_buffer_scans_or_sorts_a_table() {
    let database = TestDatabase::postgres().await;
    let plans = Plans::of(&database).await;
    let mut stage = Stage::new(database).await;
    let mut faults = Vec::new();
    for (state, reached_by) in STATES {
        stage.database.connection().execute_unprepared(reached_by).await.unwrap();
        // New connections make new plans.
        stage = Stage::new(stage.database).await;
        plans.take();
        stage.make_ordered(lane(1)).await;
        stage.queue.enqueue(&[jobs(lane(1), 1), jobs(lane(2), 1)].concat()).await.unwrap();
        assert_eq!(stage.take_in_turn(1).await.len(), 1);
        stage.queue.backlog().await.unwrap();
        stage.database.advance(Duration::from_secs(1)).await;
        stage.queue.relay().await.unwrap();
        assert_eq!(stage.take_in_turn(1).await.len(), 1);
        let all = plans.take();
        for part in
            ["INTO outbox", "FROM outbox ORDER BY rowid", "DELETE FROM outbox", "FROM outbox ORDER BY id"]
        {
            assert!(
                all.iter().any(|plan| plan.query.contains(part)),
                "{state}: {part}: no plan was reported"
            );
        }
        for part in ["INTO taken_jobs", "DELETE FROM taken_jobs"] {
            assert!(
                all.iter().any(|plan| plan.query.contains(part)),
                "{state}: {part}: no plan was reported"
            );
        }
        for plan in all {
            faults.extend(plan.faults().iter().map(|fault| format!("{state}: {fault}\n{plan}")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
