//! Finding the subscribers of events.
//!
//! Most events have few subscribers, and one query lists those of a whole batch ([`Store::subscribers_of`]). The
//! subscribers of other events are read page by page ([`Store::audience_of`] counts them, [`Store::fan_out`] makes their
//! deliveries), so that each statement reads a bounded number of rows.

use std::collections::{BTreeMap, HashMap};

use postrider_core::{Channels, EventType, ExpressionId, SubscriberId, TenantId, Timestamp};
use postrider_database::sql::{column, query_all};
use postrider_database::{Batch, Column, Dialect, Kind};
use sea_orm::{ConnectionTrait, Value};
use uuid::Uuid;

use super::index;
use crate::{Store, StoreError};

/// Up to how many subscribers the deliveries of an event are made together with it.
pub const FEW_SUBSCRIBERS: usize = 100;

/// How many subscriptions of each pattern one statement reads to count subscribers.
const COUNTED_AT_ONCE: usize = 5_000;

/// A subscriber that an event matches by type and channels. Its filter decides whether it gets the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// What its filter is known by. Of two filters with the same text it is the same.
    pub filter: Option<ExpressionId>,
}

/// The active subscribers that an event matches by type and channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// At most [`FEW_SUBSCRIBERS`], in the order of their creation.
    Few(Vec<Match>),
    /// More than that.
    Many(Crowd),
}

/// More subscribers than are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// How many.
    pub size: u32,
    /// The last of them, in the order of their ids.
    pub last: SubscriberId,
}

/// An event type with the channels of its events, and whose they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) event_type: &'a EventType,
    pub(crate) channels: Option<&'a Channels>,
}

/// Where subscriptions are looked up.
#[derive(Clone, Copy)]
pub(super) enum Table {
    /// Those of subscribers without channels.
    Plain,
    /// Those of subscribers with channels, by channel.
    Channels,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "subscriptions",
            Self::Channels => "channel_subscriptions",
        }
    }

    /// What else a row must fit, beside tenant and pattern.
    fn and_channel(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Channels => " AND channel = input.channel",
        }
    }

    /// What else a subscriber must fit. A program of the release before may have given `subscriptions` to a subscriber that
    /// has channels.
    fn and_kind(self) -> &'static str {
        match self {
            Self::Plain => " AND channels IS NULL",
            Self::Channels => "",
        }
    }
}

/// Joins each pattern with active subscribers that have it, at most one more than are few. Written so that PostgreSQL looks
/// up each pattern and each subscriber in an index, whatever plan it has cached: see ADR 14.
pub(super) fn some_active(table: Table) -> String {
    let (name, and_channel, and_kind) = (table.name(), table.and_channel(), table.and_kind());
    format!(
        "CROSS JOIN LATERAL ( \
            SELECT active.id, active.filter_id FROM ( \
                SELECT subscriber_id FROM {name} \
                WHERE tenant = input.tenant{and_channel} AND pattern = input.pattern OFFSET 0 \
            ) AS subscriptions CROSS JOIN LATERAL ( \
                SELECT id, filter_id FROM subscribers \
                WHERE id = subscriptions.subscriber_id AND active{and_kind} LIMIT 1 \
            ) AS active LIMIT {} \
        ) AS subscribers",
        FEW_SUBSCRIBERS + 1
    )
}

/// The same for SQLite.
fn some_active_on_sqlite(table: Table) -> String {
    let (name, and_channel, and_kind) = (table.name(), table.and_channel(), table.and_kind());
    format!(
        "CROSS JOIN subscribers ON subscribers.id IN ( \
            SELECT subscriber_id FROM {name} AS subscriptions \
            JOIN subscribers AS found ON found.id = subscriber_id AND found.active{and_kind} \
            WHERE subscriptions.tenant = input.tenant{and_channel} AND subscriptions.pattern = input.pattern LIMIT {} \
        )",
        FEW_SUBSCRIBERS + 1
    )
}

