//! The egress proxy.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::ErrorKind;
use postrider_core::target::TargetPolicy;
use postrider_delivery::{Client, Config, LocalTrouble};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::receiver::Receiver;
use crate::setup::*;
use crate::tls::Authority;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A proxy that works.
async fn proxy() -> Receiver {
    Receiver::start(|mut connection| async move {
        let Some(connect) = connection.request().await else { return };
        let target = connect.head.split(' ').nth(1).unwrap().to_owned();
        let mut onward = TcpStream::connect(target).await.unwrap();
        connection.write(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
        let _ = copy_bidirectional(&mut connection.stream, &mut onward).await;
    })
    .await
}

fn through(proxy: &Receiver, config: Config) -> Config {
    let url = format!("http://user:s3cret@{}", proxy.address);
    Config { proxy: Some(url.parse().unwrap()), ..config }
}

fn names() -> Arc<Names> {
    Names::new("receiver.test", &[&["127.0.0.1"]])
}

#[tokio::test]
async fn requests_are_tunnelled_to_the_judged_address() {
    let (proxy, receiver) = (proxy().await, Receiver::answering(OK).await);
    let port = receiver.address.port();
    let client = Client::with_resolver(through(&proxy, long_timeout()), names()).unwrap();
    for _ in 0..2 {
        assert!(client.send(post(&format!("http://receiver.test:{port}/hook"))).await.is_success());
    }
    assert_eq!((proxy.accepted(), receiver.accepted()), (1, 1));
    let connect = &proxy.requests()[0];
    assert!(connect.head.starts_with(&format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n")), "{}", connect.head);
    assert_eq!(connect.header("proxy-authorization"), Some("Basic dXNlcjpzM2NyZXQ="));
    let request = &receiver.requests()[0];
    assert!(request.head.starts_with("POST /hook HTTP/1.1\r\n"));
    assert_eq!(request.header("host"), Some(format!("receiver.test:{port}").as_str()));
    assert_eq!(request.header("proxy-authorization"), None, "the receiver never sees it");
}

#[tokio::test]
async fn tls_runs_end_to_end_through_the_proxy() {
    let authority = Authority::new();
    let receiver =
        Receiver::start_tls(authority.server("receiver.test", &[], |_| {}), |mut connection| async move {
            connection.request().await;
            let _ = connection.write(OK).await;
        })
        .await;
    let proxy = proxy().await;
    let client = Client::with_resolver(through(&proxy, authority.trusted(long_timeout())), names()).unwrap();
    assert!(
        client.send(post(&format!("https://receiver.test:{}/", receiver.address.port()))).await.is_success()
    );
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn forbidden_targets_are_blocked_behind_a_proxy_too() {
    let proxy = proxy().await;
    let config = Config { targets: TargetPolicy::default(), ..through(&proxy, long_timeout()) };
    let client = Client::with_resolver(config, names()).unwrap();
    for url in ["http://receiver.test/", "http://127.0.0.1/", "https://[::1]/"] {
        assert_eq!(failure_of(client.send(post(url)).await).kind, ErrorKind::Blocked, "{url}");
    }
    assert_eq!(proxy.accepted(), 0);
}

#[tokio::test]
async fn a_failure_of_the_proxy_is_not_blamed_on_the_receiver() {
    for answer in [
        &b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"[..],
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"",
    ] {
        let proxy = Receiver::start(move |mut connection| async move {
            connection.request().await;
            let _ = connection.write(answer).await;
        })
        .await;
        let failure = failure(through(&proxy, long_timeout()), "http://127.0.0.1:9/").await;
        assert_eq!(failure.kind, ErrorKind::Proxy, "{answer:?}");
        assert!(!failure.kind.blames_receiver());
        assert_eq!(failure.local, None, "the proxy has answered");
        assert!(!failure.to_string().contains("s3cret"));
    }

    let endless = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 200 OK\r\n").await;
        connection.repeat(b"X-Endless: y\r\n", Duration::ZERO).await;
    })
    .await;
    assert_eq!(
        failure(through(&endless, long_timeout()), "http://127.0.0.1:9/").await.kind,
        ErrorKind::Proxy
    );
    endless.all_ended().await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let config = Config { proxy: Some(url.parse().unwrap()), ..long_timeout() };
    let failure = failure(config, "http://127.0.0.1:9/").await;
    assert_eq!((failure.kind, failure.local), (ErrorKind::Proxy, Some(LocalTrouble::Proxy)));
}

#[tokio::test]
async fn a_silent_proxy_does_not_prolong_an_attempt() {
    let proxy = Receiver::start(|mut connection| async move { connection.hang().await }).await;
    let sent = send(through(&proxy, config()), "http://127.0.0.1:9/").await;
    assert_ended_at_the_deadline(&sent);
    assert_eq!(failure_of(sent).kind, ErrorKind::TimeoutConnect);
    proxy.all_ended().await;
}
