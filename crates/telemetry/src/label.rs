//! Labels whose values are bounded.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use metrics::SharedString;

/// What a value past the bound counts as.
pub const OTHER: &str = "other";

/// How many distinct values a label has by default.
pub const DEFAULT_LIMIT: usize = 100;

/// Lets the first so many distinct values of a label through; the rest count as [`OTHER`].
///
/// Each value of a label is a series of its own in Prometheus. Event types come from outside, so
/// without a bound anybody who may dispatch could fill its memory.
///
/// ```
/// use postrider_telemetry::{metric, BoundedLabel};
///
/// let event_types = BoundedLabel::new(1);
/// assert_eq!(&*event_types.value("order.created"), "order.created");
/// assert_eq!(&*event_types.value("order.paid"), "other");
/// assert_eq!(&*event_types.value("order.created"), "order.created");
/// metrics::counter!(metric::EVENTS, metric::EVENT_TYPE => event_types.value("order.created")).increment(1);
/// ```
#[derive(Debug)]
pub struct BoundedLabel {
    limit: usize,
    seen: RwLock<HashSet<Arc<str>>>,
}

impl BoundedLabel {
    /// A label of at most `limit` distinct values besides [`OTHER`].
    pub fn new(limit: usize) -> Self {
        Self { limit, seen: RwLock::default() }
    }

    /// The value to report for `value`: itself or [`OTHER`]. Once seen, always the same answer.
    pub fn value(&self, value: &str) -> SharedString {
        let full = {
            let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = seen.get(value) {
                return SharedString::from(Arc::clone(known));
            }
            seen.len() >= self.limit
        };
        if full { SharedString::const_str(OTHER) } else { self.add(value) }
    }

    fn add(&self, value: &str) -> SharedString {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have filled the last place, or added this very value, since the look before.
        if let Some(known) = seen.get(value) {
            return SharedString::from(Arc::clone(known));
        }
        if seen.len() >= self.limit {
            return SharedString::const_str(OTHER);
        }
        let value: Arc<str> = value.into();
        seen.insert(Arc::clone(&value));
        SharedString::from(value)
    }
}

impl Default for BoundedLabel {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_values_stay_and_the_rest_are_other(
            limit in 0_usize..8, values in prop::collection::vec("[a-f]{1,2}", 0..60),
        ) {
            let label = BoundedLabel::new(limit);
            let mut first: Vec<&str> = Vec::new();
            for value in &values {
                if first.len() < limit && !first.contains(&value.as_str()) {
                    first.push(value);
                }
                let expected = if first.contains(&value.as_str()) { value } else { OTHER };
                let shown = label.value(value);
                prop_assert_eq!(shown.as_ref(), expected);
            }
        }
    }

    #[test]
    fn threads_together_do_not_pass_the_bound() {
        let label = BoundedLabel::default();
        let shown: HashSet<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|thread| {
                    let label = &label;
                    scope.spawn(move || {
                        (0..200)
                            .map(|n| label.value(&format!("{thread}.{n}")).to_string())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(shown.len(), DEFAULT_LIMIT + 1, "a hundred values and other");
        assert!(shown.contains(OTHER));
    }
}
