use postrider_testkit::Receiver;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{dispatch, dispatch_with, fields, idle, list, read, subscribe, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment, Member, program};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_event_of_a_batch_does_not_stop_the_others() {
    let deployment = Deployment::start(1).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    subscribe(api, &receiver.url("/")).await;
    let batch = json!({"events": [
        {"event": "order.created", "data": {"place": 0}},
        {"event": "order created", "data": {"place": 1}},
        {"event": "order.created", "data": "text"},
        {"event": "order.created", "data": [3], "agent_id": "agent 3", "id": "three"},
        {"event": "order.created", "data": [3], "agent_id": "agent 3", "id": "three"},
    ]});
    let (status, answer) = api.post("/v1/events/batch", &batch).await;
    assert_eq!(status, 202, "{answer}");
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 5, "{answer}");
    assert_eq!((&results[1]["status"], fields(&results[1])), (&json!(422), vec!["events[1].event"]));
    assert_eq!((&results[2]["status"], fields(&results[2])), (&json!(422), vec!["events[2].data"]));
    for place in [0, 3] {
        assert!(text(&results[place]["id"]).starts_with("evt_"), "{answer}");
        assert_eq!(
            (&results[place]["jobs_created"], &results[place]["duplicate"]),
            (&json!(1), &json!(false))
        );
    }
    assert_eq!((&results[4]["id"], &results[4]["duplicate"]), (&results[3]["id"], &json!(true)));

    idle(api).await;
    let mut data: Vec<_> =
        receiver.requests().iter().map(|request| request.json()["data"].to_string()).collect();
    data.sort();
    assert_eq!(data, ["[3]", r#"{"place":0}"#]);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_repeated_is_one_event() {
    let deployment = Deployment::start(0).await;
    let api = &deployment.api;
    subscribe(api, "http://127.0.0.1:9/").await;
    let body = json!({"event": "order.created", "data": {"order": 1}, "agent_id": "agent", "id": "one"});
    let first = dispatch_with(api, body.clone()).await;
    assert_eq!(first["duplicate"], false);
    let mut expected = first.clone();
    expected["duplicate"] = json!(true);
    assert_eq!(dispatch_with(api, body.clone()).await, expected, "the first answer");

    // The header says the same as the field.
    let mut without = body.clone();
    without.as_object_mut().unwrap().remove("id");
    let headers = [JSON, ("idempotency-key", "one")];
    let answer = api.send(http::Method::POST, "/v1/events", &headers, without.to_string()).await;
    assert_eq!((answer.status, answer.json()), (202, expected));

    // What is asked for besides may not differ.
    for (field, value) in
        [("event", json!("order.paid")), ("data", json!({"order": 2})), ("agent_id", json!("b"))]
    {
        let mut other = body.clone();
        other[field] = value;
        let (status, problem) = api.post("/v1/events", &other).await;
        assert_eq!(status, 409, "{field}: {problem}");
    }
    // Another tenant's key is another key.
    let (status, elsewhere) = api.clone().with_header("x-tenant-id", "acme").post("/v1/events", &body).await;
    assert_eq!((status, &elsewhere["duplicate"]), (202, &json!(false)));
    assert_ne!(elsewhere["id"], first["id"]);
    assert_eq!(list(api, "/v1/events").await.len(), 1);
    assert_eq!(list(api, "/v1/deliveries").await.len(), 1);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_of_equal_requests_makes_one_event() {
    // Two servers, so that they cannot settle it between themselves.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_listed_newest_first_a_page_at_a_time() {
    let deployment = Deployment::start(0).await;
    let api = &deployment.api;
    let mut ids = Vec::new();
    for place in 0..7 {
        let event = if place % 2 == 0 { "even" } else { "odd" };
        ids.push(dispatch(api, event).await["id"].take());
    }
    ids.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/events?limit=3".to_owned());
    let pages = loop {
        let page = read(api, &path).await;
        let events = page["data"].as_array().unwrap();
        assert!(events.len() <= 3);
        seen.extend(events.iter().map(|event| event["id"].clone()));
        match &page["next_cursor"] {
            Value::Null => break seen.len().div_ceil(3),
            cursor => path = format!("/v1/events?limit=3&cursor={}", text(cursor)),
        }
    };
    assert_eq!((pages, seen), (3, ids.clone()));
    let odd: Vec<_> =
        list(api, "/v1/events?event=odd").await.iter().map(|event| event["id"].clone()).collect();
    assert_eq!(odd, [&ids[1], &ids[3], &ids[5]].map(Value::clone));
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_are_apart() {
    let deployment = Deployment::start(1).await;
    let receiver = Receiver::start().await;
    let [acme, umbrella] =
        ["acme", "umbrella"].map(|tenant| deployment.api.clone().with_header("x-tenant-id", tenant));
    let subscriber = subscribe_with(&acme, json!({"url": receiver.url("/acme"), "events": ["*"]})).await;
    subscribe_with(&umbrella, json!({"url": receiver.url("/umbrella"), "events": ["*"]})).await;
    let event = dispatch(&acme, "order.created").await;
    assert_eq!(event["subscriber_ids"], json!([subscriber["id"]]));
    idle(&acme).await;
    assert_eq!((receiver.requests_to("/acme").len(), receiver.requests().len()), (1, 1));

    let delivery = list(&acme, "/v1/deliveries").await.remove(0);
    let [event, subscriber, delivery] =
        [&event, &subscriber, &delivery].map(|thing| text(&thing["id"]).to_owned());
    for stranger in [&umbrella, &deployment.api] {
        for list_of in ["/v1/events", "/v1/deliveries"] {
            assert_eq!(list(stranger, list_of).await, Vec::<Value>::new());
        }
        assert_eq!(read(stranger, "/v1/stats").await["deliveries"]["total"], 0);
        for path in [
            format!("/v1/events/{event}"),
            format!("/v1/subscribers/{subscriber}"),
            format!("/v1/subscribers/{subscriber}/secret"),
            format!("/v1/deliveries/{delivery}"),
            format!("/v1/deliveries/{delivery}/attempts"),
        ] {
            assert_eq!(stranger.get(&path).await.0, 404, "{path}");
        }
        for path in [
            format!("/v1/subscribers/{subscriber}/deactivate"),
            format!("/v1/subscribers/{subscriber}/secret/rotate"),
            format!("/v1/deliveries/{delivery}/retry"),
            format!("/v1/deliveries/{delivery}/cancel"),
        ] {
            assert_eq!(stranger.post(&path, &json!({})).await.0, 404, "{path}");
        }
        let path = format!("/v1/subscribers/{subscriber}");
        assert_eq!(stranger.patch(&path, &json!({"active": false})).await.0, 404);
        assert_eq!(stranger.delete(&path).await.0, 404);
        assert_eq!(list(stranger, &format!("/v1/deliveries?subscriber_id={subscriber}")).await.len(), 0);
    }
    assert_eq!(read(&acme, &format!("/v1/subscribers/{subscriber}")).await["active"], true);
    deployment.stop().await;
}
