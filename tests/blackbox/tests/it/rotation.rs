//! Rotated secrets: for how long the former one signs.

use std::time::Duration;

use postrider_testkit::{Receiver, TestDatabase};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::client::{dispatch, ended, subscribe_with, text};
use crate::deployment::{Deployment, DEADLINE};
use crate::signature::verify;

const FORMER: &str = "the secret before the rotation";
const NEW: &str = "the secret after the rotation";

const DAY: Duration = Duration::from_hours(24);

/// Longer than what is between two steps of a test may take.
const A_WHILE: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_former_secret_signs_for_as_long_as_the_overlap() {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    for (path, overlap, given) in [
        ("/default", DAY, json!({"secret": NEW})),
        ("/longest", 7 * DAY, json!({"secret": NEW, "overlap_seconds": 604_800})),
        ("/none", Duration::ZERO, json!({"secret": NEW, "overlap_seconds": 0})),
    ] {
        let body = json!({"url": receiver.url(path), "events": [path[1..]], "secret": FORMER});
        let subscriber = subscribe_with(api, body).await;
        let rotate = format!("/v1/subscribers/{}/secret/rotate", text(&subscriber["id"]));
        let too_long = json!({"secret": NEW, "overlap_seconds": 604_801});
        assert_eq!(api.post(&rotate, &too_long).await.0, 422);
        let signed_by = async |count: usize, secrets: &[&str]| {
            let delivery = ended(api, &dispatch(api, &path[1..]).await).await;
            assert_eq!(delivery["status"], "succeeded");
            verify(&receiver.wait_for_path(path, count, DEADLINE).await[count - 1], secrets);
        };
        signed_by(1, &[FORMER]).await;
        assert_eq!(api.post(&rotate, &given).await, (200, json!({"secret": NEW})));
        if !overlap.is_zero() {
            signed_by(2, &[NEW, FORMER]).await;
            age(&deployment.database, &subscriber, overlap.saturating_sub(A_WHILE)).await;
            signed_by(3, &[NEW, FORMER]).await;
            age(&deployment.database, &subscriber, A_WHILE).await;
        }
        let so_far = receiver.requests_to(path).len();
        signed_by(so_far + 1, &[NEW]).await;
    }
    deployment.stop().await;
}

/// Lets the rotation be longer ago.
async fn age(database: &TestDatabase, subscriber: &Value, by: Duration) {
    let sql = format!(
        "UPDATE subscribers SET previous_secret_until = previous_secret_until - {} WHERE url = '{}'",
        by.as_millis(),
        text(&subscriber["url"]),
    );
    assert_eq!(database.connection().execute_unprepared(&sql).await.unwrap().rows_affected(), 1);
}
