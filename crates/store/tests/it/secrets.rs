//! Secrets are encrypted at rest. They can be rotated with an overlap, and re-encrypted under a new key.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::auth::{AuthFields, AuthKind};
use postrider_core::keyring::KeyringError;
use postrider_core::{
    Clock, CustomHeaders, IdGenerator, Keyring, ProxyUrl, ReceiverAuth, Secret, SubscriberId, SystemClock,
    SystemRandom, TenantId, Timestamp,
};
use postrider_queue::{Claim, ClaimedJob, LeaseToken};
use postrider_store::loading::Loaded;
use postrider_store::subscribers::{
    NewAuth, NewSubscriber, PreviousSecret, RekeyError, Rekeyed, Rotated, SubscriberChange,
};
use postrider_store::tenants::{EgressProxy, NewTenant, Tenant};
use postrider_store::{Store, StoreError};

use postrider_stage::subscriber_of;

use crate::stage::{Stage, on_both};

on_both!(
    rekey_reencrypts_egress_proxies,
    rekey_replaces_a_key,
    rekey_reencrypts_secrets_previous_secrets_and_headers,
    rekey_reencrypts_the_authentication,
    rekey_reencrypts_more_than_one_batch,
    rekey_names_the_subscriber_that_no_key_decrypts,
    a_concurrent_rotation_is_not_overwritten,
    replaced_secrets_sign_until_their_overlaps_end,
    ten_replaced_secrets_sign_and_no_more,
    a_secret_whose_key_is_lost_is_replaced,
    without_an_overlap_the_old_secret_stops_signing_at_once,
);

const DAY: Duration = Duration::from_hours(24);

/// A store on the stage's database with these keys.
fn store_with(stage: &Stage, keys: &[&str]) -> Store {
    store_at(stage, keys, IdGenerator::system())
}

fn store_at(stage: &Stage, keys: &[&str], ids: IdGenerator) -> Store {
    let database = stage.store.database().clone();
    let keyring = Keyring::parse(&keys.join(",")).unwrap();
    Store::new(database.clone(), postrider_queue::open(&database), keyring, ids)
}

fn key() -> String {
    Keyring::generate_key(&SystemRandom).to_string()
}

async fn subscribe(stage: &Stage, store: &Store, headers: CustomHeaders) -> (SubscriberId, Secret) {
    let secret = Secret::generate(&SystemRandom);
    let new = NewSubscriber { secret: secret.clone(), headers, ..subscriber_of(&["*"]) };
    (store.create_subscriber(&stage.tenant, new).await.unwrap().id, secret)
}

/// Rotates a secret, and returns what still signs beside the new one.
async fn rotate(
    stage: &Stage,
    store: &Store,
    id: SubscriberId,
    secret: &Secret,
    overlap: Duration,
) -> Vec<PreviousSecret> {
    match store.rotate_secret(&stage.tenant, id, secret, overlap).await.unwrap() {
        Rotated::Done(previous) => previous,
        Rotated::TooManyPrevious | Rotated::Missing => panic!("{id} is not rotated"),
    }
}

fn authorization() -> CustomHeaders {
    CustomHeaders::try_new([("authorization".into(), "Bearer t0p".into())]).unwrap()
}

/// Dispatches an event to this subscriber and claims its job.
async fn jobs(stage: &Stage, subscriber: SubscriberId) -> Vec<ClaimedJob> {
    stage.dispatch(&stage.tenant, subscriber, "a.b", stage.now()).await;
    let token = LeaseToken(stage.store.ids().next_uuid());
    let claim = Claim::new(token, 100, Duration::from_mins(1));
    stage.store.queue().claim(&claim).await.unwrap().jobs
}

/// The values of `webhook-signature` and `x-agent-signature`, and the headers, that this store loads.
async fn signed(store: &Store, jobs: &[ClaimedJob]) -> Result<(String, String, CustomHeaders), StoreError> {
    match store.load(jobs).await?.remove(0) {
        Loaded::Deliver(work) => Ok((
            work.recipient.signer.webhook_signature("evt_1", 1_700_000_000, b"{}"),
            work.recipient.signer.agent_signature(b"{}"),
            work.recipient.headers.clone(),
        )),
        Loaded::Unreadable(_, error) => Err(Arc::into_inner(error).unwrap()),
        other => panic!("{other:?}"),
    }
}

