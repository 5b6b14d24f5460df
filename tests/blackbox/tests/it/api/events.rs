use postrider_testkit::Receiver;
use serde_json::json;
use tokio::task::JoinSet;

use crate::client::{dispatch_with, idle, list, subscribe};
use crate::deployment::{DEADLINE, Deployment, Member, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_with_one_key_create_one_event() {
    // Two servers, so that no state in memory can decide it.
    let deployment = Deployment::start(1).await;
    let other = Member::start(&program("postrider-server", deployment.database.url(), &[])).await;
    let apis = [deployment.api.clone(), other.api().await];
    let receiver = Receiver::start().await;
    subscribe(&apis[0], &receiver.url("/")).await;

    for key in ["one", "two", "three"] {
        let mut racers = JoinSet::new();
        for place in 0..10 {
            let api = apis[place % 2].clone();
            let body = json!({"event": "order.created", "data": {"order": key}, "id": key});
            racers.spawn(async move { dispatch_with(&api, body).await });
        }
        let answers = racers.join_all().await;
        assert_eq!(answers.iter().filter(|answer| answer["duplicate"] == false).count(), 1, "{answers:?}");
        for answer in &answers {
            assert_eq!((&answer["id"], &answer["job_ids"]), (&answers[0]["id"], &answers[0]["job_ids"]));
        }
    }
    assert_eq!(list(&apis[0], "/v1/events").await.len(), 3);
    receiver.wait_for(3, DEADLINE).await;
    idle(&apis[0]).await;
    other.stop().await;
    deployment.stop().await;
    assert_eq!(receiver.requests().len(), 3);
}
