//! The counts of one roll-up row: how many attempts there were, how long they took, how long deliveries waited for the
//! first ones, and why attempts failed. Tallies of any spans and any processes can be added up.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use postrider_core::{ErrorKind, Timestamp};

use super::histogram::{self, Percentiles};
use crate::attempt::Attempt;
use crate::encoding::{read_number, write_number};

/// Counts by code. The code says what is counted, and in which bucket.
///
/// | code | counts |
/// |---|---|
/// | 0 to 255 | attempts, by the bucket of their duration: one count for each attempt |
/// | 256 to 511 | first attempts, by the bucket of the time that the delivery waited for them |
/// | 512 and above | failed attempts, by the code of their error kind |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<u16, u64>);

/// The first code of waits, which is also the number of buckets of a histogram.
const WAITS: u16 = 256;

/// The first code of failures.
const FAILURES: u16 = 512;

impl Tally {
    /// No counts.
    pub(super) const NONE: Self = Self(BTreeMap::new());

    /// Counts an attempt.
    pub(crate) fn attempt(&mut self, attempt: &Attempt) {
        let millis = u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX);
        self.add(bucket(millis), 1);
        if let Some(kind) = attempt.verdict.error_kind() {
            self.add(FAILURES + kind.code().unsigned_abs(), 1);
        }
    }

    /// Counts how long a delivery waited for its first attempt.
    pub(crate) fn wait(&mut self, created_at: Timestamp, started_at: Timestamp) {
        let millis = u64::try_from(started_at.since(created_at).as_millis()).unwrap_or(u64::MAX);
        self.add(WAITS + bucket(millis), 1);
    }

    /// Adds the counts of another tally.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (&code, &count) in &other.0 {
            self.add(code, count);
        }
    }

    fn add(&mut self, code: u16, count: u64) {
        match self.0.entry(code) {
            Entry::Vacant(entry) => drop(entry.insert(count)),
            Entry::Occupied(mut entry) => *entry.get_mut() = entry.get().saturating_add(count),
        }
    }

    /// The number of attempts.
    pub(crate) fn attempts(&self) -> u64 {
        self.0.range(..WAITS).map(|(_, count)| count).sum()
    }

    /// Failed attempts by error kind. Kinds that a newer version has stored count as [`ErrorKind::Internal`].
    pub(crate) fn failures(&self) -> BTreeMap<&'static str, u64> {
        let mut failures = BTreeMap::new();
        for (code, count) in self.0.range(FAILURES..) {
            let kind = i16::try_from(code - FAILURES).ok().and_then(ErrorKind::from_code);
            *failures.entry(kind.unwrap_or(ErrorKind::Internal).as_str()).or_default() += count;
        }
        failures
    }

    /// How long attempts took.
    pub(crate) fn durations(&self) -> Percentiles {
        self.percentiles(0)
    }

    /// How long deliveries waited for their first attempt.
    pub(crate) fn waits(&self) -> Percentiles {
        self.percentiles(WAITS)
    }

    fn percentiles(&self, from: u16) -> Percentiles {
        let buckets = self.0.range(from..from + WAITS);
        let buckets: BTreeMap<i16, u64> =
            buckets.map(|(code, count)| (i16::try_from(code - from).unwrap_or(0), *count)).collect();
        Percentiles::of(&buckets)
    }

    /// The stored form: codes and counts in turn, each as unsigned LEB128.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(3 * self.0.len());
        for (&code, &count) in &self.0 {
            write_number(&mut bytes, u64::from(code));
            write_number(&mut bytes, count);
        }
        bytes
    }

    /// Reads what [`Tally::to_bytes`] wrote. `None` if the bytes are not in that form. A code may occur several times;
    /// its counts are added up.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut tally = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let code = u16::try_from(read_number(&mut rest)?).ok()?;
            tally.add(code, read_number(&mut rest)?);
        }
        Some(tally)
    }
}

fn bucket(millis: u64) -> u16 {
    histogram::bucket(millis).unsigned_abs().min(WAITS - 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postrider_core::Verdict;
    use proptest::prelude::*;

    use super::*;

    fn attempt(millis: u64, verdict: Verdict) -> Attempt {
        Attempt {
            started_at: Timestamp::from_millis(0),
            duration: Duration::from_millis(millis),
            response: None,
            verdict,
            exchange: None,
        }
    }

    #[test]
    fn attempts_are_counted_with_their_failures_by_kind() {
        let mut tally = Tally::default();
        assert_eq!((tally.attempts(), tally.durations().p50), (0, None));
        tally.attempt(&attempt(3, Verdict::Success));
        tally.attempt(&attempt(4, Verdict::SuccessWithNote("the body was cut short".into())));
        tally.attempt(&attempt(5, Verdict::failure(ErrorKind::Status, "500")));
        tally.attempt(&attempt(6, Verdict::failure(ErrorKind::Status, "302")));
        tally.attempt(&attempt(30_000, Verdict::failure(ErrorKind::TimeoutHeaders, "too slow")));
        assert_eq!(tally.attempts(), 5);
        assert_eq!(tally.failures(), BTreeMap::from([("status", 2), ("timeout_headers", 1)]));
        assert_eq!(tally.durations(), Percentiles { p50: Some(5), p95: Some(30_719), p99: Some(30_719) });
        assert_eq!(tally.waits(), Percentiles::default());
    }

    #[test]
    fn waits_are_counted_separately() {
        let mut tally = Tally::default();
        tally.wait(Timestamp::from_millis(1_000), Timestamp::from_millis(1_012));
        // The clock of the attempt is behind that of the dispatch.
        tally.wait(Timestamp::from_millis(1_000), Timestamp::from_millis(900));
        assert_eq!(tally.waits(), Percentiles { p50: Some(0), p95: Some(12), p99: Some(12) });
        assert_eq!((tally.attempts(), tally.failures().len()), (0, 0));
    }

    #[test]
    fn every_bucket_and_every_error_kind_has_its_own_code() {
        assert!(u16::try_from(histogram::bucket(u64::MAX)).unwrap() < WAITS);
        for &kind in ErrorKind::ALL {
            let mut tally = Tally::default();
            tally.attempt(&attempt(1, Verdict::failure(kind, "")));
            assert_eq!(tally.failures(), BTreeMap::from([(kind.as_str(), 1)]));
        }
        assert_eq!(Tally(BTreeMap::from([(FAILURES + 99, 2)])).failures(), BTreeMap::from([("internal", 2)]));
    }

    #[test]
    fn malformed_bytes_are_rejected() {
        for bytes in [&[0x80][..], &[1], &[1, 0xff], &[0xff; 24], &[0x80, 0x80, 0x04, 1]] {
            assert_eq!(Tally::from_bytes(bytes), None, "{bytes:?}");
        }
        assert_eq!(Tally::from_bytes(&[]), Some(Tally::default()));
    }

    proptest! {
        #[test]
        fn tallies_survive_encoding_and_add_up(
            one: BTreeMap<u16, u64>,
            other: BTreeMap<u16, u32>,
        ) {
            let one = Tally(one.into_iter().map(|(code, count)| (code, count >> 1)).collect());
            let other = Tally(other.into_iter().map(|(code, count)| (code, u64::from(count))).collect());
            prop_assert_eq!(&Tally::from_bytes(&one.to_bytes()).unwrap(), &one);
            let mut sum = one.clone();
            sum.merge(&other);
            // The concatenation of two stored forms reads as their sum.
            prop_assert_eq!(Tally::from_bytes(&[one.to_bytes(), other.to_bytes()].concat()).unwrap(), sum);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Tally::from_bytes(&bytes);
        }
    }
}
