//! Moments, as the API writes and reads them.

use std::str::FromStr;

use postrider_core::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use utoipa::ToSchema;

/// A moment in UTC (RFC 3339), with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "Written")]
#[schema(value_type = String, format = DateTime, example = "2026-11-14T22:13:20.000Z")]
pub(crate) struct Moment(pub(crate) Timestamp);

/// The text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a moment is written as in RFC 3339 (2026-11-14T22:13:20Z) or as whole Unix seconds")]
pub(crate) struct MomentError;

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if let Ok(seconds) = text.parse() {
            return Ok(Self(Timestamp::from_seconds(seconds)));
        }
        // A `+` of an offset that was not percent-encoded arrives as a space.
        let moment = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).map_err(|_| MomentError)?;
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        Ok(Self(Timestamp::from_millis(i64::try_from(millis).map_err(|_| MomentError)?)))
    }
}

/// A moment as somebody writes it: parameters are always text, JSON may hold a number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a moment: RFC 3339 text or whole Unix seconds")]
enum Written {
    Seconds(i64),
    Text(String),
}

impl TryFrom<Written> for Moment {
    type Error = MomentError;

    fn try_from(written: Written) -> Result<Self, MomentError> {
        match written {
            Written::Seconds(seconds) => Ok(Self(Timestamp::from_seconds(seconds))),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Timestamp> for Moment {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nanos = i128::from(self.0.millis()) * 1_000_000;
        // Beyond the year 9999 there is no RFC 3339; nothing here is of such a time.
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let at = at.to_offset(UtcOffset::UTC);
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        let (hour, minute, second, milli) = (at.hour(), at.minute(), at.second(), at.millisecond());
        serializer.collect_str(&format_args!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(millis: i64) -> String {
        serde_json::to_value(Moment(Timestamp::from_millis(millis))).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn moments_are_written_in_utc_with_milliseconds() {
        assert_eq!(written(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(written(1_700_000_000_007), "2023-11-14T22:13:20.007Z");
        assert_eq!(written(i64::MAX), "1970-01-01T00:00:00.000Z", "no panic");
    }

    #[test]
    fn moments_are_read_in_both_forms() {
        for (text, millis) in [
            ("1700000000", 1_700_000_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T22:13:20.007Z", 1_700_000_000_007),
            ("2023-11-15T00:13:20+02:00", 1_700_000_000_000),
            ("2023-11-15T00:13:20 02:00", 1_700_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Moment(Timestamp::from_millis(millis))), "{text}");
        }
        for text in ["", "yesterday", "2023-11-14", "1.5", "2023-11-14T25:00:00Z"] {
            assert_eq!(text.parse::<Moment>(), Err(MomentError), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for millis in [0, 1, 999, 1_700_000_000_123, 253_402_300_799_999] {
            assert_eq!(written(millis).parse(), Ok(Moment(Timestamp::from_millis(millis))));
        }
    }
}
