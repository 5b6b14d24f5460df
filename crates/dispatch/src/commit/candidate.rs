//! An event with its ids and subscribers, before its idempotency key has been judged.

use postrider_core::{EventId, JobId, SubscriberId, TenantId, Timestamp};
use postrider_store::intake::Crowd;
use ring::digest;

use super::addressed::{Addressed, Recipients};
use super::prepared::Prepared;
use crate::event::{Dispatched, FanOut};
use crate::shared::Shared;

/// An event with everything that will be written of it, unless its idempotency key makes it a repeat or a conflict.
pub(super) struct Candidate<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) id: EventId,
    pub(super) at: Timestamp,
    /// Its subscribers if they are few, each with its job.
    pub(super) jobs: Vec<(SubscriberId, JobId)>,
    /// Its subscribers if they are many.
    pub(super) crowd: Option<Crowd>,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(shared: &Shared, addressed: &Addressed<'a>) -> Self {
        let ids = shared.store.ids();
        let (few, crowd) = match &addressed.recipients {
            Recipients::Few(few) => (&few[..], None),
            Recipients::Many(crowd) => (&[][..], Some(*crowd)),
        };
        Self {
            prepared: addressed.event,
            id: addressed.id,
            at: addressed.at,
            jobs: few.iter().map(|subscriber| (*subscriber, ids.next())).collect(),
            crowd,
        }
    }

    /// Returns the number of its subscribers.
    pub(super) fn subscribers_found(&self) -> u32 {
        self.crowd.map_or(u32::try_from(self.jobs.len()).unwrap_or(u32::MAX), |crowd| crowd.size)
    }

    /// Returns the event's idempotency key and the tenant within which it is unique.
    pub(super) fn key(&self) -> Option<(&'a TenantId, &'a str)> {
        let event = &self.prepared.event;
        event.key.as_ref().map(|key| (&event.tenant, key.as_str()))
    }

    /// Returns a digest of the caller's request. Each part is preceded by its length, so that two requests cannot
    /// concatenate to the same bytes.
    pub(super) fn request_hash(&self) -> [u8; 32] {
        let Prepared { event, agent_id, .. } = self.prepared;
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [event.event_type.as_str(), agent_id.as_str(), event.data.as_json()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        // Without channels and metadata the digest is that of the release before, which may have taken the key.
        let channels = event.channels.as_ref().map(|channels| ("channels", channels.as_str().to_owned()));
        let metadata = event.metadata.iter().flat_map(|(name, text)| [name, text].map(str::to_owned));
        let metadata = metadata.map(|text| ("metadata", text));
        for (kind, part) in channels.into_iter().chain(metadata) {
            for part in [kind, &part] {
                context.update(&(part.len() as u64).to_be_bytes());
                context.update(part.as_bytes());
            }
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }

    /// Returns the answer to the caller if the event is written.
    pub(super) fn into_answer(self) -> Dispatched {
        let fan_out = if self.crowd.is_some() { FanOut::Continuing } else { FanOut::Complete };
        let subscribers_found = self.subscribers_found() as usize;
        let jobs_created = self.jobs.len();
        let (subscribers, jobs) = self.jobs.into_iter().unzip();
        Dispatched {
            subscribers_found,
            jobs_created,
            fan_out,
            id: self.id,
            event_type: self.prepared.event.event_type.clone(),
            agent_id: self.prepared.agent_id.clone(),
            timestamp: self.at,
            subscribers,
            jobs,
            duplicate: false,
        }
    }
}
