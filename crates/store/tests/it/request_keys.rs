//! Requests that are carried out once, however often they are repeated.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::TenantId;
use postrider_store::audit::Auditor;
use postrider_store::request_keys::{RequestKey, TakenKey};
use postrider_store::{Store, StoreError};

use crate::stage::{Stage, on_both};

on_both!(
    an_answer_is_kept_for_repeats,
    a_request_that_was_taken_over_changes_nothing,
    a_change_without_an_answer_is_not_repeated,
    a_key_that_is_given_back_is_new,
    a_key_is_new_after_a_day,
);

const REQUEST: [u8; 32] = [7; 32];

fn key(stage: &Stage) -> RequestKey {
    let token = stage.store.ids().next_uuid();
    RequestKey::new(TenantId::default(), "actor".into(), "k".into(), token)
}

async fn take(stage: &Stage, key: &RequestKey) -> String {
    match stage.store.take_request_key(key, &REQUEST).await.unwrap() {
        TakenKey::Answered(answer) => String::from_utf8(answer.to_vec()).unwrap(),
        other => format!("{other:?}"),
    }
}

/// The store in the request with this key.
fn within(stage: &Stage, key: &RequestKey) -> Store {
    let mut auditor = Auditor::new("actor".into(), "name".into(), None, None);
    auditor.request_key = Some(key.clone());
    stage.store.audited(Arc::new(auditor))
}

async fn change(stage: &Stage, key: &RequestKey) -> Result<(), StoreError> {
    let new = postrider_stage::subscriber_of(&["*"]);
    within(stage, key).create_subscriber(&TenantId::default(), new).await.map(drop)
}

async fn subscribers(stage: &Stage) -> u64 {
    stage.count("SELECT count(*) AS n FROM subscribers").await
}

async fn an_answer_is_kept_for_repeats(stage: &Stage) {
    let first = key(stage);
    assert_eq!(take(stage, &first).await, "New");
    assert_eq!(take(stage, &key(stage)).await, "Running");
    change(stage, &first).await.unwrap();
    stage.store.keep_answer(&first, b"the secret answer").await.unwrap();
    assert_eq!(take(stage, &key(stage)).await, "the secret answer");
    let other = stage.store.take_request_key(&key(stage), &[8; 32]).await.unwrap();
    assert!(matches!(other, TakenKey::Other), "{other:?}");
    // An answer may hold a secret.
    let rows = stage.rows("SELECT answer FROM request_keys").await;
    let stored: Vec<u8> = rows[0].try_get("", "answer").unwrap();
    assert!(!stored.windows(6).any(|part| part == b"secret"));
}

/// It was so slow that nobody waits for it any more.
async fn a_request_that_was_taken_over_changes_nothing(stage: &Stage) {
    let (slow, repeat) = (key(stage), key(stage));
    assert_eq!(take(stage, &slow).await, "New");
    stage.database.advance(Duration::from_mins(3)).await;
    assert_eq!(take(stage, &repeat).await, "New");
    let error = change(stage, &slow).await.unwrap_err();
    assert!(matches!(error, StoreError::TakenOver), "{error}");
    assert_eq!(subscribers(stage).await, 0);
    change(stage, &repeat).await.unwrap();
    assert_eq!(subscribers(stage).await, 1);
    stage.store.keep_answer(&slow, b"of the slow one").await.unwrap();
    stage.store.keep_answer(&repeat, b"of the repeat").await.unwrap();
    assert_eq!(take(stage, &key(stage)).await, "of the repeat");
}

/// The server died after the commit.
async fn a_change_without_an_answer_is_not_repeated(stage: &Stage) {
    let first = key(stage);
    take(stage, &first).await;
    change(stage, &first).await.unwrap();
    stage.database.advance(Duration::from_hours(1)).await;
    assert_eq!(take(stage, &key(stage)).await, "AnswerLost");
    stage.store.give_back_request_key(&first).await.unwrap();
    assert_eq!(take(stage, &key(stage)).await, "AnswerLost");
}

async fn a_key_that_is_given_back_is_new(stage: &Stage) {
    let first = key(stage);
    take(stage, &first).await;
    stage.store.give_back_request_key(&key(stage)).await.unwrap();
    assert_eq!(take(stage, &key(stage)).await, "Running", "somebody else cannot give it back");
    stage.store.give_back_request_key(&first).await.unwrap();
    assert_eq!(take(stage, &key(stage)).await, "New");
}

async fn a_key_is_new_after_a_day(stage: &Stage) {
    let first = key(stage);
    take(stage, &first).await;
    stage.store.keep_answer(&first, b"answer").await.unwrap();
    stage.database.advance(Duration::from_hours(23)).await;
    assert_eq!(stage.store.remove_old_request_keys().await.unwrap(), 0);
    assert_eq!(take(stage, &key(stage)).await, "answer");
    stage.database.advance(Duration::from_hours(2)).await;
    let second = key(stage);
    assert_eq!(take(stage, &second).await, "New");
    stage.store.keep_answer(&second, b"another").await.unwrap();
    stage.database.advance(Duration::from_hours(25)).await;
    assert_eq!(stage.store.remove_old_request_keys().await.unwrap(), 1);
    assert_eq!(stage.count("SELECT count(*) AS n FROM request_keys").await, 0);
}
