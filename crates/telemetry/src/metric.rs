//! The names of all metrics, and what each of them measures.
//!
//! [`ALL`] is the complete list. `/metrics` takes its descriptions and buckets from it, and `cargo xtask lint` compares
//! the documentation and the dashboards with it. Names begin with `webhook_`, except `http_server_…` and `process_…`,
//! which are common names in the field.

mod kinds;
mod report;

use metrics::Unit;

pub use self::kinds::{BATCH_SIZES, Kind, Metric, Program, RETRY_DELAYS, SECONDS};
pub use self::report::{build_info, database_connections, describe, partitions, start_at_zero};

/// Accepted events, by [`EVENT_TYPE`].
pub const EVENTS: &str = "webhook_events_total";
/// Deliveries by [`EVENT_TYPE`] and [`STATUS`]: `succeeded`, `failed` (one attempt), `dead`, `cancelled`.
pub const DELIVERIES: &str = "webhook_deliveries_total";
/// Duration of one attempt.
pub const DELIVERY_DURATION: &str = "webhook_delivery_duration_seconds";
/// Time from dispatch to the start of the first attempt.
pub const DELIVERY_LATENCY: &str = "webhook_delivery_latency_seconds";
/// Delays of scheduled retries in seconds, by [`ATTEMPT_NUMBER`] of the next attempt.
///
/// The number of retries is the count of this histogram, `webhook_retry_count{attempt_number}`. Prometheus reserves the
/// suffix `_count` for histograms, so there is no counter of that name.
pub const RETRY: &str = "webhook_retry";
/// Jobs in the queue, by [`STATE`]: `ready`, `scheduled`, `held`, `running`.
pub const QUEUE_DEPTH: &str = "webhook_queue_depth";
/// Age of the oldest ready job that is blocked only by a lack of workers.
pub const QUEUE_OLDEST_READY: &str = "webhook_queue_oldest_ready_seconds";
/// Requests in flight in this worker.
pub const IN_FLIGHT: &str = "webhook_in_flight";
/// Bytes of payloads that this worker holds. Small ones do not count.
pub const PAYLOAD_BYTES: &str = "webhook_payload_bytes";
/// Limit of [`PAYLOAD_BYTES`].
pub const PAYLOAD_BYTES_MAX: &str = "webhook_payload_bytes_max";
/// Jobs of this worker that wait until there is room for their payload.
pub const PAYLOADS_WAITING: &str = "webhook_payloads_waiting";
/// Bytes of request bodies, and of events in responses, that this server holds. Small ones do not count.
pub const REQUEST_BYTES: &str = "webhook_request_bytes";
/// Limit of [`REQUEST_BYTES`].
pub const REQUEST_BYTES_MAX: &str = "webhook_request_bytes_max";
/// Requests that wait until there is room for their body.
pub const REQUESTS_WAITING: &str = "webhook_requests_waiting";
/// Difference between the clock of this process and the database's; positive if this one is ahead.
pub const CLOCK_SKEW: &str = "webhook_clock_skew_seconds";
/// For how long events can be stored before another partition is needed.
pub const PARTITIONS_AHEAD: &str = "webhook_partitions_ahead_seconds";
/// Unix time from which the oldest partition has events.
pub const PARTITIONS_OLDEST: &str = "webhook_partitions_oldest_timestamp_seconds";
/// Unix time from which the oldest partition that has its payloads has events.
pub const PAYLOADS_OLDEST: &str = "webhook_payloads_oldest_timestamp_seconds";
/// Duration of a dispatch transaction.
pub const DISPATCH_DURATION: &str = "webhook_dispatch_duration_seconds";
/// Number of events in one dispatch transaction.
pub const DISPATCH_BATCH: &str = "webhook_dispatch_batch_events";
/// Events with many subscribers whose deliveries are not all made yet, counted up to 10,000.
pub const FAN_OUTS: &str = "webhook_fan_outs";
/// Age of the oldest of them.
pub const FAN_OUT_OLDEST: &str = "webhook_fan_out_oldest_seconds";
/// Transactions whose jobs a queue outside the database may not have yet, counted up to 10,000.
pub const OUTBOX: &str = "webhook_outbox_transactions";
/// Age of the oldest of them.
pub const OUTBOX_OLDEST: &str = "webhook_outbox_oldest_seconds";
/// Jobs that the process which wrote them did not pass on, and a worker did.
pub const RELAYED: &str = "webhook_outbox_relayed_total";
/// Refills of a queue outside the database that began.
pub const REFILLS: &str = "webhook_queue_refills_total";
/// Jobs that such a queue did not have.
pub const REFILLED: &str = "webhook_queue_refilled_jobs_total";
/// Duration of a step that makes deliveries of such an event.
pub const FAN_OUT_STEP: &str = "webhook_fan_out_step_duration_seconds";
/// Replays that were started, or have ended, by [`STATUS`]: `started`, `done`, `cancelled`.
pub const REPLAYS: &str = "webhook_replays_total";
/// Members of replays that were made pending, cancelled or passed over, by [`RESULT`]: `done`, or why not.
pub const REPLAYED: &str = "webhook_replayed_deliveries_total";
/// Duration of a step of a replay.
pub const REPLAY_STEP: &str = "webhook_replay_step_duration_seconds";
/// Duration of a claim.
pub const CLAIM_DURATION: &str = "webhook_claim_duration_seconds";
/// Leases that expired while their worker was still on the job.
pub const LEASES_LOST: &str = "webhook_leases_lost_total";
/// Leases extended for long-running jobs.
pub const LEASES_EXTENDED: &str = "webhook_leases_extended_total";
/// Jobs rescued after their lease expired.
pub const JOBS_RESCUED: &str = "webhook_jobs_rescued_total";
/// Subscribers by [`STATE`] of their circuit breaker: `closed`, `open`, `half_open`.
pub const BREAKERS: &str = "webhook_breakers";
/// Subscribers that Postrider deactivated, by [`REASON`].
pub const SUBSCRIBERS_DEACTIVATED: &str = "webhook_subscribers_deactivated_total";
/// Notices to owners of subscribers, by [`CHANNEL`] (`event`, `webhook`, `email`) and [`OUTCOME`] (`sent`, `failed`,
/// `dropped`).
pub const OWNER_NOTICES: &str = "webhook_owner_notices_total";
/// Database connections by [`STATE`]: `idle`, `in_use`.
pub const DATABASE_CONNECTIONS: &str = "webhook_database_connections";
/// Maximum number of database connections of this process.
pub const DATABASE_CONNECTIONS_MAX: &str = "webhook_database_connections_max";
/// Answered API requests by [`METHOD`], [`ROUTE`] and [`STATUS`].
pub const HTTP_REQUESTS: &str = "http_server_requests_total";
/// Duration of API requests, by [`METHOD`] and [`ROUTE`].
pub const HTTP_REQUEST_DURATION: &str = "http_server_request_duration_seconds";
/// API requests by [`KEY_KIND`]: `environment`, `operator`, `tenant`, `none` (no valid key).
pub const API_REQUESTS: &str = "webhook_api_requests_total";
/// API requests answered with 403.
pub const API_FORBIDDEN: &str = "webhook_api_forbidden_total";
/// Events that did not match the schema of their type and were delivered, by [`EVENT_TYPE`].
pub const SCHEMA_WARNINGS: &str = "webhook_schema_warnings_total";
/// Events that were refused because they did not match the schema of their type, by [`EVENT_TYPE`].
pub const SCHEMA_REFUSALS: &str = "webhook_schema_refusals_total";
/// Answers of subscribers' filters, by [`RESULT`]: `matched`, `missed`, `error` (the event was delivered).
pub const FILTERS: &str = "webhook_filters_total";
/// Attempts that were not made because the subscriber's transform or plugin failed.
pub const TRANSFORM_FAILURES: &str = "webhook_transform_failures_total";
/// API requests answered with 429, by [`REASON`]: `key` (above its rate), `address` (too many wrong keys).
pub const API_LIMITED: &str = "webhook_api_limited_total";
/// Viewers that follow `GET /v1/tail`.
pub const TAIL_VIEWERS: &str = "webhook_tail_viewers";
/// Rows of `GET /v1/tail`, by [`RESULT`]: `sent`, `left_out` (above a viewer's rate).
pub const TAIL_ROWS: &str = "webhook_tail_rows_total";
/// Log lines that were dropped because nobody read them in time.
pub const LOG_LINES_DROPPED: &str = "webhook_log_lines_dropped_total";
/// Always 1; the labels [`PROGRAM`] and [`VERSION`] carry the information.
pub const BUILD_INFO: &str = "webhook_build_info";

