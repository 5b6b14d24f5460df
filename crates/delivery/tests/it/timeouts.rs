//! One deadline over everything, and what was being waited for when it came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider_core::ErrorKind;
use postrider_delivery::{Client, Config};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::receiver::Receiver;
use crate::setup::*;

#[tokio::test]
async fn silence_after_the_request() {
    let receiver = Receiver::start(|mut connection| async move { connection.hang().await }).await;
    let outcome = send(config(), &receiver.url("/")).await;
    ended_at_the_deadline(&outcome);
    assert_eq!(told(outcome).kind, ErrorKind::TimeoutHeaders);
    receiver.all_ended().await;
}

#[tokio::test]
async fn headers_byte_by_byte() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nX-Slow: ").await;
        connection.repeat(b"y", Duration::from_millis(10)).await;
    })
    .await;
    let outcome = send(config(), &receiver.url("/")).await;
    ended_at_the_deadline(&outcome);
    assert_eq!(told(outcome).kind, ErrorKind::TimeoutHeaders);
    receiver.all_ended().await;
}

#[tokio::test]
async fn a_request_that_is_not_read() {
    let receiver = Receiver::start(|connection| async move {
        std::future::pending::<()>().await;
        drop(connection);
    })
    .await;
    let mut request = post(&receiver.url("/"));
    request.body = vec![b'x'; 32 * 1024 * 1024].into();
    let outcome = client(config()).send(request).await;
    ended_at_the_deadline(&outcome);
    assert_eq!(told(outcome).kind, ErrorKind::TimeoutHeaders);
}

#[tokio::test]
async fn silence_on_a_connection_of_the_pool() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        connection.hang().await;
    })
    .await;
    let client = client(config());
    assert!(client.send(post(&receiver.url("/"))).await.is_success());
    let outcome = client.send(post(&receiver.url("/"))).await;
    assert_eq!(receiver.accepted(), 1);
    ended_at_the_deadline(&outcome);
    assert_eq!(told(outcome).kind, ErrorKind::TimeoutHeaders);
}

#[tokio::test]
async fn names_that_are_never_resolved() {
    for config in [config(), Config { connect_timeout: DEADLINE, ..patient() }] {
        let client = Client::with_resolver(config, Arc::new(Silent)).unwrap();
        let outcome = client.send(post("http://receiver.test/")).await;
        ended_at_the_deadline(&outcome);
        assert_eq!(told(outcome).kind, ErrorKind::TimeoutDns);
    }
    let client =
        Client::with_resolver(Config { connect_timeout: DEADLINE, ..patient() }, Arc::new(Silent)).unwrap();
    let failure = client.check(&"http://receiver.test/".parse().unwrap()).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::TimeoutDns);
}

/// An address whose backlog is full, so that the kernel drops what else comes, as a firewall would.
pub(crate) async fn black_hole(address: &str) -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        waiting.push(stream);
    }
    (address, listener, waiting)
}

#[tokio::test]
async fn connections_that_are_never_accepted() {
    let (address, _listener, _waiting) = black_hole("127.0.0.1:0").await;
    for config in [config(), Config { connect_timeout: DEADLINE, ..patient() }] {
        let outcome = send(config, &format!("http://{address}/")).await;
        ended_at_the_deadline(&outcome);
        assert_eq!(told(outcome).kind, ErrorKind::TimeoutConnect);
    }
}

#[tokio::test]
async fn a_silent_first_address_leaves_time_for_the_second() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = receiver.address.port();
    let (_, _listener, _waiting) = black_hole(&format!("127.0.0.2:{port}")).await;
    let names = Names::new("receiver.test", &[&["127.0.0.2", "127.0.0.1"]]);
    let client = Client::with_resolver(Config { request_timeout: 2 * DEADLINE, ..config() }, names).unwrap();
    let outcome = client.send(post(&format!("http://receiver.test:{port}/"))).await;
    assert!(outcome.is_success(), "{outcome:?}");
    assert!(outcome.duration >= DEADLINE, "half of the time was the first address's: {:?}", outcome.duration);
}

#[tokio::test]
async fn handshakes_that_are_never_answered() {
    let receiver = Receiver::start(|mut connection| async move { connection.hang().await }).await;
    for config in [config(), Config { connect_timeout: DEADLINE, ..patient() }] {
        let outcome = send(config, &format!("https://{}/", receiver.address)).await;
        ended_at_the_deadline(&outcome);
        assert_eq!(told(outcome).kind, ErrorKind::TimeoutTls);
    }
    receiver.all_ended().await;
}

#[tokio::test]
async fn a_subscribers_own_timeout_counts() {
    let receiver = Receiver::start(|mut connection| async move { connection.hang().await }).await;
    let mut request = post(&receiver.url("/"));
    request.timeout = Some(Duration::ZERO);
    let outcome = client(patient()).send(request).await;
    let took = outcome.duration;
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(1) + SLACK,
        "never below a second: {took:?}"
    );
    told(outcome);
}