async fn signatures(store: &Store, jobs: &[ClaimedJob]) -> Vec<String> {
    let (webhook, ..) = signed(store, jobs).await.unwrap();
    webhook.split(' ').map(str::to_owned).collect()
}

fn signature_of(secret: &Secret) -> String {
    postrider_core::signing::sign(secret, "evt_1", 1_700_000_000, b"{}")
}

fn rekeyed(resealed: u64, current: u64) -> Rekeyed {
    Rekeyed { resealed, current, proxies: 0 }
}

async fn rekey_reencrypts_egress_proxies(stage: &Stage) {
    let (old, new, acme) = (key(), key(), "acme".parse::<TenantId>().unwrap());
    let proxy: ProxyUrl = "socks5://user:hunter2@proxy.test".parse().unwrap();
    let with_proxy = NewTenant { egress_proxy: Some(proxy.clone()), ..NewTenant::named(acme.clone()) };
    assert!(store_with(stage, &[&old]).register_tenant(&with_proxy).await.unwrap());
    let of = async |keys: &[&str]| store_with(stage, keys).tenant(&acme).await.unwrap().unwrap().egress_proxy;
    assert_eq!(of(&[&new]).await, Some(EgressProxy::Unreadable));
    let error = store_with(stage, &[&new]).rekey().await.unwrap_err();
    assert!(matches!(&error, RekeyError::UnopenedProxy(tenant) if *tenant == acme), "{error:?}");
    let with_both = store_with(stage, &[&new, &old]);
    for proxies in [1, 0] {
        assert_eq!(with_both.rekey().await.unwrap(), Rekeyed { proxies, ..rekeyed(0, 0) });
    }
    assert_eq!(of(&[&new]).await, Some(EgressProxy::Url(proxy)));
    assert_eq!(of(&[&old]).await, Some(EgressProxy::Unreadable));
    // It can be replaced all the same.
    let change = |tenant: &mut Tenant| {
        tenant.egress_proxy = None;
        Ok::<_, StoreError>(())
    };
    store_with(stage, &[&old]).change_tenant(&acme, change).await.unwrap();
    assert_eq!(of(&[&new]).await, None);
}

async fn rekey_replaces_a_key(stage: &Stage) {
    let (old, new) = (key(), key());
    let under_old = store_with(stage, &[&old]);
    let (first, first_secret) = subscribe(stage, &under_old, authorization()).await;
    let (second, second_secret) = subscribe(stage, &under_old, CustomHeaders::default()).await;
    let jobs = jobs(stage, first).await;
    let before = signed(&under_old, &jobs).await.unwrap();

    // With both keys everything can be decrypted, but nothing is encrypted under the new one yet.
    let with_both = store_with(stage, &[&new, &old]);
    assert_eq!(signed(&with_both, &jobs).await.unwrap(), before);
    let only_new = store_with(stage, &[&new]);
    assert!(matches!(signed(&only_new, &jobs).await, Err(StoreError::Keyring(KeyringError::UnknownKey(_)))));

    assert_eq!(with_both.rekey().await.unwrap(), rekeyed(2, 0));
    assert_eq!(with_both.rekey().await.unwrap(), rekeyed(0, 2), "repeated");

    assert_eq!(signed(&only_new, &jobs).await.unwrap(), before);
    assert_eq!(only_new.secret(&stage.tenant, first).await.unwrap().unwrap().0, first_secret);
    assert_eq!(only_new.secret(&stage.tenant, second).await.unwrap().unwrap().0, second_secret);
    only_new.check_keyring().await.unwrap();
    let shown = only_new.subscriber(&stage.tenant, first).await.unwrap().unwrap();
    assert_eq!(shown.header_names, Some(vec!["authorization".to_owned()]));
    // The old key no longer decrypts anything, which is the purpose of replacing it.
    assert!(signed(&under_old, &jobs).await.is_err());
    assert!(under_old.secret(&stage.tenant, second).await.is_err());
}

