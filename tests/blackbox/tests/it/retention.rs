//! Old partitions: the plan that a user reads, and the worker that drops them.

use postrider_testkit::TestDatabase;
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use crate::deployment::{DEADLINE, Member, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_drops_the_partitions_that_the_plan_names() {
    let database = TestDatabase::postgres().await;
    let connection = database.connection();
    // 9 September 2001, and today.
    let make = "SELECT postrider_add_partition(1000000000000, 86400000); \
        SELECT postrider_add_partition((extract(epoch FROM now()) * 1000)::bigint, 86400000)";
    connection.execute_unprepared(make).await.unwrap();
    let url = database.url();

    let plan = async |history: &str| {
        let own = [("POSTRIDER_RETAIN_HISTORY", history)];
        let mut process = program("postrider", url, &own).arg("retention").arg("plan").start();
        assert!(process.wait(DEADLINE).await.success(), "{:?}", process.stderr());
        process.stdout()
    };
    let line = |lines: &[String]| lines.iter().find(|line| line.starts_with("20010909 ")).unwrap().clone();
    let printed = plan("2d").await;
    assert!(line(&printed).contains("2001-09-12T00:00:00"), "{printed:#?}");
    assert!(line(&printed).contains("with the partition"), "{printed:#?}");
    let printed = plan("forever").await;
    assert!(line(&printed).contains("never"), "{printed:#?}");

    let own = [("POSTRIDER_RETAIN_HISTORY", "2d"), ("POSTRIDER_RETAIN_DEAD", "30d")];
    let worker = Member::start(&program("postrider-worker", url, &own)).await;
    let kept = worker.process.wait_for_line(|line| line.contains("retention: "), DEADLINE).await;
    assert!(kept.contains("history=2d") && kept.contains("dead_letters=30d"), "{kept}");
    let dropped =
        worker.process.wait_for_line(|line| line.contains("dropped an old partition"), DEADLINE).await;
    assert!(dropped.contains("20010909"), "{dropped}");
    let left = "SELECT count(*) AS count FROM pg_class WHERE relname LIKE '%20010909%'";
    let left = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, left)).await.unwrap();
    assert_eq!(left.unwrap().try_get::<i64>("", "count").unwrap(), 0);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_removes_the_payloads_that_the_plan_names() {
    let database = TestDatabase::postgres().await;
    let connection = database.connection();
    let make = "SELECT postrider_add_partition(1000000000000, 86400000); \
        INSERT INTO events (tenant, id, event_type, agent_id, envelope, subscribers_found, dispatched_at) \
        SELECT 'default', postrider_id_at(1000000000000), 'a', 'default', 'Ada', 0, 1000000000000";
    connection.execute_unprepared(make).await.unwrap();
    let url = database.url();
    let own = [("POSTRIDER_RETAIN_HISTORY", "forever"), ("POSTRIDER_RETAIN_PAYLOADS", "2d")];
    let plan = async || {
        let mut process = program("postrider", url, &own).arg("retention").arg("plan").start();
        assert!(process.wait(DEADLINE).await.success(), "{:?}", process.stderr());
        process.stdout().iter().find(|line| line.starts_with("20010909 ")).unwrap().clone()
    };
    let printed = plan().await;
    assert!(printed.contains("2001-09-12T00:00:00") && printed.contains("never"), "{printed}");

    let worker = Member::start(&program("postrider-worker", url, &own)).await;
    let kept = worker.process.wait_for_line(|line| line.contains("retention: "), DEADLINE).await;
    assert!(kept.contains("payloads=2d"), "{kept}");
    let removed = |line: &str| line.contains("removed the payloads of an old partition");
    let removed = worker.process.wait_for_line(removed, DEADLINE).await;
    assert!(removed.contains("20010909"), "{removed}");
    let left = "SELECT count(*) AS count FROM events WHERE envelope IS NULL AND payload_gone = 2";
    let left = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, left)).await.unwrap();
    assert_eq!(left.unwrap().try_get::<i64>("", "count").unwrap(), 1);
    let printed = plan().await;
    assert!(printed.contains("removed"), "{printed}");
    worker.stop().await;
}
