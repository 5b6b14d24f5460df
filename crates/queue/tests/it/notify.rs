//! Wake-ups between processes over PostgreSQL, each with a pool of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider_database::{Config, Database};
use postrider_queue::{JobId, LaneId, NewJob, TransactionalQueue, Wakeups};
use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait as _, Statement};
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(20);

async fn process(database: &TestDatabase) -> Arc<dyn TransactionalQueue> {
    let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
    postrider_queue::open(&pool)
}

fn job(number: u128) -> NewJob {
    NewJob::now(JobId(Uuid::from_u128(number)), LaneId(Uuid::from_u128(1)), "acme", Uuid::nil())
}

/// Listening begins with a hint, since notifications may have been missed before.
async fn listening(wakeups: &mut Wakeups) {
    tokio::time::timeout(DEADLINE, wakeups.woken()).await.expect("listening began");
}

#[tokio::test]
async fn enqueueing_in_one_process_wakes_another() {
    let database = TestDatabase::postgres().await;
    let (here, there) = (process(&database).await, process(&database).await);
    let mut wakeups = there.wakeups();
    listening(&mut wakeups).await;
    wakeups.mark_seen();
    let enqueued = Instant::now();
    here.enqueue(&[job(1)]).await.unwrap();
    tokio::time::timeout(DEADLINE, wakeups.woken()).await.expect("a notification came");
    println!("heard {:?} after enqueueing began", enqueued.elapsed());
}

#[tokio::test]
async fn listening_continues_after_its_connection_is_killed() {
    let database = TestDatabase::postgres().await;
    let (here, there) = (process(&database).await, process(&database).await);
    let mut wakeups = there.wakeups();
    listening(&mut wakeups).await;
    let admin = database.connection();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let kill = Statement::from_string(admin.get_database_backend(), kill);
    assert_eq!(admin.query_all_raw(kill).await.unwrap().len(), 1);
    // Listening begins again with a hint, as notifications may have been missed.
    tokio::time::timeout(DEADLINE, wakeups.woken()).await.expect("listening began again");
    wakeups.mark_seen();
    here.enqueue(&[job(1)]).await.unwrap();
    tokio::time::timeout(DEADLINE, wakeups.woken()).await.expect("a notification came");
}
