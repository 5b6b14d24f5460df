//! What each statement of the queue costs must not grow with its tables, in any state that they go through.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postrider_database::{Config, Database, Guarded, Writes};
use postrider_queue::{
    CheckIn, Claim, ClaimedJob, Draining, Finish, JobId, LaneId, LaneOrder, LaneQuery, LaneSettings, Lease,
    LeaseToken, NewJob, Rescue, TransactionalQueue, WorkerId,
};
use postrider_testkit::TestDatabase;
use postrider_testkit::explain::Plans;
use sea_orm::ConnectionTrait as _;
use uuid::Uuid;

const LEASE: Duration = Duration::from_mins(1);

/// Nothing but the test may analyse or vacuum: the states are states of what the planner knows, too.
const BY_HAND: &str =
    "ALTER TABLE jobs SET (autovacuum_enabled = off); ALTER TABLE lanes SET (autovacuum_enabled = off);
    ALTER TABLE scheduled_jobs SET (autovacuum_enabled = off); ALTER TABLE claims SET (autovacuum_enabled = off);
    ALTER TABLE workers SET (autovacuum_enabled = off)";

/// The states, each reached from the one before.
const STATES: [(&str, &str); 6] = [
    ("empty", ""),
    ("analysed while empty", "ANALYZE jobs, lanes, scheduled_jobs, claims"),
    (
        "drained and full of dead rows",
        "INSERT INTO lanes (id, owner, ordered, rate_next_us, running, paused_until, probing)
             SELECT lpad(to_hex(n), 32, '0')::uuid, 'acme', false, 0, 0, 0, false FROM generate_series(1, 20000) AS n
             ON CONFLICT (id) DO NOTHING;
         INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues)
             SELECT gen_random_uuid(), lpad(to_hex(n % 20000 + 1), 32, '0')::uuid, 'acme', gen_random_uuid(), 0, 0, 0, 0
             FROM generate_series(1, 100000) AS n;
         INSERT INTO scheduled_jobs (id, lane, owner, subject, priority, available_at, claims, rescues)
             SELECT id, lane, owner, subject, 0, 0, 0, 0 FROM jobs;
         INSERT INTO claims (token, lease_until, lanes) SELECT id, 0, ARRAY[lane] FROM jobs;
         ANALYZE jobs, lanes, scheduled_jobs, claims;
         DELETE FROM jobs; DELETE FROM lanes; DELETE FROM scheduled_jobs; DELETE FROM claims",
    ),
    (
        "ten thousand lanes",
        "INSERT INTO lanes (id, owner, ordered, rate_next_us, running, paused_until, probing)
             SELECT lpad(to_hex(n), 32, '0')::uuid, 'acme', false, 0, 0, 0, false FROM generate_series(1, 10000) AS n
             ON CONFLICT (id) DO NOTHING;
         INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues)
             SELECT gen_random_uuid(), lanes.id, 'acme', gen_random_uuid(), 0, 0, 0, 0 FROM lanes, generate_series(1, 2)",
    ),
    ("ten thousand lanes, analysed", "ANALYZE jobs, lanes, scheduled_jobs, claims"),
    (
        "a million jobs",
        // Of each hundred, 93 are ready, 4 scheduled and 3 leased. Every tenth lane is paused, and every tenth crowded.
        "INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues, lease_token)
             SELECT gen_random_uuid(), lpad(to_hex(n % 1000 + 1), 32, '0')::uuid, 'acme', gen_random_uuid(), n % 2, 0, 0, 0,
                 CASE WHEN n % 100 >= 97 THEN gen_random_uuid() END
             FROM generate_series(1, 960000) AS n;
         INSERT INTO scheduled_jobs (id, lane, owner, subject, priority, available_at, claims, rescues)
             SELECT gen_random_uuid(), lpad(to_hex(n % 1000 + 1), 32, '0')::uuid, 'acme', gen_random_uuid(), 1,
                 9000000000000, 0, 0
             FROM generate_series(1, 40000) AS n;
         INSERT INTO claims (token, lease_until, lanes)
             SELECT gen_random_uuid(), 9000000000000, ARRAY[lpad(to_hex(n % 1000 + 1), 32, '0')::uuid]
             FROM generate_series(1, 20000) AS n;
         UPDATE lanes SET shut_until = 9000000000000, paused_until = 9000000000000
             WHERE get_byte(uuid_send(id), 15) % 10 = 7 AND id > '00000000-0000-0000-0000-000000000003';
         UPDATE lanes SET crowded = true WHERE get_byte(uuid_send(id), 15) % 10 = 8;
         ANALYZE jobs, lanes, scheduled_jobs, claims",
    ),
];

