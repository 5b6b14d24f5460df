//! The names of spans and of their attributes.
//!
//! Postrider's spans have debug level (`tracing::debug_span!`): without an exporter and with the default log filter, a
//! span costs a load and a branch. The log filter does not affect what is exported. Log lines do not show the fields of
//! spans, so each line names its ids itself (`trace_id` from
//! [`context::current_trace_id`](crate::context::current_trace_id)). Attribute names follow OpenTelemetry's semantic
//! conventions where those define one. No span contains a payload, a secret or the query of a URL.
//!
//! The macros of `tracing` need literal field names: `debug_span!("deliver", "postrider.event.id" = %id)`. The constants
//! here are for tests and tools that compare with them.

/// The maximum number of links of a span that covers many jobs: OpenTelemetry's default limit.
pub const MAX_LINKS: usize = 128;

/// Server: one API request.
pub const HTTP_REQUEST: &str = "http.request";
/// Server: one transaction that writes events, deliveries and jobs.
pub const DISPATCH: &str = "dispatch";
/// Worker: one claim of jobs.
pub const QUEUE_CLAIM: &str = "queue.claim";
/// Worker: one attempt.
pub const DELIVER: &str = "deliver";
/// Worker: one batch of outcomes that is recorded, and whose jobs are finished.
pub const RECORD: &str = "record";

/// Attribute: the kind of a span as tracing-opentelemetry reads it: `server`, `client`, `producer`, `consumer`.
pub const KIND: &str = "otel.kind";
/// Attribute: the displayed name of a span, if it differs from the name at its creation.
pub const NAME: &str = "otel.name";
/// Attribute: `OK` or `ERROR`, as tracing-opentelemetry reads it.
pub const STATUS_CODE: &str = "otel.status_code";
/// Log field: the id of the trace that the line belongs to.
pub const TRACE_ID: &str = "trace_id";

/// Attribute: the HTTP method, such as `POST`.
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
/// Attribute: the status of the response.
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// Attribute: a route's template, such as `/v1/events/{id}`.
pub const HTTP_ROUTE: &str = "http.route";
/// Attribute: the number of earlier attempts of this delivery: the attempt's number minus one.
pub const HTTP_REQUEST_RESEND_COUNT: &str = "http.request.resend_count";
/// Attribute: the receiver's host.
pub const SERVER_ADDRESS: &str = "server.address";
/// Attribute: the receiver's port.
pub const SERVER_PORT: &str = "server.port";
/// Attribute: the URL without user information, query and fragment.
pub const URL_FULL: &str = "url.full";
/// Attribute: the kind of a failure.
pub const ERROR_TYPE: &str = "error.type";

/// Attribute: the tenant.
pub const TENANT_ID: &str = "postrider.tenant.id";
/// Attribute: the event's id, `evt_…`.
pub const EVENT_ID: &str = "postrider.event.id";
/// Attribute: the event type, such as `order.created`.
pub const EVENT_TYPE: &str = "postrider.event.type";
/// Attribute: the delivery's id, `dlv_…`.
pub const DELIVERY_ID: &str = "postrider.delivery.id";
/// Attribute: the subscriber's id, `sub_…`.
pub const SUBSCRIBER_ID: &str = "postrider.subscriber.id";
/// Attribute: the attempt's number, from 1.
pub const ATTEMPT_NUMBER: &str = "postrider.attempt.number";
/// Attribute: the outcome of an attempt: `succeeded`, `failed` or `dead`.
pub const OUTCOME: &str = "postrider.outcome";
/// Attribute: the delay before the next attempt, in milliseconds.
pub const RETRY_DELAY: &str = "postrider.retry.delay_ms";
/// Attribute: the number of events in a dispatch transaction.
pub const EVENTS: &str = "postrider.events";
/// Attribute: the number of subscribers that a dispatch transaction found.
pub const SUBSCRIBERS_FOUND: &str = "postrider.subscribers_found";
/// Attribute: the number of jobs in a claim or in a batch of outcomes.
pub const JOBS: &str = "postrider.jobs";
