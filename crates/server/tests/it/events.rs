use std::time::Duration;

use postrider_dispatch::transform::{Transforms, hook};
use postrider_testkit::eventually;
use serde_json::{Value, json};

use crate::api::{TestServer, fields};

#[tokio::test]
async fn an_event_goes_to_subscribers_with_a_matching_pattern() {
    let server = TestServer::start().await;
    let wants = server.subscriber(&["order.*"]).await;
    let all = server.subscriber(&["*"]).await;
    server.subscriber(&["invoice.*"]).await;
    let (status, dispatched) = server
        .api
        .post("/v1/events", &json!({"event": "order.created", "data": {"a": 1}, "agent_id": "agent 7"}))
        .await;
    assert_eq!(status, 202, "{dispatched}");
    assert_eq!((&dispatched["event"], &dispatched["agent_id"]), (&json!("order.created"), &json!("agent 7")));
    assert_eq!((&dispatched["subscribers_found"], &dispatched["jobs_created"]), (&json!(2), &json!(2)));
    assert_eq!((&dispatched["duplicate"], &dispatched["fan_out"]), (&json!(false), &json!("complete")));
    assert!(dispatched["timestamp"].as_i64().unwrap() > 1_700_000_000, "Unix seconds");
    let texts = |list: &Value| {
        list.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut ids = texts(&dispatched["subscriber_ids"]);
    ids.sort();
    assert_eq!(ids, [wants["id"].as_str().unwrap(), all["id"].as_str().unwrap()]);
    let jobs = texts(&dispatched["job_ids"]);
    assert!(jobs.len() == 2 && jobs.iter().all(|job| job.starts_with("job_")), "{jobs:?}");

    let (status, event) = server.api.get(&format!("/v1/events/{}", dispatched["id"].as_str().unwrap())).await;
    assert_eq!(status, 200, "{event}");
    for field in ["id", "event", "agent_id", "timestamp", "subscribers_found", "jobs_created", "fan_out"] {
        assert_eq!(event[field], dispatched[field], "{field}");
    }
    assert_eq!(event["data"], json!({"a": 1}));
    let deliveries = event["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 2);
    assert!(deliveries.iter().all(|delivery| delivery["status"] == "pending" && delivery["attempts"] == 0));
    assert_eq!(event["deliveries_next_cursor"], json!(null));
}

#[tokio::test]
async fn an_event_with_many_subscribers_is_answered_before_its_deliveries_are_made() {
    let server = TestServer::start().await;
    for _ in 0..101 {
        server.subscriber(&["order.*"]).await;
    }
    let request = json!({"event": "order.created", "data": {}, "id": "order-1"});
    let (status, dispatched) = server.api.post("/v1/events", &request).await;
    assert_eq!(status, 202, "{dispatched}");
    assert_eq!((&dispatched["subscribers_found"], &dispatched["jobs_created"]), (&json!(101), &json!(0)));
    assert_eq!((&dispatched["job_ids"], &dispatched["subscriber_ids"]), (&json!([]), &json!([])));
    assert_eq!(dispatched["fan_out"], "continuing");

    let path = format!("/v1/events/{}", dispatched["id"].as_str().unwrap());
    let event = eventually(Duration::from_secs(30), || async {
        let (_, event) = server.api.get(&path).await;
        (event["fan_out"] == "complete").then_some(event)
    })
    .await;
    assert_eq!((&event["subscribers_found"], &event["jobs_created"]), (&json!(101), &json!(101)));
    assert_eq!(event["deliveries"].as_array().map(Vec::len), Some(101));
    let (_, again) = server.api.post("/v1/events", &request).await;
    assert_eq!((&again["id"], &again["duplicate"]), (&dispatched["id"], &json!(true)));
    assert_eq!((&again["jobs_created"], &again["fan_out"]), (&json!(101), &json!("complete")));
    assert_eq!((&again["job_ids"], &again["subscriber_ids"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn an_event_without_subscribers_is_not_an_error() {
    let server = TestServer::start().await;
    let dispatched = server.event("order.created").await;
    assert_eq!((&dispatched["subscribers_found"], &dispatched["jobs_created"]), (&json!(0), &json!(0)));
    assert_eq!((&dispatched["job_ids"], &dispatched["subscriber_ids"]), (&json!([]), &json!([])));
    assert_eq!(dispatched["agent_id"], "default");
}

#[tokio::test]
async fn data_comes_back_byte_for_byte() {
    let server = TestServer::start().await;
    let data = r#"{"b": 1.10, "a":1e400,  "a":"\u0000é", "n":123456789012345678901234567890}"#;
    let answer = server.api.post_raw("/v1/events", format!(r#" {{"data" : {data} ,"event":"a"}} "#)).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let answer = server
        .api
        .send(http::Method::GET, &format!("/v1/events/{}", answer.json()["id"].as_str().unwrap()), &[], "")
        .await;
    assert!(answer.text().contains(data), "{}", answer.text());

    // Data may be an array, also according to the description.
    let (status, event) = server.api.post("/v1/events", &json!({"event": "a", "data": [1]})).await;
    assert_eq!(status, 202, "{event}");
    let (_, event) = server.api.get(&format!("/v1/events/{}", event["id"].as_str().unwrap())).await;
    assert_eq!(event["data"], json!([1]));
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer() {
    let server = TestServer::start().await;
    server.subscriber(&["*"]).await;
    let body = json!({"event": "a", "data": {"n": 1}, "id": "order-1"});
    let (_, first) = server.api.post("/v1/events", &body).await;
    let (status, again) = server.api.post("/v1/events", &body).await;
    assert_eq!((status, &again["duplicate"]), (202, &json!(true)), "{again}");
    let mut expected = first.clone();
    expected["duplicate"] = json!(true);
    assert_eq!(again, expected);
    let other = json!({"event": "a", "data": {"n": 2}, "id": "order-1"});
    let (status, problem) = server.api.post("/v1/events", &other).await;
    assert_eq!((status, &problem["status"]), (409, &json!(409)), "{problem}");
    let (_, events) = server.api.get("/v1/events").await;
    assert_eq!(events["data"].as_array().unwrap().len(), 1);
    let (status, theirs) = server.tenant("acme").post("/v1/events", &other).await;
    assert_eq!((status, &theirs["duplicate"]), (202, &json!(false)), "an id is of its tenant");
}

#[tokio::test]
async fn a_bad_event_never_stops_the_rest_of_its_batch() {
    let server = TestServer::start().await;
    server.subscriber(&["*"]).await;
    server.api.post("/v1/events", &json!({"event": "a", "data": {"n": 0}, "id": "used"})).await;
    let (status, answer) = server
        .api
        .post(
            "/v1/events/batch",
            &json!({"events": [
                {"event": "a", "data": {"n": 1}},
                {"event": "a b", "data": 7},
                "text",
                {"event": "a", "data": {"n": 2}, "id": "used"},
                {"event": "a", "data": {"n": 3}, "other": 1},
                {"event": "a", "data": [4]},
            ]}),
        )
        .await;
    assert_eq!(status, 202, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64().unwrap_or(202)).collect();
    assert_eq!(statuses, [202, 422, 422, 409, 422, 202], "{answer}");
    assert_eq!(fields(&results[1]), ["events[1].event", "events[1].data"]);
    assert_eq!(fields(&results[2]), ["events[2]"]);
    assert_eq!(fields(&results[4]), ["events[4].other"]);
    assert_eq!(results[5]["jobs_created"], 1);
    let (_, events) = server.api.get("/v1/events").await;
    let ids: Vec<_> = events["data"].as_array().unwrap().iter().map(|event| &event["id"]).collect();
    assert_eq!(ids[..2], [&results[5]["id"], &results[0]["id"]], "stored in order");
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn events_are_listed_a_page_at_a_time() {
    let server = TestServer::start().await;
    let mut made = Vec::new();
    for event in ["a", "b", "a", "a", "b"] {
        made.insert(0, server.event(event).await["id"].clone());
    }
    let mut seen = Vec::new();
    let mut path = "/v1/events?limit=2".to_owned();
    let mut pages = 0;
    loop {
        let (status, page) = server.api.get(&path).await;
        assert_eq!(status, 200, "{page}");
        seen.extend(page["data"].as_array().unwrap().iter().map(|event| event["id"].clone()));
        pages += 1;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/events?limit=2&cursor={cursor}");
    }
    assert_eq!((seen, pages), (made, 3));
    let (_, page) = server.api.get("/v1/events?event=b&limit=2").await;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["next_cursor"]), (2, &json!(null)));
    assert!(page["data"][0].get("data").is_none(), "data is shown one by one");
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let server = TestServer::start().await;
    let ours = server.subscriber(&["*"]).await;
    let dispatched = server.event("a").await;
    let acme = server.tenant("acme");
    let (_, theirs) = acme.post("/v1/events", &json!({"event": "a", "data": {}})).await;
    assert_eq!(theirs["subscribers_found"], 0, "a subscriber gets only its tenant's events");
    let (_, page) = server.api.get("/v1/deliveries").await;
    let delivery = page["data"][0]["id"].as_str().unwrap().to_owned();
    for list in ["/v1/subscribers", "/v1/deliveries"] {
        let (_, page) = acme.get(list).await;
        assert_eq!(page["data"], json!([]), "{list}");
    }
    let (subscriber, event) = (ours["id"].as_str().unwrap(), dispatched["id"].as_str().unwrap());
    for path in [
        format!("/v1/events/{event}"),
        format!("/v1/subscribers/{subscriber}"),
        format!("/v1/subscribers/{subscriber}/secret"),
        format!("/v1/deliveries/{delivery}"),
        format!("/v1/deliveries/{delivery}/attempts"),
    ] {
        assert_eq!(acme.get(&path).await.0, 404, "{path}");
        assert_eq!(server.api.get(&path).await.0, 200, "{path}");
    }
    for path in [
        format!("/v1/subscribers/{subscriber}/activate"),
        format!("/v1/subscribers/{subscriber}/deactivate"),
        format!("/v1/subscribers/{subscriber}/secret/rotate"),
        format!("/v1/deliveries/{delivery}/cancel"),
        format!("/v1/deliveries/{delivery}/retry"),
    ] {
        assert_eq!(acme.post(&path, &json!({})).await.0, 404, "{path}");
    }
    let path = format!("/v1/subscribers/{subscriber}");
    assert_eq!(acme.patch(&path, &json!({"active": false})).await.0, 404);
    assert_eq!(acme.delete(&path).await.0, 404);
    assert_eq!(server.api.get(&path).await.1["active"], true, "nothing has changed");
    let (_, stats) = acme.get("/v1/stats").await;
    assert_eq!((&stats["subscribers"]["total"], &stats["deliveries"]["total"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn data_that_a_transform_does_not_fit_is_the_callers_to_correct() {
    let mut transforms = Transforms::new();
    transforms.register("order.created", hook("stamp", |event| Ok(event.set("/card/seen", &true)?))).unwrap();
    let server = TestServer::transforming(transforms).await;
    let event = |data: Value| json!({"event": "order.created", "data": data});
    let (status, problem) = server.api.post("/v1/events", &event(json!({"card": 5}))).await;
    assert_eq!((status, fields(&problem)), (422, vec!["data"]), "{problem}");
    let message = problem["errors"][0]["message"].as_str().unwrap();
    assert!(message.contains("`stamp`") && message.contains("`/card/seen`"), "{message}");
    let batch = json!({"events": [event(json!({})), event(json!({"card": []}))]});
    let (status, answer) = server.api.post("/v1/events/batch", &batch).await;
    assert_eq!(status, 202, "{answer}");
    let [first, second] = answer["results"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert!(first["id"].is_string(), "{first}");
    assert_eq!((&second["status"], fields(second)), (&json!(422), vec!["events[1].data"]), "{second}");
}

#[tokio::test]
async fn an_event_is_found_by_the_id_that_its_caller_gave() {
    let server = TestServer::start().await;
    let event = json!({"event": "order.created", "data": {}, "id": "order 42"});
    for duplicate in [false, true] {
        let (status, dispatched) = server.api.post("/v1/events", &event).await;
        assert_eq!((status, &dispatched["duplicate"]), (202, &json!(duplicate)), "{dispatched}");
        assert_eq!(dispatched["idempotency_key"], "order 42");
    }
    server.event("order.created").await;
    let (_, found) = server.api.get("/v1/events?idempotency_key=order%2042").await;
    let found = found["data"].as_array().unwrap();
    assert_eq!((found.len(), &found[0]["idempotency_key"]), (1, &json!("order 42")), "{found:?}");
    let path = format!("/v1/events/{}", found[0]["id"].as_str().unwrap());
    assert_eq!(server.api.get(&path).await.1["idempotency_key"], "order 42");
    let (_, all) = server.api.get("/v1/events").await;
    assert_eq!(
        (&all["data"][0]["idempotency_key"], all["data"].as_array().unwrap().len()),
        (&json!(null), 2)
    );
    for none in ["?idempotency_key=other", "?idempotency_key=order%2042&event=a.b"] {
        assert_eq!(server.api.get(&format!("/v1/events{none}")).await.1["data"], json!([]), "{none}");
    }
    let acme = server.api.clone().with_header("x-tenant-id", "acme");
    assert_eq!(acme.get("/v1/events?idempotency_key=order%2042").await.1["data"], json!([]));
    let batch = json!({"events": [{"event": "a.b", "data": {}, "id": "b1"}, {"event": "a.b", "data": {}}]});
    let (_, results) = server.api.post("/v1/events/batch", &batch).await;
    assert_eq!(
        (&results["results"][0]["idempotency_key"], &results["results"][1]["idempotency_key"]),
        (&json!("b1"), &json!(null))
    );
}
