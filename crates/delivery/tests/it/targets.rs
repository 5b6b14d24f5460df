//! Forbidden targets are not connected to, however their address is written or resolved.

use std::sync::Arc;

use postrider_core::ErrorKind;
use postrider_core::target::TargetPolicy;
use postrider_delivery::{Client, Config};

use crate::receiver::Receiver;
use crate::setup::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn strict() -> Config {
    Config { targets: TargetPolicy::default(), ..long_timeout() }
}

#[tokio::test]
async fn loopback_is_blocked_in_every_spelling() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let client = client(strict());
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
    ] {
        let request = post(&format!("http://{host}:{port}/"));
        assert_eq!(client.check(&request.url).await.unwrap_err().kind, ErrorKind::Blocked, "{host}");
        assert_eq!(failure_of(client.send(request).await).kind, ErrorKind::Blocked, "{host}");
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn allowed_nets_are_reached_in_every_spelling() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let client = client(Config { targets: allowing(&["127.0.0.0/8", "::1/128"]), ..long_timeout() });
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"] {
        let request = post(&format!("http://{host}:{port}/"));
        assert_eq!(client.check(&request.url).await, Ok(()), "{host}");
        assert!(client.send(request).await.is_success(), "{host}");
    }
}

#[tokio::test]
async fn one_forbidden_address_blocks_the_whole_name() {
    let receiver = Receiver::answering(OK).await;
    let url = format!("http://receiver.test:{}/", receiver.address.port());
    for answer in [["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "::1"]] {
        let client = Client::with_resolver(long_timeout(), Names::new("receiver.test", &[&answer])).unwrap();
        assert_eq!(client.check(&url.parse().unwrap()).await.unwrap_err().kind, ErrorKind::Blocked);
        let failure = failure_of(client.send(post(&url)).await);
        assert_eq!(failure.kind, ErrorKind::Blocked);
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn dns_rebinding_does_not_reach_a_forbidden_address() {
    // The name has a public address when the subscriber is created, and a private one at delivery.
    let receiver = Receiver::answering(OK).await;
    let names = Names::new("rebind.test", &[&["93.184.216.34"], &["127.0.0.1"]]);
    let client = Client::with_resolver(strict(), names.clone()).unwrap();
    let request = post(&format!("http://rebind.test:{}/", receiver.address.port()));
    assert_eq!(client.check(&request.url).await, Ok(()));
    assert_eq!(failure_of(client.send(request).await).kind, ErrorKind::Blocked);
    assert_eq!((names.asked(), receiver.accepted()), (2, 0));
}

#[tokio::test]
async fn each_connection_resolves_once_and_uses_that_address() {
    // 127.0.0.1 is allowed, 127.0.0.2 is not; both have a receiver on the same port.
    let open = Receiver::answering(OK).await;
    let port = open.address.port();
    let shut = Receiver::listen(&format!("127.0.0.2:{port}"), None, |_| async {}).await;
    let names = Names::new("rebind.test", &[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"]]);
    let config = Config { targets: allowing(&["127.0.0.1/32"]), ..long_timeout() };
    let client = Client::with_resolver(config, names.clone()).unwrap();
    let url = format!("http://rebind.test:{port}/");
    assert!(client.send(post(&url)).await.is_success());
    assert_eq!(names.asked(), 1, "the judged address is the one connected to");
    assert_eq!(failure_of(client.send(post(&url)).await).kind, ErrorKind::Blocked);
    assert!(client.send(post(&url)).await.is_success());
    assert_eq!((names.asked(), open.accepted(), shut.accepted()), (3, 2, 0));
}

/// The kernel connects to loopback for the unspecified address, so the connector checks the peer after connecting.
#[tokio::test]
async fn a_connection_that_leads_elsewhere_is_blocked() {
    let receiver = Receiver::answering(OK).await;
    let client = client(Config { targets: allowing(&["0.0.0.0/32"]), ..long_timeout() });
    let request = post(&format!("http://0.0.0.0:{}/", receiver.address.port()));
    assert_eq!(client.check(&request.url).await, Ok(()), "the judgement alone allows it");
    assert_eq!(failure_of(client.send(request).await).kind, ErrorKind::Blocked);
    assert!(receiver.requests().is_empty());
}

#[tokio::test]
async fn a_name_without_an_address_is_a_dns_failure() {
    let client = Client::with_resolver(long_timeout(), Names::new("empty.test", &[&[]])).unwrap();
    for url in ["http://unknown.test/", "http://empty.test/"] {
        assert_eq!(client.check(&url.parse().unwrap()).await.unwrap_err().kind, ErrorKind::Dns, "{url}");
        assert_eq!(failure_of(client.send(post(url)).await).kind, ErrorKind::Dns, "{url}");
    }
}

#[tokio::test]
async fn https_only_blocks_plain_http() {
    let receiver = Receiver::answering(OK).await;
    let targets = TargetPolicy { https_only: true, ..allowing(&["127.0.0.0/8"]) };
    let client = client(Config { targets, ..long_timeout() });
    let request = post(&receiver.url("/"));
    assert_eq!(client.check(&request.url).await.unwrap_err().kind, ErrorKind::Blocked);
    assert_eq!(failure_of(client.send(request).await).kind, ErrorKind::Blocked);
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn an_unavailable_resolver_is_local_trouble() {
    let client = Client::with_resolver(long_timeout(), Arc::new(Unavailable)).unwrap();
    let failure = failure_of(client.send(post("http://receiver.test/")).await);
    assert_eq!(failure.local, Some(postrider_delivery::LocalTrouble::Resolver));
    assert!(!failure.kind.blames_receiver());
}
