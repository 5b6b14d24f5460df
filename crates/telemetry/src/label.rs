//! Labels with a bounded number of values.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use metrics::SharedString;

/// The value that stands for all values past the bound.
pub const OTHER: &str = "other";

/// The default number of distinct values of a label.
pub const DEFAULT_LIMIT: usize = 100;

/// Passes the first distinct values of a label through, up to a limit, and replaces all others by [`OTHER`].
///
/// Each value of a label is a separate series in Prometheus. Event types come from callers of the API, who could
/// otherwise fill Prometheus' memory.
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
    /// Creates a label with at most `limit` distinct values besides [`OTHER`].
    pub fn new(limit: usize) -> Self {
        Self { limit, seen: RwLock::default() }
    }

    /// Returns the value to report for `value`: itself or [`OTHER`]. The result for a value never changes.
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
        // Another thread may have filled the label, or added this value, since the read lock was released.
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
        fn the_first_values_pass_and_the_rest_become_other(
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
    fn concurrent_threads_do_not_exceed_the_bound() {
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
