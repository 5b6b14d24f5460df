//! Finding the subscribers of events.
//!
//! Most events have few subscribers, and one query lists those of a whole batch ([`Store::subscribers_of`]). The
//! subscribers of other events are read page by page ([`Store::audience_of`] counts them, [`Store::fan_out`] makes their
//! deliveries), so that each statement reads a bounded number of rows.

use std::collections::{BTreeSet, HashMap};

use postrider_core::{EventType, SubscriberId, TenantId, Timestamp};
use postrider_database::sql::{column, query_all};
use postrider_database::{Batch, Column, Dialect, Guarded, Kind};
use sea_orm::{ConnectionTrait, Value};
use uuid::Uuid;

use super::index;
use crate::{Store, StoreError};

/// Up to how many subscribers the deliveries of an event are made together with it.
pub const FEW_SUBSCRIBERS: usize = 100;

/// How many subscriptions of each pattern one statement reads to count subscribers.
const COUNTED_AT_ONCE: usize = 5_000;

/// The active subscribers of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// At most [`FEW_SUBSCRIBERS`], in the order of their creation.
    Few(Vec<SubscriberId>),
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

/// Joins each pattern with active subscribers that have it, at most one more than are few. Written so that PostgreSQL looks
/// up each pattern and each subscriber in an index, whatever plan it has cached: see ADR 14.
fn some_active() -> String {
    format!(
        "CROSS JOIN LATERAL ( \
            SELECT active.id FROM ( \
                SELECT subscriber_id FROM subscriptions \
                WHERE tenant = input.tenant AND pattern = input.pattern OFFSET 0 \
            ) AS subscriptions CROSS JOIN LATERAL ( \
                SELECT id FROM subscribers WHERE id = subscriptions.subscriber_id AND active LIMIT 1 \
            ) AS active LIMIT {} \
        ) AS subscribers",
        FEW_SUBSCRIBERS + 1
    )
}

/// The same for SQLite.
fn some_active_on_sqlite() -> String {
    format!(
        "CROSS JOIN subscribers ON subscribers.id IN ( \
            SELECT subscriber_id FROM subscriptions JOIN subscribers AS found ON found.id = subscriber_id AND found.active \
            WHERE subscriptions.tenant = input.tenant AND subscriptions.pattern = input.pattern LIMIT {} \
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
    ) -> Result<Vec<Option<Vec<SubscriberId>>>, StoreError> {
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
        let joined = match Dialect::of(connection) {
            Dialect::Postgres => some_active(),
            Dialect::Sqlite => some_active_on_sqlite(),
        };
        // A subscriber may have both patterns `order.*` and `order.created`; DISTINCT finds it once.
        let sql = format!(
            "SELECT DISTINCT input.place, subscribers.id FROM input {joined} ORDER BY input.place, subscribers.id"
        );
        let mut found = vec![Vec::new(); event_types.len()];
        for row in input.query(connection, &sql, []).await? {
            if let Some(subscribers) = found.get_mut(index(column(&row, "place")?)) {
                subscribers.push(SubscriberId::from_uuid(column(&row, "id")?));
            }
        }
        Ok(found.into_iter().map(|found| (found.len() <= FEW_SUBSCRIBERS).then_some(found)).collect())
    }

    /// Returns the active subscribers of an event type: all of them, or their exact number.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn audience_of(
        &self,
        connection: &impl ConnectionTrait,
        tenant: &TenantId,
        event_type: &EventType,
    ) -> Result<Audience, StoreError> {
        let mut few = Vec::new();
        let mut crowd = Crowd { size: 0, last: SubscriberId::from_uuid(Uuid::nil()) };
        let mut range = Range::all();
        loop {
            let page = matching(connection, tenant, event_type, range, None, COUNTED_AT_ONCE).await?;
            crowd.size = crowd.size.saturating_add(u32::try_from(page.subscribers.len()).unwrap_or(u32::MAX));
            if let Some(last) = page.subscribers.last() {
                crowd.last = *last;
            }
            let room = (FEW_SUBSCRIBERS + 1).saturating_sub(few.len());
            few.extend(page.subscribers.into_iter().take(room));
            let Some(next) = page.next else { break };
            range.after = next;
        }
        Ok(if few.len() <= FEW_SUBSCRIBERS { Audience::Few(few) } else { Audience::Many(crowd) })
    }

    /// Makes `guarded` write only if these event types still have the active subscribers that [`Store::subscribers_of`]
    /// has found for each: fewer than [`FEW_SUBSCRIBERS`].
    pub fn expect_subscribers(
        &self,
        event_types: &[(TenantId, EventType)],
        found: &[Vec<SubscriberId>],
        guarded: &mut Guarded,
    ) {
        const PATTERN: &[Column] = &[
            Column::new("place", Kind::Int),
            Column::new("tenant", Kind::Text),
            Column::new("pattern", Kind::Text),
            Column::new("found", Kind::Text),
        ];
        let mut input = Batch::new(PATTERN);
        for (place, ((tenant, event_type), found)) in (0_i32..).zip(event_types.iter().zip(found)) {
            let mut ids: Vec<String> = found.iter().map(|id| id.uuid().to_string()).collect();
            ids.sort_unstable();
            let ids = ids.join(",");
            for pattern in event_type.matching_patterns() {
                input.push([
                    place.into(),
                    tenant.as_str().into(),
                    pattern.as_str().into(),
                    ids.as_str().into(),
                ]);
            }
        }
        let active = some_active();
        let condition = format!(
            "NOT EXISTS (SELECT 1 FROM (SELECT DISTINCT place, found FROM input) AS event WHERE found <> coalesce(( \
                SELECT string_agg( \
                    DISTINCT subscribers.id::text COLLATE \"C\", ',' ORDER BY subscribers.id::text COLLATE \"C\") \
                FROM input {active} WHERE input.place = event.place \
            ), ''))"
        );
        guarded.expect(input, condition);
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
    pub(crate) subscribers: Vec<SubscriberId>,
    /// After which subscriber the next page begins. `None` if this is the last.
    pub(crate) next: Option<SubscriberId>,
}

