use std::time::Duration;

use postrider_queue::{Claim, LeaseToken};
use serde_json::{Value, json};

use crate::api::{TestServer, fields};

fn path(subscriber: &Value) -> String {
    format!("/v1/subscribers/{}", subscriber["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_subscriber_is_created_changed_and_deleted() {
    let server = TestServer::start().await;
    let body = json!({
        "url": "https://127.0.0.1/hook?a=b",
        "events": ["order.*", "invoice.paid", "order.*"],
        "description": "Billing\n(ours)",
        "headers": {"Authorization": "Bearer t0p-secret", "X-Team": "billing"},
        "policy": {"max_attempts": 3, "schedule": ["1s", 10], "timeout": 5},
    });
    let answer = server.api.post_raw("/v1/subscribers", body.to_string()).await;
    let created = answer.json();
    assert_eq!(answer.status, 201, "{created}");
    assert_eq!(answer.header("location"), Some(path(&created).as_str()));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"), "{created}");
    assert_eq!(created["url"], "https://127.0.0.1/hook?a=b");
    assert_eq!(created["events"], json!(["invoice.paid", "order.*"]));
    assert_eq!(created["headers"], json!(["authorization", "x-team"]));
    assert_eq!(created["policy"], json!({"max_attempts": 3, "schedule": ["1s", "10s"], "timeout": "5s"}));
    assert_eq!((&created["active"], &created["deactivated_at"]), (&json!(true), &json!(null)));
    assert!(created["created_at"].as_str().unwrap().ends_with('Z'));

    let (status, read) = server.api.get(&path(&created)).await;
    let mut expected = created.clone();
    expected.as_object_mut().unwrap().remove("secret");
    assert_eq!((status, &read), (200, &expected), "the same without the secret");
    let (_, page) = server.api.get("/v1/subscribers").await;
    assert_eq!(page["data"], json!([expected]));
    assert!(!page.to_string().contains("t0p-secret"));

    let (status, changed) =
        server.api.patch(&path(&created), &json!({"events": ["*"], "policy": null, "headers": null})).await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(
        (&changed["events"], &changed["policy"], &changed["headers"]),
        (&json!(["*"]), &json!({}), &json!([]))
    );
    for field in ["id", "url", "description", "active", "created_at"] {
        assert_eq!(changed[field], created[field], "{field} stays");
    }

    assert_eq!(server.api.delete(&path(&created)).await, (204, Value::Null));
    assert_eq!(server.api.get(&path(&created)).await.0, 404);
    assert_eq!(server.api.delete(&path(&created)).await.0, 404);
    assert_eq!(server.event("order.created").await["subscribers_found"], 0);
}

#[tokio::test]
async fn an_invalid_change_is_refused_and_changes_nothing() {
    let server = TestServer::start().await;
    let subscriber = server.subscriber(&["a"]).await;
    let (_, before) = server.api.get(&path(&subscriber)).await;
    for (change, wrong) in [
        (json!({"url": "ftp://example.com/"}), vec!["url"]),
        (json!({"url": "http://10.1.2.3/"}), vec!["url"]),
        (json!({"url": null}), vec!["url"]),
        (json!({"events": []}), vec!["events"]),
        (json!({"events": null, "active": null}), vec!["events", "active"]),
        (json!({"events": ["b"], "policy": {"jitter_percent": 51}}), vec!["policy.jitter_percent"]),
        (json!({"headers": {"te": "trailers"}}), vec!["headers"]),
        (json!({"secret": "a new secret"}), vec!["secret"]),
        (json!({"id": "sub_1"}), vec!["id"]),
    ] {
        let (status, problem) = server.api.patch(&path(&subscriber), &change).await;
        assert_eq!((status, fields(&problem)), (422, wrong), "{change}: {problem}");
        assert_eq!(server.api.get(&path(&subscriber)).await.1, before, "{change}");
    }
}

#[tokio::test]
async fn a_deactivated_subscriber_gets_no_deliveries() {
    let server = TestServer::start().await;
    let subscriber = server.subscriber(&["*"]).await;
    let (status, off) = server.api.post(&format!("{}/deactivate", path(&subscriber)), &json!({})).await;
    assert_eq!(
        (status, &off["active"], &off["deactivation_reason"]),
        (200, &json!(false), &json!("requested")),
        "{off}"
    );
    assert!(off["deactivated_at"].is_string());
    assert_eq!(server.event("a").await["jobs_created"], 0);
    let (status, on) = server.api.post(&format!("{}/activate", path(&subscriber)), &Value::Null).await;
    assert_eq!(
        (status, &on["active"], &on["deactivation_reason"]),
        (200, &json!(true), &json!(null)),
        "{on}"
    );
    assert_eq!(server.event("a").await["jobs_created"], 1);
    let body = json!({"url": "http://127.0.0.1/", "events": ["*"], "active": false});
    let (status, born_off) = server.api.post("/v1/subscribers", &body).await;
    assert_eq!((status, &born_off["active"]), (201, &json!(false)));
}

#[tokio::test]
async fn a_secret_is_read_and_rotated() {
    let server = TestServer::start().await;
    let body = json!({"url": "http://127.0.0.1/", "events": ["*"], "secret": "correct horse battery"});
    let (_, subscriber) = server.api.post("/v1/subscribers", &body).await;
    let secret = format!("{}/secret", path(&subscriber));
    assert_eq!(server.api.get(&secret).await, (200, json!({"secret": "correct horse battery"})));
    let rotate = format!("{secret}/rotate");
    let answer = server.api.send(http::Method::POST, &rotate, &[], "").await;
    assert_eq!(answer.status, 200, "no body is needed: {}", answer.text());
    let made = answer.json();
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    let (_, both) = server.api.get(&secret).await;
    assert_eq!(both["secret"], made["secret"]);
    assert_eq!(both["previous"][0]["secret"], "correct horse battery");
    assert!(both["previous"][0]["expires_at"].as_str().unwrap().ends_with('Z'), "{both}");
    let given = json!({"secret": "another secret", "overlap_seconds": 0});
    assert_eq!(server.api.post(&rotate, &given).await, (200, json!({"secret": "another secret"})));
    for (body, wrong) in [
        (json!({"secret": "short"}), "secret"),
        (json!({"overlap_seconds": 604_801}), "overlap_seconds"),
        (json!({"overlap_seconds": -1}), "overlap_seconds"),
        (json!({"overlap": 1}), "overlap"),
    ] {
        let (status, problem) = server.api.post(&rotate, &body).await;
        assert_eq!((status, fields(&problem)), (422, vec![wrong]), "{body}");
    }
    assert_eq!(server.api.get(&secret).await.1["secret"], "another secret");
}

#[tokio::test]
async fn the_public_key_of_an_ed25519_secret_is_shown() {
    let server = TestServer::start().await;
    let secret = format!("whsk_{}=", "A".repeat(43));
    let body = json!({"url": "http://127.0.0.1/", "events": ["*"], "secret": secret});
    let (status, subscriber) = server.api.post("/v1/subscribers", &body).await;
    assert_eq!(status, 201, "{subscriber}");
    let public = subscriber["public_key"].as_str().unwrap();
    assert!(public.starts_with("whpk_"), "{subscriber}");
    let shown = json!({"secret": secret, "public_key": public});
    let secret = format!("{}/secret", path(&subscriber));
    assert_eq!(server.api.get(&secret).await, (200, shown.clone()));

    let another = json!({"secret": format!("whsk_{}A=", "B".repeat(42))});
    let (status, rotated) = server.api.post(&format!("{secret}/rotate"), &another).await;
    assert_eq!((status, &rotated["secret"]), (200, &another["secret"]));
    assert!(
        rotated["public_key"].as_str().unwrap().starts_with("whpk_")
            && rotated["public_key"] != shown["public_key"],
        "{rotated}"
    );
    let (_, shown) = server.api.get(&secret).await;
    assert_eq!((&shown["secret"], &shown["public_key"]), (&rotated["secret"], &rotated["public_key"]));
}

#[tokio::test]
async fn a_url_whose_name_does_not_resolve_is_accepted() {
    let server = TestServer::start().await;
    let body = json!({"url": "https://not-there.invalid/hook", "events": ["*"]});
    assert_eq!(server.api.post("/v1/subscribers", &body).await.0, 201);
}

#[tokio::test]
async fn subscribers_are_listed_a_page_at_a_time() {
    let server = TestServer::start().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.insert(0, server.subscriber(&["*"]).await["id"].clone());
    }
    let (_, first) = server.api.get("/v1/subscribers?limit=2").await;
    let (_, second) = server
        .api
        .get(&format!("/v1/subscribers?limit=2&cursor={}", first["next_cursor"].as_str().unwrap()))
        .await;
    let ids = |page: &Value| {
        page["data"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!([ids(&first), ids(&second)].concat(), made);
    assert_eq!(second["next_cursor"], json!(null));
}

#[tokio::test]
async fn a_test_event_continues_the_callers_trace() {
    let server = TestServer::start().await;
    let subscriber = server.subscriber(&["*"]).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = server.api.clone().with_header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01"));
    assert_eq!(traced.post(&format!("{}/test", path(&subscriber)), &json!({})).await.0, 202);
    let claim = Claim::new(LeaseToken(server.store.ids().next_uuid()), 1, Duration::from_mins(1));
    let claimed = server.store.queue().claim(&claim).await.unwrap();
    let carried = claimed.jobs[0].trace.as_deref().unwrap();
    assert!(carried.starts_with(&format!("00-{trace}-")), "{carried}");
}

#[tokio::test]
async fn a_wrong_format_is_refused_by_its_field() {
    let server = TestServer::start().await;
    let with = |format: Value, options: Value| {
        let mut body = json!({"url": "http://127.0.0.1:9/", "events": ["*"]});
        for (field, value) in [("format", format), ("format_options", options)] {
            if !value.is_null() {
                body[field] = value;
            }
        }
        body
    };
    for (format, options, field) in [
        (json!("xml"), json!(null), "format"),
        (json!("slack"), json!(null), "format_options.template"),
        (json!("slack"), json!({"template": "{{order"}), "format_options.template"),
        (json!("slack"), json!({"template": "{{order}}"}), "format_options.template"),
        (json!("data"), json!({"template": "{{event}}"}), "format_options.template"),
        (json!(null), json!({"template": "{{event}}"}), "format_options.template"),
        (json!("data"), json!({"colour": "red"}), "format_options.colour"),
    ] {
        let (status, problem) =
            server.api.post("/v1/subscribers", &with(format.clone(), options.clone())).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{format} {options}: {problem}");
    }
    let slack = with(json!("slack"), json!({"template": "{{event}}"}));
    let (_, created) = server.api.post("/v1/subscribers", &slack).await;
    let path = format!("/v1/subscribers/{}", created["id"].as_str().unwrap());
    for change in [
        json!({"format_options": null}),
        json!({"format_options": {"template": null}}),
        json!({"format": "form", "format_options": {"template": "{{id}}"}}),
        json!({"format": 7}),
    ] {
        let (status, problem) = server.api.patch(&path, &change).await;
        assert_eq!(status, 422, "{change}: {problem}");
    }
    let (_, changed) = server.api.patch(&path, &json!({"format_options": {"template": "{{id}}"}})).await;
    assert_eq!(
        (&changed["format"], &changed["format_options"]),
        (&json!("slack"), &json!({"template": "{{id}}"}))
    );
}