/// The previous secret and the headers may be under another key than the secret.
async fn rekey_reencrypts_secrets_previous_secrets_and_headers(stage: &Stage) {
    let (old, new) = (key(), key());
    let under_old = store_with(stage, &[&old]);
    let with_both = store_with(stage, &[&new, &old]);
    let (rotated, first) = subscribe(stage, &under_old, authorization()).await;
    let second = Secret::generate(&SystemRandom);
    // The secret and the previous secret are under the new key, the headers under the old one.
    rotate(stage, &with_both, rotated, &second, DAY).await;
    // Only the headers are under the new key.
    let (changed, third) = subscribe(stage, &under_old, CustomHeaders::default()).await;
    let headers = SubscriberChange { headers: Some(authorization()), ..SubscriberChange::default() };
    with_both.change_subscriber(&stage.tenant, changed, headers).await.unwrap().unwrap();
    // Everything is under the old key, including a previous secret.
    let (overlapping, fourth) = subscribe(stage, &under_old, authorization()).await;
    let fifth = Secret::generate(&SystemRandom);
    rotate(stage, &under_old, overlapping, &fifth, DAY).await;

    assert_eq!(with_both.rekey().await.unwrap(), rekeyed(3, 0));
    assert_eq!(with_both.rekey().await.unwrap(), rekeyed(0, 3), "again");

    let only_new = store_with(stage, &[&new]);
    for (subscriber, secrets) in
        [(rotated, vec![&second, &first]), (changed, vec![&third]), (overlapping, vec![&fifth, &fourth])]
    {
        let (webhook, _, headers) = signed(&only_new, &jobs(stage, subscriber).await).await.unwrap();
        let expected: Vec<String> = secrets.into_iter().map(signature_of).collect();
        assert_eq!(webhook, expected.join(" "));
        assert_eq!(headers, authorization());
    }
}

async fn rekey_reencrypts_the_authentication(stage: &Stage) {
    let (old, new) = (key(), key());
    let fields = AuthFields {
        username: Some("postrider".to_owned()),
        password: Some("swordfish".to_owned().into()),
        ..AuthFields::new(AuthKind::Basic)
    };
    let auth = ReceiverAuth::try_from(fields).unwrap();
    let new_auth = NewAuth { auth: auth.clone(), expires_at: None };
    let with = NewSubscriber { auth: Some(new_auth), ..subscriber_of(&["*"]) };
    let id = store_with(stage, &[&old]).create_subscriber(&stage.tenant, with).await.unwrap().id;
    let jobs = jobs(stage, id).await;
    let stored = stage.rows("SELECT auth FROM subscribers").await[0].try_get::<Vec<u8>>("", "auth").unwrap();
    assert!(!stored.windows(9).any(|part| part == b"swordfish"), "it is encrypted");

    let with_both = store_with(stage, &[&new, &old]);
    assert_eq!(with_both.rekey().await.unwrap(), Rekeyed { resealed: 1, current: 0, ..Rekeyed::default() });
    assert_eq!(
        with_both.rekey().await.unwrap(),
        Rekeyed { resealed: 0, current: 1, ..Rekeyed::default() },
        "again"
    );
    let only_new = store_with(stage, &[&new]);
    let Some(Loaded::Deliver(work)) = only_new.load(&jobs).await.unwrap().pop() else {
        panic!("nothing loaded")
    };
    assert!(work.recipient.auth.as_deref() == Some(&auth));
    let read = |store: Store| async move {
        store.subscriber(&stage.tenant, id).await.unwrap().unwrap().auth.unwrap()
    };
    assert_eq!(read(only_new).await.fields.unwrap().username.as_deref(), Some("postrider"));
    assert!(read(store_with(stage, &[&key()])).await.fields.is_none(), "without the key it is not shown");
}

