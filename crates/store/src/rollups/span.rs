//! The spans of time that roll-up rows cover, and how long they are stored.

use super::clock::{DAY, HOUR, MINUTE, start_of_row};

/// The span of a roll-up row, which also says what its row contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Span {
    /// All days that were removed. `start` is the last of them, or the greatest number in the rows of a tenant.
    Past,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day of UTC.
    Day,
    /// An hour of one subscriber, with what each of its minutes counted.
    SubscriberHour,
}

impl Span {
    /// The number in the column `span`.
    pub(crate) const fn code(self) -> i16 {
        match self {
            Self::Past => 0,
            Self::Minute => 1,
            Self::Hour => 2,
            Self::Day => 3,
            Self::SubscriberHour => 4,
        }
    }

    /// The span with this number.
    pub(super) fn of(code: i16) -> Option<Self> {
        let all = [Self::Past, Self::Minute, Self::Hour, Self::Day, Self::SubscriberHour];
        all.into_iter().find(|span| span.code() == code)
    }

    /// The first minute of the row that contains `minute`.
    pub(super) const fn start_of(self, minute: i64) -> i64 {
        match self {
            Self::Past | Self::Minute => start_of_row(minute, MINUTE),
            Self::Hour | Self::SubscriberHour => start_of_row(minute, HOUR),
            Self::Day => start_of_row(minute, DAY),
        }
    }

    /// How long rows are stored, in minutes. Readers are promised a day or two less ([`super::reading::Detail`]), so that
    /// neither clock differences nor rounding makes them miss a row.
    pub(super) const fn retention(self) -> i64 {
        match self {
            Self::Minute => 3 * DAY,
            Self::SubscriberHour => 16 * DAY,
            Self::Hour => 62 * DAY,
            Self::Day => 402 * DAY,
            Self::Past => 802 * DAY,
        }
    }
}
