//! The deadline in each phase of an attempt, and the kind of failure that names the phase.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider_core::ErrorKind;
use postrider_core::policy::AttemptTimeout;
use postrider_delivery::{Client, Config};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::receiver::Receiver;
use crate::setup::*;

#[tokio::test]
async fn a_receiver_that_never_answers_times_out() {
    let receiver = Receiver::start(|mut connection| async move { connection.hang().await }).await;
    let sent = send(config(), &receiver.url("/")).await;
    assert_ended_at_the_deadline(&sent);
    assert_eq!(failure_of(sent).kind, ErrorKind::TimeoutHeaders);
    receiver.all_ended().await;
}

#[tokio::test]
async fn headers_that_arrive_byte_by_byte_time_out() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nX-Slow: ").await;
        connection.repeat(b"y", Duration::from_millis(10)).await;
    })
    .await;
    let sent = send(config(), &receiver.url("/")).await;
    assert_ended_at_the_deadline(&sent);
    assert_eq!(failure_of(sent).kind, ErrorKind::TimeoutHeaders);
    receiver.all_ended().await;
}

#[tokio::test]
async fn a_receiver_that_never_reads_the_request_times_out() {
    let receiver = Receiver::start(|connection| async move {
        std::future::pending::<()>().await;
        drop(connection);
    })
    .await;
    let mut request = post(&receiver.url("/"));
    request.body = vec![b'x'; 32 * 1024 * 1024].into();
    let sent = client(config()).send(request).await;
    assert_ended_at_the_deadline(&sent);
    assert_eq!(failure_of(sent).kind, ErrorKind::TimeoutHeaders);
}

#[tokio::test]
async fn silence_on_a_pooled_connection_times_out() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        connection.hang().await;
    })
    .await;
    let client = client(config());
    assert!(client.send(post(&receiver.url("/"))).await.is_success());
    let sent = client.send(post(&receiver.url("/"))).await;
    assert_eq!(receiver.accepted(), 1);
    assert_ended_at_the_deadline(&sent);
    assert_eq!(failure_of(sent).kind, ErrorKind::TimeoutHeaders);
}

#[tokio::test]
async fn a_name_that_is_never_resolved_times_out() {
    for config in [config(), Config { connect_timeout: DEADLINE, ..long_timeout() }] {
        let client = Client::with_resolver(config, Arc::new(Silent)).unwrap();
        let sent = client.send(post("http://receiver.test/")).await;
        assert_ended_at_the_deadline(&sent);
        assert_eq!(failure_of(sent).kind, ErrorKind::TimeoutDns);
    }
    let client =
        Client::with_resolver(Config { connect_timeout: DEADLINE, ..long_timeout() }, Arc::new(Silent))
            .unwrap();
    let failure = client.check(&"http://receiver.test/".parse().unwrap()).await.unwrap_err();
    assert_eq!(failure.kind, ErrorKind::TimeoutDns);
}

/// An address whose backlog is full, so that the kernel drops further connections as a firewall would.
pub(crate) async fn black_hole(address: &str) -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let address: SocketAddr = address.parse().unwrap();
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }.unwrap();
    socket.bind(address).unwrap();
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
async fn a_connection_that_is_never_accepted_times_out() {
    let (address, _listener, _waiting) = black_hole("127.0.0.1:0").await;
    for config in [config(), Config { connect_timeout: DEADLINE, ..long_timeout() }] {
        let sent = send(config, &format!("http://{address}/")).await;
        assert_ended_at_the_deadline(&sent);
        assert_eq!(failure_of(sent).kind, ErrorKind::TimeoutConnect);
    }
}

/// What the first address of a name has for itself before the second is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

#[tokio::test]
async fn a_silent_first_address_costs_its_head_start() {
    for silent in ["127.0.0.2", "::1"] {
        let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let port = receiver.address.port();
        let hole = SocketAddr::new(silent.parse().unwrap(), port);
        let (_, _listener, _waiting) = black_hole(&hole.to_string()).await;
        let names = Names::new("receiver.test", &[&[silent, "127.0.0.1"]]);
        let config = Config { targets: allowing(&["127.0.0.0/8", "::1/128"]), ..long_timeout() };
        // An equal share would be half of this.
        let timeout = config.connect_timeout;
        let client = Client::with_resolver(config, names).unwrap();
        let sent = client.send(post(&format!("http://receiver.test:{port}/"))).await;
        assert!(sent.is_success(), "{sent:?}");
        let took = sent.duration;
        println!("{silent} is silent: {took:?}");
        assert!(took >= HEAD_START && took < timeout / 2, "{silent}: {took:?}");
    }
}

#[tokio::test]
async fn two_silent_addresses_leave_time_for_the_third() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = receiver.address.port();
    let (_, _first, _waiting) = black_hole(&format!("127.0.0.2:{port}")).await;
    let (_, _second, _waiting) = black_hole(&format!("127.0.0.3:{port}")).await;
    let names = Names::new("receiver.test", &[&["127.0.0.2", "127.0.0.3", "127.0.0.1"]]);
    let config = Config { connect_timeout: 2 * DEADLINE, ..long_timeout() };
    let client = Client::with_resolver(config, names).unwrap();
    let sent = client.send(post(&format!("http://receiver.test:{port}/"))).await;
    assert!(sent.is_success(), "{sent:?}");
}

#[tokio::test]
async fn a_refused_address_is_followed_by_the_next_at_once() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let refusing =
        ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8"];
    let answer: Vec<&str> = refusing.into_iter().chain(["127.0.0.1"]).collect();
    let client = Client::with_resolver(long_timeout(), Names::new("receiver.test", &[&answer])).unwrap();
    let sent = client.send(post(&format!("http://receiver.test:{}/", receiver.address.port()))).await;
    assert!(sent.is_success(), "{sent:?}");
    assert!(sent.duration < 7 * HEAD_START, "{:?}", sent.duration);
}

#[tokio::test]
async fn a_handshake_that_is_never_answered_times_out() {
    let receiver = Receiver::start(|mut connection| async move { connection.hang().await }).await;
    for config in [config(), Config { connect_timeout: DEADLINE, ..long_timeout() }] {
        let sent = send(config, &format!("https://{}/", receiver.address)).await;
        assert_ended_at_the_deadline(&sent);
        assert_eq!(failure_of(sent).kind, ErrorKind::TimeoutTls);
    }
    receiver.all_ended().await;
}

#[tokio::test]
async fn a_requests_own_timeout_replaces_the_default() {
    let receiver = Receiver::start(|mut connection| async move { connection.hang().await }).await;
    let mut request = post(&receiver.url("/"));
    let timeout = Duration::from_secs(1);
    request.timeout = Some(AttemptTimeout::try_new(timeout).unwrap());
    let sent = client(long_timeout()).send(request).await;
    let took = sent.duration;
    assert!(took >= timeout && took < timeout + SLACK, "took {took:?}");
    failure_of(sent);
}
