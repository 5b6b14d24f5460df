//! The slots that receivers which hang leave to others. A breaker stops a lane only after several failures, and until then
//! the requests of many such lanes would fill all slots, each for as long as its timeout.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_queue::LaneId;
use tokio::time::Instant;

/// One of so many slots is for lanes that do not hang.
const RESERVED: usize = 4;
/// A lane hangs if one of its requests has been in flight for longer than this, or the last one that ended has timed out.
const LONG: Duration = Duration::from_secs(5);
/// After this time without a request a lane is no longer known to hang.
const KNOWN: Duration = Duration::from_mins(30);
/// How many lanes are known to hang.
const MOST: usize = 10_000;

/// Which lanes hang, and how many slots they have.
#[derive(Debug, Default)]
pub(crate) struct Reserve(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: HashMap<u64, (LaneId, Instant)>,
    timed_out: HashMap<LaneId, Instant>,
    /// Whether the last claim left hanging lanes out although they may have had some slots.
    left_out: bool,
}

/// A job with a slot, counted until dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    reserve: Arc<Reserve>,
    number: u64,
}

/// What the next claim may take.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Permitted {
    pub(crate) jobs: u32,
    /// The lanes that hang, if they get nothing this time.
    pub(crate) skip: HashSet<LaneId>,
    /// Whether they would get something if no other lane does.
    pub(crate) may_follow: bool,
}

impl Reserve {
    /// Counts a slot for a lane.
    pub(crate) fn take(self: &Arc<Self>, lane: LaneId) -> Counted {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.running.insert(number, (lane, Instant::now()));
        drop(state);
        Counted { reserve: Arc::clone(self), number }
    }

    /// Returns what a claim may take with `free` of `all` slots. Hanging lanes that may have only some of these take turns
    /// with the others.
    pub(crate) fn permit(&self, all: usize, free: u32) -> Permitted {
        let mut state = self.state();
        let hanging = state.hanging(Instant::now());
        let everything = Permitted { jobs: free, skip: HashSet::new(), may_follow: false };
        if hanging.is_empty() {
            return everything;
        }
        let held = state.running.values().filter(|(lane, _)| hanging.contains(lane)).count();
        let room = u32::try_from((all - all / RESERVED).saturating_sub(held)).unwrap_or(u32::MAX);
        if room >= free {
            return everything;
        }
        state.left_out = room == 0 || !state.left_out;
        if state.left_out {
            return Permitted { skip: hanging, may_follow: room > 0, ..everything };
        }
        Permitted { jobs: room, ..everything }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hanging(&mut self, now: Instant) -> HashSet<LaneId> {
        self.timed_out.retain(|_, at| now.saturating_duration_since(*at) < KNOWN);
        let slow = self.running.values().filter(|(_, since)| now.saturating_duration_since(*since) > LONG);
        self.timed_out.keys().copied().chain(slow.map(|(lane, _)| *lane)).collect()
    }
}

impl Counted {
    /// Takes note of how the request ended: whether it timed out; `None` if there was none.
    pub(crate) fn ended(&self, timed_out: Option<bool>) {
        let mut state = self.reserve.state();
        let Some((lane, _)) = state.running.get(&self.number).copied() else { return };
        match timed_out {
            Some(true) if state.timed_out.len() < MOST || state.timed_out.contains_key(&lane) => {
                state.timed_out.insert(lane, Instant::now());
            }
            Some(false) => drop(state.timed_out.remove(&lane)),
            Some(true) | None => {}
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.reserve.state().running.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const HANGS: LaneId = LaneId(Uuid::from_u128(1));
    const ANSWERS: LaneId = LaneId(Uuid::from_u128(2));

    fn taken(reserve: &Arc<Reserve>, lane: LaneId, slots: usize) -> Vec<Counted> {
        (0..slots).map(|_| reserve.take(lane)).collect()
    }

    fn everything(jobs: u32) -> Permitted {
        Permitted { jobs, skip: HashSet::new(), may_follow: false }
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_that_hang_leave_a_quarter_to_others() {
        let reserve = Arc::<Reserve>::default();
        let slots = taken(&reserve, HANGS, 6);
        assert_eq!(reserve.permit(8, 2), everything(2), "nothing is known of it yet");
        slots[0].ended(Some(true));
        let skipping = Permitted { skip: [HANGS].into(), ..everything(2) };
        for _ in 0..2 {
            assert_eq!(reserve.permit(8, 2), skipping);
        }
        drop(slots);
        assert_eq!(reserve.permit(8, 6), everything(6));
        reserve.take(HANGS).ended(None);
        let slot = reserve.take(HANGS);
        assert_ne!(reserve.permit(8, 8), everything(8), "a job without a request says nothing");
        slot.ended(Some(false));
        assert_eq!(reserve.permit(8, 8), everything(8));
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_that_hang_and_others_take_turns_at_the_slots_that_both_may_have() {
        let reserve = Arc::<Reserve>::default();
        let slots = taken(&reserve, HANGS, 4);
        slots[0].ended(Some(true));
        let skipping = Permitted { jobs: 4, skip: [HANGS].into(), may_follow: true };
        for _ in 0..2 {
            assert_eq!(reserve.permit(8, 4), skipping);
            assert_eq!(reserve.permit(8, 4), everything(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_long_counts_before_it_ends() {
        let reserve = Arc::<Reserve>::default();
        let slots = taken(&reserve, HANGS, 6);
        tokio::time::advance(LONG + Duration::from_millis(1)).await;
        let _others = taken(&reserve, ANSWERS, 1);
        assert_eq!(reserve.permit(8, 1).skip, [HANGS].into());
        slots[0].ended(Some(true));
        drop(slots);
        tokio::time::advance(KNOWN).await;
        let _slots = taken(&reserve, HANGS, 6);
        assert_eq!(reserve.permit(8, 1), everything(1), "forgotten");
    }
}
