//! The depth of a long queue, as PostgreSQL estimates it.

use postrider_database::{Config, Database};
use postrider_queue::{JobId, LaneId, NewJob};
use postrider_testkit::TestDatabase;
use sea_orm::ConnectionTrait as _;
use uuid::Uuid;

#[tokio::test]
async fn the_depth_of_a_long_queue_is_estimated() {
    let database = TestDatabase::postgres().await;
    let pool = Database::connect(Config::new(database.url().parse().unwrap())).await.unwrap();
    let queue = postrider_queue::open(&pool);
    let jobs: Vec<_> = (1..=30_000_u128)
        .map(|number| {
            NewJob::now(
                JobId(Uuid::from_u128(number)),
                LaneId(Uuid::from_u128(number % 7)),
                "acme",
                Uuid::nil(),
            )
        })
        .collect();
    queue.enqueue(&jobs).await.unwrap();
    database.connection().execute_unprepared("VACUUM ANALYZE jobs").await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert!(depth.ready.abs_diff(30_000) < 1_500, "{depth:?}");
    assert_eq!((depth.scheduled, depth.held, depth.running), (0, 0, 0));
}
