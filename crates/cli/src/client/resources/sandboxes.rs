//! Sandboxes, and what they have received.

use super::call::{Call, DELETE, GET, POST, Resource, Shows, Take, column};
use crate::client::output::Column;

pub(super) const RESOURCES: &[Resource] = &[Resource {
    name: "sandboxes",
    about: "Create, list and delete receivers for tests, and read what they received",
    calls: CALLS,
}];

const SANDBOXES: &[Column] = &[
    column("id", "/id"),
    column("url", "/url"),
    column("received", "/received"),
    column("script", "/script"),
    column("expires", "/expires_at"),
];

const REQUESTS: &[Column] = &[
    column("number", "/number"),
    column("received", "/received_at"),
    column("type", "/event"),
    column("event", "/webhook_id"),
    column("verified", "/verified"),
    column("answer", "/answer"),
];

const SANDBOX: Take = Take::Id("SANDBOX", "Id of the sandbox, sbx_…");

const CALLS: &[Call] = &[
    Call {
        name: "create",
        about: "Create a sandbox, whose URL a subscriber can have",
        example: "postrider sandboxes create --ttl 10m --script '[503, 503, 200]'",
        method: POST,
        path: "/v1/sandboxes",
        takes: &[
            Take::Value("ttl", "DURATION", "How long it takes requests, such as 10m; otherwise an hour"),
            Take::Value(
                "script",
                "JSON",
                "How it answers, request by request, such as '[503, \"reset\", 200]'",
            ),
        ],
        shows: Shows::Of(SANDBOXES),
    },
    Call {
        name: "list",
        about: "List sandboxes, newest first",
        example: "postrider sandboxes list",
        method: GET,
        path: "/v1/sandboxes",
        takes: &[],
        shows: Shows::List(SANDBOXES),
    },
    Call {
        name: "get",
        about: "Read a sandbox",
        example: "postrider sandboxes get sbx_01h455vb4pex5vsknk084sn02q",
        method: GET,
        path: "/v1/sandboxes/{id}",
        takes: &[SANDBOX],
        shows: Shows::Of(SANDBOXES),
    },
    Call {
        name: "requests",
        about: "List what a sandbox has received; exit with 4 if something does not hold that --expect names",
        example: "postrider sandboxes requests sbx_01h455vb4pex5vsknk084sn02q --count 3 --wait 10s --expect verified",
        method: GET,
        path: "/v1/sandboxes/{id}/requests",
        takes: &[
            SANDBOX,
            Take::Filter("count", "N", "Wait for so many requests"),
            Take::Filter("wait", "DURATION", "How long to wait for them, up to 25s"),
            Take::Filter("expect", "WORDS", "What must hold: verified, ordered, unique, separated by commas"),
            Take::Filter("after", "NUMBER", "Only requests after the one with this number"),
        ],
        shows: Shows::List(REQUESTS),
    },
    Call {
        name: "delete",
        about: "Delete a sandbox with all that it has received",
        example: "postrider sandboxes delete sbx_01h455vb4pex5vsknk084sn02q",
        method: DELETE,
        path: "/v1/sandboxes/{id}",
        takes: &[SANDBOX],
        shows: Shows::Item,
    },
];
