//! Deliveries: one event on its way to one subscriber.

use std::ops::RangeInclusive;

use postrider_core::{
    DeadReason, DeliveryId, DeliveryStatus, ErrorKind, EventId, EventPattern, EventType, JobId, SubscriberId,
    SubscriberRef, id,
};
use serde::{Deserialize, Serialize};

use crate::list::Count;
use crate::{Cursor, Limit, List, Moment};

/// A delivery: one event on its way to one subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Delivery))]
pub struct DeliveryView {
    /// The delivery's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "dlv_01h455vb4pex5vsknk084sn02q"))]
    pub id: DeliveryId,
    /// The event's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "evt_01h455vb4pex5vsknk084sn02q"))]
    pub event_id: EventId,
    /// The event type.
    #[serde(rename = "event")]
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "order.created"))]
    pub event_type: EventType,
    /// The subscriber's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub subscriber_id: SubscriberId,
    /// The status.
    pub status: DeliveryStatus,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The job that works, or worked, on the delivery.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, required))]
    pub job_id: Option<JobId>,
    /// When the next attempt is due; null before the first and after the last.
    #[cfg_attr(feature = "schema", schema(required))]
    pub next_attempt_at: Option<Moment>,
    /// The HTTP status of the last attempt; null if there was no response.
    #[cfg_attr(feature = "schema", schema(required))]
    pub response_code: Option<u16>,
    /// Why the last attempt failed; null if it succeeded.
    #[cfg_attr(feature = "schema", schema(required))]
    pub error_kind: Option<ErrorKind>,
    /// Why the delivery is dead; null if it is not.
    #[cfg_attr(feature = "schema", schema(required))]
    pub dead_reason: Option<DeadReason>,
    /// When the delivery was created.
    pub created_at: Moment,
    /// When the delivery ended; null while it is pending.
    #[cfg_attr(feature = "schema", schema(required))]
    pub ended_at: Option<Moment>,
}

/// A page of deliveries.
pub type DeliveryList = List<DeliveryView>;

/// Selects deliveries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::IntoParams), into_params(parameter_in = Query))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct DeliveriesQuery {
    /// Only deliveries to this subscriber: its id or its uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub subscriber_id: Option<SubscriberRef>,
    /// Only deliveries of events of this type, or of types that match this pattern, such as `order.*`.
    #[serde(rename = "event", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub event_type: Option<EventPattern>,
    /// Only deliveries of this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub event_id: Option<EventId>,
    /// Only deliveries with this status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
    /// Only deliveries whose last response had this HTTP status, 100 to 599, or one of this class, `1xx` to `5xx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>, pattern = "^[1-5]([0-9][0-9]|xx)$"))]
    pub response_code: Option<ResponseCode>,
    /// Only deliveries whose last attempt failed for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<ErrorKind>,
    /// Only deliveries that are dead for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_reason: Option<DeadReason>,
    /// Only deliveries with at least so many attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u32>))]
    pub min_attempts: Option<Count>,
    /// Only deliveries with at most so many attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u32>))]
    pub max_attempts: Option<Count>,
    /// Only deliveries created at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<MomentInput>))]
    pub since: Option<Moment>,
    /// Only deliveries created before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<MomentInput>))]
    pub until: Option<Moment>,
    /// The number of items: 1 to 250. Default: 50.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<u16>, minimum = 1, maximum = 250))]
    pub limit: Option<Limit>,
    /// The `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", param(value_type = Option<String>))]
    pub cursor: Option<Cursor<id::Delivery>>,
}

/// An HTTP status as a parameter, 100 to 599, or a class of them, `1xx` to `5xx`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResponseCode(RangeInclusive<u16>);

/// The text is neither an HTTP status nor a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a response code is 100 to 599, or a class from `1xx` to `5xx`")]
pub struct ResponseCodeError;

impl ResponseCode {
    /// The HTTP status `code`.
    ///
    /// # Errors
    /// If `code` is not 100 to 599.
    pub fn new(code: u16) -> Result<Self, ResponseCodeError> {
        if (100..=599).contains(&code) { Ok(Self(code..=code)) } else { Err(ResponseCodeError) }
    }

    /// These HTTP statuses, if they are one, or all of a class.
    pub fn of(codes: &RangeInclusive<u16>) -> Option<Self> {
        let one = Self::new(*codes.start()).ok();
        let class = Self::class(codes.start() / 100).ok();
        [one, class].into_iter().flatten().find(|code| code.0 == *codes)
    }

    /// All HTTP statuses that begin with this digit.
    ///
    /// # Errors
    /// If `digit` is not 1 to 5.
    pub fn class(digit: u16) -> Result<Self, ResponseCodeError> {
        if (1..=5).contains(&digit) {
            Ok(Self(digit * 100..=digit * 100 + 99))
        } else {
            Err(ResponseCodeError)
        }
    }

    /// The statuses.
    pub fn codes(&self) -> RangeInclusive<u16> {
        self.0.clone()
    }
}

impl TryFrom<String> for ResponseCode {
    type Error = ResponseCodeError;

    fn try_from(text: String) -> Result<Self, ResponseCodeError> {
        let number = |text: &str| text.parse().map_err(|_| ResponseCodeError);
        match text.strip_suffix("xx") {
            Some(digit) => Self::class(number(digit)?),
            None => Self::new(number(&text)?),
        }
    }
}

impl From<ResponseCode> for String {
    fn from(ResponseCode(codes): ResponseCode) -> Self {
        if codes.start() == codes.end() {
            codes.start().to_string()
        } else {
            format!("{}xx", codes.start() / 100)
        }
    }
}

#[cfg(feature = "schema")]
use crate::moment::MomentInput;
