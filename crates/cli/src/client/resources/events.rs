//! Events and what becomes of them: deliveries, attempts, dead letters, replays.

use super::call::{Call, DELETE, GET, POST, Resource, Shows, Take, column};
use crate::client::output::Column;

pub(super) const RESOURCES: &[Resource] = &[
    Resource { name: "events", about: "List and read events, and erase their data", calls: EVENT_CALLS },
    Resource { name: "deliveries", about: "List, read, retry and cancel deliveries", calls: DELIVERY_CALLS },
    Resource { name: "attempts", about: "List the attempts of a delivery", calls: ATTEMPT_CALLS },
    Resource { name: "dead", about: "List, requeue and delete dead letters", calls: DEAD_CALLS },
    Resource { name: "replays", about: "List, read, pause, resume and cancel replays", calls: REPLAY_CALLS },
];

const EVENTS: &[Column] = &[
    column("id", "/id"),
    column("type", "/event"),
    column("agent", "/agent_id"),
    column("created", "/created_at"),
    column("subscribers", "/subscribers_found"),
];

const DELIVERIES: &[Column] = &[
    column("id", "/id"),
    column("type", "/event"),
    column("subscriber", "/subscriber_id"),
    column("status", "/status"),
    column("attempts", "/attempts"),
    column("response", "/response_code"),
    column("error", "/error_kind"),
    column("created", "/created_at"),
    column("next attempt", "/next_attempt_at"),
];

const ATTEMPTS: &[Column] = &[
    column("id", "/id"),
    column("number", "/number"),
    column("started", "/started_at"),
    column("ms", "/duration_ms"),
    column("response", "/response/status"),
    column("error", "/error/kind"),
    column("message", "/error/message"),
];

const REPLAYS: &[Column] = &[
    column("id", "/id"),
    column("status", "/status"),
    column("mode", "/mode"),
    column("total", "/total"),
    column("done", "/done"),
    column("failed", "/failed"),
    column("created", "/created_at"),
];

const EVENT: Take = Take::Id("EVENT", "Id of the event, evt_…");
const DELIVERY: Take = Take::Id("DELIVERY", "Id of the delivery, dlv_…");
const REPLAY: Take = Take::Id("REPLAY", "Id of the replay, as `replays list` shows it");
const OF_TYPE: Take = Take::Filter("event", "TYPE", "Only those of this event type");
const OF_SUBSCRIBER: Take =
    Take::Filter("subscriber-id", "SUBSCRIBER", "Only those of this subscriber: its id or its uid");
const SINCE: Take = Take::Filter("since", "TIME", "Only from this time on: RFC 3339 or Unix seconds");
const UNTIL: Take = Take::Filter("until", "TIME", "Only before this time: RFC 3339 or Unix seconds");

const EVENT_CALLS: &[Call] = &[
    Call {
        name: "list",
        about: "List events, newest first",
        example: "postrider events list --event order.created --limit 10",
        method: GET,
        path: "/v1/events",
        takes: &[
            OF_TYPE,
            Take::Filter("idempotency-key", "KEY", "Only the event to which the caller gave this id"),
        ],
        shows: Shows::List(EVENTS),
    },
    Call {
        name: "get",
        about: "Read an event with its data and its deliveries",
        example: "postrider events get evt_01h455vb4pex5vsknk084sn02q -o json",
        method: GET,
        path: "/v1/events/{id}",
        takes: &[EVENT],
        shows: Shows::Of(EVENTS),
    },
    Call {
        name: "erase",
        about: "Erase the data of an event, and end its pending deliveries",
        example: "postrider events erase evt_01h455vb4pex5vsknk084sn02q",
        method: DELETE,
        path: "/v1/events/{id}/payload",
        takes: &[EVENT],
        shows: Shows::Item,
    },
];

const DELIVERY_CALLS: &[Call] = &[
    Call {
        name: "list",
        about: "List deliveries, newest first",
        example: "postrider deliveries list --status dead --since 2026-01-01T00:00:00Z",
        method: GET,
        path: "/v1/deliveries",
        takes: &[
            OF_SUBSCRIBER,
            OF_TYPE,
            Take::Filter("event-id", "EVENT", "Only those of this event"),
            Take::Filter(
                "status",
                "STATUS",
                "Only those with this status: pending, succeeded, dead or cancelled",
            ),
            Take::Filter(
                "response-code",
                "CODE",
                "Only those whose last response had this HTTP status, or one of a class such as 5xx",
            ),
            Take::Filter("error-kind", "KIND", "Only those whose last attempt failed for this reason"),
            Take::Filter("dead-reason", "REASON", "Only those that are dead for this reason"),
            Take::Filter("min-attempts", "N", "Only those with at least so many attempts"),
            Take::Filter("max-attempts", "N", "Only those with at most so many attempts"),
            SINCE,
            UNTIL,
        ],
        shows: Shows::List(DELIVERIES),
    },
    Call {
        name: "get",
        about: "Read a delivery",
        example: "postrider deliveries get dlv_01h455vb4pex5vsknk084sn02q",
        method: GET,
        path: "/v1/deliveries/{id}",
        takes: &[DELIVERY],
        shows: Shows::Of(DELIVERIES),
    },
    Call {
        name: "retry",
        about: "Attempt a delivery again now",
        example: "postrider deliveries retry dlv_01h455vb4pex5vsknk084sn02q",
        method: POST,
        path: "/v1/deliveries/{id}/retry",
        takes: &[DELIVERY],
        shows: Shows::Of(DELIVERIES),
    },
    Call {
        name: "cancel",
        about: "End a pending delivery",
        example: "postrider deliveries cancel dlv_01h455vb4pex5vsknk084sn02q",
        method: POST,
        path: "/v1/deliveries/{id}/cancel",
        takes: &[DELIVERY],
        shows: Shows::Of(DELIVERIES),
    },
    Call {
        name: "cancel-matching",
        about: "End every pending delivery that matches a filter, as a job that `replays` shows",
        example: "postrider deliveries cancel-matching --set /filter/subscriber_id=billing-eu --yes",
        method: POST,
        path: "/v1/deliveries/cancel",
        takes: &[Take::Body, Take::Confirm("This ends many deliveries without sending them.")],
        shows: Shows::Of(REPLAYS),
    },
];

