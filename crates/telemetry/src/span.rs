//! The names of spans and of their attributes.
//!
//! Postrider's spans are made at debug level (`tracing::debug_span!`): with no exporter and the
//! default log filter they cost a load and a branch. The exporter takes them whatever the log filter
//! says; log lines do not show their fields, so a log line names its ids itself (`trace_id` by
//! [`context::current_trace_id`](crate::context::current_trace_id)). Attribute names follow OpenTelemetry's semantic conventions where those have one. No payload,
//! secret or URL query goes into any span.
//!
//! `tracing` macros want literal names for fields, so the constants here are what tests and tools
//! compare with; a macro writes the same name: `debug_span!("deliver", "postrider.event.id" = %id)`.

/// How many links a span of many jobs has at most: OpenTelemetry's default limit.
pub const MAX_LINKS: usize = 128;

/// Server: one API request.
pub const HTTP_REQUEST: &str = "http.request";
/// Server: events, deliveries and jobs are written.
pub const DISPATCH: &str = "dispatch";
/// Worker: jobs are claimed.
pub const QUEUE_CLAIM: &str = "queue.claim";
/// Worker: one attempt.
pub const DELIVER: &str = "deliver";
/// Worker: outcomes are recorded and jobs finished.
pub const RECORD: &str = "record";

/// Attribute: the kind of a span as tracing-opentelemetry reads it: `server`, `client`, `producer`, `consumer`.
pub const KIND: &str = "otel.kind";
/// Attribute: the name that a span is shown by, when it is not the one it was made with.
pub const NAME: &str = "otel.name";
/// Attribute: `OK` or `ERROR`, as tracing-opentelemetry reads it.
pub const STATUS_CODE: &str = "otel.status_code";
/// Log field: the trace's id, so that a log line leads to its trace.
pub const TRACE_ID: &str = "trace_id";

/// Attribute: `POST`.
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
/// Attribute: the status of the response.
pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
/// Attribute: a route's template, such as `/v1/events/{id}`.
pub const HTTP_ROUTE: &str = "http.route";
/// Attribute: how often this request was sent before; the attempt's number less one.
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
/// Attribute: the event's type.
pub const EVENT_TYPE: &str = "postrider.event.type";
/// Attribute: the delivery's id, `dlv_…`.
pub const DELIVERY_ID: &str = "postrider.delivery.id";
/// Attribute: the subscriber's id, `sub_…`.
pub const SUBSCRIBER_ID: &str = "postrider.subscriber.id";
/// Attribute: the attempt's number, from 1.
pub const ATTEMPT_NUMBER: &str = "postrider.attempt.number";
/// Attribute: what came of an attempt: `succeeded`, `failed`, `dead`.
pub const OUTCOME: &str = "postrider.outcome";
/// Attribute: the delay before the next attempt, in milliseconds.
pub const RETRY_DELAY: &str = "postrider.retry.delay_ms";
/// Attribute: events of a dispatch.
pub const EVENTS: &str = "postrider.events";
/// Attribute: subscribers found by a dispatch.
pub const SUBSCRIBERS_FOUND: &str = "postrider.subscribers_found";
/// Attribute: jobs of a claim or of a record.
pub const JOBS: &str = "postrider.jobs";
