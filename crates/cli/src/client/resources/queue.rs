//! The queue: workers and lanes.

use super::call::{Call, GET, Resource, Shows, Take, column};
use crate::client::output::Column;

pub(super) const RESOURCES: &[Resource] = &[
    Resource { name: "workers", about: "List the workers that run", calls: WORKER_CALLS },
    Resource { name: "lanes", about: "List the subscribers for which deliveries wait", calls: LANE_CALLS },
];

const WORKERS: &[Column] = &[
    column("id", "/id"),
    column("host", "/host"),
    column("version", "/version"),
    column("since", "/since"),
    column("last seen", "/last_seen_at"),
    column("in flight", "/in_flight"),
    column("silent", "/silent"),
];

const LANES: &[Column] = &[
    column("subscriber", "/subscriber_id"),
    column("tenant", "/tenant"),
    column("depth", "/depth"),
    column("scheduled", "/scheduled"),
    column("running", "/running"),
    column("oldest s", "/oldest_seconds"),
    column("pause", "/pause/reason"),
    column("until", "/pause/until"),
];

const WORKER_CALLS: &[Call] = &[Call {
    name: "list",
    about: "List the workers that run, the oldest first",
    example: "postrider workers list",
    method: GET,
    path: "/v1/workers",
    takes: &[],
    shows: Shows::List(WORKERS),
}];

const LANE_CALLS: &[Call] = &[Call {
    name: "list",
    about: "List the subscribers for which most deliveries wait, or the first one for longest",
    example: "postrider lanes list --order age",
    method: GET,
    path: "/v1/queue/lanes",
    takes: &[Take::Filter("order", "ORDER", "Which come first: depth (the default) or age")],
    shows: Shows::List(LANES),
}];
