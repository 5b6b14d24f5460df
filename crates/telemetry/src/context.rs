//! Trace contexts as W3C `traceparent` strings: parsed, stored with jobs, and sent to receivers.
//!
//! See <https://www.w3.org/TR/trace-context/> §3.2. A [`TraceParent`] is valid by construction; the stored and sent form is
//! a string. `tracestate` is not passed on.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Whether a trace exporter is installed. Without one, spans have no context.
static EXPORTING: AtomicBool = AtomicBool::new(false);

/// A valid `traceparent`: trace id, parent span id and flags.
///
/// ```
/// use postrider_telemetry::context::TraceParent;
///
/// let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent: TraceParent = given.parse().unwrap();
/// assert_eq!(parent.to_string(), given);
/// assert!("00-00000000000000000000000000000000-00f067aa0ba902b7-01".parse::<TraceParent>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: TraceId,
    span_id: SpanId,
    flags: TraceFlags,
}

/// The string is not a valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// Returns the context of the current span; `None` without a span or without an exporter.
    pub fn current() -> Option<Self> {
        if !EXPORTING.load(Ordering::Relaxed) {
            return None;
        }
        Self::of(&Span::current())
    }

    /// Returns the context of `span`; `None` if it has none.
    pub fn of(span: &Span) -> Option<Self> {
        let context = span.context();
        let context = context.span().span_context().clone();
        context.is_valid().then(|| Self {
            trace_id: context.trace_id(),
            span_id: context.span_id(),
            flags: context.trace_flags(),
        })
    }

    /// Creates the context of a new trace with ids made of `random`. It is not sampled, because nothing records it.
    pub fn new_unsampled(random: [u8; 24]) -> Self {
        let (trace_id, span_id) = ids(random);
        Self { trace_id, span_id, flags: TraceFlags::default() }
    }

    /// Returns the same trace and flags with a new parent id, to pass a context on without recording it.
    pub fn with_new_parent_id(self, random: [u8; 24]) -> Self {
        Self { span_id: ids(random).1, ..self }
    }

    /// Returns the trace id.
    pub fn trace_id(self) -> TraceId {
        self.trace_id
    }

    /// Returns whether the caller may have recorded the trace.
    pub fn is_sampled(self) -> bool {
        self.flags.is_sampled()
    }

    fn span_context(self) -> SpanContext {
        SpanContext::new(self.trace_id, self.span_id, self.flags, true, TraceState::NONE)
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        static PROPAGATOR: LazyLock<TraceContextPropagator> = LazyLock::new(TraceContextPropagator::new);
        if !has_the_form(text) {
            return Err(InvalidTraceParent);
        }
        let context = PROPAGATOR.extract(&Header(text));
        let span = context.span();
        let context = span.span_context();
        if !context.is_valid() {
            return Err(InvalidTraceParent);
        }
        Ok(Self { trace_id: context.trace_id(), span_id: context.span_id(), flags: context.trace_flags() })
    }
}

/// Returns whether version, ids and flags have the right lengths; a later version may append more parts (§3.2.4). The
/// propagator would pad shorter ids.
fn has_the_form(text: &str) -> bool {
    let mut parts = text.split('-');
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    [2, 32, 16, 2]
        .iter()
        .all(|length| parts.next().is_some_and(|part| part.len() == *length && part.bytes().all(hex)))
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, self.flags.to_u8())
    }
}

/// Returns the current span's `traceparent`; `None`, and cheap, without an exporter.
pub fn current_traceparent() -> Option<String> {
    TraceParent::current().map(|parent| parent.to_string())
}

/// Returns the `traceparent` for a request to a receiver, which always has one.
///
/// It is the current span's context if traces are exported; otherwise `carried`, the context stored with the job, with a
/// new parent id, so that a trace that passes through stays connected; otherwise a new, unsampled context. Calls `random`
/// in the last two cases only.
pub fn traceparent_or_new(carried: Option<&str>, random: impl FnOnce() -> [u8; 24]) -> String {
    let parent = TraceParent::current().unwrap_or_else(|| match carried.map(str::parse::<TraceParent>) {
        Some(Ok(carried)) => carried.with_new_parent_id(random()),
        Some(Err(InvalidTraceParent)) | None => TraceParent::new_unsampled(random()),
    });
    parent.to_string()
}

