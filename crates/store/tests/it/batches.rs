//! Bulk calls work in batches, so that none holds its locks for long.

use postrider_store::dead_letters::{AttemptBudget, DeadFilter, Requeued};
use postrider_testkit::TestDatabase;
use sea_orm::ConnectionTrait as _;

use crate::stage::Stage;

/// A trigger that notes in which transaction each dead letter becomes pending again.
const NOTE: &str = "CREATE TABLE requeued (transaction bigint NOT NULL); \
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        INSERT INTO requeued VALUES (txid_current()); RETURN NULL; \
    END $$; \
    CREATE TRIGGER note AFTER UPDATE ON deliveries FOR EACH ROW \
        WHEN (OLD.status = 2 AND NEW.status = 0) EXECUTE FUNCTION note()";

#[tokio::test]
async fn a_transaction_requeues_at_most_five_hundred_dead_letters() {
    let stage = Stage::of(TestDatabase::postgres().await).await;
    let subscriber = stage.subscribe(&stage.tenant, true).await;
    stage.bury(subscriber, 1_203).await;
    stage.database.connection().execute_unprepared(NOTE).await.unwrap();
    let any = DeadFilter::default();
    let requeued = stage.store.requeue(&stage.tenant, &any, AttemptBudget::FromZero, 10_000).await.unwrap();
    assert_eq!(requeued, Requeued { deliveries: 1_203, ..Requeued::default() });
    assert_eq!(
        stage.count("SELECT count(*) AS n FROM requeued").await,
        1_203,
        "the trigger has noted every delivery"
    );
    let largest =
        "SELECT max(n) AS n FROM (SELECT count(*) AS n FROM requeued GROUP BY transaction) AS batches";
    assert_eq!(stage.count(largest).await, 500);
}