impl Store {
    /// Returns the active subscribers of each of these event types, in the order of their creation; `None` for a type
    /// that has more than [`FEW_SUBSCRIBERS`].
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn subscribers_of(
        &self,
        connection: &impl ConnectionTrait,
        event_types: &[(TenantId, EventType)],
    ) -> Result<Vec<Option<Vec<Match>>>, StoreError> {
        const PATTERN: &[Column] = &[
            Column::new("place", Kind::Int),
            Column::new("tenant", Kind::Text),
            Column::new("pattern", Kind::Text),
        ];
        let mut input = Batch::new(PATTERN);
        for (place, (tenant, event_type)) in (0_i32..).zip(event_types) {
            for pattern in event_type.matching_patterns() {
                input.push([place.into(), tenant.as_str().into(), pattern.as_str().into()]);
            }
        }
        few(connection, input, Table::Plain, event_types.len()).await
    }

    /// Returns the active subscribers that have channels, and share one with each of these events, in the order of their
    /// creation; `None` for an event that has more than [`FEW_SUBSCRIBERS`] of them. Such an event goes to them and to those
    /// of [`Store::subscribers_of`].
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn subscribers_in_channels(
        &self,
        connection: &impl ConnectionTrait,
        events: &[(TenantId, EventType, Channels)],
    ) -> Result<Vec<Option<Vec<Match>>>, StoreError> {
        const PATTERN: &[Column] = &[
            Column::new("place", Kind::Int),
            Column::new("tenant", Kind::Text),
            Column::new("channel", Kind::Text),
            Column::new("pattern", Kind::Text),
        ];
        let mut input = Batch::new(PATTERN);
        for (place, (tenant, event_type, channels)) in (0_i32..).zip(events) {
            for channel in channels.iter() {
                for pattern in event_type.matching_patterns() {
                    input.push([
                        place.into(),
                        tenant.as_str().into(),
                        channel.into(),
                        pattern.as_str().into(),
                    ]);
                }
            }
        }
        few(connection, input, Table::Channels, events.len()).await
    }

    /// Returns the active subscribers of an event type with these channels: all of them, or their exact number.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn audience_of(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        event_type: &EventType,
        channels: Option<&Channels>,
    ) -> Result<Audience, StoreError> {
        let asked = Asked { tenant, event_type, channels };
        let mut few = Vec::new();
        let mut crowd = Crowd { size: 0, last: SubscriberId::from_uuid(Uuid::nil()) };
        let mut range = Range::all();
        loop {
            let page = matching(connection, asked, range, None, COUNTED_AT_ONCE).await?;
            crowd.size = crowd.size.saturating_add(u32::try_from(page.matched.len()).unwrap_or(u32::MAX));
            if let Some(last) = page.matched.last() {
                crowd.last = last.subscriber;
            }
            let room = (FEW_SUBSCRIBERS + 1).saturating_sub(few.len());
            few.extend(page.matched.into_iter().take(room));
            let Some(next) = page.next else { break };
            range.after = next;
        }
        Ok(if few.len() <= FEW_SUBSCRIBERS { Audience::Few(few) } else { Audience::Many(crowd) })
    }
}

/// A range of subscribers, in the order of their ids.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// Those after this one,
    pub(crate) after: SubscriberId,
    /// up to this one.
    pub(crate) last: SubscriberId,
}

impl Range {
    fn all() -> Self {
        Self { after: SubscriberId::from_uuid(Uuid::nil()), last: SubscriberId::from_uuid(Uuid::max()) }
    }
}

/// Subscribers of a range, in the order of their ids.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) matched: Vec<Match>,
    /// After which subscriber the next page begins. `None` if this is the last.
    pub(crate) next: Option<SubscriberId>,
}