/// Makes `span` a child of the span in `traceparent`. If that is invalid, `span` starts a new trace (W3C §4.3).
///
/// Call it before the span is first entered: an OpenTelemetry span cannot change its parent later.
pub fn set_parent(span: &Span, traceparent: &str) {
    if let Some(parent) = remote(traceparent) {
        // Fails without an exporter or if the span is disabled; then there is no trace to join.
        let _ =
            span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent.span_context()));
    }
}

/// Links `span` to the span in `traceparent`. Adds no link if that is invalid.
pub fn add_link(span: &Span, traceparent: &str) {
    if let Some(parent) = remote(traceparent) {
        span.add_link(parent.span_context());
    }
}

/// Returns the current trace id for a log line; `None`, and cheap, without an exporter.
///
/// ```
/// use postrider_telemetry::context;
///
/// tracing::warn!(trace_id = context::current_trace_id(), "lease lost");
/// ```
pub fn current_trace_id() -> Option<String> {
    TraceParent::current().map(|parent| parent.trace_id.to_string())
}

#[cfg(feature = "setup")]
pub(crate) fn exporting(on: bool) {
    EXPORTING.store(on, Ordering::Relaxed);
}

fn remote(traceparent: &str) -> Option<TraceParent> {
    if !EXPORTING.load(Ordering::Relaxed) {
        return None;
    }
    traceparent.parse().ok()
}

/// Makes ids of random bytes. An id of zeros is invalid (§3.2.2.3), so a 1 replaces its last byte.
fn ids(random: [u8; 24]) -> (TraceId, SpanId) {
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&random[..16]);
    span.copy_from_slice(&random[16..]);
    if trace == [0; 16] {
        trace[15] = 1;
    }
    if span == [0; 8] {
        span[7] = 1;
    }
    (TraceId::from_bytes(trace), SpanId::from_bytes(span))
}

struct Header<'a>(&'a str);

impl Extractor for Header<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_displayed_context_parses_to_the_same(random: [u8; 24]) {
            let new = TraceParent::new_unsampled(random);
            let text = new.to_string();
            prop_assert_eq!(text.len(), 55);
            prop_assert!(text.starts_with("00-") && text.ends_with("-00"));
            prop_assert_eq!(text.parse(), Ok(new));
        }

        #[test]
        fn parsing_never_panics_and_accepts_only_valid_contexts(text in "\\PC{0,60}") {
            if let Ok(parent) = text.parse::<TraceParent>() {
                prop_assert!(parent.span_context().is_valid());
            }
        }

        #[test]
        fn a_carried_trace_continues_with_a_new_parent_id(carried: [u8; 24], random: [u8; 24]) {
            let carried = TraceParent { flags: TraceFlags::SAMPLED, ..TraceParent::new_unsampled(carried) };
            let sent: TraceParent = traceparent_or_new(Some(&carried.to_string()), || random).parse().unwrap();
            prop_assert_eq!(sent.trace_id, carried.trace_id);
            prop_assert_eq!(sent.flags, carried.flags);
            prop_assert_eq!(sent.span_id, TraceParent::new_unsampled(random).span_id);
        }
    }

    #[test]
    fn an_id_is_never_all_zeros() {
        let parent = TraceParent::new_unsampled([0; 24]);
        assert_eq!(parent.to_string(), "00-00000000000000000000000000000001-0000000000000001-00");
    }

    #[test]
    fn an_invalid_context_starts_a_new_trace() {
        for carried in [
            None,
            Some(""),
            Some("00-0-0-0"),
            Some("00-1-1-01"),
            Some("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            Some("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
        ] {
            let sent = traceparent_or_new(carried, || [7; 24]);
            assert_eq!(sent, "00-07070707070707070707070707070707-0707070707070707-00", "{carried:?}");
        }
    }

    #[test]
    fn without_an_exporter_a_span_has_no_context() {
        let span = tracing::info_span!("any");
        let _entered = span.enter();
        assert_eq!(TraceParent::of(&Span::current()), None);
    }
}
