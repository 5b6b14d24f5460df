//! Histograms of milliseconds that can be added up.
//!
//! The width of a bucket is an eighth of the power of two that it belongs to. So a percentile is at most 12.5 % too
//! high, for any span of time and any number of processes.

use std::collections::BTreeMap;

/// Milliseconds below which a part of the measured values lies; `None` if nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// The median.
    pub p50: Option<u64>,
    /// The 95th percentile.
    pub p95: Option<u64>,
    /// The 99th percentile.
    pub p99: Option<u64>,
}

impl Percentiles {
    /// The percentiles of what was counted in these buckets.
    pub(super) fn of(buckets: &BTreeMap<i16, u64>) -> Self {
        let at = |fraction| percentile(buckets, fraction);
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

/// The bucket of a number of milliseconds.
pub(super) fn bucket(millis: u64) -> i16 {
    let millis = millis.min(MAX);
    if millis < 16 {
        return i16::try_from(millis).unwrap_or(0);
    }
    let power = millis.ilog2();
    let eighth = (millis >> (power - 3)) & 7;
    i16::try_from(16 + u64::from(power - 4) * 8 + eighth).unwrap_or(i16::MAX)
}

/// The largest value that has a bucket of its own, in milliseconds: about 50 days. Larger ones share its bucket.
const MAX: u64 = 1 << 32;

/// The largest number of milliseconds that falls into a bucket.
fn upper_bound(bucket: i16) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(0);
    if bucket < 16 {
        return bucket;
    }
    let (power, eighth) = ((bucket - 16) / 8 + 4, (bucket - 16) % 8);
    ((8 + eighth + 1) << (power - 3)) - 1
}

/// The milliseconds below which `fraction` (0 to 1) of the counted values lies; `None` if nothing was counted.
fn percentile(buckets: &BTreeMap<i16, u64>, fraction: f64) -> Option<u64> {
    let total: u64 = buckets.values().sum();
    // Counts stay far below 2^53, where this is exact.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let wanted = ((total as f64 * fraction).ceil() as u64).max(1);
    let mut below = 0;
    buckets.iter().find_map(|(&bucket, &count)| {
        below += count;
        (below >= wanted).then(|| upper_bound(bucket))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_and_are_narrow() {
        let mut last = -1;
        for millis in (0..5_000).chain((5_000..10_000_000).step_by(997)) {
            let bucket = bucket(millis);
            assert!(bucket >= last, "buckets grow");
            last = bucket;
            let upper = upper_bound(bucket);
            assert!(upper >= millis && upper <= millis + millis / 8, "{millis} in {bucket} up to {upper}");
        }
        assert_eq!(bucket(u64::MAX), bucket(MAX));
    }

    #[test]
    fn percentiles_are_computed_from_bucket_counts() {
        let mut buckets = BTreeMap::new();
        assert_eq!(percentile(&buckets, 0.5), None);
        for millis in 1..=10 {
            *buckets.entry(bucket(millis)).or_default() += 1;
        }
        assert_eq!(percentile(&buckets, 0.5), Some(5));
        assert_eq!(percentile(&buckets, 0.95), Some(10));
        assert_eq!(percentile(&buckets, 0.0), Some(1));
    }
}
