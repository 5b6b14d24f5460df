//! Puts jobs into the buffer, or into the tables if the buffer cannot keep what they need.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use postrider_database::Database;
use postrider_database::sql::{column, query_one};
use uuid::Uuid;

use super::buffer::{Buffer, BufferedJob};
use super::taken;
use crate::adopt;
use crate::error::QueueError;
use crate::job::{JobId, LaneId, NewJob};
use crate::remote::{Fillable, Identity, LaneState};
use crate::transactional::TransactionalQueue;

/// Reads what the store has noted as the marker of the queue outside the database.
const MARKER: &str = "SELECT marker FROM remote_queue WHERE one = 1";

pub(super) struct Filler {
    database: Database,
    tables: Arc<dyn TransactionalQueue>,
    pub(super) buffer: Arc<dyn Buffer>,
}

impl Filler {
    pub(super) fn new(
        database: Database,
        tables: Arc<dyn TransactionalQueue>,
        buffer: Arc<dyn Buffer>,
    ) -> Self {
        Self { database, tables, buffer }
    }

    pub(super) async fn waiting(&self) -> Result<u64, QueueError> {
        self.buffer.waiting().await
    }

    /// Enqueues those of these jobs in the tables that are not there, and wakes workers.
    pub(super) async fn admit(&self, jobs: &[NewJob]) -> Result<(), QueueError> {
        let admitted = taken::admit(&self.database, &*self.tables, jobs).await?;
        self.tables.enqueued(&admitted);
        Ok(())
    }

    async fn ordered_lanes(&self, jobs: &[&NewJob]) -> Result<HashSet<LaneId>, QueueError> {
        Ok(taken::ordered_lanes(self.database.connection(), jobs).await?)
    }

    async fn put(&self, jobs: &[&NewJob], ordered: &HashSet<LaneId>) -> Result<(), QueueError> {
        let keeps_order = self.buffer.keeps_order();
        let (mut buffered, mut kept) = (Vec::new(), Vec::new());
        for &job in jobs {
            let ordered = ordered.contains(&job.lane);
            if !job.delay.is_zero() || (ordered && !keeps_order) {
                kept.push(job.clone());
            } else {
                buffered.push(BufferedJob { job, ordered });
            }
        }
        if !buffered.is_empty() {
            let refused: HashSet<JobId> = self.buffer.put(&buffered).await?.into_iter().collect();
            kept.extend(
                buffered.iter().filter(|one| refused.contains(&one.job.id)).map(|one| one.job.clone()),
            );
        }
        if kept.is_empty() { Ok(()) } else { self.admit(&kept).await }
    }
}

#[async_trait]
impl Fillable for Filler {
    /// What is in the buffer already may come out twice, and is then left out.
    async fn offer(&self, jobs: &[NewJob]) -> Result<u64, QueueError> {
        let all: Vec<&NewJob> = jobs.iter().collect();
        self.put(&all, &self.ordered_lanes(&all).await?).await?;
        Ok(jobs.len() as u64)
    }

    async fn offer_unordered(&self, jobs: &[NewJob]) -> Result<Vec<JobId>, QueueError> {
        let ordered = self.ordered_lanes(&jobs.iter().collect::<Vec<_>>()).await?;
        let (left_out, others): (Vec<&NewJob>, Vec<&NewJob>) =
            jobs.iter().partition(|job| ordered.contains(&job.lane));
        self.put(&others, &HashSet::new()).await?;
        Ok(left_out.iter().map(|job| job.id).collect())
    }

    async fn offer_again(&self, jobs: &[NewJob]) -> Result<u64, QueueError> {
        let missing = adopt::missing(self.database.connection(), jobs).await?;
        let jobs: Vec<&NewJob> = jobs.iter().filter(|job| missing.contains(&job.id)).collect();
        self.put(&jobs, &self.ordered_lanes(&jobs).await?).await?;
        Ok(jobs.len() as u64)
    }

    /// Lanes are in the tables.
    async fn put_lanes(&self, _: &[LaneState]) -> Result<(), QueueError> {
        Ok(())
    }

    /// The marker is in the database, as the buffer has no place for one: its run tells what it has lost.
    async fn identity(&self) -> Result<Identity, QueueError> {
        let run = self.buffer.run().await?;
        let row = query_one(self.database.connection(), MARKER, []).await?;
        let marker = row.map(|row| column::<Uuid>(&row, "marker")).transpose()?;
        Ok(Identity { run, marker })
    }

    async fn mark(&self, _: Uuid) -> Result<(), QueueError> {
        Ok(())
    }
}

impl std::fmt::Debug for Filler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filler").field("buffer", &self.buffer).finish_non_exhaustive()
    }
}
