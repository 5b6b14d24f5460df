//! Many concurrent attempts against receivers that never end their bodies. `tests/blackbox` measures the memory of a
//! worker with a thousand of them.

use std::time::Duration;

use postrider_delivery::{BodyNote, Config};

use crate::receiver::Receiver;
use crate::setup::*;

const ATTEMPTS: usize = 200;
const TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_attempts_end_by_their_deadline() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        connection.repeat(b"1\r\nz\r\n", Duration::from_millis(50)).await;
    })
    .await;
    let client = client(Config { request_timeout: TIMEOUT, ..config() });
    let attempts: Vec<_> = (0..ATTEMPTS)
        .map(|_| {
            let (client, request) = (client.clone(), post(&receiver.url("/")));
            tokio::spawn(async move { client.send(request).await })
        })
        .collect();
    for attempt in attempts {
        let sent = attempt.await.unwrap();
        assert!(sent.is_success(), "{sent:?}");
        assert!(sent.duration >= TIMEOUT && sent.duration < TIMEOUT + SLACK, "{:?}", sent.duration);
        assert_eq!(sent.result.unwrap().note, Some(BodyNote::TimedOut));
    }
    assert_eq!(receiver.accepted(), ATTEMPTS);
    receiver.all_ended().await;
}
