//! What claims have in common on both databases: lanes take turns, and a search finds others.

use std::collections::HashMap;

use async_trait::async_trait;
use postrider_database::{Database, DatabaseError};

use crate::job::{Claim, Claimed, ClaimedJob, LaneId};
use crate::join::{Join, Joined};
use crate::search::{Searches, search};
use crate::turns::{Left, Turns};

/// What a claim took from some lanes.
pub(crate) struct Taken {
    pub(crate) jobs: Vec<ClaimedJob>,
    pub(crate) left: Left,
    /// Some lane with ready jobs is full.
    pub(crate) blocked: bool,
    /// How many jobs of the lanes may run at once.
    pub(crate) limits: HashMap<LaneId, u32>,
}

/// Claims from given lanes.
#[async_trait]
pub(crate) trait TakeJobs: Sync {
    /// Claims jobs of these lanes, and gives the lanes back to the turns. Returns also what `join` reads about them, if the queue
    /// can do that.
    async fn take(
        &self,
        claim: &Claim,
        lanes: &[LaneId],
        join: Option<&Join>,
    ) -> Result<(Taken, Joined), DatabaseError>;
}

/// Lanes that are given back by a claim, unless it fails or its caller gives up. Then the next claim searches for them.
struct Lent<'a> {
    turns: &'a Turns,
    returned: bool,
}

impl Lent<'_> {
    fn given_back(mut self) {
        self.returned = true;
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if !self.returned {
            self.turns.lost();
        }
    }
}

/// Claims until jobs are found or a search shows that there are none.
pub(crate) async fn claim(
    queue: &impl TakeJobs,
    turns: &Turns,
    database: &Database,
    claim: &Claim,
    join: Option<&Join>,
) -> Result<(Claimed, Joined), DatabaseError> {
    let mut searches = Searches::default();
    if let Some(after) = turns.search_from(false) {
        searches.note(turns.found(search(database.connection(), after).await?));
    }
    let (mut blocked, mut limits) = (false, HashMap::new());
    loop {
        let lanes = turns.take(claim);
        let (mut jobs, mut joined, mut left) = (Vec::new(), Joined::default(), turns.left());
        if !lanes.is_empty() {
            let on_loan = Lent { turns, returned: false };
            let (taken, read) = queue.take(claim, &lanes, join).await?;
            on_loan.given_back();
            blocked |= taken.blocked;
            limits.extend(taken.limits);
            (jobs, joined, left) = (taken.jobs, read, taken.left);
        }
        if !jobs.is_empty() || searches.are_enough(left) {
            return Ok((Claimed { jobs, more: left.more, blocked, limits, opens_in: left.opens_in }, joined));
        }
        if !left.unvisited {
            // Beside a skipped owner there may be many lanes of its own, which a search would read for nothing, as it would read
            // many skipped lanes.
            let at_once = claim.skip_owners.is_empty() && claim.skip.len() <= 1;
            let Some(after) = turns.search_from(at_once) else {
                return Ok((
                    Claimed { blocked, limits, opens_in: left.opens_in, ..Claimed::default() },
                    joined,
                ));
            };
            searches.note(turns.found(search(database.connection(), after).await?));
        }
    }
}

/// The first job of each lane, then the second of each, and so on.
pub(crate) fn in_turn(mut jobs: Vec<ClaimedJob>) -> Vec<ClaimedJob> {
    jobs.sort_unstable_by_key(|job| job.lease.place);
    let mut turns: HashMap<LaneId, u32> = HashMap::new();
    let mut jobs: Vec<(u32, ClaimedJob)> = jobs
        .into_iter()
        .map(|job| {
            let turn = turns.entry(job.lease.lane).or_default();
            *turn += 1;
            (*turn, job)
        })
        .collect();
    jobs.sort_by_key(|(turn, _)| *turn);
    jobs.into_iter().map(|(_, job)| job).collect()
}