/// Runs the query for the active subscribers of each place of `input`; `None` for a place that has more than are few.
async fn few(
    connection: &impl ConnectionTrait,
    input: Batch,
    table: Table,
    places: usize,
) -> Result<Vec<Option<Vec<Match>>>, StoreError> {
    let joined = match Dialect::of(connection) {
        Dialect::Postgres => some_active(table),
        Dialect::Sqlite => some_active_on_sqlite(table),
    };
    // A subscriber may have both patterns `order.*` and `order.created`; DISTINCT finds it once.
    let sql = format!(
        "SELECT DISTINCT input.place, subscribers.id, subscribers.filter_id FROM input {joined} \
        ORDER BY input.place, subscribers.id"
    );
    let mut found = vec![Vec::new(); places];
    for row in input.query(connection, &sql, []).await? {
        if let Some(matched) = found.get_mut(index(column(&row, "place")?)) {
            let filter = column::<Option<Uuid>>(&row, "filter_id")?.map(ExpressionId::from_uuid);
            matched.push(Match { subscriber: SubscriberId::from_uuid(column(&row, "id")?), filter });
        }
    }
    Ok(found.into_iter().map(|found| (found.len() <= FEW_SUBSCRIBERS).then_some(found)).collect())
}

/// Returns up to `max` subscribers of an event type with these channels: the active ones and, with `since`, those that were
/// deactivated after that moment. Reads at most `max` subscriptions of each pattern, and of each in each channel, so a page
/// may have fewer although another follows.
pub(crate) async fn matching(
    connection: &impl ConnectionTrait,
    asked: Asked<'_>,
    range: Range,
    since: Option<Timestamp>,
    max: usize,
) -> Result<Page, StoreError> {
    let mut seen = read_subscriptions(connection, asked, None, range, since, max).await?;
    // A statement for each channel: SQLite does not take as many selects in one as ten channels could need.
    for channel in asked.channels.into_iter().flat_map(Channels::iter) {
        seen.extend(read_subscriptions(connection, asked, Some(channel), range, since, max).await?);
    }
    Ok(merge(&seen, max))
}

/// Reads at most `max` subscriptions of each pattern in a channel, or of subscribers without channels.
async fn read_subscriptions<'a>(
    connection: &impl ConnectionTrait,
    asked: Asked<'_>,
    channel: Option<&'a str>,
    range: Range,
    since: Option<Timestamp>,
    max: usize,
) -> Result<Vec<Seen<'a>>, StoreError> {
    let mut values: Vec<Value> = vec![
        asked.tenant.as_str().into(),
        range.after.uuid().into(),
        range.last.uuid().into(),
        i64::try_from(max).unwrap_or(i64::MAX).into(),
        since.map_or(i64::MAX, Timestamp::millis).into(),
        UNFILTERED.into(),
    ];
    let table = if channel.is_some() { Table::Channels } else { Table::Plain };
    let (name, and_kind) = (table.name(), table.and_kind());
    // The comparison of rows begins the scan, so that only the index of patterns is good, even if PostgreSQL has planned for
    // a small table. It would not end the scan there, nor begin it on SQLite.
    let (start, key) = match channel {
        None => ("tenant = $1 AND pattern = {pattern}", "pattern, subscriber_id"),
        Some(channel) => {
            values.push(channel.into());
            ("tenant = $1 AND channel = $7 AND pattern = {pattern}", "channel, pattern, subscriber_id")
        }
    };
    let begin = if channel.is_some() { "($7, {pattern}, $2)" } else { "({pattern}, $2)" };
    let within = match Dialect::of(connection) {
        Dialect::Postgres => format!("{start} AND ({key}) > {begin} AND subscriber_id <= $3 ORDER BY {key}"),
        Dialect::Sqlite => {
            format!("{start} AND subscriber_id > $2 AND subscriber_id <= $3 ORDER BY subscriber_id")
        }
    };
    let mut parts = Vec::new();
    for (place, pattern) in (0_i32..).zip(asked.event_type.matching_patterns()) {
        values.push(pattern.as_str().into());
        let within = within.replace("{pattern}", &format!("${}", values.len()));
        // A select of its own around each, because SQLite takes no ORDER BY within a UNION.
        parts.push(format!(
            "SELECT * FROM (SELECT {place} AS place, subscriber_id, ( \
                SELECT CASE WHEN (active OR deactivated_at > $5){and_kind} THEN coalesce(filter_id, $6) END FROM subscribers \
                WHERE subscribers.id = subscriptions.subscriber_id \
            ) AS wanted FROM {name} AS subscriptions WHERE {within} LIMIT $4) AS matching_{place}"
        ));
    }
    let mut seen = Vec::new();
    for row in query_all(connection, parts.join(" UNION ALL "), values).await? {
        let id = SubscriberId::from_uuid(column(&row, "subscriber_id")?);
        let found = column::<Option<Uuid>>(&row, "wanted")?;
        let filter = found.filter(|filter| *filter != UNFILTERED).map(ExpressionId::from_uuid);
        seen.push(Seen { place: (channel, column(&row, "place")?), id, wanted: found.is_some(), filter });
    }
    Ok(seen)
}