/// Label: the event type, bounded by a [`BoundedLabel`](crate::BoundedLabel).
pub const EVENT_TYPE: &str = "event_type";
/// Label: the status of a delivery, or an HTTP status.
pub const STATUS: &str = "status";
/// Label: the state of jobs, connections or circuit breakers.
pub const STATE: &str = "state";
/// Label: the number of an attempt, from 1.
pub const ATTEMPT_NUMBER: &str = "attempt_number";
/// Label: why a subscriber was deactivated, or a request refused.
pub const REASON: &str = "reason";
/// Label: what a filter answered, or what became of a row.
pub const RESULT: &str = "result";
/// Label: how a notice to an owner is sent.
pub const CHANNEL: &str = "channel";
/// Label: what became of a notice to an owner.
pub const OUTCOME: &str = "outcome";
/// Label: the kind of an API key.
pub const KEY_KIND: &str = "key_kind";
/// Label: an HTTP method. Callers replace unknown methods by `other`.
pub const METHOD: &str = "method";
/// Label: a route's template, such as `/v1/events/{id}`, never a path.
pub const ROUTE: &str = "route";
/// Label: the program's name.
pub const PROGRAM: &str = "program";
/// Label: the program's version.
pub const VERSION: &str = "version";

/// Every metric except the `process_…` ones, which their collector describes.
pub const ALL: &[Metric] = {
    use Kind::{Counter, Gauge, Histogram};
    use Program::{Server, Whole, Worker};
    const fn metric(
        name: &'static str,
        kind: Kind,
        unit: Unit,
        labels: &'static [&'static str],
        from: Program,
        help: &'static str,
    ) -> Metric {
        Metric { name, kind, unit, labels, from, help }
    }
    const COUNT: Unit = Unit::Count;
    const TIME: Unit = Unit::Seconds;
    &[
        metric(EVENTS, Counter, COUNT, &[EVENT_TYPE], Server, "Accepted events."),
        metric(
            DELIVERIES,
            Counter,
            COUNT,
            &[EVENT_TYPE, STATUS],
            Whole,
            "Deliveries that ended (succeeded, dead, cancelled), and failed attempts (failed).",
        ),
        metric(DELIVERY_DURATION, Histogram(SECONDS), TIME, &[], Worker, "Duration of one attempt."),
        metric(
            DELIVERY_LATENCY,
            Histogram(SECONDS),
            TIME,
            &[],
            Worker,
            "Time from dispatch to the start of the first attempt.",
        ),
        metric(
            RETRY,
            Histogram(RETRY_DELAYS),
            TIME,
            &[ATTEMPT_NUMBER],
            Worker,
            "Delays of scheduled retries in seconds, by the number of the next attempt.",
        ),
        metric(QUEUE_DEPTH, Gauge, COUNT, &[STATE], Worker, "Jobs in the queue; the same in every worker."),
        metric(
            QUEUE_OLDEST_READY,
            Gauge,
            TIME,
            &[],
            Worker,
            "Age of the oldest ready job that is blocked only by a lack of workers; the same in every worker.",
        ),
        metric(IN_FLIGHT, Gauge, COUNT, &[], Worker, "Requests in flight in this worker."),
        metric(
            PAYLOAD_BYTES,
            Gauge,
            Unit::Bytes,
            &[],
            Worker,
            "Bytes of payloads of more than 16 KiB that this worker holds.",
        ),
        metric(PAYLOAD_BYTES_MAX, Gauge, Unit::Bytes, &[], Worker, "Limit of the bytes of such payloads."),
        metric(
            PAYLOADS_WAITING,
            Gauge,
            COUNT,
            &[],
            Worker,
            "Jobs in this worker that wait until there is room for their payload.",
        ),
        metric(
            REQUEST_BYTES,
            Gauge,
            Unit::Bytes,
            &[],
            Server,
            "Bytes of request bodies, and of events in responses, of more than 16 KiB that this server holds.",
        ),
        metric(
            REQUEST_BYTES_MAX,
            Gauge,
            Unit::Bytes,
            &[],
            Server,
            "Limit of the bytes of such requests and responses.",
        ),
        metric(
            REQUESTS_WAITING,
            Gauge,
            COUNT,
            &[],
            Server,
            "Requests that wait until there is room for their body.",
        ),
        metric(CLOCK_SKEW, Gauge, TIME, &[], Whole, "Clock of this process minus the clock of the database."),
        metric(
            PARTITIONS_AHEAD,
            Gauge,
            TIME,
            &[],
            Whole,
            "For how long events can be stored before another partition is needed (PostgreSQL).",
        ),
        metric(
            PARTITIONS_OLDEST,
            Gauge,
            TIME,
            &[],
            Whole,
            "Unix time from which the oldest partition has events; 0 if it has those of the first edition.",
        ),
        metric(
            PAYLOADS_OLDEST,
            Gauge,
            TIME,
            &[],
            Whole,
            "Unix time from which the oldest partition has events whose payloads have not expired.",
        ),
        metric(
            DISPATCH_DURATION,
            Histogram(SECONDS),
            TIME,
            &[],
            Server,
            "Duration of a dispatch transaction.",
        ),
        metric(
            DISPATCH_BATCH,
            Histogram(BATCH_SIZES),
            COUNT,
            &[],
            Server,
            "Number of events in one dispatch transaction.",
        ),
        metric(FAN_OUTS, Gauge, COUNT, &[], Worker, "Events whose fan-out is not complete."),
        metric(
            FAN_OUT_OLDEST,
            Gauge,
            TIME,
            &[],
            Worker,
            "Age of the oldest event whose fan-out is not complete.",
        ),
        metric(OUTBOX, Gauge, COUNT, &[], Worker, "Transactions whose jobs have not reached the queue."),
        metric(OUTBOX_OLDEST, Gauge, TIME, &[], Worker, "Age of the oldest of these transactions."),
        metric(
            RELAYED,
            Counter,
            COUNT,
            &[],
            Worker,
            "Jobs that a worker passed on to the queue for another process.",
        ),
        metric(REFILLS, Counter, COUNT, &[], Worker, "Refills of the queue that began."),
        metric(REFILLED, Counter, COUNT, &[], Worker, "Jobs that the queue had lost and got again."),
        metric(FAN_OUT_STEP, Histogram(SECONDS), TIME, &[], Whole, "Duration of a step of a fan-out."),
        metric(REPLAYS, Counter, COUNT, &[STATUS], Whole, "Replays that were started, done or cancelled."),
        metric(
            REPLAYED,
            Counter,
            COUNT,
            &[RESULT],
            Worker,
            "Members of replays that were made pending or cancelled, or passed over for a reason.",
        ),
        metric(REPLAY_STEP, Histogram(SECONDS), TIME, &[], Worker, "Duration of a step of a replay."),
        metric(TAIL_VIEWERS, Gauge, COUNT, &[], Server, "Viewers that follow the live tail."),
        metric(
            TAIL_ROWS,
            Counter,
            COUNT,
            &[RESULT],
            Server,
            "Rows of the live tail that were sent, or left out above a viewer's rate.",
        ),
        metric(CLAIM_DURATION, Histogram(SECONDS), TIME, &[], Worker, "Duration of a claim of jobs."),
        metric(
            LEASES_LOST,
            Counter,
            COUNT,
            &[],
            Worker,
            "Leases that expired while this worker was still on the job.",
        ),
        metric(LEASES_EXTENDED, Counter, COUNT, &[], Worker, "Leases extended for long-running jobs."),
        metric(JOBS_RESCUED, Counter, COUNT, &[], Worker, "Jobs rescued after their lease expired."),
        metric(
            BREAKERS,
            Gauge,
            COUNT,
            &[STATE],
            Worker,
            "Subscribers by the state of their circuit breaker.",
        ),
        metric(
            SUBSCRIBERS_DEACTIVATED,
            Counter,
            COUNT,
            &[REASON],
            Worker,
            "Subscribers that Postrider deactivated.",
        ),
        metric(
            OWNER_NOTICES,
            Counter,
            COUNT,
            &[CHANNEL, OUTCOME],
            Worker,
            "Notices to owners of subscribers that were sent, that failed and are sent again, and that were dropped.",
        ),
        metric(DATABASE_CONNECTIONS, Gauge, COUNT, &[STATE], Whole, "Database connections of this process."),
        metric(
            DATABASE_CONNECTIONS_MAX,
            Gauge,
            COUNT,
            &[],
            Whole,
            "Maximum number of database connections of this process.",
        ),
        metric(HTTP_REQUESTS, Counter, COUNT, &[METHOD, ROUTE, STATUS], Server, "Answered API requests."),
        metric(
            HTTP_REQUEST_DURATION,
            Histogram(SECONDS),
            TIME,
            &[METHOD, ROUTE],
            Server,
            "Duration of API requests.",
        ),
        metric(API_REQUESTS, Counter, COUNT, &[KEY_KIND], Server, "API requests by the kind of their key."),
        metric(API_FORBIDDEN, Counter, COUNT, &[], Server, "API requests that their key may not make (403)."),
        metric(
            SCHEMA_WARNINGS,
            Counter,
            COUNT,
            &[EVENT_TYPE],
            Server,
            "Events that did not match the schema of their type and were delivered.",
        ),
        metric(FILTERS, Counter, COUNT, &[RESULT], Whole, "Answers of subscribers' filters."),
        metric(
            TRANSFORM_FAILURES,
            Counter,
            COUNT,
            &[],
            Worker,
            "Attempts that were not made because a transform or plugin failed.",
        ),
        metric(
            SCHEMA_REFUSALS,
            Counter,
            COUNT,
            &[EVENT_TYPE],
            Server,
            "Events refused because they did not match the schema of their type.",
        ),
        metric(
            API_LIMITED,
            Counter,
            COUNT,
            &[REASON],
            Server,
            "API requests above the rate of their key, or with too many wrong keys from one address (429).",
        ),
        metric(
            LOG_LINES_DROPPED,
            Counter,
            COUNT,
            &[],
            Whole,
            "Log lines that were dropped because nobody read them in time.",
        ),
        metric(
            BUILD_INFO,
            Gauge,
            COUNT,
            &[PROGRAM, VERSION],
            Whole,
            "Always 1; its labels are the program and its version.",
        ),
    ]
};

#[cfg(test)]
mod tests;
