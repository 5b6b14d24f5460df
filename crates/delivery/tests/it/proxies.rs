//! Egress proxies.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::ErrorKind;
use postrider_core::target::TargetPolicy;
use postrider_delivery::{Client, Config, LocalTrouble};
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::receiver::Receiver;
use crate::setup::*;
use crate::socks_server::SocksServer;
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

fn socks(server: &SocksServer, scheme: &str, config: Config) -> Config {
    let url = format!("{scheme}://us%20er:p%3Aass@{}", server.address);
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

#[tokio::test]
async fn a_socks_proxy_gets_the_judged_address() {
    let (proxy, receiver) =
        (SocksServer::start(Some(("us er", "p:ass"))).await, Receiver::answering(OK).await);
    let port = receiver.address.port();
    let client = Client::with_resolver(socks(&proxy, "socks5", long_timeout()), names()).unwrap();
    for _ in 0..2 {
        let sent = client.send(post(&format!("http://receiver.test:{port}/hook"))).await;
        assert!(sent.is_success(), "{sent:?}");
        assert_eq!(sent.trail.remote, Some(receiver.address));
    }
    assert_eq!((proxy.targets(), receiver.accepted()), (vec![format!("127.0.0.1:{port}")], 1));
    let request = &receiver.requests()[0];
    assert_eq!(request.header("host"), Some(format!("receiver.test:{port}").as_str()));
    let strict = Config { targets: TargetPolicy::default(), ..socks(&proxy, "socks5", long_timeout()) };
    let client = Client::with_resolver(strict, names()).unwrap();
    for url in ["http://receiver.test/", "http://127.0.0.1/", "https://[::1]/"] {
        assert_eq!(failure_of(client.send(post(url)).await).kind, ErrorKind::Blocked, "{url}");
    }
    assert_eq!(proxy.targets().len(), 1);
}

#[tokio::test]
async fn a_socks_proxy_may_resolve_names() {
    let proxy = SocksServer::start(None).await;
    let authority = Authority::new();
    let receiver =
        Receiver::start_tls(authority.server("receiver.test", &[], |_| {}), |mut connection| async move {
            connection.request().await;
            let _ = connection.write(OK).await;
        })
        .await;
    let port = receiver.address.port();
    let config = socks(&proxy, "socks5h", authority.trusted(long_timeout()));
    // Nobody else resolves it.
    let client = Client::with_resolver(config, Arc::new(Unavailable)).unwrap();
    let url = format!("https://receiver.test:{port}/");
    assert_eq!(client.check(&url.parse().unwrap()).await, Ok(()));
    let sent = client.send(post(&url)).await;
    assert!(sent.is_success(), "{sent:?}");
    assert_eq!((sent.trail.remote, proxy.targets()), (None, vec![format!("receiver.test:{port}")]));

    // What needs no resolving, or is this machine, is judged all the same.
    let strict = Config { targets: TargetPolicy::default(), ..socks(&proxy, "socks5h", long_timeout()) };
    let client = Client::new(strict).unwrap();
    for url in ["http://127.0.0.1/", "https://[::1]/", "http://localhost/", "http://a.localhost./"] {
        assert_eq!(client.check(&url.parse().unwrap()).await.unwrap_err().kind, ErrorKind::Blocked, "{url}");
        assert_eq!(failure_of(client.send(post(url)).await).kind, ErrorKind::Blocked, "{url}");
    }
    assert_eq!(proxy.targets().len(), 1);
}

#[tokio::test]
async fn a_socks_proxy_that_refuses_is_not_blamed_on_the_receiver() {
    let receiver = Receiver::answering(OK).await;
    let url = receiver.url("/");
    let other_password = SocksServer::start(Some(("us er", "other"))).await;
    let refused = failure(socks(&other_password, "socks5", long_timeout()), &url).await;
    assert_eq!((refused.kind, refused.local), (ErrorKind::Proxy, None));
    assert!(!refused.to_string().contains("p:ass"));
    for answer in [
        &b"\x05\xff"[..],
        b"\x05\x00\x05\x05\x00\x01",
        b"\x05\x00\x05\x00\x00\x09",
        b"HTTP/1.1 400\r\n",
        b"\x05",
    ] {
        let proxy = Receiver::start(move |mut connection| async move {
            let _ = connection.write(answer).await;
        })
        .await;
        let config =
            Config { proxy: Some(format!("socks5://{}", proxy.address).parse().unwrap()), ..long_timeout() };
        let refused = failure(config, &url).await;
        assert_eq!((refused.kind, refused.local), (ErrorKind::Proxy, None), "{answer:?}");
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn connections_are_shared_by_requests_through_the_same_proxy_only() {
    let receiver = Receiver::answering(OK).await;
    let (first, second) = (SocksServer::start(None).await, SocksServer::start(None).await);
    let client = client(long_timeout());
    let through = |user: &str, server: &SocksServer| {
        let url = format!("socks5://{user}:p@{}", server.address);
        let mut request = post(&receiver.url("/"));
        request.proxy = Some(url.parse().unwrap());
        request
    };
    for _ in 0..3 {
        assert!(client.send(post(&receiver.url("/"))).await.is_success());
        assert!(client.send(through("a", &first)).await.is_success());
        assert!(client.send(through("b", &first)).await.is_success());
        assert!(client.send(through("a", &second)).await.is_success());
    }
    assert_eq!((first.targets().len(), second.targets().len(), receiver.accepted()), (2, 1, 4));
}

#[tokio::test]
async fn a_proxy_that_was_down_is_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let receiver = Receiver::answering(OK).await;
    let client =
        client(Config { proxy: Some(format!("socks5://{address}").parse().unwrap()), ..long_timeout() });
    for _ in 0..3 {
        let failed = failure_of(client.send(post(&receiver.url("/"))).await);
        assert_eq!(failed.local, Some(LocalTrouble::Proxy));
    }
    let _proxy = SocksServer::at(address, None).await;
    let works = async || client.send(post(&receiver.url("/"))).await.is_success().then_some(());
    eventually(DEADLINE + SLACK, works).await;
}

#[tokio::test]
async fn addresses_race_through_a_proxy() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    for silent in ["127.0.0.2", "127.0.0.3"] {
        let hole = format!("{silent}:{port}");
        let (_, _listener, _waiting) = crate::timeouts::black_hole(&hole).await;
        let names = Names::new("receiver.test", &[&[silent, "127.0.0.1"]]);
        let proxy = SocksServer::start(None).await;
        let config = socks(&proxy, "socks5", long_timeout());
        let timeout = config.connect_timeout;
        let client = Client::with_resolver(config, names).unwrap();
        let sent = client.send(post(&format!("http://receiver.test:{port}/"))).await;
        assert!(sent.is_success(), "{sent:?}");
        // An equal share would be half of this.
        assert!(sent.duration < timeout / 2, "{:?}", sent.duration);
        assert_eq!(proxy.targets(), [hole, format!("127.0.0.1:{port}")]);
    }
}

/// What this machine lacks says nothing about the receiver, whatever another address has said before or says later.
#[tokio::test]
async fn local_trouble_with_one_address_counts_more_than_the_failure_of_another() {
    for pause in [Duration::ZERO, Duration::from_millis(600)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // From now on it cannot be reached. It refuses to connect to the first address, at once or a while after the second
            // was tried.
            drop(listener);
            stream.write_all(&[5, 0]).await.unwrap();
            tokio::time::sleep(pause).await;
            let _ = stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
            stream
        });
        let config = Config { proxy: Some(format!("socks5://{address}").parse().unwrap()), ..long_timeout() };
        let names = Names::new("receiver.test", &[&["127.0.0.2", "127.0.0.3"]]);
        let client = Client::with_resolver(config, names).unwrap();
        let failure = failure_of(client.send(post("http://receiver.test:9/")).await);
        assert_eq!(failure.local, Some(LocalTrouble::Proxy), "{pause:?}");
        drop(proxy.await);
    }
}