/// Stands for no filter where NULL stands for a subscriber that is not wanted.
const UNFILTERED: Uuid = Uuid::nil();

/// A subscription that was read.
struct Seen<'a> {
    /// Its channel, and the place of its pattern.
    place: (Option<&'a str>, i32),
    id: SubscriberId,
    wanted: bool,
    filter: Option<ExpressionId>,
}

/// Merges the subscriptions of several patterns, up to `max` of each, into one page.
fn merge(seen: &[Seen<'_>], max: usize) -> Page {
    let mut patterns: HashMap<_, (usize, SubscriberId)> = HashMap::new();
    for Seen { place, id, .. } in seen {
        let (count, last) = patterns.entry(*place).or_insert((0, *id));
        *count += 1;
        *last = (*last).max(*id);
    }
    // Beyond the last one read of a pattern that may have more, the others cannot be merged yet.
    let mut next = patterns.into_values().filter(|(count, _)| *count >= max).map(|(_, last)| last).min();
    let within = |id: &SubscriberId| next.is_none_or(|next| *id <= next);
    // By subscriber: its filter may have been changed between two statements.
    let wanted =
        seen.iter().filter(|seen| seen.wanted && within(&seen.id)).map(|seen| (seen.id, seen.filter));
    let wanted: BTreeMap<_, _> = wanted.collect();
    let more = wanted.len() > max;
    let matched = wanted.into_iter().map(|(subscriber, filter)| Match { subscriber, filter });
    let matched: Vec<_> = matched.take(max).collect();
    if more {
        next = matched.last().map(|matched| matched.subscriber);
    }
    Page { matched, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> SubscriberId {
        SubscriberId::from_uuid(Uuid::from_u128(number))
    }

    fn plain(number: u128) -> Match {
        Match { subscriber: id(number), filter: None }
    }

    fn seen(rows: &[(i32, u128, bool)]) -> Vec<Seen<'static>> {
        rows.iter()
            .map(|&(place, number, wanted)| Seen {
                place: (None, place),
                id: id(number),
                wanted,
                filter: None,
            })
            .collect()
    }

    #[test]
    fn a_page_ends_where_a_pattern_may_have_more() {
        let page = merge(&seen(&[(0, 1, true), (0, 3, true), (1, 2, true), (1, 9, true)]), 2);
        assert_eq!(page, Page { matched: vec![plain(1), plain(2)], next: Some(id(2)) });
        let page = merge(&seen(&[(0, 1, true), (0, 3, true), (1, 2, true)]), 3);
        assert_eq!(page, Page { matched: vec![plain(1), plain(2), plain(3)], next: None });
    }

    #[test]
    fn a_subscriber_of_two_patterns_is_found_once() {
        let page = merge(&seen(&[(0, 1, true), (1, 1, true), (1, 2, true)]), 3);
        assert_eq!(page, Page { matched: vec![plain(1), plain(2)], next: None });
    }

    #[test]
    fn inactive_subscribers_are_passed_over() {
        let page = merge(&seen(&[(0, 1, false), (0, 2, false)]), 2);
        assert_eq!(page, Page { matched: Vec::new(), next: Some(id(2)) });
    }
}
