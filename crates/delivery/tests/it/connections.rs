//! Connections: reused, stale, refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postrider_core::ErrorKind;
use postrider_delivery::{Client, Config};
use tokio::net::TcpListener;

use crate::receiver::{Receiver, until};
use crate::setup::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn a_connection_is_reused() {
    let receiver = Receiver::answering(OK).await;
    let client = client(long_timeout());
    for _ in 0..3 {
        assert!(client.clone().send(post(&receiver.url("/"))).await.is_success());
    }
    assert_eq!((receiver.requests().len(), receiver.accepted()), (3, 1));
}

#[tokio::test]
async fn a_connection_is_reused_after_a_slightly_too_long_body() {
    for (length, accepted) in [(6_000, 1), (1_000_000, 2)] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let receiver = Receiver::answering([head.as_bytes(), &vec![b'z'; length]].concat()).await;
        let client = client(long_timeout());
        for _ in 0..2 {
            assert!(client.send(post(&receiver.url("/"))).await.result.unwrap().truncated);
        }
        assert_eq!((receiver.requests().len(), receiver.accepted()), (2, accepted), "{length}");
    }
}

#[tokio::test]
async fn a_connection_is_reused_if_the_rest_of_a_body_arrives_soon() {
    let receiver = Receiver::start(|mut connection| async move {
        while connection.request().await.is_some() {
            let _ = connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12000\r\n\r\n").await;
            let _ = connection.write(&[b'z'; 6000]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = connection.write(&[b'z'; 6000]).await;
        }
    })
    .await;
    // On a busy machine the rest may arrive too late, so one reused connection in a hundred attempts is enough.
    let client = client(long_timeout());
    for sent in 1..=100 {
        assert!(client.send(post(&receiver.url("/"))).await.result.unwrap().truncated);
        if receiver.accepted() < sent {
            return;
        }
    }
    panic!("no connection was reused");
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let receiver = Receiver::answering(OK).await;
    let client = client(Config { idle_timeout: Duration::from_millis(200), ..long_timeout() });
    assert!(client.send(post(&receiver.url("/"))).await.is_success());
    receiver.all_ended().await;
    assert!(client.send(post(&receiver.url("/"))).await.is_success());
    assert_eq!(receiver.accepted(), 2);
}

#[tokio::test]
async fn a_stale_connection_is_replaced_without_a_duplicate_request() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(OK).await;
    })
    .await;
    let client = client(long_timeout());
    for round in 1..=5 {
        assert!(client.send(post(&receiver.url("/"))).await.is_success(), "round {round}");
        receiver.all_ended().await;
        // The receiver has closed the connection. The client learns it during the first pause at the latest, and reacts
        // during the second.
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!((receiver.requests().len(), receiver.accepted()), (5, 5));
}

/// Answers the first `answered` requests of each connection, and closes it when the next has arrived.
async fn closing_after(answered: usize) -> Receiver {
    Receiver::start(move |mut connection| async move {
        for _ in 0..answered {
            connection.request().await;
            let _ = connection.write(OK).await;
        }
        connection.request().await;
    })
    .await
}

#[tokio::test]
async fn a_request_on_a_reused_connection_that_closes_is_sent_once_more() {
    let receiver = closing_after(1).await;
    let client = client(long_timeout());
    let first = client.send(post(&receiver.url("/"))).await;
    assert!(first.is_success() && !first.trail.resent, "{first:?}");
    let second = client.send(post(&receiver.url("/"))).await;
    assert!(second.is_success() && second.trail.resent, "{second:?}");
    assert_eq!((receiver.requests().len(), receiver.accepted()), (3, 2));
}

#[tokio::test]
async fn a_request_is_sent_once_more_and_not_twice() {
    let closing = Arc::new(AtomicBool::new(false));
    let for_script = closing.clone();
    let receiver = Receiver::start(move |mut connection| {
        let closing = for_script.clone();
        async move {
            while connection.request().await.is_some() && !closing.load(Ordering::SeqCst) {
                let _ = connection.write(OK).await;
            }
        }
    })
    .await;
    let client = client(long_timeout());
    assert!(client.send(post(&receiver.url("/"))).await.is_success());
    closing.store(true, Ordering::SeqCst);
    let sent = client.send(post(&receiver.url("/"))).await;
    assert!(sent.trail.resent);
    assert_eq!(failure_of(sent).kind, ErrorKind::Reset);
    assert_eq!((receiver.requests().len(), receiver.accepted()), (3, 2));
}

#[tokio::test]
async fn a_request_on_a_new_connection_that_closes_is_not_sent_again() {
    let receiver = closing_after(0).await;
    let sent = send(long_timeout(), &receiver.url("/")).await;
    assert!(!sent.trail.resent);
    assert_eq!(failure_of(sent).kind, ErrorKind::Reset);
    assert_eq!((receiver.requests().len(), receiver.accepted()), (1, 1));
}

#[tokio::test]
async fn a_request_whose_answer_has_begun_is_not_sent_again() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(OK).await;
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 2").await;
    })
    .await;
    let client = client(long_timeout());
    assert!(client.send(post(&receiver.url("/"))).await.is_success());
    let sent = client.send(post(&receiver.url("/"))).await;
    assert!(!sent.trail.resent);
    assert_eq!(failure_of(sent).kind, ErrorKind::Reset);
    assert_eq!((receiver.requests().len(), receiver.accepted()), (2, 1));
}

#[tokio::test]
async fn a_connection_is_not_reused_after_the_time_that_its_receiver_keeps_it() {
    for (header, accepted) in [("timeout=0", 3), ("timeout=5", 1)] {
        let answer = format!("HTTP/1.1 200 OK\r\nKeep-Alive: {header}\r\nContent-Length: 0\r\n\r\n");
        let receiver = Receiver::answering(answer).await;
        let client = client(Config { idle_timeout: Duration::from_mins(1), ..long_timeout() });
        for _ in 0..3 {
            assert!(client.send(post(&receiver.url("/"))).await.is_success());
        }
        assert_eq!((receiver.requests().len(), receiver.accepted()), (3, accepted), "{header}");
    }
}

#[tokio::test]
async fn a_closed_port_is_a_connect_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failure = failure(long_timeout(), &format!("http://{address}/")).await;
    assert_eq!(failure.kind, ErrorKind::Connect);
    assert_eq!(failure.to_string(), "the receiver refused the connection");
}

#[tokio::test]
async fn the_next_address_is_tried_if_one_refuses_the_connection() {
    let receiver = Receiver::listen("127.0.0.3:0", None, |mut connection| async move {
        connection.request().await;
        let _ = connection.write(OK).await;
    })
    .await;
    let names = Names::new("receiver.test", &[&["127.0.0.2", "127.0.0.3"]]);
    let client = Client::with_resolver(long_timeout(), names).unwrap();
    let url = format!("http://receiver.test:{}/", receiver.address.port());
    assert!(client.send(post(&url)).await.is_success());
    until("the receiver was reached", || receiver.accepted() == 1).await;
}

#[tokio::test]
async fn idle_connections_are_limited_over_all_receivers() {
    let client = client(Config { idle_timeout: Duration::from_mins(1), ..long_timeout() });
    client.keep_idle(2);
    let mut receivers = Vec::new();
    for _ in 0..4 {
        receivers.push(Receiver::answering(OK).await);
    }
    for _ in 0..2 {
        for receiver in &receivers {
            assert!(client.send(post(&receiver.url("/"))).await.is_success());
        }
    }
    let accepted: Vec<_> = receivers.iter().map(Receiver::accepted).collect();
    assert_eq!(accepted, [1, 1, 2, 2]);
}
