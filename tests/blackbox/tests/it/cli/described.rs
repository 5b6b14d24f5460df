//! Commands of calls that are described and that a server of another release may have: a receiver plays the server.

use postrider_testkit::{Behaviour, Program, Receiver};
use serde_json::{Value, json};

use super::{Ran, run};

struct Played {
    receiver: Receiver,
}

impl Played {
    fn answers(&self, path: &str, body: &Value) {
        self.receiver.on(path, Behaviour::respond(200, body.to_string()));
    }

    async fn run(&self, args: &[&str]) -> Ran {
        let program = Program::named("postrider").env("POSTRIDER_URL", self.receiver.url("")).args(args);
        run(&program.env("POSTRIDER_KEY", "k"), "").await
    }

    /// The targets of all requests so far, and their bodies.
    fn last(&self) -> (String, Value) {
        let request = self.receiver.requests().pop().expect("a request");
        let body = if request.body.is_empty() { Value::Null } else { request.json() };
        (format!("{} {}", request.method, request.target), body)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_made_as_they_are_described() {
    let played = Played { receiver: Receiver::start().await };
    let list = |item: Value| json!({"data": [item], "next_cursor": null});

    let explained =
        json!({"subscriber_id": "sub_1", "url": "https://a/", "matched": false, "reason": "pattern"});
    played.answers("/v1/events/evt_1/explain", &list(explained));
    let text = played.run(&["explain", "evt_1", "billing"]).await.ok();
    assert!(text.contains("sub_1") && text.contains("pattern"), "{text}");
    assert_eq!(played.last().0, "GET /v1/events/evt_1/explain?subscriber_id=billing&limit=250");

    let replay =
        json!({"id": "rpl_1", "total": 3, "subscribers": 2, "status": "running", "done": 0, "failed": 0});
    played.answers("/v1/replays", &replay);
    let given =
        ["replay", "--mode", "all", "--subscriber-id", "billing", "--status", "succeeded", "--since", "0"];
    let filter = json!({"subscriber_id": "billing", "status": "succeeded", "since": 0});
    let request = |dry_run: bool| json!({"filter": filter, "mode": "all", "dry_run": dry_run});
    assert_eq!(played.run(&[&given[..], &["--dry-run", "-o", "json"]].concat()).await.json()["total"], 3);
    assert_eq!(played.last(), ("POST /v1/replays".to_owned(), request(true)));
    played.run(&given).await.fails(2, "This delivers 3 events to 2 subscribers again. Add --yes");
    assert_eq!(played.last().1["dry_run"], true);
    assert_eq!(played.run(&[&given[..], &["--yes", "-o", "id"]].concat()).await.ok(), "rpl_1\n");
    assert_eq!(played.last().1, request(false));
    played.answers("/v1/replays", &list(replay.clone()));
    assert_eq!(played.run(&["replays", "list", "-o", "id"]).await.ok(), "rpl_1\n");
    for action in ["pause", "resume", "cancel"] {
        let path = format!("/v1/replays/rpl_1/{action}");
        played.answers(&path, &replay);
        assert_eq!(played.run(&["replays", action, "rpl_1", "-o", "json"]).await.json()["status"], "running");
        assert_eq!(played.last().0, format!("POST {path}"));
    }
    for (resource, path) in [("workers", "/v1/workers"), ("lanes", "/v1/queue/lanes")] {
        played.answers(
            path,
            &list(json!({"id": "w1", "subscriber_id": "sub_1", "pause": {"reason": "breaker"}})),
        );
        assert_eq!(played.run(&[resource, "list"]).await.ok().lines().count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_continues_where_it_was() {
    let played = Played { receiver: Receiver::start().await };
    let stream = ": hello\n\nid: 7\nevent: attempt\ndata: {\"id\":\"att_1\",\"status\":\"pending\"}\n\n\
        event: left_out\ndata: {\"count\":5}\n\nevent: end\ndata: {\"reason\":\"shutdown\"}\n\n";
    played.receiver.on("/v1/tail", Behaviour::respond(200, stream));
    let ran = played.run(&["tail", "--types", "order.*", "--status", "dead", "--count", "2"]).await;
    assert!(ran.err.contains("connecting again") && ran.err.contains("left out"), "{ran:?}");
    assert_eq!(ran.ok(), "attempt  att_1  pending\n".repeat(2));
    let requests = played.receiver.requests();
    assert_eq!(requests[0].target, "/v1/tail?types=order.%2A&status=dead");
    assert_eq!((requests[0].header("last-event-id"), requests[1].header("last-event-id")), (None, Some("7")));

    played.receiver.on("/v1/tail", Behaviour::respond(200, "event: end\ndata: {\"reason\":\"key\"}\n\n"));
    played.run(&["tail"]).await.fails(4, "tail:read");
    let refused = json!({"type": "about:blank", "title": "Forbidden", "status": 403, "detail": "no", "needs": "tail:read"});
    played.receiver.on("/v1/tail", Behaviour::respond(403, refused.to_string()));
    played.run(&["tail"]).await.fails(4, "403 Forbidden");
}
