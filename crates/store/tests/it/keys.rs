//! Idempotency keys are taken once, and end.

use postrider_store::intake::KeyRow;
use sea_orm::ConnectionTrait as _;

use crate::stage::{Stage, on_both};

on_both!(an_idempotency_key_is_removed_after_seven_days);

async fn an_idempotency_key_is_removed_after_seven_days(stage: &Stage) {
    let key = KeyRow {
        tenant: stage.tenant.clone(),
        key: "one".into(),
        request_hash: [0; 32],
        event_id: stage.store.ids().next(),
        jobs: Vec::new(),
        created_at: stage.now(),
    };
    let keys = async || stage.count("SELECT count(*) AS n FROM idempotency_keys").await;
    let connection = stage.store.database().connection();
    stage.store.take_keys(connection, std::slice::from_ref(&key)).await.unwrap();
    let days = async |days: u32| {
        let sql = format!("UPDATE idempotency_keys SET created_at = created_at - {days} * 86400000");
        stage.database.connection().execute_unprepared(&sql).await.unwrap();
        stage.store.remove_old_keys().await.unwrap()
    };
    assert_eq!((days(6).await, keys().await), (0, 1));
    assert_eq!((days(1).await, keys().await), (1, 0));
    let again = KeyRow { event_id: stage.store.ids().next(), ..key };
    let taken = stage.store.take_keys(connection, &[again]).await.unwrap();
    assert!(taken[0].is_none(), "it can be taken again");
    assert_eq!(keys().await, 1);
}