#[tokio::test]
async fn no_statement_scans_or_sorts_a_table() {
    let test = Test::new().await;
    let mut faults = Vec::new();
    for (state, reached_by) in STATES {
        test.database.connection().execute_unprepared(reached_by).await.unwrap();
        faults.extend(test.faults(state).await);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn a_missing_index_is_noticed() {
    let test = Test::new().await;
    let sql = "ALTER TABLE jobs DROP CONSTRAINT jobs_by_place";
    test.database.connection().execute_unprepared(sql).await.unwrap();
    let faults = test.faults("without jobs_by_place").await.join("\n");
    assert!(faults.contains("claim: a s"), "{faults}");
}

struct Test {
    database: TestDatabase,
    plans: Plans,
}

impl Test {
    async fn new() -> Self {
        let database = TestDatabase::postgres().await;
        database.connection().execute_unprepared(BY_HAND).await.unwrap();
        let plans = Plans::of(&database).await;
        Self { database, plans }
    }

    /// Runs every statement of the queue over new connections, and returns what is wrong with their plans.
    #[allow(clippy::too_many_lines, reason = "one part for each statement")]
    async fn faults(&self, state: &str) -> Vec<String> {
        let pool = Database::connect(Config::new(self.database.url().parse().unwrap())).await.unwrap();
        let queue = postrider_queue::open(&pool);
        self.plans.take();
        let mut faults = Vec::new();
        let mut check = |statement: &str| {
            let plans = self.plans.take();
            assert!(!plans.is_empty(), "{state}: {statement}: no plan was reported");
            for plan in plans {
                for fault in plan.faults() {
                    faults.push(format!("{state}: {statement}: {fault}\n{plan}"));
                }
            }
        };

        enqueue(&*queue, &pool, &[job(1), job(1), job(1), job(2), job(2), job(3)]).await;
        check("enqueue");
        let jobs = claim(&*queue, LEASE).await;
        check("claim");
        let leases: Vec<Lease> = jobs.iter().map(|job| job.lease).collect();
        assert_eq!(queue.extend(&leases, LEASE).await.unwrap().len(), leases.len());
        check("extend");
        let ends = [Finish::Done, Finish::Release, Finish::RetryIn(Duration::from_millis(1))];
        let ends: Vec<_> = leases.iter().copied().zip(ends.into_iter().cycle()).collect();
        assert_eq!(queue.finish(&ends).await.unwrap().len(), leases.len());
        check("finish");
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(queue.promote(100).await.unwrap().jobs > 0);
        check("promote");

        let jobs = claim(&*queue, LEASE).await;
        let mut guarded = Guarded::new(Writes::new());
        let done: Vec<_> = jobs.iter().map(|job| job.lease).collect();
        assert!(queue.done_with(&done, &mut guarded));
        self.plans.take();
        assert!(guarded.execute(pool.connection()).await.unwrap());
        check("done");

        enqueue(&*queue, &pool, &[job(1), job(2)]).await;
        assert!(!claim(&*queue, Duration::ZERO).await.is_empty());
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.plans.take();
        let rescue = Rescue { max: 100, max_rescues: 5, token: LeaseToken(fresh()), lease: LEASE };
        assert!(queue.rescue(&rescue).await.unwrap().returned > 0);
        check("rescue");

        let delayed = NewJob { delay: LEASE, ..job(1) };
        enqueue(&*queue, &pool, &[job(1), job(2), delayed]).await;
        queue.configure(lane(2), "acme", LaneSettings::default()).await.unwrap();
        queue.pause(lane(1), LEASE).await.unwrap();
        check("configure and pause");
        queue.resume(lane(1)).await.unwrap();
        check("resume");
        let crowd = "UPDATE lanes SET crowded = true WHERE id = '00000000-0000-0000-0000-000000000001'";
        self.database.connection().execute_unprepared(crowd).await.unwrap();
        self.plans.take();
        queue.tidy().await.unwrap();
        check("tidy");
        let transaction = pool.begin().await.unwrap();
        queue.drain_in(&transaction, lane(1), Draining::ThenRemoved).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(queue.next_draining(None).await.unwrap(), Some(lane(1)));
        let transaction = pool.begin().await.unwrap();
        let waiting = queue.waiting_in(&transaction, lane(1), 100).await.unwrap();
        assert!(!waiting.is_empty());
        check("find waiting jobs");
        queue.remove_in(&transaction, lane(1), &waiting).await.unwrap();
        queue.drained_in(&transaction, lane(1)).await.unwrap();
        transaction.commit().await.unwrap();
        check("remove waiting jobs");
        queue.remove_lanes(100).await.unwrap();
        check("remove lanes");
        let mut writes = Writes::new();
        queue.keep_lanes_with("acme", &[lane(1)].into(), &mut writes);
        writes.execute(pool.connection()).await.unwrap();
        check("keep lanes");
        let transaction = pool.begin().await.unwrap();
        queue.drain_in(&transaction, lane(1), Draining::No).await.unwrap();
        transaction.commit().await.unwrap();
        self.plans.take();
        queue.depth().await.unwrap();
        check("depth");
        queue.longest_wait(Duration::from_secs(1)).await.unwrap();
        check("longest wait");
        for owner in [None, Some("acme".to_owned())] {
            for order in [LaneOrder::Depth, LaneOrder::Age] {
                for one in [None, Some(lane(1))] {
                    let query = LaneQuery { owner: owner.clone(), lane: one, order, after: None, limit: 50 };
                    let listed = queue.lanes(&query).await.unwrap().lanes;
                    assert!(if one.is_some() { listed.len() <= 1 } else { !listed.is_empty() });
                }
            }
        }
        check("list lanes");
        let (worker, host, version) = (WorkerId(Uuid::from_u128(1)), "here".to_owned(), "1.0.0".to_owned());
        let check_in = CheckIn { worker, host, version, in_flight: 1, busy: false, lapse: LEASE };
        queue.check_in(&check_in).await.unwrap();
        check("check in");
        assert_eq!(queue.workers().await.unwrap().len(), 1);
        check("list workers");
        queue.check_out(worker).await.unwrap();
        check("check out");

        // Nothing of this is left for the next state to find, except in the tables' files.
        let sql = "DELETE FROM jobs WHERE trace IS NOT NULL; DELETE FROM claims WHERE lease_until < 9000000000000;
            DELETE FROM scheduled_jobs WHERE trace IS NOT NULL; UPDATE lanes SET crowded = false, head = 0 WHERE crowded
            AND id = '00000000-0000-0000-0000-000000000001'";
        self.database.connection().execute_unprepared(sql).await.unwrap();
        pool.close().await;
        faults
    }
}

async fn enqueue(queue: &dyn TransactionalQueue, pool: &Database, jobs: &[NewJob]) {
    let mut writes = Writes::new();
    queue.enqueue_with(jobs, &mut writes);
    writes.execute(pool.connection()).await.unwrap();
}

async fn claim(queue: &dyn TransactionalQueue, lease: Duration) -> Vec<ClaimedJob> {
    let jobs = queue.claim(&Claim::new(LeaseToken(fresh()), 10, lease)).await.unwrap().jobs;
    assert!(!jobs.is_empty());
    jobs
}

/// An id that is used once.
fn fresh() -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Uuid::from_u128(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)) << 64)
}

fn lane(number: u128) -> LaneId {
    LaneId(Uuid::from_u128(number))
}

fn job(number: u128) -> NewJob {
    let trace = Some("00-1-1-01".to_owned());
    NewJob { trace, ..NewJob::now(JobId(fresh()), lane(number), "acme", Uuid::nil()) }
}
