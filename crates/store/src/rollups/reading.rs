//! Reading roll-ups.

use postrider_core::{SubscriberId, TenantId, Timestamp};
use postrider_database::Database;
use postrider_database::DatabaseError;
use postrider_database::sql::{column, query_all};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::cells::{ALL_EVENT_TYPES, ALL_SUBSCRIBERS, Content, ROW};
use super::clock::{DAY, HOUR, MINUTE, minute, next_row, start_of_row};
use super::counted::Counted;
use super::deltas::unpack;
use super::span::Span;
use crate::StoreError;

/// How finely statistics are stored, which depends on what they select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// All of a tenant, or one event type: by the minute for 2 days, by the hour for 60 days, by the day for 400 days.
    Fine,
    /// One subscriber: by the minute for 14 days, by the day for 400 days.
    Subscriber,
    /// One event type of one subscriber: by the day for 400 days.
    SubscriberAndEventType,
}

impl Detail {
    /// The detail of what such a filter selects.
    pub const fn of(by_subscriber: bool, by_event_type: bool) -> Self {
        match (by_subscriber, by_event_type) {
            (false, _) => Self::Fine,
            (true, false) => Self::Subscriber,
            (true, true) => Self::SubscriberAndEventType,
        }
    }

    /// The shortest step, in minutes, in which rows of this age are promised to be stored. `None` if all that is stored is
    /// their part in the sum of all time.
    pub(crate) const fn finest(self, age: i64) -> Option<i64> {
        match self {
            Self::Fine if age <= 2 * DAY => Some(MINUTE),
            Self::Fine if age <= 60 * DAY => Some(HOUR),
            Self::Subscriber if age <= 14 * DAY => Some(MINUTE),
            _ if age <= 400 * DAY => Some(DAY),
            _ => None,
        }
    }
}

/// Selects roll-ups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) tenant: &'a TenantId,
    /// `None` selects all subscribers.
    pub(crate) subscriber: Option<SubscriberId>,
    /// `None` selects all event types.
    pub(crate) event_type: Option<&'a str>,
}

impl Selection<'_> {
    const fn detail(&self) -> Detail {
        Detail::of(self.subscriber.is_some(), self.event_type.is_some())
    }
}

/// Rows of one span that begin from the minute `from` on and before the minute `to`; the greatest minute is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    span: Span,
    from: i64,
    to: i64,
}

/// Reads what was counted from the minute `from` until the minute `to`, in parts of at most `step` minutes. Both must be at
/// multiples of the step, and the step must not be finer than what is stored.
pub(crate) async fn steps(
    database: &Database,
    selection: Selection<'_>,
    step: i64,
    (from, to): (i64, i64),
) -> Result<Vec<(i64, Counted)>, StoreError> {
    // The longest that divide the step are the fewest.
    let span = match selection.detail() {
        _ if step % DAY == 0 => Span::Day,
        Detail::Subscriber => Span::SubscriberHour,
        _ if step % HOUR == 0 => Span::Hour,
        _ => Span::Minute,
    };
    read(database, selection, &[Range { span, from: span.start_of(from), to }], (from, to)).await
}

/// Reads what was counted since a moment, or ever; from the beginning of the shortest row that contains the moment.
pub(crate) async fn since(
    database: &Database,
    selection: Selection<'_>,
    since: Option<Timestamp>,
    now: Timestamp,
) -> Result<Vec<(i64, Counted)>, StoreError> {
    let from = since.and_then(|since| first_minute(selection.detail(), minute(since), minute(now)));
    let ranges = ranges(selection.detail(), from);
    read(database, selection, &ranges, (from.unwrap_or(i64::MIN), i64::MAX)).await
}

/// The first minute of the shortest row that contains the minute `since`. `None` if it is the row of all that is past.
fn first_minute(detail: Detail, since: i64, now: i64) -> Option<i64> {
    detail.finest(now.saturating_sub(since)).map(|width| start_of_row(since, width))
}

/// The rows since the minute `from`, or all: those of minutes until the next hour, those of hours until the next day, and
/// those of days.
fn ranges(detail: Detail, from: Option<i64>) -> Vec<Range> {
    let Some(from) = from else {
        return vec![
            Range { span: Span::Past, from: i64::MIN, to: i64::MAX },
            Range { span: Span::Day, from: i64::MIN, to: i64::MAX },
        ];
    };
    let (hour, day) = (next_row(from, HOUR), next_row(from, DAY));
    let mut ranges = match detail {
        Detail::Fine => vec![
            Range { span: Span::Minute, from, to: hour },
            Range { span: Span::Hour, from: hour, to: day },
        ],
        Detail::Subscriber => {
            vec![Range { span: Span::SubscriberHour, from: start_of_row(from, HOUR), to: day }]
        }
        Detail::SubscriberAndEventType => Vec::new(),
    };
    ranges.push(Range { span: Span::Day, from: day, to: i64::MAX });
    ranges.retain(|range| range.from < range.to);
    ranges
}

