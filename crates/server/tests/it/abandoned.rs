//! Clients that disconnect before a slow list has been read: their statements end, and events are not delayed.

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

/// No delivery was answered with this status, so a list of those that were reads all of them.
const UNLUCKY: &str = "/v1/deliveries?response_code=418";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_whose_clients_disconnect_end_and_delay_no_event() {
    list_and_disconnect(1_000_000).await;
}

/// `cargo xtask test -- -p postrider-server --test it -- --ignored --nocapture full_size`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "six million deliveries take a minute"]
async fn lists_whose_clients_disconnect_end_and_delay_no_event_at_full_size() {
    list_and_disconnect(6_000_000).await;
}

async fn list_and_disconnect(deliveries: u32) {
    let test = TestDatabase::postgres().await;
    let config = DatabaseConfig::new(test.url().parse().unwrap());
    let server = TestServer::over(test, config, |_| axum::Router::new(), |config| config).await;
    server.subscriber(&["*"]).await;
    server.event("before").await;
    seed(&server.test_database, deliveries).await;
    let watch = Watch::over(&server.test_database);

    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = TcpStream::connect(server.address).await.unwrap();
        let request = format!("GET {UNLUCKY} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\r\n");
        caller.write_all(request.as_bytes()).await.unwrap();
        callers.push(caller);
    }
    let lists = async || {
        running(&server.test_database).await.into_iter().filter(|seen| seen.query.contains("deliveries"))
    };
    let some = eventually(DEADLINE, async || {
        let lists = lists().await.count();
        (lists > 4).then_some(lists)
    });
    println!("{} lists at once", some.await);
    let during = acknowledged(&server).await;
    drop(callers);

    let left = Instant::now();
    eventually(Duration::from_secs(4), async || (lists().await.count() == 0).then_some(())).await;
    let ended = left.elapsed();
    let after = acknowledged(&server).await;
    println!(
        "an event took {during:?} during the lists and {after:?} after them, which ended within {ended:?}"
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

/// Inserts deliveries that succeeded.
async fn seed(test: &TestDatabase, deliveries: u32) {
    let started = Instant::now();
    let sql = format!(
        "DROP INDEX deliveries_by_subscriber; DROP INDEX deliveries_by_event; SET synchronous_commit = off;
        INSERT INTO deliveries (id, tenant, event_id, subscriber_id, event_type, status, attempts, round_start,
            job_id, response_status, created_at, ended_at)
        SELECT lpad(to_hex(n), 32, '0')::uuid, 'default', lpad(to_hex(n), 32, '0')::uuid, lpad(to_hex(n % 100), 32, '0')::uuid,
            'order.created', 1, 1, 0, NULL, 200, n, n FROM generate_series(1, {deliveries}) AS n"
    );
    test.connection().execute_unprepared(&sql).await.unwrap();
    println!("{deliveries} deliveries, seeded in {:?}", started.elapsed());
}
