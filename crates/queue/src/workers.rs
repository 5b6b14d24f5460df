//! Which of the running workers serves which lanes.
//!
//! A worker that claims what another could have claimed with the next job makes both claims smaller, and each claim costs.
//! So the oldest worker serves all lanes while it has free worker slots. Once it is busy the next oldest serves lanes as
//! well, and so on: those who serve are the busy ones in front and one more. A lane is served by one of them, chosen by
//! rendezvous hashing (Thaler and Ravishankar, 1998), so that few lanes change hands when a worker comes or goes.
//!
//! All other workers sleep: they hear no wake-ups, and look now and then for a lane that waits although it may be claimed
//! from, and that nobody has served for a moment ([`TAKE_OVER_AFTER`]). So do those who serve, for the lanes of others. A worker
//! that has died or cannot keep up is therefore replaced within a second, whatever its row says.
//!
//! This decides only who looks where first: the lock on a lane's row decides who claims.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::job::{Duties, LaneId, WorkerId};

/// How long the jobs of another worker's lane wait, and how long nobody has served it, before this one does.
pub(crate) const TAKE_OVER_AFTER: Duration = Duration::from_millis(300);

/// How often workers look for such lanes: the one that is next to serve, those that serve beside others, the one after the
/// next, and the rest.
const NEXT_LOOKS: Duration = Duration::from_millis(250);
const SERVING_LOOKS: Duration = Duration::from_millis(500);
const AFTER_NEXT_LOOKS: Duration = Duration::from_secs(1);
const OTHERS_LOOK: Duration = Duration::from_secs(5);

/// After how long without an answer from the database this process knows of no other workers, at the earliest.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// Another worker that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) worker: WorkerId,
    pub(crate) busy: bool,
}

/// What this process knows of the running workers.
#[derive(Debug)]
pub(crate) struct Workers {
    view: Mutex<Arc<View>>,
    /// Whether the workers of this process sleep.
    asleep: watch::Sender<bool>,
}

/// The running workers at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// The workers of this process, and until when this is believed.
    here: HashMap<WorkerId, Instant>,
    /// All workers, oldest first.
    all: Vec<Live>,
    /// How many of them serve.
    serving: usize,
    /// Until when this is believed.
    until: Option<Instant>,
}

impl Default for Workers {
    fn default() -> Self {
        Self { view: Mutex::default(), asleep: watch::Sender::new(false) }
    }
}

impl Workers {
    /// What is known now.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.lock())
    }

    /// Learns whether the workers of this process sleep.
    pub(crate) fn asleep(&self) -> watch::Receiver<bool> {
        self.asleep.subscribe()
    }

    /// Takes note that a worker of this process has checked in beside these others, for so long. Returns its duties, and
    /// whether they have changed, or the lanes that are served here.
    pub(crate) fn checked_in(&self, me: Live, others: Vec<Live>, lapse: Duration) -> (Duties, bool) {
        let now = Instant::now();
        let until = now + lapse.max(KNOWN_FOR);
        let mut guard = self.lock();
        let before = guard.duties(me.worker);
        let mut view = View::clone(&guard);
        view.here.retain(|_, until| now < *until);
        view.here.insert(me.worker, until);
        view.until = Some(until);
        view.all = others;
        view.all.push(me);
        let moved = self.replace(&mut guard, view);
        let duties = guard.duties(me.worker);
        (duties, moved || duties != before)
    }

    /// Takes note that a worker of this process claims nothing more. The others serve its lanes.
    pub(crate) fn checked_out(&self, me: WorkerId) {
        let mut guard = self.lock();
        let mut view = View::clone(&guard);
        view.all.retain(|live| live.worker != me);
        self.replace(&mut guard, view);
    }

    fn replace(&self, guard: &mut MutexGuard<'_, Arc<View>>, mut view: View) -> bool {
        view.all.sort_unstable_by_key(|live| live.worker);
        let busy = view.all.iter().take_while(|live| live.busy).count();
        view.serving = (busy + 1).min(view.all.len());
        let changed = !view.those_who_serve().eq(guard.those_who_serve());
        self.asleep.send_if_modified(|asleep| std::mem::replace(asleep, view.sleeps()) != view.sleeps());
        **guard = Arc::new(view);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Arc<View>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Returns whether this process has workers that know of all others.
    pub(crate) fn is_known(&self) -> bool {
        !self.all.is_empty() && self.until.is_some_and(|until| Instant::now() < until)
    }

    /// Returns whether a worker of this process serves the lane. If nothing is known, each serves all.
    pub(crate) fn serves(&self, lane: LaneId) -> bool {
        !self.is_known() || self.who_serves(lane).is_some_and(|worker| self.here.contains_key(&worker))
    }

    /// How long the jobs of a lane wait before workers of this process claim them.
    pub(crate) fn take_over_after(&self, lane: LaneId) -> Duration {
        if self.serves(lane) { Duration::ZERO } else { TAKE_OVER_AFTER }
    }

    /// Returns whether no worker of this process serves any lane.
    pub(crate) fn sleeps(&self) -> bool {
        self.is_known() && !self.those_who_serve().any(|worker| self.here.contains_key(&worker))
    }

    /// Returns whether all workers that run are in this process, as far as it knows.
    pub(crate) fn is_alone(&self) -> bool {
        !self.is_known() || self.all.iter().all(|live| self.here.contains_key(&live.worker))
    }

    fn those_who_serve(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.all.iter().take(self.serving).map(|live| live.worker)
    }

    fn who_serves(&self, lane: LaneId) -> Option<WorkerId> {
        self.those_who_serve().max_by_key(|worker| weight(lane, *worker))
    }

    fn duties(&self, me: WorkerId) -> Duties {
        if self.all.len() <= 1 {
            return Duties::default();
        }
        let place = self.all.iter().position(|live| live.worker == me).unwrap_or(0);
        let look_every = match place.checked_sub(self.serving) {
            None => SERVING_LOOKS,
            Some(0) => NEXT_LOOKS,
            Some(1) => AFTER_NEXT_LOOKS,
            Some(_) => OTHERS_LOOK,
        };
        Duties { leads: place == 0, serves: place < self.serving, look_every: Some(look_every) }
    }
}

