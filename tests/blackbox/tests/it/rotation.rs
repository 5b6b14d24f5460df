//! Rotated secrets: for how long the previous one signs.

use std::time::Duration;

use postrider_testkit::{Receiver, TestDatabase};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::client::{dispatch, ended, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};
use crate::signature::verify;

const PREVIOUS: &str = "the secret before the rotation";
const NEW: &str = "the secret after the rotation";

const DAY: Duration = Duration::from_hours(24);

/// Longer than any step of the test takes.
const MARGIN: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_previous_secret_signs_until_the_overlap_ends() {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    for (path, overlap, given) in [
        ("/default", DAY, json!({"secret": NEW})),
        ("/longest", 7 * DAY, json!({"secret": NEW, "overlap_seconds": 604_800})),
        ("/none", Duration::ZERO, json!({"secret": NEW, "overlap_seconds": 0})),
    ] {
        let body = json!({"url": receiver.url(path), "events": [path[1..]], "secret": PREVIOUS});
        let subscriber = subscribe_with(api, body).await;
        let rotate = format!("/v1/subscribers/{}/secret/rotate", text(&subscriber["id"]));
        let too_long = json!({"secret": NEW, "overlap_seconds": 604_801});
        assert_eq!(api.post(&rotate, &too_long).await.0, 422);
        let signed_by = async |count: usize, secrets: &[&str]| {
            let delivery = ended(api, &dispatch(api, &path[1..]).await).await;
            assert_eq!(delivery["status"], "succeeded");
            verify(&receiver.wait_for_path(path, count, DEADLINE).await[count - 1], secrets);
        };
        signed_by(1, &[PREVIOUS]).await;
        assert_eq!(api.post(&rotate, &given).await, (200, json!({"secret": NEW})));
        if !overlap.is_zero() {
            signed_by(2, &[NEW, PREVIOUS]).await;
            age(&deployment.database, &subscriber, overlap.saturating_sub(MARGIN)).await;
            signed_by(3, &[NEW, PREVIOUS]).await;
            age(&deployment.database, &subscriber, MARGIN).await;
        }
        let so_far = receiver.requests_to(path).len();
        signed_by(so_far + 1, &[NEW]).await;
    }
    deployment.stop().await;
}

/// Moves the rotation into the past.
async fn age(database: &TestDatabase, subscriber: &Value, by: Duration) {
    let sql = format!(
        "UPDATE subscribers SET previous_secret_until = previous_secret_until - {} WHERE url = '{}'",
        by.as_millis(),
        text(&subscriber["url"]),
    );
    assert_eq!(database.connection().execute_unprepared(&sql).await.unwrap().rows_affected(), 1);
}