/// Returns up to `max` subscribers of an event type: the active ones and, with `since`, those that were deactivated after
/// that moment. Reads at most `max` subscriptions of each pattern, so a page may have fewer although another follows.
pub(crate) async fn matching(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    event_type: &EventType,
    range: Range,
    since: Option<Timestamp>,
    max: usize,
) -> Result<Page, StoreError> {
    let mut values: Vec<Value> = vec![
        tenant.as_str().into(),
        range.after.uuid().into(),
        range.last.uuid().into(),
        i64::try_from(max).unwrap_or(i64::MAX).into(),
        since.map_or(i64::MAX, Timestamp::millis).into(),
    ];
    // The comparison of rows begins the scan, so that only the index of patterns is good, even if PostgreSQL has planned for
    // a small table. It would not end the scan there, nor begin it on SQLite.
    let within = match Dialect::of(connection) {
        Dialect::Postgres => {
            "tenant = $1 AND pattern = {pattern} AND (pattern, subscriber_id) > ({pattern}, $2) \
            AND subscriber_id <= $3 ORDER BY pattern, subscriber_id"
        }
        Dialect::Sqlite => {
            "tenant = $1 AND pattern = {pattern} AND subscriber_id > $2 AND subscriber_id <= $3 \
            ORDER BY subscriber_id"
        }
    };
    let mut parts = Vec::new();
    for (place, pattern) in (0_i32..).zip(event_type.matching_patterns()) {
        values.push(pattern.as_str().into());
        let within = within.replace("{pattern}", &format!("${}", values.len()));
        // A select of its own around each, because SQLite takes no ORDER BY within a UNION.
        parts.push(format!(
            "SELECT * FROM (SELECT {place} AS place, subscriber_id, ( \
                SELECT CASE WHEN active OR deactivated_at > $5 THEN 1 ELSE 0 END FROM subscribers \
                WHERE subscribers.id = subscriptions.subscriber_id \
            ) AS wanted FROM subscriptions WHERE {within} LIMIT $4) AS matching_{place}"
        ));
    }
    let mut seen = Vec::new();
    for row in query_all(connection, parts.join(" UNION ALL "), values).await? {
        let id = SubscriberId::from_uuid(column(&row, "subscriber_id")?);
        let wanted = column::<Option<i32>>(&row, "wanted")? == Some(1);
        seen.push(Seen { place: column(&row, "place")?, id, wanted });
    }
    Ok(merge(&seen, max))
}

/// A subscription that was read.
struct Seen {
    /// The place of its pattern.
    place: i32,
    id: SubscriberId,
    wanted: bool,
}

/// Merges the subscriptions of several patterns, up to `max` of each, into one page.
fn merge(seen: &[Seen], max: usize) -> Page {
    let mut patterns: HashMap<i32, (usize, SubscriberId)> = HashMap::new();
    for Seen { place, id, .. } in seen {
        let (count, last) = patterns.entry(*place).or_insert((0, *id));
        *count += 1;
        *last = (*last).max(*id);
    }
    // Beyond the last one read of a pattern that may have more, the others cannot be merged yet.
    let mut next = patterns.into_values().filter(|(count, _)| *count >= max).map(|(_, last)| last).min();
    let within = |id: &SubscriberId| next.is_none_or(|next| *id <= next);
    let wanted: BTreeSet<_> =
        seen.iter().filter(|seen| seen.wanted && within(&seen.id)).map(|seen| seen.id).collect();
    let more = wanted.len() > max;
    let subscribers: Vec<_> = wanted.into_iter().take(max).collect();
    if more {
        next = subscribers.last().copied();
    }
    Page { subscribers, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> SubscriberId {
        SubscriberId::from_uuid(Uuid::from_u128(number))
    }

    fn seen(rows: &[(i32, u128, bool)]) -> Vec<Seen> {
        rows.iter().map(|&(place, number, wanted)| Seen { place, id: id(number), wanted }).collect()
    }

    #[test]
    fn a_page_ends_where_a_pattern_may_have_more() {
        let page = merge(&seen(&[(0, 1, true), (0, 3, true), (1, 2, true), (1, 9, true)]), 2);
        assert_eq!(page, Page { subscribers: vec![id(1), id(2)], next: Some(id(2)) });
        let page = merge(&seen(&[(0, 1, true), (0, 3, true), (1, 2, true)]), 3);
        assert_eq!(page, Page { subscribers: vec![id(1), id(2), id(3)], next: None });
    }

    #[test]
    fn a_subscriber_of_two_patterns_is_found_once() {
        let page = merge(&seen(&[(0, 1, true), (1, 1, true), (1, 2, true)]), 3);
        assert_eq!(page, Page { subscribers: vec![id(1), id(2)], next: None });
    }

    #[test]
    fn inactive_subscribers_are_passed_over() {
        let page = merge(&seen(&[(0, 1, false), (0, 2, false)]), 2);
        assert_eq!(page, Page { subscribers: Vec::new(), next: Some(id(2)) });
    }
}
