//! Reading rows of hand-written statements.

use postrider_core::delivery::{DeadReason, DeliveryStatus};
use postrider_core::{ErrorKind, TargetUrl, Timestamp};
use postrider_database::DatabaseError;
use sea_orm::QueryResult;

use crate::StoreError;

/// A column's value.
pub(crate) fn column<T: sea_orm::TryGetable>(row: &QueryResult, name: &str) -> Result<T, StoreError> {
    Ok(row.try_get("", name)?)
}

/// A value from its text.
pub(crate) fn parse<T: std::str::FromStr>(
    text: &str,
    table: &'static str,
    name: &'static str,
) -> Result<T, StoreError>
where
    T::Err: ToString,
{
    text.parse().map_err(|error: T::Err| DatabaseError::inconsistent(table, name, &error).into())
}

/// A count that is never negative.
pub(crate) fn unsigned(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

/// A count as the tables hold it.
pub(crate) fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(crate) fn status(code: i16) -> Result<DeliveryStatus, StoreError> {
    DeliveryStatus::from_code(code).ok_or_else(|| {
        DatabaseError::inconsistent("deliveries", "status", &format!("{code} is no status")).into()
    })
}

pub(crate) fn dead_reason(code: Option<i16>) -> Option<DeadReason> {
    code.and_then(DeadReason::from_code)
}

pub(crate) fn error_kind(code: Option<i16>) -> Option<ErrorKind> {
    code.and_then(ErrorKind::from_code)
}

/// An HTTP status; none if it cannot be one.
pub(crate) fn response_status(code: Option<i16>) -> Option<u16> {
    code.and_then(|code| u16::try_from(code).ok())
}

/// An HTTP status as the tables hold it.
pub(crate) fn stored_status(code: Option<u16>) -> Option<i16> {
    code.and_then(|code| i16::try_from(code).ok())
}

pub(crate) fn timestamp(millis: Option<i64>) -> Option<Timestamp> {
    millis.map(Timestamp::from_millis)
}

pub(crate) fn target(text: &str) -> Result<TargetUrl, StoreError> {
    TargetUrl::parse(text).map_err(|error| DatabaseError::inconsistent("subscribers", "url", &error).into())
}
