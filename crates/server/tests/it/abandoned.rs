//! Clients that disconnect before a slow read has ended: their statements end, and events are not delayed.

use std::time::{Duration, Instant};

use postrider_database::Config as DatabaseConfig;
use postrider_testkit::sessions::{Watch, running};
use postrider_testkit::{TestDatabase, eventually};
use sea_orm::ConnectionTrait as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::api::{KEY, TestServer};

const DEADLINE: Duration = Duration::from_mins(1);
const CALLERS: usize = 24;

/// For how long an event may wait for its acknowledgement on a machine that runs other tests, too.
const ACKNOWLEDGED: Duration = Duration::from_secs(2);

/// It reads roll-ups, which the test makes slow.
const SLOW: &str = "/v1/stats";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_whose_clients_disconnect_end_and_delay_no_event() {
    read_and_disconnect(1_000_000).await;
}

/// `cargo xtask test -- -p postrider-server --test it -- --ignored --nocapture full_size`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn reads_whose_clients_disconnect_end_and_delay_no_event_at_full_size() {
    read_and_disconnect(6_000_000).await;
}

async fn read_and_disconnect(numbers: u32) {
    let test = TestDatabase::postgres().await;
    let config = DatabaseConfig::new(test.url().parse().unwrap());
    let server = TestServer::over(test, config, |_| axum::Router::new(), |config| config).await;
    server.subscriber(&["*"]).await;
    server.event("before").await;
    slow(&server.test_database, numbers).await;
    let watch = Watch::over(&server.test_database);

    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET {SLOW} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n");
        caller.write_all(request.as_bytes()).await.unwrap();
        callers.push(caller);
    }
    let reads = async || {
        running(&server.test_database)
            .await
            .into_iter()
            .filter(|seen| seen.query.contains("event_type, span, start"))
    };
    let some = eventually(DEADLINE, async || {
        let reads = reads().await.count();
        (reads > 4).then_some(reads)
    });
    println!("{} reads at once", some.await);
    let during = acknowledged(&server).await;
    drop(callers);

    let left = Instant::now();
    eventually(Duration::from_secs(4), async || (reads().await.count() == 0).then_some(())).await;
    let ended = left.elapsed();
    let after = acknowledged(&server).await;
    println!(
        "an event took {during:?} during the reads and {after:?} after them, which ended within {ended:?}"
    );
    let oldest = watch.oldest();
    println!("the oldest statement ran for {:?}", oldest.age);
    assert!(during < ACKNOWLEDGED && after < ACKNOWLEDGED);
}

/// The longest of some acknowledgements, one after the other.
async fn acknowledged(server: &TestServer) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let began = Instant::now();
        server.event("during").await;
        longest = longest.max(began.elapsed());
    }
    longest
}

/// Makes the server count to a number whenever it reads roll-ups.
async fn slow(test: &TestDatabase, numbers: u32) {
    let sql = format!(
        "ALTER TABLE rollups RENAME TO stored_rollups;
        CREATE VIEW rollups AS SELECT * FROM stored_rollups
            WHERE (SELECT count(*) FROM generate_series(1, {numbers})) > 0"
    );
    test.connection().execute_unprepared(&sql).await.unwrap();
}