/// Reads rows and the deltas that have not been folded, each part with its first minute.
///
/// One statement sees one state of the database, so it finds no delta both folded and not folded.
async fn read(
    database: &Database,
    selection: Selection<'_>,
    ranges: &[Range],
    (from, to): (i64, i64),
) -> Result<Vec<(i64, Counted)>, StoreError> {
    let subscriber = selection.subscriber.map_or(ALL_SUBSCRIBERS, SubscriberId::uuid);
    let event_type = selection.event_type.unwrap_or(ALL_EVENT_TYPES);
    let mut values: Vec<Value> = vec![selection.tenant.as_str().into(), subscriber.into(), event_type.into()];
    let mut selects = Vec::new();
    for range in ranges {
        let (span, from, to) = (values.len() + 1, values.len() + 2, values.len() + 3);
        let last = if range.to == i64::MAX { range.to } else { range.to - 1 };
        values.extend([range.span.code().into(), range.from.into(), last.into()]);
        selects.push(format!(
            "SELECT {ROW} FROM rollups WHERE tenant = $1 AND subscriber_id = $2 AND event_type = $3 \
                AND span = ${span} AND start >= ${from} AND start <= ${to}"
        ));
    }
    let deltas = "SELECT tenant, $2, '', CAST(-1 AS smallint), seq, 0, 0, 0, 0, 0, 0, counts, NULL \
        FROM rollup_deltas WHERE tenant = $1";
    selects.push(deltas.to_owned());
    let sql = selects.join(" UNION ALL ");
    let mut parts = Vec::new();
    for row in query_all(&database.reads(), sql, values).await? {
        let code: i16 = column(&row, "span")?;
        match Span::of(code) {
            Some(span) => add_row(&row, span, (from, to), &mut parts)?,
            None => add_delta(&row, selection, (from, to), &mut parts)?,
        }
    }
    Ok(parts)
}

fn add_row(
    row: &QueryResult,
    span: Span,
    (from, to): (i64, i64),
    parts: &mut Vec<(i64, Counted)>,
) -> Result<(), StoreError> {
    let start: i64 = column(row, "start")?;
    let content = Content::read(row)?.ok_or_else(|| unreadable("rollups", "start", start))?;
    for (place, counted) in content.into_parts() {
        let minute = start.saturating_add(place);
        if span == Span::Past || (from..to).contains(&minute) {
            parts.push((minute, counted));
        }
    }
    Ok(())
}

fn add_delta(
    row: &QueryResult,
    selection: Selection<'_>,
    (from, to): (i64, i64),
    parts: &mut Vec<(i64, Counted)>,
) -> Result<(), StoreError> {
    let unreadable = || -> Result<StoreError, StoreError> {
        Ok(unreadable("rollup_deltas", "seq", column(row, "start")?))
    };
    let bytes: Vec<u8> = column(row, "counts")?;
    let Some(entries) = unpack(&bytes) else { return Err(unreadable()?) };
    let subscriber: Option<Uuid> = selection.subscriber.map(SubscriberId::uuid);
    for entry in entries {
        if subscriber.is_none_or(|subscriber| subscriber == entry.subscriber)
            && selection.event_type.is_none_or(|event_type| event_type == entry.event_type)
            && (from..to).contains(&entry.minute)
        {
            let Some(counted) = entry.counted.decode() else { return Err(unreadable()?) };
            parts.push((entry.minute, counted));
        }
    }
    Ok(())
}

fn unreadable(table: &'static str, by: &str, number: i64) -> StoreError {
    let row = format!("({by} {number})");
    DatabaseError::inconsistent(table, "counts", row, "not the encoding of counts").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1000 * DAY + 13 * HOUR + 30;

    #[test]
    fn the_first_minute_is_that_of_the_shortest_row_that_is_stored() {
        for (detail, since, first) in [
            (Detail::Fine, NOW, Some(NOW)),
            (Detail::Fine, NOW - 2 * DAY, Some(NOW - 2 * DAY)),
            (Detail::Fine, NOW - 2 * DAY - 1, Some(NOW - 2 * DAY - 30)),
            (Detail::Fine, NOW - 60 * DAY - 1, Some(940 * DAY)),
            (Detail::Fine, NOW - 401 * DAY, None),
            (Detail::Subscriber, NOW - 14 * DAY, Some(NOW - 14 * DAY)),
            (Detail::Subscriber, NOW - 15 * DAY, Some(985 * DAY)),
            (Detail::SubscriberAndEventType, NOW, Some(1000 * DAY)),
            (Detail::SubscriberAndEventType, NOW - DAY, Some(999 * DAY)),
            (Detail::Fine, i64::MIN, None),
            (Detail::Fine, i64::MAX, Some(i64::MAX)),
        ] {
            assert_eq!(first_minute(detail, since, NOW), first, "{detail:?} {since}");
        }
    }

    #[test]
    fn ranges_cover_each_minute_once() {
        for (detail, from) in [
            (Detail::Fine, NOW),
            (Detail::Fine, 1000 * DAY + HOUR),
            (Detail::Fine, 1000 * DAY),
            (Detail::Fine, -1),
            (Detail::Subscriber, NOW),
            (Detail::Subscriber, 1000 * DAY),
            (Detail::SubscriberAndEventType, 1000 * DAY),
        ] {
            let ranges = ranges(detail, Some(from));
            let covered = |minute: i64| {
                let of = |range: &&Range| (range.from..range.to).contains(&range.span.start_of(minute));
                ranges.iter().filter(of).count()
            };
            for minute in (from..from + 3 * DAY).step_by(7) {
                assert_eq!(covered(minute), 1, "{detail:?} from {from}: {minute} in {ranges:?}");
            }
            // The row before the first one, unless it knows its minutes.
            if detail != Detail::Subscriber {
                assert_eq!(covered(from - 1), 0, "{detail:?} from {from}: {ranges:?}");
            }
        }
    }
}
