//! The migration to the queue of one index, with data in every state.

use std::time::Duration;

use postrider_database::{Config, Database};
use postrider_migrations::{Migrator, migrate};
use postrider_queue::{Claim, Depth, Finish, LaneId, LeaseToken, TransactionalQueue};
use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait as _, DbBackend};
use sea_orm_migration::prelude::*;
use uuid::Uuid;

/// The schema before.
struct Before;

impl MigratorTrait for Before {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        Migrator::migrations().into_iter().take_while(|one| one.name() != "m0005_queue").collect()
    }
}

/// Lanes 1 to 4: open, paused by a breaker, ordered and waiting for a retry, and draining after its owner was deleted. In
/// the first, jobs 1 to 8: two ready, one ready retry, two scheduled, one parked and two running.
const DATA: &str = "
INSERT INTO subscribers (id, tenant, url, description, secret, policy, active, created_at, updated_at)
    VALUES ({id:1}, 'acme', 'http://x', '', 'x', '{}', true, 0, 0), ({id:2}, 'umbrella', 'http://x', '', 'x', '{}', true, 0, 0),
        ({id:3}, 'umbrella', 'http://x', '', 'x', '{}', true, 0, 0);
INSERT INTO deliveries (id, tenant, event_id, subscriber_id, event_type, status, attempts, round_start, created_at)
    VALUES ({id:101}, 'acme', {id:1}, {id:1}, 'a.b', 0, 0, 0, 0), ({id:104}, 'umbrella', {id:1}, {id:4}, 'a.b', 0, 0, 0, 0);
INSERT INTO lanes (id, concurrency, ordered, rate_next_us, running, paused_until, probing, parked, shut, draining) VALUES
    ({id:1}, 5, false, 0, 2, 0, false, true, false, false),
    ({id:2}, NULL, false, 0, 0, 9000000000000, true, true, true, false),
    ({id:3}, NULL, true, 0, 0, 9000000000000, false, false, true, false),
    ({id:4}, NULL, false, 0, 0, 0, false, false, false, true);
INSERT INTO jobs (id, lane, subject, state, priority, available_at, lease_token, lease_until, claims, rescues, trace) VALUES
    ({id:11}, {id:1}, {id:101}, 3, 0, 1, {id:99}, 9000000000000, 1, 0, 'trace'),
    ({id:12}, {id:1}, {id:101}, 3, 0, 1, {id:99}, 1, 3, 2, NULL),
    ({id:13}, {id:1}, {id:101}, 0, 1, 1, NULL, NULL, 1, 0, NULL),
    ({id:14}, {id:1}, {id:101}, 0, 0, 1, NULL, NULL, 0, 0, NULL),
    ({id:15}, {id:1}, {id:101}, 1, 1, 2, NULL, NULL, 1, 0, NULL),
    ({id:16}, {id:1}, {id:101}, 1, 0, 9000000000000, NULL, NULL, 0, 0, NULL),
    ({id:17}, {id:1}, {id:101}, 2, 0, 1, NULL, NULL, 0, 0, NULL),
    ({id:21}, {id:2}, {id:102}, 2, 0, 1, NULL, NULL, 0, 0, NULL),
    ({id:22}, {id:2}, {id:102}, 0, 0, 1, NULL, NULL, 0, 0, NULL),
    ({id:31}, {id:3}, {id:103}, 0, 0, 9000000000000, NULL, NULL, 1, 0, NULL),
    ({id:41}, {id:4}, {id:104}, 0, 0, 1, NULL, NULL, 0, 0, NULL)";

#[tokio::test]
async fn jobs_of_every_state_survive_the_migration_on_postgres() {
    survive(TestDatabase::postgres_with::<Before>().await).await;
}

#[tokio::test]
async fn jobs_of_every_state_survive_the_migration_on_sqlite() {
    survive(TestDatabase::sqlite_with::<Before>().await).await;
}

async fn survive(database: TestDatabase) {
    let connection = database.connection();
    let is_postgres = connection.get_database_backend() == DbBackend::Postgres;
    let data = (1..=110).fold(DATA.to_owned(), |sql, number: u128| {
        let id = Uuid::from_u128(number);
        let literal = if is_postgres { format!("'{id}'") } else { format!("x'{}'", id.simple()) };
        sql.replace(&format!("{{id:{number}}}"), &literal)
    });
    connection.execute_unprepared(&data).await.unwrap();
    migrate(&connection).await.unwrap();

    let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
    let queue = postrider_queue::open(&pool);
    let depth = queue.depth().await.unwrap();
    let counts = Depth { oldest_ready: None, ..depth };
    // The job of the draining lane is ready, too.
    assert_eq!(counts, Depth { ready: 6, scheduled: 2, held: 3, running: 0, oldest_ready: None });
    assert_eq!(claimed(&*queue, 1).await, [11, 12, 14, 17, 13], "in their order, retries last; at most five");
    assert_eq!(queue.promote(100).await.unwrap().jobs, 1);
    assert_eq!(claimed(&*queue, 2).await, [15]);
    for paused in [2, 3] {
        queue.resume(lane(paused)).await.unwrap();
    }
    assert_eq!(claimed(&*queue, 3).await, [21, 31, 22]);
    let transaction = pool.begin().await.unwrap();
    let waiting = queue.waiting_in(&transaction, lane(4), 10).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(waiting.iter().map(|job| job.id.0.as_u128()).collect::<Vec<_>>(), [41]);
    assert_eq!(queue.next_draining(None).await.unwrap(), Some(lane(4)));
}

/// Claims, checks the owners, and finishes. Returns the numbers of the jobs.
async fn claimed(queue: &dyn TransactionalQueue, token: u128) -> Vec<u128> {
    let claim = Claim::new(LeaseToken(Uuid::from_u128(token)), 100, Duration::from_mins(1));
    let jobs = queue.claim(&claim).await.unwrap().jobs;
    for job in &jobs {
        assert_eq!(job.owner, if job.lease.lane == lane(1) { "acme" } else { "" });
    }
    let done: Vec<_> = jobs.iter().map(|job| (job.lease, Finish::Done)).collect();
    assert_eq!(queue.finish(&done).await.unwrap().len(), jobs.len());
    jobs.iter().map(|job| job.lease.job.0.as_u128()).collect()
}

fn lane(number: u128) -> LaneId {
    LaneId(Uuid::from_u128(number))
}
