//! Histograms that can be added up: buckets that grow with what they measure.
//!
//! A bucket's width is an eighth of its power of two, so that a percentile read from them is at
//! most 12.5 % too high, over any span of time and any number of processes.

use std::collections::BTreeMap;

/// The bucket of a number of milliseconds.
pub fn bucket(millis: u64) -> i16 {
    let millis = millis.min(MAX);
    if millis < 16 {
        return i16::try_from(millis).unwrap_or(0);
    }
    let power = millis.ilog2();
    let eighth = (millis >> (power - 3)) & 7;
    i16::try_from(16 + u64::from(power - 4) * 8 + eighth).unwrap_or(i16::MAX)
}

/// The longest time that has a bucket of its own: about 50 days.
const MAX: u64 = 1 << 32;

/// The longest time, in milliseconds, that falls into a bucket.
pub fn upper_bound(bucket: i16) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(0);
    if bucket < 16 {
        return bucket;
    }
    let (power, eighth) = ((bucket - 16) / 8 + 4, (bucket - 16) % 8);
    ((8 + eighth + 1) << (power - 3)) - 1
}

/// The milliseconds below which `fraction` (0 to 1) of what was counted lies; none if nothing was.
pub fn percentile(buckets: &BTreeMap<i16, u64>, fraction: f64) -> Option<u64> {
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
    fn a_bucket_holds_what_falls_into_it_and_is_narrow() {
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
    fn percentiles_are_read_from_counts() {
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
