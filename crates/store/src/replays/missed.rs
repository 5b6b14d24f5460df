//! Finding events that active subscribers match now, and of which they have no delivery.

use std::collections::{HashMap, HashSet};

use postrider_core::{Channels, EventId, EventType, SubscriberId, Timestamp};
use postrider_database::sql::{column, query_all};
use postrider_database::{Batch, Column, Kind};
use sea_orm::{ConnectionTrait, QueryResult};
use uuid::Uuid;

use super::walk::{Member, Part, Walk, just_before};
use crate::events::FAN_OUT_JOBS;
use crate::intake::matching::{Asked, Page, Range, matching};
use crate::intake::{Match, Sift};
use crate::row::{parse, read_channels};
use crate::{Store, StoreError};

/// How many events a step examines, and how many subscribers of them.
const EVENTS: u64 = 200;
const SUBSCRIBERS: usize = 2_000;

/// How many subscribers of an event are read at a time.
const PAGE: usize = 500;

/// The type of events that go to one subscriber on request; the others have not missed them.
const TEST_EVENT: &str = "postrider.test";

/// An event that somebody may have missed.
struct Candidate {
    id: EventId,
    event_type: EventType,
    dispatched_at: Timestamp,
    channels: Option<Channels>,
    /// Whether anything can be delivered of it now: it has its payload and all of its own deliveries.
    is_complete: bool,
}

impl Candidate {
    fn read(row: &QueryResult) -> Result<Self, StoreError> {
        let id = EventId::from_uuid(column(row, "id")?);
        let channels: Option<String> = column(row, "channels")?;
        let has_payload = column::<Option<i16>>(row, "payload_gone")?.is_none();
        let is_complete = has_payload && !column::<bool>(row, "continues")?;
        Ok(Self {
            id,
            event_type: parse(&column::<String>(row, "event_type")?, "events", "event_type", id)?,
            dispatched_at: Timestamp::from_millis(column(row, "dispatched_at")?),
            channels: read_channels(channels.as_deref(), "events", id)?,
            // Deliveries of the first edition have ids of their own.
            is_complete: is_complete && id.numbers_deliveries(),
        })
    }

    fn is_selected_by(&self, walk: &Walk) -> bool {
        let filter = &walk.filter;
        self.is_complete
            && self.event_type.as_str() != TEST_EVENT
            && self.dispatched_at <= walk.frozen_at
            && filter.event_type.as_ref().is_none_or(|pattern| pattern.matches(&self.event_type))
            && filter.since.is_none_or(|since| self.dispatched_at >= since)
            && filter.until.is_none_or(|until| self.dispatched_at < until)
    }
}

/// What the subscribers of an event depend on, and after which of them a page begins.
type PageKey = (EventType, Option<String>, Uuid);

impl Store {
    pub(super) async fn walk_over_events(
        &self,
        connection: &impl ConnectionTrait,
        walk: &mut Walk,
        filters: &dyn Sift,
    ) -> Result<Part, StoreError> {
        let sql = format!(
            "SELECT id, event_type, dispatched_at, channels, payload_gone, {FAN_OUT_JOBS} IS NOT NULL AS continues \
            FROM events WHERE tenant = $1 AND id > $2 AND id <= $3 ORDER BY id LIMIT {EVENTS}"
        );
        let values = [walk.tenant.as_str().into(), walk.reached.into(), walk.last().into()];
        let rows = query_all(connection, sql, values).await?;
        // Events of one type and the same channels have the same subscribers.
        let mut pages: HashMap<PageKey, Page> = HashMap::new();
        let mut found: Vec<(Candidate, Vec<Match>)> = Vec::new();
        let mut subscribers = 0;
        let mut is_last = (rows.len() as u64) < EVENTS;
        'events: for row in &rows {
            let event = Candidate::read(row)?;
            if !event.is_selected_by(walk) {
                (walk.reached, walk.within) = (event.id.uuid(), Uuid::nil());
                continue;
            }
            let mut matched = Vec::new();
            loop {
                if subscribers >= SUBSCRIBERS {
                    // The next step goes on within this event.
                    is_last = false;
                    found.push((event, matched));
                    break 'events;
                }
                let page = page_of(connection, walk, &event, &mut pages).await?;
                subscribers += page.matched.len();
                matched.extend(&page.matched);
                match page.next {
                    Some(next) => walk.within = next.uuid(),
                    None => break,
                }
            }
            (walk.reached, walk.within) = (event.id.uuid(), Uuid::nil());
            found.push((event, matched));
        }
        let pairs = found.iter().flat_map(|(event, matched)| {
            matched.iter().map(|matched| (event.id, matched.subscriber)).collect::<Vec<_>>()
        });
        let delivered = delivered(connection, pairs).await?;
        let mut members = Vec::new();
        for (event, mut matched) in found {
            matched.retain(|matched| !delivered.contains(&(event.id, matched.subscriber)));
            let (id, channels) = (event.id, event.channels.as_ref());
            let passing = self.sifted(connection, &walk.tenant, id, channels, matched, filters).await?;
            members.extend(passing.into_iter().map(|subscriber| Member {
                delivery: None,
                event: id,
                subscriber,
                at: event.dispatched_at,
                succeeded: false,
            }));
        }
        Ok(Part { members, is_last })
    }
}

/// The next active subscribers that match an event by type and channels.
async fn page_of<'p>(
    connection: &impl ConnectionTrait,
    walk: &Walk,
    event: &Candidate,
    pages: &'p mut HashMap<PageKey, Page>,
) -> Result<&'p Page, StoreError> {
    use std::collections::hash_map::Entry;

    let channels = event.channels.as_ref();
    let key = (event.event_type.clone(), channels.map(|channels| channels.as_str().to_owned()), walk.within);
    match pages.entry(key) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => {
            let (first, last) = match walk.filter.subscriber {
                Some(one) => (just_before(one.uuid()).max(walk.within), one.uuid()),
                None => (walk.within, Uuid::max()),
            };
            let id = SubscriberId::from_uuid;
            let range = Range { after: id(first), last: id(last) };
            let asked = Asked { tenant: &walk.tenant, event_type: &event.event_type, channels };
            Ok(new.insert(matching(connection, asked, range, None, PAGE).await?))
        }
    }
}

/// Returns those of these pairs of an event and a subscriber that have a delivery.
pub(super) async fn delivered(
    connection: &impl ConnectionTrait,
    pairs: impl Iterator<Item = (EventId, SubscriberId)>,
) -> Result<HashSet<(EventId, SubscriberId)>, StoreError> {
    const PAIR: &[Column] = &[
        Column::new("event_id", Kind::Uuid),
        Column::new("subscriber_id", Kind::Uuid),
        Column::new("last", Kind::Uuid),
    ];
    let mut input = Batch::new(PAIR);
    for (event, subscriber) in pairs {
        let last = event.deliveries().end().uuid();
        input.push([event.uuid().into(), subscriber.uuid().into(), last.into()]);
    }
    // Looked up one by one: PostgreSQL could otherwise join with all deliveries.
    let sql = "SELECT input.event_id, input.subscriber_id FROM input WHERE ( \
        SELECT 1 FROM deliveries WHERE deliveries.subscriber_id = input.subscriber_id \
            AND deliveries.id BETWEEN input.event_id AND input.last LIMIT 1) IS NOT NULL";
    let mut delivered = HashSet::new();
    for row in &input.query(connection, sql, []).await? {
        let event = EventId::from_uuid(column(row, "event_id")?);
        delivered.insert((event, SubscriberId::from_uuid(column(row, "subscriber_id")?)));
    }
    Ok(delivered)
}