const ATTEMPT_CALLS: &[Call] = &[Call {
    name: "list",
    about: "List the attempts of a delivery, newest first",
    example: "postrider attempts list dlv_01h455vb4pex5vsknk084sn02q",
    method: GET,
    path: "/v1/deliveries/{id}/attempts",
    takes: &[DELIVERY],
    shows: Shows::List(ATTEMPTS),
}];

const DEAD_CALLS: &[Call] = &[
    Call {
        name: "list",
        about: "List dead letters, newest first",
        example: "postrider dead list --subscriber-id billing-eu",
        method: GET,
        path: "/v1/dead-letters",
        takes: &[
            OF_SUBSCRIBER,
            OF_TYPE,
            Take::Filter("reason", "REASON", "Only those that are dead for this reason"),
            SINCE,
            UNTIL,
        ],
        shows: Shows::List(DELIVERIES),
    },
    Call {
        name: "get",
        about: "Read a dead letter",
        example: "postrider dead get dlv_01h455vb4pex5vsknk084sn02q",
        method: GET,
        path: "/v1/deliveries/{id}",
        takes: &[DELIVERY],
        shows: Shows::Of(DELIVERIES),
    },
    Call {
        name: "requeue",
        about: "Deliver dead letters again, by a filter or all of them",
        example: "postrider dead requeue --subscriber-id billing-eu --yes",
        method: POST,
        path: "/v1/dead-letters/requeue",
        takes: &[
            Take::Fields("ids", "ids", "DELIVERY", "Only these deliveries"),
            Take::Value("subscriber-id", "SUBSCRIBER", "Only those of this subscriber: its id or its uid"),
            Take::Value("event", "TYPE", "Only those of this event type"),
            Take::Value("since", "TIME", "Only those that died from this time on: RFC 3339 or Unix seconds"),
            Take::Value("until", "TIME", "Only those that died before this time: RFC 3339 or Unix seconds"),
            Take::Switch("all", "All dead letters of the tenant"),
            Take::Switch("keep-attempts", "Count the attempts so far, instead of beginning a new round"),
            Take::Confirm("This delivers many events again."),
        ],
        shows: Shows::Item,
    },
    Call {
        name: "delete",
        about: "Delete a dead letter and its attempts",
        example: "postrider dead delete dlv_01h455vb4pex5vsknk084sn02q",
        method: DELETE,
        path: "/v1/dead-letters/{id}",
        takes: &[DELIVERY],
        shows: Shows::Item,
    },
];

const REPLAY_CALLS: &[Call] = &[
    Call {
        name: "list",
        about: "List replays, newest first",
        example: "postrider replays list",
        method: GET,
        path: "/v1/replays",
        takes: &[],
        shows: Shows::List(REPLAYS),
    },
    Call {
        name: "get",
        about: "Read a replay and how far it is",
        example: "postrider replays get rpl_01h455vb4pex5vsknk084sn02q",
        method: GET,
        path: "/v1/replays/{id}",
        takes: &[REPLAY],
        shows: Shows::Of(REPLAYS),
    },
    Call {
        name: "pause",
        about: "Pause a replay",
        example: "postrider replays pause rpl_01h455vb4pex5vsknk084sn02q",
        method: POST,
        path: "/v1/replays/{id}/pause",
        takes: &[REPLAY],
        shows: Shows::Of(REPLAYS),
    },
    Call {
        name: "resume",
        about: "Resume a replay that was paused",
        example: "postrider replays resume rpl_01h455vb4pex5vsknk084sn02q",
        method: POST,
        path: "/v1/replays/{id}/resume",
        takes: &[REPLAY],
        shows: Shows::Of(REPLAYS),
    },
    Call {
        name: "cancel",
        about: "End a replay; what it has delivered again stays so",
        example: "postrider replays cancel rpl_01h455vb4pex5vsknk084sn02q",
        method: POST,
        path: "/v1/replays/{id}/cancel",
        takes: &[REPLAY],
        shows: Shows::Of(REPLAYS),
    },
];
