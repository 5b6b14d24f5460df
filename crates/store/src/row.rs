//! Between rows and domain types: stored codes, and the values of columns.

use std::fmt::Display;
use std::time::Duration;

use postrider_core::{Channels, DeadReason, DeliveryStatus, ErrorKind, Metadata, TargetUrl, Timestamp};
use postrider_database::DatabaseError;

use crate::StoreError;

/// The codes of `deliveries.status`, for use in statements.
pub(crate) const PENDING: i16 = DeliveryStatus::Pending.code();
pub(crate) const SUCCEEDED: i16 = DeliveryStatus::Succeeded.code();
pub(crate) const DEAD: i16 = DeliveryStatus::Dead.code();
pub(crate) const CANCELLED: i16 = DeliveryStatus::Cancelled.code();

/// Parses a stored text. An error names the table, the column and `row`, the row's id.
pub(crate) fn parse<T: std::str::FromStr>(
    text: &str,
    table: &'static str,
    column: &'static str,
    row: impl Display,
) -> Result<T, StoreError>
where
    T::Err: ToString,
{
    text.parse()
        .map_err(|error: T::Err| DatabaseError::inconsistent(table, column, row, error.to_string()).into())
}

/// Metadata in its stored form, JSON; `None` if it is empty.
pub(crate) fn metadata_text(metadata: &Metadata) -> Option<String> {
    // A map of strings always has a JSON form.
    (!metadata.is_empty()).then(|| serde_json::to_string(metadata).unwrap_or_else(|_| "{}".to_owned()))
}

/// Reads metadata from its stored form.
pub(crate) fn read_metadata(
    text: Option<&str>,
    table: &'static str,
    row: impl Display,
) -> Result<Metadata, StoreError> {
    let Some(text) = text else { return Ok(Metadata::default()) };
    serde_json::from_str(text)
        .map_err(|error| DatabaseError::inconsistent(table, "metadata", row, error.to_string()).into())
}

/// Reads the channels of a subscriber or an event.
pub(crate) fn read_channels(
    text: Option<&str>,
    table: &'static str,
    row: impl Display,
) -> Result<Option<Channels>, StoreError> {
    text.map(|text| parse(text, table, "channels", row)).transpose()
}

/// Reads a subscriber's URL.
pub(crate) fn target(text: &str, subscriber: impl Display) -> Result<TargetUrl, StoreError> {
    TargetUrl::parse(text)
        .map_err(|error| DatabaseError::inconsistent("subscribers", "url", subscriber, error).into())
}

/// Reads a delivery's status.
pub(crate) fn status(code: i16, delivery: impl Display) -> Result<DeliveryStatus, StoreError> {
    DeliveryStatus::from_code(code).ok_or_else(|| {
        let reason = format!("{code} is not the code of a status");
        DatabaseError::inconsistent("deliveries", "status", delivery, reason).into()
    })
}

/// Reads why a delivery is dead. `None` if it is not, or for a reason that a newer version has stored.
pub(crate) fn dead_reason(code: Option<i16>) -> Option<DeadReason> {
    code.and_then(DeadReason::from_code)
}

/// Reads why an attempt failed; `None` if it did not. A kind that a newer version has stored reads as
/// [`ErrorKind::Internal`], as statistics count it: the attempt failed all the same.
pub(crate) fn error_kind(code: Option<i16>) -> Option<ErrorKind> {
    code.map(|code| ErrorKind::from_code(code).unwrap_or(ErrorKind::Internal))
}

/// Reads an HTTP status.
pub(crate) fn response_status(code: Option<i16>) -> Option<u16> {
    code.and_then(|code| u16::try_from(code).ok())
}

/// An HTTP status for its `smallint` column.
pub(crate) fn stored_status(code: Option<u16>) -> Option<i16> {
    code.and_then(|code| i16::try_from(code).ok())
}

/// A header's value as text. Each byte becomes the character with that number (ISO 8859-1, the original encoding of headers),
/// so that no byte is lost.
pub(crate) fn characters(value: &[u8]) -> String {
    value.iter().map(|&byte| char::from(byte)).collect()
}

/// Reads a moment that may be missing.
pub(crate) fn timestamp(millis: Option<i64>) -> Option<Timestamp> {
    millis.map(Timestamp::from_millis)
}

/// A duration in whole milliseconds, to be added to the database's time. It is bounded so that the sum cannot overflow.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Reads a count from its `integer` column.
pub(crate) fn unsigned(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// A count for its `integer` column.
pub(crate) fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