async fn rekey_reencrypts_more_than_one_batch(stage: &Stage) {
    let (old, new) = (key(), key());
    let under_old = store_with(stage, &[&old]);
    let with_both = store_with(stage, &[&new, &old]);
    let mut subscribed = Vec::new();
    for _ in 0..205 {
        subscribed.push(subscribe(stage, &under_old, CustomHeaders::default()).await);
    }
    subscribed.push(subscribe(stage, &with_both, CustomHeaders::default()).await);

    assert_eq!(with_both.rekey().await.unwrap(), rekeyed(205, 1));
    let only_new = store_with(stage, &[&new]);
    for (id, secret) in subscribed {
        assert_eq!(only_new.secret(&stage.tenant, id).await.unwrap().unwrap().0, secret, "{id}");
    }
}

async fn rekey_names_the_subscriber_that_no_key_decrypts(stage: &Stage) {
    let (lost, old, new) = (key(), key(), key());
    let (first, _) = subscribe(stage, &store_with(stage, &[&old]), CustomHeaders::default()).await;
    let (stuck, _) = subscribe(stage, &store_with(stage, &[&lost]), CustomHeaders::default()).await;

    let error = store_with(stage, &[&new, &old]).rekey().await.unwrap_err();
    let RekeyError::Unopened { id, source } = &error else { panic!("{error:?}") };
    assert_eq!(*id, stuck);
    assert!(matches!(source, StoreError::Keyring(KeyringError::UnknownKey(_))), "{source:?}");
    assert!(error.to_string().contains(&stuck.to_string()), "{error}");
    // With the missing key it succeeds: nothing was lost.
    assert!(store_with(stage, &[&old]).secret(&stage.tenant, first).await.is_ok());
    let all = store_with(stage, &[&new, &old, &lost]);
    assert_eq!(all.rekey().await.unwrap(), rekeyed(2, 0));
}

async fn a_concurrent_rotation_is_not_overwritten(stage: &Stage) {
    let (old, new) = (key(), key());
    let under_old = store_with(stage, &[&old]);
    let with_both = store_with(stage, &[&new, &old]);
    let mut subscribed = Vec::new();
    for _ in 0..10 {
        subscribed.push(subscribe(stage, &under_old, CustomHeaders::default()).await.0);
    }
    let secrets: Vec<Secret> = subscribed.iter().map(|_| Secret::generate(&SystemRandom)).collect();
    let rotating = async {
        for (id, secret) in subscribed.iter().zip(&secrets) {
            // A program that still encrypts with the old key.
            let store = store_with(stage, &[&old, &new]);
            rotate(stage, &store, *id, secret, DAY).await;
        }
    };
    let rekeying = async {
        for _ in 0..10 {
            with_both.rekey().await.unwrap();
        }
    };
    tokio::join!(rotating, rekeying);
    with_both.rekey().await.unwrap();
    let only_new = store_with(stage, &[&new]);
    for (id, secret) in subscribed.into_iter().zip(secrets) {
        assert_eq!(only_new.secret(&stage.tenant, id).await.unwrap().unwrap().0, secret);
    }
}

async fn replaced_secrets_sign_until_their_overlaps_end(stage: &Stage) {
    let key = key();
    let store = store_with(stage, &[&key]);
    let (minute, almost) = (Duration::from_mins(1), Duration::from_mins(24 * 60 - 1));
    // When the rotations were, and which of the secrets sign now: the first is that of the creation.
    for (rotations, signing) in [
        (vec![], vec![0]),
        (vec![almost], vec![1, 0]),
        (vec![DAY + minute], vec![1]),
        (vec![almost, minute], vec![2, 1, 0]),
        (vec![DAY + minute, almost, minute], vec![3, 2, 1]),
        // Here the stored list still has one that signs no more.
        (vec![DAY + 2 * minute, almost, almost], vec![3, 2, 1]),
    ] {
        let (id, first) = subscribe(stage, &store, CustomHeaders::default()).await;
        let jobs = jobs(stage, id).await;
        let mut secrets = vec![first];
        for ago in &rotations {
            let late = IdGenerator::new(Arc::new(Late(*ago)), Arc::new(SystemRandom));
            let secret = Secret::generate(&SystemRandom);
            rotate(stage, &store_at(stage, &[&key], late), id, &secret, DAY).await;
            secrets.push(secret);
        }
        let expected: Vec<_> = signing.iter().map(|place| signature_of(&secrets[*place])).collect();
        assert_eq!(signatures(&store, &jobs).await, expected, "{rotations:?}");
        let (newest, previous) = store.secret(&stage.tenant, id).await.unwrap().unwrap();
        let shown: Vec<_> =
            std::iter::once(newest).chain(previous.into_iter().map(|one| one.secret)).collect();
        let signing: Vec<_> = signing.iter().map(|place| secrets[*place].clone()).collect();
        assert_eq!(shown, signing, "{rotations:?}");
        // Its job is claimed no more.
        stage.store.delete_subscriber(&stage.tenant, id).await.unwrap();
    }
}

