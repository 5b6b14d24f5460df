//! Which lanes to claim from next.
//!
//! A claim names the lanes that it looks at, each with one index look-up. This process remembers lanes that may have
//! ready jobs, in the order of their turns, and lanes that are closed, until they open. Owners take turns, and so do the
//! lanes of each owner: an owner with jobs in a hundred thousand lanes delays others no more than one with a single lane.
//!
//! The process learns of lanes from wake-ups, from its own claims, and from a search that walks over all lanes with ready jobs, a page at a time: whenever it knows
//! of no lane, and a round of it every second, since a wake-up may be lost. So claims cost what they find, however many
//! other lanes are paused, above their rate or full of removed jobs. If an owner has more lanes than a page, each of them is
//! served once in a round.
//!
//! The lanes of other workers (`workers.rs`) are no business of this process unless they wait: it learns of them from the
//! search only, and claims from them after a while. A process whose workers sleep searches one page at each of its claims.
//!
//! What it remembers is only where to look. Whether and how much a lane allows is decided by its row.

mod owners;
mod waiting;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use self::owners::Owners;
use self::waiting::Waiting;
use crate::job::{Claim, LaneId};
use crate::workers::{View, Workers};

/// How many lanes a claim looks at beyond those it can serve.
const LOOK_AHEAD: usize = 256;

/// How many closed lanes are remembered.
const REMEMBERED: usize = 10_000;

/// With fewer lanes than this a search that has begun continues. With more lanes than this of one owner, those that a search
/// has yet to find come before those that have had a turn.
const FEW: usize = 512;

/// The time between two rounds of the search, alone and beside other workers, which may stop serving their lanes.
const ROUND: Duration = Duration::from_secs(1);
const ROUND_BESIDE_OTHERS: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(crate) struct Turns {
    workers: Arc<Workers>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    owners: Owners,
    /// Lanes that may have ready jobs.
    waiting: Waiting,
    closed: BTreeSet<(Instant, LaneId)>,
    closed_until: HashMap<LaneId, Instant>,
    /// The lane after which the search continues; nil before a round.
    searched: Uuid,
    /// When the next round of the search begins. `None` is at once.
    next_round: Option<Instant>,
    /// When the first lane that searches step over opens.
    shut_opens: Option<Instant>,
}

/// What a claim found in a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No ready jobs are left, or claims take none from it.
    Nothing,
    /// The claim took its share, and more is ready.
    More,
    /// It runs as many jobs as it may.
    Full,
    /// It is paused or above its rate for this long.
    Closed(Duration),
    /// Another worker has locked it.
    Contended,
    /// The claim had no room left.
    NotReached,
}

/// A lane that a claim has looked at.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    pub(crate) lane: LaneId,
    /// Its owner. `None` if there is no such lane.
    pub(crate) owner: Option<String>,
    pub(crate) fate: Fate,
}

impl Looked {
    /// What a claim read about a lane. A lane about which it read nothing does not exist.
    pub(crate) fn read(lane: LaneId, read: Option<(String, Fate)>) -> Self {
        let (owner, fate) = read.map_or((None, Fate::Nothing), |(owner, fate)| (Some(owner), fate));
        Self { lane, owner, fate }
    }
}

/// What a search found.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Lanes that may have ready jobs, their owners, and for how long they are closed.
    pub(crate) lanes: Vec<(LaneId, String, Duration)>,
    /// The lane after which the search continues; nil at the end of the round.
    pub(crate) next: Uuid,
    /// How long until the first lane that the search stepped over opens.
    pub(crate) opens_in: Option<Duration>,
}

/// What a claim left to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Left {
    /// More jobs may be ready.
    pub(crate) more: bool,
    /// Other lanes that are known have not had their turn.
    pub(crate) unvisited: bool,
    /// Another worker had locked some lane.
    pub(crate) contended: bool,
    /// How long until the next closed lane opens.
    pub(crate) opens_in: Option<Duration>,
}

impl Turns {
    /// Turns of the lanes that the workers of this process serve.
    pub(crate) fn new(workers: Arc<Workers>) -> Self {
        Self { workers, state: Mutex::default() }
    }

    /// What is known of the running workers.
    pub(crate) fn workers(&self) -> Arc<View> {
        self.workers.view()
    }

    /// Takes note of lanes that may have ready jobs, or that may have opened.
    pub(crate) fn hint(&self, lanes: &[LaneId]) {
        let mut state = self.state();
        for lane in lanes {
            state.open(*lane);
        }
    }

    /// Takes note that any lane may have ready jobs.
    pub(crate) fn hint_any(&self) {
        self.state().next_round = None;
    }

    /// Returns the lanes for a claim, in turn. The caller gives them back with [`Turns::looked`].
    pub(crate) fn take(&self, claim: &Claim) -> Vec<LaneId> {
        let mut state = self.state();
        state.open_due(Instant::now());
        let skipped_owners = claim.skip_owners.iter().map(|owner| state.owners.named(owner)).collect();
        state.waiting.set_aside(skipped_owners);
        let most = (claim.max as usize).saturating_add(LOOK_AHEAD);
        let (mut taken, mut skipped) = (Vec::new(), Vec::new());
        while taken.len() < most
            && let Some((owner, lane)) = state.waiting.next()
        {
            if claim.skip.contains(&lane) { skipped.push((owner, lane)) } else { taken.push(lane) }
        }
        for (owner, lane) in skipped {
            state.waiting.add_dry(owner, lane);
        }
        taken
    }