/// The weight of a worker for a lane: the one with the greatest serves it. All programs must agree on it, also those of
/// other releases.
fn weight(LaneId(lane): LaneId, WorkerId(worker): WorkerId) -> (u64, WorkerId) {
    let (high, low) = lane.as_u64_pair();
    let (other_high, other_low) = worker.as_u64_pair();
    let mixed = [low, other_high, other_low].into_iter().fold(mix(high), |mixed, part| mix(mixed ^ part));
    (mixed, WorkerId(worker))
}

/// Spreads the bits of a number: the finalizer of `SplitMix64` (Steele, Lea and Flood, 2014).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const LAPSE: Duration = Duration::from_secs(3);

    fn live(number: u128, busy: bool) -> Live {
        Live { worker: WorkerId(Uuid::from_u128(number)), busy }
    }

    fn lanes() -> impl Iterator<Item = LaneId> {
        (1..=1_000).map(|lane| LaneId(Uuid::from_u128(lane)))
    }

    /// The view of worker `me` of these, numbered from 1.
    fn view_of(me: usize, busy: &[bool]) -> (Workers, Duties) {
        let workers = Workers::default();
        let mut all: Vec<_> = (1..).zip(busy).map(|(number, busy)| live(number, *busy)).collect();
        let me = all.remove(me - 1);
        let (duties, _) = workers.checked_in(me, all, LAPSE);
        (workers, duties)
    }

    #[test]
    fn one_worker_serves_all_lanes_and_the_others_sleep() {
        for me in 1..=12 {
            let (workers, duties) = view_of(me, &[false; 12]);
            let view = workers.view();
            assert_eq!((duties.leads, view.sleeps()), (me == 1, me != 1));
            assert!(lanes().all(|lane| view.serves(lane) == (me == 1)));
            assert_eq!(*workers.asleep().borrow(), me != 1);
        }
    }

    #[test]
    fn busy_workers_share_the_lanes_with_one_more() {
        let busy = [true, true, false, true, false];
        let served: Vec<usize> = (1..=5)
            .map(|me| view_of(me, &busy).0.view())
            .map(|view| lanes().filter(|lane| view.serves(*lane)).count())
            .collect();
        assert_eq!(served.iter().sum::<usize>(), 1_000, "each lane is served by one: {served:?}");
        assert!(served[..3].iter().all(|lanes| (250..420).contains(lanes)), "{served:?}");
        assert_eq!(served[3..], [0, 0]);
    }

    #[test]
    fn few_lanes_change_hands_when_a_worker_joins() {
        let (before, after) =
            (view_of(1, &[true, false]).0.view(), view_of(1, &[true, true, false]).0.view());
        assert!(
            lanes().all(|lane| before.serves(lane) || !after.serves(lane)),
            "none moves between the first two"
        );
    }

    #[test]
    fn a_process_that_knows_no_workers_serves_all_lanes() {
        let workers = Workers::default();
        let unknown =
            |view: &View| !view.is_known() && !view.sleeps() && lanes().all(|lane| view.serves(lane));
        assert!(unknown(&workers.view()));
        workers.checked_in(live(2, false), vec![live(1, false)], LAPSE);
        assert!(workers.view().sleeps());
        let mut view = View::clone(&workers.view());
        view.until = Some(Instant::now());
        assert!(unknown(&view), "the database has not answered for long");
    }

    #[test]
    fn the_lanes_of_a_worker_that_stops_are_served_by_others() {
        let (workers, _) = view_of(1, &[false, false]);
        workers.checked_out(WorkerId(Uuid::from_u128(1)));
        assert!(lanes().all(|lane| !workers.view().serves(lane)));
        let (alone, _) = view_of(1, &[false]);
        alone.checked_out(WorkerId(Uuid::from_u128(1)));
        assert!(!alone.view().is_known());
    }

    #[test]
    fn the_next_to_serve_looks_more_often_than_the_rest() {
        let look = |me| view_of(me, &[true, false, false, false, false]).1.look_every;
        assert_eq!(
            [look(1), look(2), look(3), look(4), look(5)],
            [SERVING_LOOKS, SERVING_LOOKS, NEXT_LOOKS, AFTER_NEXT_LOOKS, OTHERS_LOOK].map(Some)
        );
        assert_eq!(view_of(1, &[true]).1, Duties::default());
    }
}
