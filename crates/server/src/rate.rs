//! Limits of requests per second, by the generic cell rate algorithm (ITU-T I.371, annex A).
//!
//! A meter is one number: when everything that was allowed so far would be used up at the allowed rate.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use postrider_core::key::KeyRate;

const SECOND: u64 = 1_000_000_000;

/// How much of a rate is used. The clock of its times is the caller's; it counts nanoseconds and never goes back.
#[derive(Debug, Default)]
pub(crate) struct Meter(AtomicU64);

/// What is left of a rate after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) rate: KeyRate,
    /// How many more requests may come now.
    pub(crate) remaining: u32,
    /// In how many seconds all of the burst is there again, rounded up.
    pub(crate) reset: u64,
}

/// The rate is exceeded: in how many seconds the next request is allowed, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) retry_after: u64,
}

impl Meter {
    /// Counts a request at the time `now`, if the rate allows it.
    pub(crate) fn take(&self, rate: KeyRate, now: u64) -> Result<Quota, Exceeded> {
        let (interval, window) = (interval(rate), window(rate));
        let counted = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used_up| {
            let next = used_up.max(now) + interval;
            (next - now <= window).then_some(next)
        });
        match counted {
            Ok(before) => {
                let used = before.max(now) + interval - now;
                let remaining = u32::try_from((window - used) / interval).unwrap_or(u32::MAX);
                Ok(Quota { rate, remaining, reset: used.div_ceil(SECOND) })
            }
            Err(used_up) => {
                let wait = used_up.max(now) + interval - window - now;
                Err(Exceeded { retry_after: wait.div_ceil(SECOND).max(1) })
            }
        }
    }

    /// Whether nothing is left of the rate at the time `now`.
    pub(crate) fn is_used_up(&self, rate: KeyRate, now: u64) -> bool {
        self.0.load(Ordering::Relaxed).saturating_sub(now) + interval(rate) > window(rate)
    }

    /// Whether nothing of the rate is used at the time `now`.
    pub(crate) fn is_unused(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }
}

impl Quota {
    /// Adds the headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) to a response.
    pub(crate) fn announce(&self, headers: &mut HeaderMap) {
        let policy = format!("\"key\";q={};w={}", self.rate.burst(), self.window());
        let left = format!("\"key\";r={};t={}", self.remaining, self.reset);
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", left)] {
            // Digits and quotes, which a header may have.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// In how many seconds the whole burst comes back, rounded up.
    fn window(&self) -> u64 {
        window(self.rate).div_ceil(SECOND)
    }
}

/// The nanoseconds of one request. A million per second leave a thousand.
fn interval(rate: KeyRate) -> u64 {
    SECOND / u64::from(rate.per_second())
}

fn window(rate: KeyRate) -> u64 {
    interval(rate) * u64::from(rate.burst())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: u64 = 1_000_000;

    fn rate(per_second: u32, burst: u32) -> KeyRate {
        KeyRate::new(per_second, burst).unwrap()
    }

    #[test]
    fn a_burst_is_allowed_at_once_and_then_the_rate() {
        let (meter, rate, start) = (Meter::default(), rate(10, 3), 5 * SECOND);
        for remaining in [2, 1, 0] {
            assert_eq!(meter.take(rate, start).map(|quota| quota.remaining), Ok(remaining));
        }
        assert_eq!(meter.take(rate, start), Err(Exceeded { retry_after: 1 }));
        assert!(meter.take(rate, start + 99 * MILLI).is_err());
        assert!(meter.take(rate, start + 100 * MILLI).is_ok());
        assert!(meter.take(rate, start + 100 * MILLI).is_err(), "that one is used up");
        assert!(!meter.is_unused(start + 399 * MILLI) && meter.is_unused(start + 400 * MILLI));
        assert_eq!(meter.take(rate, start + 10 * SECOND).map(|quota| quota.remaining), Ok(2));
    }

    #[test]
    fn the_wait_is_rounded_up() {
        let (meter, rate) = (Meter::default(), rate(1, 2));
        assert_eq!(meter.take(rate, 0), Ok(Quota { rate, remaining: 1, reset: 1 }));
        assert_eq!(meter.take(rate, 0), Ok(Quota { rate, remaining: 0, reset: 2 }));
        assert_eq!(meter.take(rate, 100), Err(Exceeded { retry_after: 1 }));
    }

    proptest! {
        /// In no span of time more requests pass than the burst and what the rate adds.
        #[test]
        fn no_more_pass_than_the_rate_allows(
            per_second in 1_u32..2000, burst in 1_u32..50, gaps in prop::collection::vec(0_u64..50, 1..80),
        ) {
            let (meter, rate) = (Meter::default(), rate(per_second, burst));
            let mut passed = Vec::new();
            let mut now = SECOND;
            for gap in gaps {
                now += gap * MILLI;
                if meter.take(rate, now).is_ok() {
                    passed.push(now);
                }
            }
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let added = (end - start) / (SECOND / u64::from(per_second)) + 1;
                    prop_assert!((last - first) as u64 <= u64::from(burst) - 1 + added);
                }
            }
        }

        /// A client that waits as long as it was told is allowed then.
        #[test]
        fn a_request_after_the_wait_passes(per_second in 1_u32..2000, burst in 1_u32..5, tries in 1_usize..20) {
            let (meter, rate) = (Meter::default(), rate(per_second, burst));
            for _ in 0..tries {
                if let Err(Exceeded { retry_after }) = meter.take(rate, SECOND) {
                    prop_assert!(meter.take(rate, SECOND + retry_after * SECOND).is_ok());
                    return Ok(());
                }
            }
        }
    }
}
