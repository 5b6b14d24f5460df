//! Trace contexts of callers.

use postrider_telemetry::context::{TraceParent, traceparent_or_new};

/// An accepted `traceparent` has well-formed ids, which are passed on; for any input receivers get a valid one (W3C Trace
/// Context, §3.2).
pub fn traceparent(data: &[u8]) {
    const RANDOM: [u8; 24] = [7; 24];
    let Some(text) = crate::text(data) else { return };
    let sent: TraceParent =
        traceparent_or_new(Some(text), || RANDOM).parse().expect("receivers get a valid traceparent");
    let Ok(given) = text.parse::<TraceParent>() else {
        assert_eq!(sent, TraceParent::new_unsampled(RANDOM), "an invalid one starts a new trace");
        return;
    };
    let printed = given.to_string();
    assert_eq!(printed.len(), 55);
    assert_eq!(printed.parse(), Ok(given));
    assert_eq!(text.get(2..53), printed.get(2..53), "both ids are unchanged");
    assert!(
        !["-00000000000000000000000000000000-", "-0000000000000000-"].iter().any(|id| printed.contains(id))
    );
    assert_eq!((sent.trace_id(), sent.is_sampled()), (given.trace_id(), given.is_sampled()));
}
