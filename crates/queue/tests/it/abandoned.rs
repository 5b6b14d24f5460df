//! Claims over a long queue whose callers give up: nothing piles up in PostgreSQL, and other claims succeed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use postrider_database::{Config, Database};
use postrider_queue::{Claim, Finish, LeaseToken, QueueError, TransactionalQueue};
use postrider_testkit::sessions::{Watch, running};
use postrider_testkit::{TestDatabase, eventually};
use sea_orm::ConnectionTrait as _;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

const WORKERS: usize = 6;

/// How long callers wait before they give up, in turn. The last ones get their answer.
const DEADLINES: [Duration; 4] =
    [Duration::from_millis(1), Duration::from_millis(10), Duration::from_millis(40), Duration::MAX];

/// How many ready jobs there are in how many lanes, and for how long workers claim.
struct Size {
    lanes: u32,
    jobs: u32,
    claiming: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_whose_callers_give_up_do_not_pile_up() {
    claim_and_give_up(Size { lanes: 2_000, jobs: 100_000, claiming: Duration::from_secs(3) }).await;
}

/// `cargo xtask test -- -p postrider-queue --test it -- --ignored --nocapture full_size`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "1.6 million jobs take a minute"]
async fn claims_whose_callers_give_up_do_not_pile_up_at_full_size() {
    claim_and_give_up(Size { lanes: 10_000, jobs: 1_600_000, claiming: Duration::from_secs(30) }).await;
}

async fn claim_and_give_up(size: Size) {
    let test = TestDatabase::postgres().await;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let config = Config { max_connections: 4, ..Config::new(test.url().parse().unwrap()) };
        let worker = postrider_queue::open(&Database::connect(config).await.unwrap());
        // Plans are made while the tables are empty, which is the worst case.
        assert_eq!(claim(&*worker, Duration::MAX).await.unwrap().unwrap(), 0);
        workers.push(worker);
    }
    seed(&test, &size).await;

    let watch = Watch::over(&test);
    let end = Instant::now() + size.claiming;
    let mut claiming: JoinSet<_> = workers.into_iter().map(|worker| claim_until(worker, end)).collect();
    while let Some(done) = claiming.join_next().await {
        let Claims { answered, abandoned, jobs, slowest } = done.unwrap();
        println!("{answered} claims of {jobs} jobs, the slowest in {slowest:?}; {abandoned} abandoned");
        assert!(answered > 0 && jobs > 0 && abandoned > 0);
    }
    let oldest = watch.oldest();
    println!("the oldest statement ran for {:?}: {}", oldest.age, oldest.query);
    let limit = Config::new(test.url().parse().unwrap()).statement_timeout();
    assert!(oldest.age < limit, "{oldest:?}");
    eventually(Duration::from_secs(2), || async { running(&test).await.is_empty().then_some(()) }).await;
}

async fn seed(test: &TestDatabase, size: &Size) {
    let Size { lanes, jobs, .. } = size;
    let started = Instant::now();
    for sql in [
        format!(
            "INSERT INTO lanes (id, owner, ordered, rate_next_us, running, paused_until, probing)
                SELECT lpad(to_hex(n), 32, '0')::uuid, 'acme', false, 0, 0, 0, false
                FROM generate_series(1, {lanes}) AS n"
        ),
        format!(
            "INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues)
                SELECT gen_random_uuid(), lpad(to_hex(n % {lanes} + 1), 32, '0')::uuid, 'acme', gen_random_uuid(),
                    0, n, 0, 0 FROM generate_series(1, {jobs}) AS n"
        ),
    ] {
        test.connection().execute_unprepared(&sql).await.unwrap();
    }
    println!("{jobs} jobs in {lanes} lanes, seeded in {:?}", started.elapsed());
}

/// What became of a worker's claims.
#[derive(Default)]
struct Claims {
    answered: u32,
    abandoned: u32,
    jobs: usize,
    slowest: Duration,
}

async fn claim_until(worker: Arc<dyn TransactionalQueue>, end: Instant) -> Claims {
    let mut claims = Claims::default();
    for deadline in DEADLINES.into_iter().cycle() {
        if Instant::now() > end {
            break;
        }
        let began = Instant::now();
        match claim(&*worker, deadline).await {
            Some(jobs) => {
                claims.answered += 1;
                claims.jobs += jobs.unwrap();
                claims.slowest = claims.slowest.max(began.elapsed());
            }
            None => claims.abandoned += 1,
        }
    }
    claims
}

/// Claims jobs, ends them, and returns their number. `None` if that takes longer than the caller waits.
async fn claim(worker: &dyn TransactionalQueue, deadline: Duration) -> Option<Result<usize, QueueError>> {
    static TOKENS: AtomicU64 = AtomicU64::new(1);
    let token = LeaseToken(Uuid::from_u128(TOKENS.fetch_add(1, Ordering::Relaxed).into()));
    let claiming = async {
        let jobs = worker.claim(&Claim::new(token, 200, Duration::from_mins(1))).await?.jobs;
        let done: Vec<_> = jobs.iter().map(|job| (job.lease, Finish::Done)).collect();
        worker.finish(&done).await?;
        Ok(jobs.len())
    };
    timeout(deadline, claiming).await.ok()
}
