//! What this machine lacks is no attempt, and no receiver's fault.

use std::net::{Ipv4Addr, SocketAddr};

use postrider_core::DeliveryStatus;
use postrider_delivery::LocalTrouble;
use postrider_store::health::{BreakerPolicy, Health};
use postrider_testkit::eventually;
use postrider_worker::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::{DEADLINE, Stage, config, on_both, tenant};

on_both!(an_egress_proxy_that_is_down_spends_no_attempt);

/// Tunnels each connection to where it asks.
async fn serve_proxy(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let target = String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().to_owned();
                let mut onward = TcpStream::connect(target).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
}

async fn an_egress_proxy_that_is_down_spends_no_attempt(stage: &Stage) {
    const EVENTS: usize = 30;
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = unused.local_addr().unwrap();
    drop(unused);
    let subscriber = stage.subscriber("/hook").await;
    // With a breaker, and few attempts.
    let breaker = BreakerPolicy::default();
    let worker = stage.worker_through(proxy, Config { breaker, ..config() }).await;
    let events = stage.dispatch_many(EVENTS).await;
    eventually(DEADLINE, || async { worker.trouble.current() }).await;
    assert_eq!(worker.trouble.current(), Some(LocalTrouble::Proxy));
    // Some of them are tried once more.
    let tried_again = "SELECT count(*) FROM scheduled_jobs";
    eventually(DEADLINE, || async { (stage.count(tried_again).await > 0).then_some(()) }).await;
    for event in &events {
        let delivery = stage.delivery(event.id).await;
        assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Pending, 0));
    }
    let health = stage.store.subscriber(&tenant(), subscriber).await.unwrap().unwrap().health;
    assert_eq!((health, stage.receiver.requests().len()), (Health::default(), 0));

    serve_proxy(proxy).await;
    stage.receiver.wait_for(EVENTS, DEADLINE).await;
    stage.settled().await;
    for event in &events {
        let delivery = stage.delivery(event.id).await;
        assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 1));
    }
    eventually(2 * DEADLINE, || async { worker.trouble.current().is_none().then_some(()) }).await;
    worker.stop().await;
}
