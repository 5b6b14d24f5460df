//! `Retry-After` (RFC 9110, §10.2.3): when the receiver asks for the next attempt.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use postrider_core::Timestamp;
use postrider_core::retry::MAX_RETRY_AFTER;

/// The value of a `Retry-After` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// A number of seconds, counted from the response.
    Delay(Duration),
    /// An HTTP date.
    Until(Timestamp),
}

/// Returns how long the value of a `Retry-After` header asks to wait, at most [`MAX_RETRY_AFTER`]; `None` if it is
/// neither a whole number of seconds nor an HTTP date.
///
/// ```
/// use postrider_core::Timestamp;
/// use std::time::Duration;
///
/// let now = Timestamp::from_seconds(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
/// let asked = |value: &str| postrider_delivery::retry_after(value.as_bytes(), now);
/// assert_eq!(asked("120"), Some(Duration::from_secs(120)));
/// assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
/// assert_eq!(asked("86400"), Some(Duration::from_secs(3600)));
/// assert_eq!(asked("soon"), None);
/// ```
pub fn retry_after(value: &[u8], now: Timestamp) -> Option<Duration> {
    RetryAfter::parse(value).map(|asked| asked.delay(now))
}

impl RetryAfter {
    /// Parses the value of the header; `None` if it is neither a whole number of seconds nor an HTTP date.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // A number that overflows is still a number, and `delay` caps it.
            return Some(Self::Delay(Duration::from_secs(text.parse().unwrap_or(u64::MAX))));
        }
        let date = httpdate::parse_http_date(text).ok()?;
        Some(Self::Until(timestamp(date)))
    }

    /// Reads the header of a response. Only with 429 and 503 does it concern the next attempt.
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let asks = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        headers.get(RETRY_AFTER).filter(|_| asks).and_then(|value| Self::parse(value.as_bytes()))
    }

    /// Returns the delay counted from `now`: zero for a date in the past, at most [`MAX_RETRY_AFTER`].
    pub fn delay(self, now: Timestamp) -> Duration {
        let asked = match self {
            Self::Delay(delay) => delay,
            Self::Until(date) => date.since(now),
        };
        asked.min(MAX_RETRY_AFTER)
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let epoch = Timestamp::from_millis(0);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => epoch + after,
        Err(before) => epoch - before.duration(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
    const NOW: Timestamp = Timestamp::from_seconds(784_111_777);

    #[test]
    fn seconds_and_all_three_date_formats_are_understood() {
        for (value, seconds) in [
            ("0", 0),
            ("1", 1),
            (" 120\t", 120),
            ("3600", 3600),
            ("3601", 3600),
            ("99999999999999999999999999999999", 3600),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
            ("Sun, 06 Nov 1994 08:50:00 GMT", 23),
            ("Sunday, 06-Nov-94 08:50:00 GMT", 23),
            ("Sun Nov  6 08:50:00 1994", 23),
            ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sat, 06 Nov 2094 08:50:00 GMT", 3600),
        ] {
            assert_eq!(retry_after(value.as_bytes(), NOW), Some(Duration::from_secs(seconds)), "{value}");
        }
    }

    #[test]
    fn an_invalid_value_is_ignored() {
        for value in [
            "",
            " ",
            "-1",
            "+1",
            "1.5",
            "1e400",
            "0x10",
            "NaN",
            "inf",
            "soon",
            "1 2",
            "12:00",
            "١٢",
            "Sun, 99 Nov 1994 08:50:00 GMT",
        ] {
            assert_eq!(retry_after(value.as_bytes(), NOW), None, "{value:?}");
        }
        assert_eq!(retry_after(b"\xff\xfe", NOW), None);
        assert_eq!(retry_after(b"\0", NOW), None);
    }

    #[test]
    fn retry_after_is_ignored_unless_the_status_is_429_or_503() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, http::HeaderValue::from_static("7"))]);
        for status in [200, 301, 404, 429, 500, 502, 503, 504] {
            let asked = RetryAfter::of(StatusCode::from_u16(status).unwrap(), &headers);
            assert_eq!(asked.is_some(), matches!(status, 429 | 503), "{status}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics_or_asks_for_more_than_an_hour(value: Vec<u8>, now: i64) {
            if let Some(delay) = retry_after(&value, Timestamp::from_millis(now)) {
                prop_assert!(delay <= MAX_RETRY_AFTER);
            }
        }

        #[test]
        fn digits_are_a_number_of_seconds(seconds: u64) {
            let asked = retry_after(seconds.to_string().as_bytes(), NOW);
            prop_assert_eq!(asked, Some(Duration::from_secs(seconds.min(3600))));
        }

        #[test]
        fn a_date_counts_from_now(ahead in -5000_i64..5000) {
            let date = UNIX_EPOCH + Duration::from_secs(u64::try_from(NOW.seconds() + ahead).unwrap());
            let asked = retry_after(httpdate::fmt_http_date(date).as_bytes(), NOW);
            prop_assert_eq!(asked, Some(Duration::from_secs(u64::try_from(ahead.clamp(0, 3600)).unwrap())));
        }
    }
}
