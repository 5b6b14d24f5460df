//! Points in time, as the API writes and reads them.

use std::fmt;
use std::str::FromStr;

use postrider_core::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// A point in time in UTC, written as in RFC 3339 with milliseconds. It is also read from whole Unix seconds.
///
/// ```
/// use postrider_api::Moment;
///
/// let moment: Moment = "2023-11-15T00:13:20+02:00".parse()?;
/// assert_eq!(moment.to_string(), "2023-11-14T22:13:20.000Z");
/// assert_eq!("1700000000".parse(), Ok(moment));
/// # Ok::<(), postrider_api::moment::MomentError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "Written")]
pub struct Moment(pub Timestamp);

/// The text is not a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a point in time is RFC 3339 text (2026-11-14T22:13:20Z) or whole Unix seconds, from 1970 to 9999")]
pub struct MomentError;

/// The last second that RFC 3339 can write: the end of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

/// A moment of Unix seconds. Milliseconds given for seconds are out of range.
fn of_seconds(seconds: i64) -> Result<Moment, MomentError> {
    if !(0..=LAST_SECOND).contains(&seconds) {
        return Err(MomentError);
    }
    Ok(Moment(Timestamp::from_seconds(seconds)))
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Self, MomentError> {
        if let Ok(seconds) = text.parse() {
            return of_seconds(seconds);
        }
        // A `+` of an offset that was not percent-encoded arrives as a space.
        let moment = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).map_err(|_| MomentError)?;
        of_seconds(moment.unix_timestamp())?;
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        Ok(Self(Timestamp::from_millis(i64::try_from(millis).map_err(|_| MomentError)?)))
    }
}

/// The two forms of a point in time: parameters are always text, JSON may also hold a number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a point in time: RFC 3339 text or whole Unix seconds")]
enum Written {
    Seconds(i64),
    Text(String),
}

impl TryFrom<Written> for Moment {
    type Error = MomentError;

    fn try_from(written: Written) -> Result<Self, MomentError> {
        match written {
            Written::Seconds(seconds) => of_seconds(seconds),
            Written::Text(text) => text.parse(),
        }
    }
}

impl From<Timestamp> for Moment {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.0.millis()) * 1_000_000;
        // RFC 3339 ends with the year 9999; later times do not occur.
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let at = at.to_offset(UtcOffset::UTC);
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        let (hour, minute, second, milli) = (at.hour(), at.minute(), at.second(), at.millisecond());
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};
    use utoipa::{PartialSchema, ToSchema};

    use super::Moment;

    const EXAMPLE: &str = "2026-11-14T22:13:20.000Z";

    fn text() -> ObjectBuilder {
        let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format))
    }

    impl PartialSchema for Moment {
        fn schema() -> RefOr<Schema> {
            let description = "A point in time in UTC (RFC 3339), with milliseconds.";
            text().description(Some(description)).examples([EXAMPLE]).into()
        }
    }

    impl ToSchema for Moment {
        fn name() -> Cow<'static, str> {
            "Moment".into()
        }
    }

    /// A point in time in a request.
    #[derive(Debug)]
    pub enum MomentInput {}

    impl PartialSchema for MomentInput {
        fn schema() -> RefOr<Schema> {
            let seconds = ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(0))
                .maximum(Some(super::LAST_SECOND))
                .description(Some("Unix seconds"));
            let description = "A point in time: RFC 3339 text, or whole Unix seconds.";
            OneOfBuilder::new()
                .item(text())
                .item(seconds)
                .description(Some(description))
                .examples([serde_json::json!(EXAMPLE), serde_json::json!(1_700_000_000)])
                .into()
        }
    }

    impl ToSchema for MomentInput {
        fn name() -> Cow<'static, str> {
            "MomentInput".into()
        }
    }
}

#[cfg(feature = "schema")]
pub use schema::MomentInput;

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
        for text in [
            "",
            "yesterday",
            "2023-11-14",
            "1.5",
            "2023-11-14T25:00:00Z",
            "1700000000000",
            "-1",
            "253402300800",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(text.parse::<Moment>(), Err(MomentError), "{text}");
        }
    }

    #[test]
    fn a_written_moment_reads_back_unchanged() {
        for millis in [0, 1, 999, 1_700_000_000_123, 253_402_300_799_999] {
            assert_eq!(written(millis).parse(), Ok(Moment(Timestamp::from_millis(millis))));
        }
    }
}
