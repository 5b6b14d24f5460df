//! Resolving names with real name servers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use postrider_core::ErrorKind;
use postrider_delivery::{Client, Config, DnsResolver, LocalTrouble, Resolve, ResolveError};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::dns_server::*;
use crate::receiver::Receiver;
use crate::setup::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// What a lookup takes at most, its check of the name servers included, and what a busy machine adds to that.
const LOOKUP: Duration = Duration::from_secs(20);

fn resolver(server: &DnsServer) -> DnsResolver {
    DnsResolver::new(vec![server.address])
}

async fn resolve(resolver: &DnsResolver, name: &str) -> Result<Vec<String>, ResolveError> {
    let addresses = tokio::time::timeout(LOOKUP, resolver.resolve(name)).await.unwrap();
    addresses.map(|addresses| addresses.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn names_that_are_silent_do_not_delay_a_healthy_one() {
    const SILENT: usize = 600;
    let server = DnsServer::start().await;
    server.addresses("healthy.test", &["127.0.0.1"], 1);
    let receiver = Receiver::answering(OK).await;
    let config = Config { dns_servers: vec![server.address], ..long_timeout() };
    let client = Client::new(config).unwrap();
    let mut attempts = JoinSet::new();
    for number in 0..SILENT {
        let name = format!("silent{number}.test");
        server.set(&name, Says::Nothing);
        let client = client.clone();
        attempts.spawn(async move { client.send(post(&format!("http://{name}/"))).await });
    }
    // Once all others ask, or wait.
    let asked = || (0..SILENT).filter(|number| server.asked(&format!("silent{number}.test")) > 0).count();
    eventually(LOOKUP, async || (asked() >= 500).then_some(())).await;
    let began = Instant::now();
    for round in 0..3 {
        let sent = client.send(post(&format!("http://healthy.test:{}/", receiver.address.port()))).await;
        assert!(sent.is_success(), "{round}: {sent:?}");
        println!("round {round}, {:?} after the others: {:?}", began.elapsed(), sent.trail.timings.resolve);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // Far from the 12 s that it would wait if they took turns.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for sent in attempts.join_all().await {
        let failure = failure_of(sent);
        assert_eq!((failure.kind, failure.local), (ErrorKind::TimeoutDns, None), "{failure}");
    }
    // Now they are known: they fail at once, and then with a few of the lookups only.
    let asked = server.asked("silent0.test");
    let failure = failure_of(client.send(post("http://silent0.test/")).await);
    assert_eq!((failure.kind, server.asked("silent0.test")), (ErrorKind::TimeoutDns, asked));
}

#[tokio::test]
async fn an_answer_is_used_for_its_ttl() {
    let server = DnsServer::start().await;
    server.addresses("a.test", &["127.0.0.1", "::1", "127.0.0.2"], 60);
    server.addresses("b.test", &["127.0.0.1"], 1);
    let resolver = resolver(&server);
    for _ in 0..3 {
        assert_eq!(resolve(&resolver, "A.test").await.unwrap(), ["::1", "127.0.0.1", "127.0.0.2"]);
        assert_eq!(resolve(&resolver, "b.test").await.unwrap(), ["127.0.0.1"]);
    }
    assert_eq!((server.asked("a.test"), server.asked("b.test")), (1, 1));
    server.addresses("b.test", &["127.0.0.3"], 60);
    let changed = async || (resolve(&resolver, "b.test").await.unwrap() == ["127.0.0.3"]).then_some(());
    eventually(DEADLINE + SLACK, changed).await;
    assert_eq!((server.asked("a.test"), server.asked("b.test")), (1, 2));
}

#[tokio::test]
async fn lookups_of_one_name_are_one_lookup() {
    let server = DnsServer::start().await;
    server.addresses("a.test", &["127.0.0.1"], 60);
    let resolver = resolver(&server);
    let mut lookups = JoinSet::new();
    for _ in 0..100 {
        let resolver = resolver.clone();
        lookups.spawn(async move { resolver.resolve("a.test").await.unwrap() });
    }
    assert_eq!(lookups.join_all().await.len(), 100);
    assert_eq!(server.asked("a.test"), 1);
}

#[tokio::test]
async fn the_last_addresses_are_used_while_servers_are_silent() {
    for trouble in [Says::Nothing, Says::Error(SERVER_FAILURE), Says::Error(REFUSED)] {
        let server = DnsServer::start().await;
        server.addresses("a.test", &["127.0.0.1"], 1);
        server.addresses("other.test", &["127.0.0.1"], 1);
        let resolver = resolver(&server);
        assert_eq!(resolve(&resolver, "a.test").await.unwrap(), ["127.0.0.1"]);
        // First this name only, and then all.
        server.set("a.test", trouble.clone());
        eventually(LOOKUP, async || {
            assert_eq!(resolve(&resolver, "a.test").await.unwrap(), ["127.0.0.1"], "{trouble:?}");
            (server.asked("a.test") > 1).then_some(())
        })
        .await;
        server.set_all(Some(trouble.clone()));
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(resolve(&resolver, "a.test").await.unwrap(), ["127.0.0.1"], "{trouble:?}");
        }
        assert!(began.elapsed() < LOOKUP, "{trouble:?}");
    }
}

#[tokio::test]
async fn a_name_that_is_gone_is_not_resolved_from_memory() {
    let server = DnsServer::start().await;
    server.addresses("a.test", &["127.0.0.1"], 1);
    let resolver = resolver(&server);
    assert!(resolve(&resolver, "a.test").await.is_ok());
    server.set("a.test", Says::Error(NO_SUCH_NAME));
    let gone = async || resolve(&resolver, "a.test").await.err();
    let error = eventually(LOOKUP, gone).await;
    assert!(matches!(error, ResolveError::NoAddress), "{error:?}");
    let asked = server.asked("a.test");
    assert!(resolve(&resolver, "a.test").await.is_err());
    assert_eq!(server.asked("a.test"), asked, "that is remembered, too");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_the_receivers_fault() {
    let server = DnsServer::start().await;
    let client = Client::new(Config { dns_servers: vec![server.address], ..long_timeout() }).unwrap();
    let failure = failure_of(client.send(post("http://missing.test/")).await);
    assert_eq!((failure.kind, failure.local), (ErrorKind::Dns, None));
    server.addresses("empty.test", &[], 60);
    let failure = failure_of(client.send(post("http://empty.test/")).await);
    assert_eq!((failure.kind, failure.local), (ErrorKind::Dns, None));
}

#[tokio::test]
async fn a_silent_name_is_its_owners_fault_while_another_one_is_answered() {
    let server = DnsServer::start().await;
    server.addresses("healthy.test", &["127.0.0.1"], 1);
    for (name, says) in [("silent.test", Says::Nothing), ("failing.test", Says::Error(SERVER_FAILURE))] {
        server.set(name, says);
    }
    let client = Client::new(Config { dns_servers: vec![server.address], ..long_timeout() }).unwrap();
    // Nothing has been resolved yet: then the root shows that the server works.
    server.set("", Says::Error(NO_SUCH_NAME));
    for (name, kind) in [("silent.test", ErrorKind::TimeoutDns), ("failing.test", ErrorKind::Dns)] {
        let failure = failure_of(client.send(post(&format!("http://{name}/"))).await);
        assert_eq!((failure.kind, failure.local), (kind, None), "{name}");
    }
    // A server that knows nothing of the root: then names do that had addresses.
    let server = DnsServer::start().await;
    server.addresses("healthy.test", &["127.0.0.1"], 1);
    server.set("", Says::Error(REFUSED));
    server.set("silent.test", Says::Nothing);
    let resolver = resolver(&server);
    assert!(resolve(&resolver, "healthy.test").await.is_ok());
    assert!(matches!(resolve(&resolver, "silent.test").await, Err(ResolveError::Silent)));
}

#[tokio::test]
async fn name_servers_that_do_not_work_are_local_trouble() {
    let refusing = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nobody = refusing.local_addr().unwrap();
    drop(refusing);
    let server = DnsServer::start().await;
    for (address, says) in [
        (nobody, Says::Nothing),
        (server.address, Says::Nothing),
        (server.address, Says::Error(SERVER_FAILURE)),
        (server.address, Says::Error(REFUSED)),
    ] {
        server.set_all(Some(says.clone()));
        let client = Client::new(Config { dns_servers: vec![address], ..long_timeout() }).unwrap();
        for name in ["a.test", "b.test"] {
            let failure = failure_of(client.send(post(&format!("http://{name}/"))).await);
            assert_eq!(failure.local, Some(LocalTrouble::Resolver), "{address} {says:?}: {failure}");
            assert!(!failure.kind.blames_receiver());
        }
    }
}

#[tokio::test]
async fn attempts_end_before_a_silent_resolver_does_and_blame_nobody() {
    let server = DnsServer::start().await;
    server.set_all(Some(Says::Nothing));
    let timeout = Duration::from_secs(3);
    let config = Config { dns_servers: vec![server.address], connect_timeout: timeout, ..long_timeout() };
    let client = Client::new(config).unwrap();
    let failure = failure_of(client.send(post("http://a.test/")).await);
    assert_eq!(failure.local, Some(LocalTrouble::Resolver), "{failure}");
    // And it recovers.
    let receiver = Receiver::answering(OK).await;
    server.set_all(None);
    server.addresses("a.test", &["127.0.0.1"], 60);
    assert!(client.send(post(&format!("http://a.test:{}/", receiver.address.port()))).await.is_success());
}

#[tokio::test]
async fn the_next_server_is_asked_if_the_first_is_silent_or_refuses() {
    let (first, second) = (DnsServer::start().await, DnsServer::start().await);
    second.addresses("a.test", &["127.0.0.1"], 60);
    for says in [Says::Nothing, Says::Error(REFUSED), Says::Error(SERVER_FAILURE)] {
        first.set_all(Some(says.clone()));
        let resolver = DnsResolver::new(vec![first.address, second.address]);
        assert_eq!(resolve(&resolver, "a.test").await.unwrap(), ["127.0.0.1"], "{says:?}");
    }
    first.set_all(None);
    let resolver = DnsResolver::new(vec![first.address, second.address]);
    assert!(resolve(&resolver, "a.test").await.is_err(), "what the first one says counts");
}

#[tokio::test]
async fn a_long_answer_comes_over_tcp() {
    let server = DnsServer::start().await;
    let addresses: Vec<IpAddr> = (1..=40).map(|last| Ipv4Addr::new(127, 0, 0, last).into()).collect();
    server.set("long.test", Says::OverTcp(addresses));
    assert_eq!(resolve(&resolver(&server), "long.test").await.unwrap().len(), 40);
}

#[tokio::test]
async fn a_server_that_is_silent_about_ipv6_costs_little() {
    let server = DnsServer::start().await;
    server.set("v4.test", Says::OnlyV4(vec![Ipv4Addr::LOCALHOST.into()]));
    let began = Instant::now();
    assert_eq!(resolve(&resolver(&server), "v4.test").await.unwrap(), ["127.0.0.1"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn addresses_from_name_servers_are_judged() {
    let server = DnsServer::start().await;
    server.addresses("inner.test", &["93.184.216.34", "10.0.0.1"], 60);
    let client = Client::new(Config { dns_servers: vec![server.address], ..long_timeout() }).unwrap();
    for _ in 0..2 {
        let failure = failure_of(client.send(post("http://inner.test/")).await);
        assert_eq!(failure.kind, ErrorKind::Blocked);
    }
}

#[tokio::test]
async fn the_machines_own_names_need_no_name_server() {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let resolver = DnsResolver::new(vec![nobody]);
    for name in ["localhost", "LOCALHOST", "localhost.", "a.localhost"] {
        let addresses = resolver.resolve(name).await.unwrap();
        assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{name}: {addresses:?}");
    }
    for name in ["postrider.invalid", "a..b", &"a".repeat(64)] {
        assert!(matches!(resolver.resolve(name).await, Err(ResolveError::NoAddress)), "{name}");
    }
}
