//! Forbidden targets: nothing may be connected to, however it is spelt or answered.

use postrider_core::ErrorKind;
use postrider_core::target::TargetPolicy;
use postrider_delivery::{Client, Config};

use crate::receiver::Receiver;
use crate::setup::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn strict() -> Config {
    Config { targets: TargetPolicy::default(), ..patient() }
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
        assert_eq!(told(client.send(request).await).kind, ErrorKind::Blocked, "{host}");
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn opened_nets_are_reached_in_every_spelling() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let client = client(Config { targets: opening(&["127.0.0.0/8", "::1/128"]), ..patient() });
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"] {
        let request = post(&format!("http://{host}:{port}/"));
        assert_eq!(client.check(&request.url).await, Ok(()), "{host}");
        assert!(client.send(request).await.is_success(), "{host}");
    }
}

#[tokio::test]
async fn a_name_with_one_forbidden_address_is_refused_whole() {
    let receiver = Receiver::answering(OK).await;
    let url = format!("http://receiver.test:{}/", receiver.address.port());
    for answer in [["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "::1"]] {
        let client = Client::with_resolver(patient(), Names::new("receiver.test", &[&answer])).unwrap();
        assert_eq!(client.check(&url.parse().unwrap()).await.unwrap_err().kind, ErrorKind::Blocked);
        let failure = told(client.send(post(&url)).await);
        assert_eq!(failure.kind, ErrorKind::Blocked);
    }
    assert_eq!(receiver.accepted(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_answer_gains_nothing() {
    // Public when the subscriber is created, private when the delivery is made.
    let receiver = Receiver::answering(OK).await;
    let names = Names::new("rebind.test", &[&["93.184.216.34"], &["127.0.0.1"]]);
    let client = Client::with_resolver(strict(), names.clone()).unwrap();
    let request = post(&format!("http://rebind.test:{}/", receiver.address.port()));
    assert_eq!(client.check(&request.url).await, Ok(()));
    assert_eq!(told(client.send(request).await).kind, ErrorKind::Blocked);
    assert_eq!((names.asked(), receiver.accepted()), (2, 0));
}

#[tokio::test]
async fn each_connection_asks_once_and_goes_where_the_answer_said() {
    // 127.0.0.1 is open, 127.0.0.2 is not; both have a receiver on the same port.
    let open = Receiver::answering(OK).await;
    let port = open.address.port();
    let shut = Receiver::listen(&format!("127.0.0.2:{port}"), None, |_| async {}).await;
    let names = Names::new("rebind.test", &[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"]]);
    let config = Config { targets: opening(&["127.0.0.1/32"]), ..patient() };
    let client = Client::with_resolver(config, names.clone()).unwrap();
    let url = format!("http://rebind.test:{port}/");
    assert!(client.send(post(&url)).await.is_success());
    assert_eq!(names.asked(), 1, "one look at the name, judged and connected to");
    assert_eq!(told(client.send(post(&url)).await).kind, ErrorKind::Blocked);
    assert!(client.send(post(&url)).await.is_success());
    assert_eq!((names.asked(), open.accepted(), shut.accepted()), (3, 2, 0));
}

/// The kernel takes the unspecified address for loopback: where it led is looked at after the connection is made.
#[tokio::test]
async fn a_connection_that_leads_elsewhere_is_refused() {
    let receiver = Receiver::answering(OK).await;
    let client = client(Config { targets: opening(&["0.0.0.0/32"]), ..patient() });
    let request = post(&format!("http://0.0.0.0:{}/", receiver.address.port()));
    assert_eq!(client.check(&request.url).await, Ok(()), "the judgement alone lets it pass");
    assert_eq!(told(client.send(request).await).kind, ErrorKind::Blocked);
    assert!(receiver.requests().is_empty());
}

#[tokio::test]
async fn names_without_addresses_are_dns_failures() {
    let client = Client::with_resolver(patient(), Names::new("empty.test", &[&[]])).unwrap();
    for url in ["http://unknown.test/", "http://empty.test/"] {
        assert_eq!(client.check(&url.parse().unwrap()).await.unwrap_err().kind, ErrorKind::Dns, "{url}");
        assert_eq!(told(client.send(post(url)).await).kind, ErrorKind::Dns, "{url}");
    }
}

#[tokio::test]
async fn https_only_means_it() {
    let receiver = Receiver::answering(OK).await;
    let targets = TargetPolicy { https_only: true, ..opening(&["127.0.0.0/8"]) };
    let client = client(Config { targets, ..patient() });
    let request = post(&receiver.url("/"));
    assert_eq!(client.check(&request.url).await.unwrap_err().kind, ErrorKind::Blocked);
    assert_eq!(told(client.send(request).await).kind, ErrorKind::Blocked);
    assert_eq!(receiver.accepted(), 0);
}
