//! An event, and the subscribers that it goes to.

use std::sync::Arc;

use postrider_core::{EventId, SubscriberId, Timestamp};
use postrider_store::StoreError;
use postrider_store::intake::{Audience, Crowd, Match};
use sea_orm::ConnectionTrait;

use super::prepared::Prepared;
use crate::filters::{Asked, Content, Known};
use crate::shared::Shared;

/// Who an event matches by type and channels.
#[derive(Clone)]
pub(super) enum Found {
    /// Its caller has named the subscriber. Filters are not asked.
    Only(SubscriberId),
    /// Few.
    Few(Arc<[Match]>),
    /// Many, whose filters are asked when their deliveries are made.
    Many(Crowd),
}

/// An event, and the subscribers that it goes to.
#[derive(Clone)]
pub(super) struct Addressed<'a> {
    pub(super) event: &'a Prepared,
    pub(super) id: EventId,
    pub(super) at: Timestamp,
    pub(super) recipients: Recipients,
    /// Those that were found before their filters were asked.
    pub(super) matched: Option<Arc<[Match]>>,
}

/// The subscribers that an event goes to.
#[derive(Clone)]
pub(super) enum Recipients {
    Few(Vec<SubscriberId>),
    Many(Crowd),
}

impl Addressed<'_> {
    /// Returns how many deliveries are written with the event.
    pub(super) fn deliveries(&self) -> usize {
        match &self.recipients {
            Recipients::Few(subscribers) => subscribers.len(),
            Recipients::Many(_) => 0,
        }
    }
}

impl From<Audience> for Found {
    fn from(audience: Audience) -> Self {
        match audience {
            Audience::Few(few) => Self::Few(few.into()),
            Audience::Many(crowd) => Self::Many(crowd),
        }
    }
}

/// Asks the filters of the subscribers that events have found. Reads the texts of those that are not known, over `connection`.
pub(super) async fn address<'a>(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    found: Vec<(&'a Prepared, Found)>,
) -> Result<Vec<Addressed<'a>>, StoreError> {
    let few = found.iter().filter_map(|(_, found)| match found {
        Found::Few(few) => Some(few),
        Found::Only(_) | Found::Many(_) => None,
    });
    let filtered = few.flat_map(|few| few.iter()).filter(|matched| matched.filter.is_some());
    let mut known = shared.filters.known(filtered.clone());
    let unknown = known.lacks(filtered);
    if !unknown.is_empty() {
        shared.filters.learn(&mut known, shared.store.filters_of(connection, &unknown).await?).await;
    }
    let mut addressed = Vec::with_capacity(found.len());
    for (event, found) in found {
        let ids = shared.store.ids();
        let (id, at) = (ids.next(), ids.clock().now());
        let (recipients, matched) = match found {
            Found::Only(only) => (Recipients::Few(vec![only]), None),
            Found::Many(crowd) => (Recipients::Many(crowd), None),
            Found::Few(few) => (Recipients::Few(recipients(&known, event, (id, at), &few).await), Some(few)),
        };
        addressed.push(Addressed { event, id, at, recipients, matched });
    }
    Ok(addressed)
}

async fn recipients(
    known: &Known,
    event: &Prepared,
    (id, at): (EventId, Timestamp),
    matched: &[Match],
) -> Vec<SubscriberId> {
    if matched.iter().all(|matched| matched.filter.is_none()) {
        return matched.iter().map(|matched| matched.subscriber).collect();
    }
    let content = Content::New {
        event_type: event.event.event_type.as_str().into(),
        agent_id: event.agent_id.as_str().into(),
        timestamp: at.seconds(),
        data: event.data().clone(),
    };
    let asked = Asked { id, channels: event.event.channels.clone(), content };
    known.passing(asked, matched).await
}