    /// Returns after which lane to search now, if it is time. `at_once`: the caller knows of no lane.
    pub(crate) fn search_from(&self, at_once: bool) -> Option<Uuid> {
        let workers = self.workers();
        let mut state = self.state();
        if workers.sleeps() {
            return (!at_once).then_some(state.searched);
        }
        let now = Instant::now();
        let is_due = if state.searched.is_nil() {
            at_once || state.next_round.is_none_or(|next| next <= now)
        } else {
            at_once || state.waiting.len() < FEW
        };
        if !is_due {
            return None;
        }
        if state.searched.is_nil() {
            let round = if workers.is_alone() { ROUND } else { ROUND_BESIDE_OTHERS };
            state.next_round = Some(now + round);
        }
        Some(state.searched)
    }

    /// Takes note of what a search found. Returns whether that was the end of its round.
    pub(crate) fn found(&self, page: Page) -> bool {
        let workers = self.workers();
        let mut state = self.state();
        let now = Instant::now();
        for (lane, owner, closed_for) in page.lanes {
            state.owners.learn(lane, &owner);
            if closed_for.is_zero() {
                state.open(lane);
            } else if workers.serves(lane) {
                state.close(lane, now + closed_for);
            }
        }
        state.searched = page.next;
        state.shut_opens = page.opens_in.filter(|_| !workers.sleeps()).map(|opens_in| now + opens_in);
        if let (Some(opens), Some(round)) = (state.shut_opens, state.next_round) {
            state.next_round = Some(round.min(opens));
        }
        state.searched.is_nil()
    }

    /// Gives back lanes that a claim has looked at.
    pub(crate) fn looked(&self, lanes: &[Looked], jobs: usize) -> Left {
        let workers = self.workers();
        let mut state = self.state();
        let now = Instant::now();
        if jobs > 0 {
            state.waiting.found_jobs();
        }
        let mut contended = false;
        for Looked { lane, owner, fate } in lanes {
            let lane = *lane;
            if let Some(owner) = owner {
                state.owners.learn(lane, owner);
            }
            let owner = state.owners.of(lane);
            match fate {
                Fate::Nothing | Fate::NotReached => {}
                // Another worker waits for the lane to open.
                Fate::Closed(_) | Fate::Full | Fate::Contended if !workers.serves(lane) => {}
                Fate::Closed(wait) => state.close(lane, now + *wait),
                // In the middle of a round its owner has more lanes than are remembered: the others come first.
                Fate::More | Fate::Full if !state.searched.is_nil() && state.waiting.of(owner) >= FEW => {}
                Fate::More => state.waiting.add(owner, lane),
                Fate::Full => state.waiting.add_dry(owner, lane),
                Fate::Contended => {
                    state.waiting.add_dry(owner, lane);
                    contended = true;
                }
            }
        }
        for Looked { lane, .. } in lanes.iter().rev().filter(|looked| looked.fate == Fate::NotReached) {
            let owner = state.owners.of(*lane);
            state.waiting.put_back(owner, *lane);
        }
        state.left(now, contended, workers.sleeps())
    }

    /// Gives up lanes whose claim failed. The next search finds them.
    pub(crate) fn lost(&self) {
        let mut state = self.state();
        (state.searched, state.next_round) = (Uuid::nil(), None);
    }

    /// What there is to do after a claim without lanes.
    pub(crate) fn left(&self) -> Left {
        let sleeps = self.workers().sleeps();
        self.state().left(Instant::now(), false, sleeps)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn open(&mut self, lane: LaneId) {
        if let Some(until) = self.closed_until.remove(&lane) {
            self.closed.remove(&(until, lane));
        }
        let owner = self.owners.of(lane);
        self.waiting.add(owner, lane);
    }

    fn close(&mut self, lane: LaneId, until: Instant) {
        if self.waiting.contains(lane) {
            // Somebody has hinted at it in between.
            return;
        }
        if let Some(before) = self.closed_until.remove(&lane) {
            self.closed.remove(&(before, lane));
        }
        if self.closed.len() < REMEMBERED {
            self.closed_until.insert(lane, until);
            self.closed.insert((until, lane));
        }
    }

    fn open_due(&mut self, now: Instant) {
        while let Some((until, lane)) = self.closed.first().copied()
            && until <= now
        {
            self.open(lane);
        }
    }

    fn left(&self, now: Instant, contended: bool, sleeps: bool) -> Left {
        let unvisited = self.waiting.has_unvisited();
        let more = contended || unvisited || !sleeps && !self.searched.is_nil();
        let closed = self.closed.first().map(|(until, _)| *until);
        let opens = [closed, self.shut_opens].into_iter().flatten().min();
        let opens_in = opens.map(|opens| opens.saturating_duration_since(now));
        Left { more, unvisited, contended, opens_in }
    }
}
