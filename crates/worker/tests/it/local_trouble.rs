//! What this machine lacks is no attempt, and no receiver's fault.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postrider_core::{DeliveryStatus, TenantId};
use postrider_delivery::LocalTrouble;
use postrider_dispatch::NewEvent;
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::health::{BreakerPolicy, Health};
use postrider_store::tenants::{EgressProxy, NewTenant, Tenant};
use postrider_store::{PageRequest, StoreError};
use postrider_testkit::eventually;
use postrider_worker::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::{DEADLINE, Stage, config, event, on_both, tenant};

on_both!(an_egress_proxy_that_is_down_spends_no_attempt, a_tenants_egress_proxy_is_its_own_affair);

/// Tunnels each connection to where it asks. Returns how many it has tunnelled.
async fn serve_proxy(address: SocketAddr) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind(address).await.unwrap();
    let tunnelled = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&tunnelled);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
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
    tunnelled
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    let unused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    unused.local_addr().unwrap()
}

/// Its deliveries wait while it is down, and those of others go on. A change is noticed within seconds.
async fn a_tenants_egress_proxy_is_its_own_affair(stage: &Stage) {
    let (acme, proxy) = ("acme".parse::<TenantId>().unwrap(), nobody().await);
    let url = format!("http://acme:s3cret@{proxy}").parse().unwrap();
    let new = NewTenant { egress_proxy: Some(url), ..NewTenant::named(acme.clone()) };
    assert!(stage.store.register_tenant(&new).await.unwrap());
    stage.store.create_subscriber(&acme, stage.new_subscriber("/acme")).await.unwrap();
    stage.subscriber("/other").await;
    let worker = stage.worker(config()).await;
    let of_acme = NewEvent { tenant: acme.clone(), ..event(0) };
    let dispatched = stage.dispatcher.dispatch(of_acme.clone()).await.unwrap();
    let waits = "SELECT count(*) FROM scheduled_jobs";
    eventually(DEADLINE, || async { (stage.count(waits).await > 0).then_some(()) }).await;
    let others = stage.dispatch().await;
    assert_eq!(stage.ended(others.id).await.status, DeliveryStatus::Succeeded);
    assert_eq!((worker.trouble.current(), stage.receiver.requests_to("/acme").len()), (None, 0));
    assert_eq!(stage.count("SELECT count(*) FROM attempts").await, 0);

    let tunnelled = serve_proxy(proxy).await;
    let arrived = async |count| {
        eventually(DEADLINE, || async { (stage.receiver.requests_to("/acme").len() >= count).then_some(()) })
            .await;
    };
    arrived(1).await;
    assert_eq!(tunnelled.load(Ordering::SeqCst), 1);
    stage.settled().await;
    let filter = DeliveryFilter { event_id: Some(dispatched.id), ..DeliveryFilter::default() };
    let delivery =
        stage.store.deliveries(&acme, &filter, PageRequest::default()).await.unwrap().items.remove(0);
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Succeeded, 1));

    let other = nobody().await;
    let tunnelled = serve_proxy(other).await;
    let change = |tenant: &mut Tenant| {
        tenant.egress_proxy = Some(EgressProxy::Url(format!("http://{other}").parse().unwrap()));
        Ok::<_, StoreError>(())
    };
    stage.store.change_tenant(&acme, change).await.unwrap();
    let noticed = async || {
        let requests = stage.receiver.requests_to("/acme").len();
        stage.dispatcher.dispatch(of_acme.clone()).await.unwrap();
        arrived(requests + 1).await;
        (tunnelled.load(Ordering::SeqCst) > 0).then_some(())
    };
    eventually(DEADLINE, noticed).await;
    worker.stop().await;
}

async fn an_egress_proxy_that_is_down_spends_no_attempt(stage: &Stage) {
    const EVENTS: usize = 30;
    let proxy = nobody().await;
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
