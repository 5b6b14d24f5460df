//! Idempotency keys are taken once, and end.

use std::time::Duration;

use postrider_store::intake::KeyRow;
use sea_orm::ConnectionTrait as _;

use crate::stage::{Stage, on_both};

on_both!(an_idempotency_key_is_removed_when_it_is_old_enough);

async fn an_idempotency_key_is_removed_when_it_is_old_enough(stage: &Stage) {
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
    let hours = async |hours: u32| {
        let sql = format!("UPDATE idempotency_keys SET created_at = created_at - {hours} * 3600000");
        stage.database.connection().execute_unprepared(&sql).await.unwrap();
        stage.store.remove_old_keys(Duration::from_hours(24)).await.unwrap()
    };
    assert_eq!((hours(23).await, keys().await), (0, 1));
    assert_eq!((hours(1).await, keys().await), (1, 0));
    let again = KeyRow { event_id: stage.store.ids().next(), ..key };
    let taken = stage.store.take_keys(connection, &[again]).await.unwrap();
    assert!(taken[0].is_none(), "it can be taken again");
    assert_eq!(keys().await, 1);
}
