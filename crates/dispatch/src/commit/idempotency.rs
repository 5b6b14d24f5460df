//! Idempotency keys: which events of a batch are new, which repeat another, and which are rejected.

use std::collections::HashMap;

use postrider_core::{EventId, TenantId};
use postrider_store::StoreError;
use postrider_store::intake::{KeyName, KeyRow, TakenKey};
use sea_orm::ConnectionTrait;

use super::candidate::Candidate;
use crate::error::DispatchError;
use crate::event::{Dispatched, FanOut};
use crate::shared::Shared;

/// What happens to one event of a batch.
pub(super) enum Decision {
    /// It is written.
    Write,
    /// It repeats the event at this index of the same batch, and gets the same answer.
    RepeatInBatch(usize),
    /// It repeats an event that is stored, and gets the same answer.
    RepeatOfStored(Box<TakenKey>),
    /// A hook failed, or its key was used for another request.
    Reject(DispatchError),
}

/// Decides for each event of a batch, and takes the keys of those that will be written.
pub(super) async fn decide(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    candidates: &[Candidate<'_>],
) -> Result<Vec<Decision>, StoreError> {
    let mut decisions: Vec<Decision> = candidates.iter().map(|_| Decision::Write).collect();
    reject_failed(shared, connection, candidates, &mut decisions).await?;
    for (decision, candidate) in decisions.iter_mut().zip(candidates) {
        if candidate.subscribers_found() as usize > EventId::MAX_DELIVERIES {
            *decision = Decision::Reject(DispatchError::TooManySubscribers);
        }
    }
    take_keys(shared, connection, candidates, &mut decisions).await?;
    Ok(decisions)
}

/// Rejects the events whose hooks failed, except those that repeat a stored event.
async fn reject_failed(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    candidates: &[Candidate<'_>],
    decisions: &mut [Decision],
) -> Result<(), StoreError> {
    let (mut indexes, mut names): (Vec<usize>, Vec<KeyName>) = Default::default();
    for (index, candidate) in candidates.iter().enumerate() {
        let Err(error) = &candidate.prepared.transformed else { continue };
        decisions[index] = Decision::Reject(error.clone());
        if let Some((tenant, key)) = candidate.key() {
            indexes.push(index);
            names.push(KeyName { tenant: tenant.clone(), key: key.into() });
        }
    }
    for (index, taken) in indexes.into_iter().zip(shared.store.taken_keys(connection, &names).await?) {
        if let Some(taken) = taken {
            decisions[index] = compare(taken, &candidates[index]);
        }
    }
    Ok(())
}

/// Takes the keys of the other events, and compares those that are taken already.
async fn take_keys(
    shared: &Shared,
    connection: &impl ConnectionTrait,
    candidates: &[Candidate<'_>],
    decisions: &mut [Decision],
) -> Result<(), StoreError> {
    let mut keys: Vec<KeyRow> = Vec::new();
    // For each of `keys`, the index of its candidate; and for each later candidate with the same key, both indexes.
    let mut first: HashMap<(&TenantId, &str), usize> = HashMap::new();
    let mut firsts: Vec<usize> = Vec::new();
    let mut repeats: Vec<(usize, usize)> = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        let Some(name) = candidate.key().filter(|_| matches!(decisions[index], Decision::Write)) else {
            continue;
        };
        if let Some(&earlier) = first.get(&name) {
            repeats.push((index, earlier));
            continue;
        }
        first.insert(name, index);
        firsts.push(index);
        keys.push(KeyRow {
            tenant: name.0.clone(),
            key: name.1.into(),
            request_hash: candidate.request_hash(),
            event_id: candidate.id,
            jobs: candidate.jobs.clone(),
            created_at: candidate.at,
        });
    }
    if keys.is_empty() {
        return Ok(());
    }
    let taken = shared.store.take_keys(connection, &keys).await?;
    let taken: HashMap<usize, TakenKey> =
        firsts.into_iter().zip(taken).filter_map(|(index, taken)| Some((index, taken?))).collect();
    for (&index, taken) in &taken {
        decisions[index] = compare(taken.clone(), &candidates[index]);
    }
    for (index, earlier) in repeats {
        let same_request = || candidates[index].request_hash() == candidates[earlier].request_hash();
        decisions[index] = match taken.get(&earlier) {
            Some(taken) => compare(taken.clone(), &candidates[index]),
            None if same_request() => Decision::RepeatInBatch(earlier),
            None => Decision::Reject(DispatchError::KeyConflict),
        };
    }
    Ok(())
}

/// Decides about an event whose key is taken.
fn compare(taken: TakenKey, candidate: &Candidate<'_>) -> Decision {
    if taken.request_hash == candidate.request_hash() {
        Decision::RepeatOfStored(Box::new(taken))
    } else {
        Decision::Reject(DispatchError::KeyConflict)
    }
}

/// Returns the answer that the first request under a key got, with the number of jobs made since then.
pub(super) fn repeated_answer(taken: TakenKey) -> Dispatched {
    let (subscribers, jobs) = taken.jobs.into_iter().unzip();
    Dispatched {
        subscribers_found: taken.subscribers_found as usize,
        jobs_created: taken.jobs_created as usize,
        fan_out: if taken.continues { FanOut::Continuing } else { FanOut::Complete },
        id: taken.event_id,
        event_type: taken.event_type,
        agent_id: taken.agent_id,
        timestamp: taken.dispatched_at,
        subscribers,
        jobs,
        duplicate: true,
    }
}
