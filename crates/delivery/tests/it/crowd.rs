//! Many receivers at once that never end their bodies.

use std::time::{Duration, Instant};

use postrider_delivery::{BodyNote, Config};

use crate::receiver::Receiver;
use crate::setup::*;

async fn crowd(size: usize, timeout: Duration, slack: Duration) {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        connection.repeat(b"1\r\nz\r\n", Duration::from_millis(50)).await;
    })
    .await;
    let client = client(Config { request_timeout: timeout, ..config() });
    let started = Instant::now();
    let attempts: Vec<_> = (0..size)
        .map(|_| {
            let (client, request) = (client.clone(), post(&receiver.url("/")));
            tokio::spawn(async move { client.send(request).await })
        })
        .collect();
    for attempt in attempts {
        let outcome = attempt.await.unwrap();
        assert!(outcome.is_success(), "{outcome:?}");
        assert!(outcome.duration < timeout + slack, "{:?}", outcome.duration);
        assert_eq!(outcome.result.unwrap().note, Some(BodyNote::TimedOut));
    }
    assert!(started.elapsed() < timeout + 2 * slack, "{:?}", started.elapsed());
    assert_eq!(receiver.accepted(), size);
    receiver.all_ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_attempts_end_by_their_deadline() {
    crowd(200, Duration::from_secs(2), Duration::from_secs(2)).await;
}

/// The whole process, receivers included; alone, since the other tests' memory would count too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures the process's memory: run alone"]
async fn a_thousand_attempts_stay_under_150_mib() {
    crowd(1000, Duration::from_secs(5), Duration::from_secs(2)).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("peak resident memory: {} MiB", kib / 1024);
    assert!(kib < 150 * 1024, "{kib} KiB");
}
