//! The subscribers that share a channel with an event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use postrider_core::{Channels, EventType, TenantId};
use postrider_store::StoreError;
use postrider_store::intake::{FEW_SUBSCRIBERS, Match};

use super::prepared::Prepared;
use crate::shared::Shared;
use crate::subscriber_cache::{Distinct, TenantEventType};

type Key = (TenantId, EventType, Channels);

/// The subscribers in the channels of a batch's events; `None` for those of an event that has many.
#[derive(Default)]
pub(super) struct InChannels(HashMap<Key, Option<Vec<Match>>>);

/// What an event asks for. An event to one subscriber asks for nobody in channels.
pub(super) fn asked(Prepared { event, only, .. }: &Prepared) -> (TenantEventType, Option<Channels>) {
    let channels = if only.is_some() { None } else { event.channels.clone() };
    ((event.tenant.clone(), event.event_type.clone()), channels)
}

fn key(prepared: &Prepared) -> Option<Key> {
    let ((tenant, event_type), channels) = asked(prepared);
    Some((tenant, event_type, channels?))
}

/// Finds the subscribers in the channels of events, with one query, or without one if no event has channels.
pub(super) async fn find(shared: &Shared, events: &[Prepared]) -> Result<InChannels, StoreError> {
    if events.iter().all(|prepared| prepared.event.channels.is_none()) {
        return Ok(InChannels::default());
    }
    let Distinct { distinct, .. } = Distinct::of(events.iter().filter_map(key));
    let reads = shared.store.database().reads();
    let found = shared.store.subscribers_in_channels(&reads, &distinct).await?;
    Ok(InChannels(distinct.into_iter().zip(found).collect()))
}

impl InChannels {
    /// The subscribers in the channels of an event; `None` if it has no channels.
    pub(super) fn of(&self, event: &Prepared) -> Option<&Option<Vec<Match>>> {
        event.event.channels.as_ref()?;
        self.0.get(&key(event)?)
    }
}

/// The subscribers of an event: those without channels, and those in its channels; `None` if they are many.
pub(super) fn merged(
    plain: Option<Arc<[Match]>>,
    in_channels: Option<&Option<Vec<Match>>>,
) -> Option<Arc<[Match]>> {
    let plain = plain?;
    let Some(others) = in_channels else { return Some(plain) };
    let all = plain.iter().chain(others.iter().flatten());
    // By subscriber: its filter may have been changed between the two queries.
    let all: BTreeMap<_, _> = all.map(|matched| (matched.subscriber, *matched)).collect();
    let are_few = others.is_some() && all.len() <= FEW_SUBSCRIBERS;
    are_few.then(|| all.into_values().collect())
}
