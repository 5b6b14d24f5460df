//! The shop, with a receiver of its webhooks.

use std::time::Duration;

use postrider_core::signing::Verifier;
use postrider_core::target::{AddressPolicy, TargetPolicy};
use postrider_core::{Clock as _, Keyring, Secret, SystemClock, SystemRandom, TenantId};
use postrider_delivery::{Client, Config as DeliveryConfig};
use postrider_dispatch::{Transforms, hook};
use postrider_store::Store;
use postrider_store::stats::StatsFilter;
use postrider_store::subscribers::NewSubscriber;
use postrider_testkit::{Behaviour, Receiver, eventually};
use shop::{Card, Order, Shop};

const DEADLINE: Duration = Duration::from_secs(30);
const SECRET: &str = "client-secret";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_and_its_webhook_go_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let path = path.to_str().unwrap();
    let key = Keyring::generate_key(&SystemRandom);
    let receiver = Receiver::start().await;
    receiver.on("/hook", Behaviour::sequence([500, 200]));

    let shop = open(path, &key).await;
    subscribe(shop.store(), &receiver.url("/hook")).await;
    let id = shop.order(&order(1, 1999)).await.unwrap();

    let requests = receiver.wait_for_path("/hook", 2, DEADLINE).await;
    let verifier = Verifier::new(SECRET).unwrap();
    for request in &requests {
        let header = |name: &str| request.header(name);
        let verified = verifier.verify(header, &request.body, SystemClock.now()).unwrap();
        assert_eq!(verified.id, id.to_string());
        let data = r#""data":{"number":1,"cents":1999,"card":{"number":"************1234"}}"#;
        assert!(String::from_utf8_lossy(&request.body).contains(data));
    }
    settled(shop.store(), 1).await;

    // A rolled-back order leaves neither an order nor a webhook, and its number is free.
    assert!(shop.order(&order(2, 0)).await.is_err());
    assert_eq!((shop.orders().await.unwrap(), deliveries(shop.store()).await.total), (1, 1));
    shop.order(&order(2, 500)).await.unwrap();
    settled(shop.store(), 2).await;
    // If the order cannot be written, its event is not dispatched either.
    assert!(shop.order(&order(2, 500)).await.is_err());
    assert_eq!((shop.orders().await.unwrap(), deliveries(shop.store()).await.total), (2, 2));
    shop.close().await;
    assert_eq!(receiver.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pending_deliveries_are_delivered_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let path = path.to_str().unwrap();
    let key = Keyring::generate_key(&SystemRandom);
    let receiver = Receiver::start().await;
    receiver.on("/hook", Behaviour::sequence([503, 200]));

    let shop = open(path, &key).await;
    subscribe(shop.store(), &receiver.url("/hook")).await;
    shop.order(&order(1, 1999)).await.unwrap();
    receiver.wait_for_path("/hook", 1, DEADLINE).await;
    shop.close().await;

    let shop = open(path, &key).await;
    receiver.wait_for_path("/hook", 2, DEADLINE).await;
    settled(shop.store(), 1).await;
    assert_eq!(shop.orders().await.unwrap(), 1);
    shop.close().await;
}

async fn open(path: &str, key: &str) -> Shop {
    let addresses = AddressPolicy::public_only().allowing(vec!["127.0.0.0/8".parse().unwrap()]);
    let targets = TargetPolicy { addresses, https_only: false };
    let client = Client::new(DeliveryConfig { targets, ..DeliveryConfig::default() }).unwrap();
    let mut transforms = Transforms::new();
    let card = hook("card", |event| {
        event.mask("/card/number", 4)?;
        Ok(())
    });
    transforms.register("order.created", card).unwrap();
    Shop::open(path, Keyring::parse(key).unwrap(), client, transforms).await.unwrap()
}

async fn subscribe(store: &Store, url: &str) {
    let events = vec!["order.*".parse().unwrap()];
    let new = NewSubscriber::new(url.parse().unwrap(), events, Secret::parse(SECRET).unwrap());
    store.create_subscriber(&TenantId::default(), new).await.unwrap();
}

fn order(number: i64, cents: i64) -> Order {
    Order { number, cents, card: Card { number: "4111111111111234".to_owned() } }
}

async fn deliveries(store: &Store) -> postrider_store::stats::DeliveryStats {
    store.stats(&TenantId::default(), &StatsFilter::default()).await.unwrap().deliveries
}

async fn settled(store: &Store, succeeded: u64) {
    eventually(DEADLINE, || async move {
        let stats = deliveries(store).await;
        (stats.succeeded == succeeded && stats.pending == 0).then_some(())
    })
    .await;
}