async fn ten_replaced_secrets_sign_and_no_more(stage: &Stage) {
    let (id, first) = subscribe(stage, &stage.store, CustomHeaders::default()).await;
    let jobs = jobs(stage, id).await;
    let mut secrets = vec![first];
    for count in 1..=10 {
        let secret = Secret::generate(&SystemRandom);
        assert_eq!(rotate(stage, &stage.store, id, &secret, DAY).await.len(), count);
        secrets.push(secret);
    }
    let expected: Vec<_> = secrets.iter().rev().map(signature_of).collect();
    assert_eq!(signatures(&stage.store, &jobs).await, expected);
    let another = Secret::generate(&SystemRandom);
    let refused = stage.store.rotate_secret(&stage.tenant, id, &another, DAY).await.unwrap();
    assert!(matches!(refused, Rotated::TooManyPrevious));
    assert_eq!(signatures(&stage.store, &jobs).await, expected, "nothing was lost");
    assert!(rotate(stage, &stage.store, id, &another, Duration::ZERO).await.is_empty());
    assert_eq!(signatures(&stage.store, &jobs).await, [signature_of(&another)]);
}

async fn a_secret_whose_key_is_lost_is_replaced(stage: &Stage) {
    let under_lost = store_with(stage, &[&key()]);
    let (id, _) = subscribe(stage, &under_lost, authorization()).await;
    rotate(stage, &under_lost, id, &Secret::generate(&SystemRandom), DAY).await;
    let jobs = jobs(stage, id).await;
    let store = store_with(stage, &[&key()]);
    assert!(matches!(store.check_keyring().await, Err(StoreError::Keyring(_))));
    assert_eq!(store.subscriber(&stage.tenant, id).await.unwrap().unwrap().header_names, None);

    let secret = Secret::generate(&SystemRandom);
    assert!(rotate(stage, &store, id, &secret, DAY).await.is_empty(), "what cannot be decrypted cannot sign");
    assert_eq!(store.secret(&stage.tenant, id).await.unwrap().unwrap().0, secret);
    store.check_keyring().await.unwrap();
    let headers = SubscriberChange { headers: Some(authorization()), ..SubscriberChange::default() };
    store.change_subscriber(&stage.tenant, id, headers).await.unwrap().unwrap();
    let (webhook, _, headers) = signed(&store, &jobs).await.unwrap();
    assert_eq!((webhook, headers), (signature_of(&secret), authorization()));
}

/// A clock that is behind by this much, so that what a store does with it seems to have happened that long ago.
struct Late(Duration);

impl Clock for Late {
    fn now(&self) -> Timestamp {
        SystemClock.now() - self.0
    }
}

async fn without_an_overlap_the_old_secret_stops_signing_at_once(stage: &Stage) {
    let (id, _) = subscribe(stage, &stage.store, CustomHeaders::default()).await;
    let jobs = jobs(stage, id).await;
    let second = Secret::generate(&SystemRandom);
    rotate(stage, &stage.store, id, &second, Duration::ZERO).await;
    assert_eq!(signatures(&stage.store, &jobs).await, [signature_of(&second)]);
}
