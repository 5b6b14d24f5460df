//! The state of the queue in memory, and its rules.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use postrider_queue::{
    Claim, Claimed, ClaimedJob, Depth, Finish, Hold, JobId, LaneId, LaneSettings, Lease, LeaseToken, NewJob,
    Place, Promoted, Rescue, Rescued, WorkerId, WorkerStatus,
};

use super::Flaw;

#[derive(Debug)]
pub(super) struct State {
    started: Instant,
    ahead: Duration,
    next_place: u64,
    pub(super) jobs: HashMap<JobId, Job>,
    pub(super) lanes: BTreeMap<LaneId, Lane>,
    /// With the moment by which each checks in again.
    pub(super) workers: BTreeMap<WorkerId, (WorkerStatus, i64)>,
    /// By when they are due.
    pub(super) scheduled: BTreeSet<(Duration, JobId)>,
    /// By when their leases expire.
    running: BTreeSet<(Duration, JobId)>,
    /// Where the next walk over the lanes of each owner starts.
    after: HashMap<String, LaneId>,
    /// How many claims there were: owners take turns in being first.
    turn: usize,
    flaw: Option<Flaw>,
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) new: NewJob,
    place: u64,
    tried: bool,
    /// When it became ready, is due, or loses its lease, depending on its state.
    pub(super) at: Duration,
    token: Option<LeaseToken>,
    claims: u32,
    rescues: u32,
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) owner: String,
    pub(super) settings: LaneSettings,
    pub(super) running: u32,
    pub(super) paused_until: Duration,
    /// When the next job would be due if jobs came at the full rate.
    rate_next: Duration,
    /// Since a pause: one job at a time, until the lane is resumed.
    pub(super) probing: bool,
    /// For its own sake, and for its owner's.
    pub(super) held: [bool; 2],
    /// When a claim last took as many jobs as it allowed.
    full_at: Duration,
    pub(super) ready: BTreeMap<(bool, u64), JobId>,
}

impl Lane {
    fn is_open(&self, now: Duration) -> bool {
        self.paused_until <= now && self.held == [false; 2]
    }

    fn allowed(&self, otherwise: u32) -> u32 {
        match self.settings {
            _ if self.probing => 1,
            LaneSettings { ordered: true, .. } => 1,
            LaneSettings { concurrency: Some(limit), .. } => limit.get(),
            LaneSettings { concurrency: None, .. } => otherwise,
        }
    }

    /// How many more its rate allows now, and how long until it allows one.
    fn by_rate(&self, now: Duration) -> (u32, Duration) {
        let Some(rate) = self.settings.rate else { return (u32::MAX, Duration::ZERO) };
        let end = now + rate.interval * rate.burst.get();
        let room = end.saturating_sub(self.rate_next.max(now)).as_nanos() / rate.interval.as_nanos();
        let wait = self.rate_next.saturating_sub(now + rate.interval * (rate.burst.get() - 1));
        (u32::try_from(room).unwrap_or(u32::MAX), wait)
    }
}

impl State {
    pub(super) fn new(flaw: Option<Flaw>) -> Self {
        Self {
            started: Instant::now(),
            // Far from zero, so that earlier moments can be represented.
            ahead: Duration::from_hours(24),
            next_place: 0,
            jobs: HashMap::new(),
            lanes: BTreeMap::new(),
            workers: BTreeMap::new(),
            scheduled: BTreeSet::new(),
            running: BTreeSet::new(),
            after: HashMap::new(),
            turn: 0,
            flaw,
        }
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.ahead += by;
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed() + self.ahead
    }

    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub(super) fn enqueue(&mut self, jobs: &[NewJob]) {
        let now = self.now();
        for new in jobs {
            self.next_place += 1;
            let place =
                if self.has(Flaw::NewestFirst) { u64::MAX - self.next_place } else { self.next_place };
            let (id, at) = (new.id, now + new.delay);
            let job = Job { new: new.clone(), place, tried: false, at, token: None, claims: 0, rescues: 0 };
            self.lanes
                .entry(new.lane)
                .or_insert_with(|| Lane { owner: new.owner.clone(), ..Lane::default() });
            self.jobs.insert(id, job);
            if new.delay.is_zero() { self.make_ready(id, now) } else { self.schedule(id, at) }
        }
    }

    pub(super) fn configure(&mut self, lane: LaneId, owner: &str, settings: LaneSettings) {
        let now = self.now();
        let keeps_debt = self.has(Flaw::KeepsTheDebtOfTheOldRate);
        let gives_burst = self.has(Flaw::ChangesGiveABurst);
        let lane =
            self.lanes.entry(lane).or_insert_with(|| Lane { owner: owner.to_owned(), ..Lane::default() });
        let before = std::mem::replace(&mut lane.settings, settings);
        lane.rate_next = match (before.rate, settings.rate) {
            _ if keeps_debt => lane.rate_next,
            (Some(old), Some(new)) if !gives_burst => {
                let owed = lane.rate_next.saturating_sub(now).as_secs_f64() / old.interval.as_secs_f64();
                now + new.interval.mul_f64(owed.min(f64::from(new.burst.get())))
            }
            _ => Duration::ZERO,
        };
        if before.ordered && !settings.ordered {
            if !lane.probing {
                lane.paused_until = Duration::ZERO;
            }
            let waiting = lane.ready.values().filter(|id| self.jobs[id].at > now).copied();
            let waiting: Vec<JobId> = waiting.collect();
            lane.ready.retain(|_, id| !waiting.contains(id));
            for id in waiting {
                self.schedule(id, self.jobs[&id].at);
            }
        }
    }

    pub(super) fn pause(&mut self, lane: LaneId, duration: Duration) {
        let until = self.now() + duration;
        let lane = self.lanes.entry(lane).or_default();
        (lane.paused_until, lane.probing) = (until, true);
    }

    pub(super) fn resume(&mut self, lane: LaneId) {
        let ends_holds = self.has(Flaw::ResumingEndsHolds);
        let lane = self.lanes.entry(lane).or_default();
        (lane.paused_until, lane.probing) = (Duration::ZERO, false);
        if ends_holds {
            lane.held = [false; 2];
        }
    }

    pub(super) fn hold(&mut self, lanes: &[LaneId], owner: &str, hold: Hold) {
        for lane in lanes {
            let new = || Lane { owner: owner.to_owned(), ..Lane::default() };
            self.lanes.entry(*lane).or_insert_with(new).held[hold as usize] = true;
        }
    }

    pub(super) fn release(&mut self, lanes: &[LaneId], hold: Hold) {
        let ends_both = self.has(Flaw::OneReleaseEndsAllHolds);
        for lane in lanes {
            let marks = &mut self.lanes.entry(*lane).or_default().held;
            if ends_both { *marks = [false; 2] } else { marks[hold as usize] = false }
        }
    }

    fn make_ready(&mut self, id: JobId, now: Duration) {
        if self.has(Flaw::LosesEveryThousandth) && self.jobs[&id].place % 1000 == 999 {
            return;
        }
        let retries_first = self.has(Flaw::RetriesFirst);
        let job = self.jobs.get_mut(&id).expect("a job");
        (job.token, job.at) = (None, now);
        let lane = self.lanes.get_mut(&job.new.lane).expect("its lane");
        lane.ready.insert((job.tried != retries_first, job.place), id);
    }

    fn schedule(&mut self, id: JobId, due: Duration) {
        let job = self.jobs.get_mut(&id).expect("a job");
        (job.token, job.at) = (None, due);
        self.scheduled.insert((due, id));
    }

    pub(super) fn claim(&mut self, claim: &Claim) -> Claimed {
        let now = self.now();
        let mut claimed = Claimed::default();
        let (mut owners, reached_end) = self.open_lanes(claim, now, &mut claimed);
        claimed.more = !reached_end;
        let mut left = claim.max;
        let mut full = Vec::new();
        // Turn by turn: a job of each owner, from its lanes in turn, then one more of each.
        while left > 0 && !owners.is_empty() {
            for lanes in &mut owners {
                let Some((lane, mut room)) = lanes.pop_front() else { continue };
                let mut is_empty = false;
                while left > 0 && room > 0 && !is_empty {
                    let Some(job) = self.take(lane, claim, now) else {
                        is_empty = true;
                        break;
                    };
                    claimed.jobs.push(job);
                    (room, left) = (room - 1, left - 1);
                    if !self.has(Flaw::OneLaneTakesAll) {
                        break;
                    }
                }
                if room == 0 {
                    claimed.blocked = true;
                    full.push(lane);
                } else if !is_empty {
                    lanes.push_back((lane, room));
                }
            }
            owners.retain(|lanes| !lanes.is_empty());
        }
        for lane in full {
            self.lanes.entry(lane).or_default().full_at = now;
        }
        for job in &claimed.jobs {
            let (_, wait) = self.lanes[&job.lease.lane].by_rate(now);
            if !wait.is_zero() {
                claimed.opens_in = Some(claimed.opens_in.map_or(wait, |soonest| soonest.min(wait)));
            }
        }
        let mut lanes = owners.iter().flatten();
        claimed.more |= left == 0 && lanes.any(|(lane, _)| !self.lanes[lane].ready.is_empty());
        claimed
    }

    /// The lanes of each owner that allow jobs, and how many; as many lanes as the claim has room for. And whether these are
    /// all.
    fn open_lanes(
        &mut self,
        claim: &Claim,
        now: Duration,
        claimed: &mut Claimed,
    ) -> (Vec<VecDeque<(LaneId, u32)>>, bool) {
        let mut open: BTreeMap<String, VecDeque<(LaneId, u32)>> = BTreeMap::new();
        for (id, lane) in self.lanes.iter().filter(|(id, lane)| {
            !lane.ready.is_empty()
                && lane.held == [false; 2]
                && !claim.skip.contains(id)
                && !claim.skip_owners.contains(&lane.owner)
        }) {
            let allowed = lane.allowed(claim.lane_concurrency.get());
            let (by_rate, wait) = lane.by_rate(now);
            let closed_for = lane.paused_until.saturating_sub(now).max(wait);
            let room =
                if self.has(Flaw::NoLaneCap) { u32::MAX } else { allowed.saturating_sub(lane.running) };
            claimed.blocked |= room == 0;
            if !closed_for.is_zero() {
                claimed.opens_in =
                    Some(claimed.opens_in.map_or(closed_for, |soonest| soonest.min(closed_for)));
                if self.has(Flaw::StopsAtPausedLanes) {
                    break;
                }
            } else if room > 0 && by_rate > 0 {
                let owner = if self.has(Flaw::ForgetsOwners) { String::new() } else { lane.owner.clone() };
                open.entry(owner).or_default().push_back((*id, room.min(by_rate)));
            }
        }
        self.turn += 1;
        for (owner, lanes) in &mut open {
            let after = self.after.get(owner);
            let first = lanes.partition_point(|(lane, _)| after.is_some_and(|after| lane <= after));
            lanes.rotate_left(first);
        }
        let (names, mut waiting): (Vec<_>, Vec<_>) = open.into_iter().unzip();
        let mut chosen = vec![VecDeque::new(); names.len()];
        for _ in 0..claim.max {
            // One more lane of the owner of whom fewest are chosen.
            let next = (0..names.len()).map(|number| (number + self.turn) % names.len());
            let Some(next) =
                next.filter(|&owner| !waiting[owner].is_empty()).min_by_key(|&owner| chosen[owner].len())
            else {
                break;
            };
            if let Some((lane, room)) = waiting[next].pop_front() {
                self.after.insert(names[next].clone(), lane);
                chosen[next].push_back((lane, room));
            }
        }
        let are_all = waiting.iter().all(VecDeque::is_empty);
        if are_all {
            self.after.clear();
        }
        (chosen, are_all)
    }

    fn take(&mut self, id: LaneId, claim: &Claim, now: Duration) -> Option<ClaimedJob> {
        let lane = self.lanes.get_mut(&id)?;
        let (_, job) = lane.ready.pop_first()?;
        lane.running += 1;
        if let Some(rate) = lane.settings.rate {
            lane.rate_next = lane.rate_next.max(now) + rate.interval;
        }
        self.jobs.get_mut(&job)?.claims += 1;
        Some(self.lease(job, claim.token, now + claim.lease))
    }

    fn lease(&mut self, id: JobId, token: LeaseToken, until: Duration) -> ClaimedJob {
        let job = self.jobs.get_mut(&id).expect("a job");
        (job.token, job.at) = (Some(token), until);
        self.running.insert((until, id));
        ClaimedJob {
            lease: Lease { job: id, token, lane: job.new.lane, place: Place::default() },
            owner: job.new.owner.clone(),
            subject: job.new.subject,
            claims: job.claims,
            rescues: job.rescues,
            trace: job.new.trace.clone(),
        }
    }

    fn holds(&self, lease: Lease, despite: Flaw) -> bool {
        let token = self.jobs.get(&lease.job).and_then(|job| job.token);
        token.is_some_and(|token| token == lease.token || self.has(despite))
    }

    pub(super) fn extend(&mut self, leases: &[Lease], lease: Duration) -> Vec<JobId> {
        let until = self.now() + lease;
        let held = leases.iter().filter(|lease| self.holds(**lease, Flaw::ExtendIgnoresTheToken));
        let held: Vec<JobId> = held.map(|lease| lease.job).collect();
        for id in &held {
            let job = self.jobs.get_mut(id).expect("a job");
            self.running.remove(&(job.at, *id));
            job.at = until;
            self.running.insert((until, *id));
        }
        held
    }

    pub(super) fn finish(&mut self, finished: &[(Lease, Finish)]) -> Vec<JobId> {
        let now = self.now();
        let mut held = Vec::new();
        for (lease, finish) in finished {
            if !self.holds(*lease, Flaw::FinishIgnoresTheToken) {
                continue;
            }
            held.push(lease.job);
            self.end(lease.job, *finish, now);
        }
        held
    }

    fn end(&mut self, id: JobId, finish: Finish, now: Duration) {
        let forgets_lane = self.has(Flaw::FinishForgetsTheLane);
        let to_the_back = self.has(Flaw::ReleaseGoesToTheBack);
        let buried_stays = self.has(Flaw::BuriedStays);
        let job = self.jobs.get_mut(&id).expect("a job");
        self.running.remove(&(job.at, id));
        let lane = self.lanes.get_mut(&job.new.lane).expect("its lane");
        if !forgets_lane {
            lane.running = lane.running.saturating_sub(1);
        }
        match finish {
            Finish::Bury if buried_stays => self.make_ready(id, now),
            Finish::Done | Finish::Bury => {
                self.jobs.remove(&id);
            }
            Finish::Release => {
                if to_the_back {
                    self.next_place += 1;
                    job.place = self.next_place;
                }
                self.make_ready(id, now);
            }
            Finish::RetryIn(delay) if lane.settings.ordered => {
                lane.paused_until = lane.paused_until.max(now + delay);
                self.make_ready(id, now + delay);
            }
            Finish::RetryIn(delay) => {
                job.tried = true;
                if delay.is_zero() { self.make_ready(id, now) } else { self.schedule(id, now + delay) }
            }
        }
    }

    pub(super) fn promote(&mut self, max: u32) -> Promoted {
        let now = self.now();
        let by = if self.has(Flaw::PromotesEarly) { now + Duration::from_secs(10) } else { now };
        let mut promoted = Promoted::default();
        while promoted.jobs < u64::from(max)
            && let Some((due, id)) = self.scheduled.first().copied()
            && due <= by
        {
            self.scheduled.pop_first();
            self.make_ready(id, now);
            promoted.jobs += 1;
        }
        promoted.next_due_in =
            self.scheduled.iter().find(|(due, _)| *due > now).map(|(due, _)| due.saturating_sub(now));
        promoted
    }

    pub(super) fn rescue(&mut self, rescue: &Rescue) -> Rescued {
        let now = self.now();
        let mut rescued = Rescued::default();
        let live_too = self.has(Flaw::RescuesLiveLeases);
        let expired = self.running.iter().take_while(|(until, _)| *until < now || live_too);
        let expired: Vec<_> = expired.take(rescue.max as usize).copied().collect();
        for (until, id) in expired {
            self.running.remove(&(until, id));
            let for_ever = self.has(Flaw::RescuesForEver);
            let forgets_lane = self.has(Flaw::RescueForgetsTheLane);
            let job = self.jobs.get_mut(&id).expect("a job");
            if job.rescues >= rescue.max_rescues && !for_ever {
                rescued.exhausted.push(self.lease(id, rescue.token, now + rescue.lease));
                continue;
            }
            job.rescues += 1;
            let lane = self.lanes.get_mut(&job.new.lane).expect("its lane");
            if !forgets_lane {
                lane.running = lane.running.saturating_sub(1);
            }
            self.make_ready(id, now);
            rescued.returned += 1;
        }
        rescued
    }

    pub(super) fn longest_wait(&self, calm: Duration) -> Option<Duration> {
        let now = self.now();
        let free = |lane: &&Lane| lane.is_open(now) && !lane.probing && lane.full_at + calm <= now;
        let heads = self.lanes.values().filter(free).filter_map(|lane| lane.ready.values().next());
        heads.map(|id| now.saturating_sub(self.jobs[id].at)).max()
    }

    pub(super) fn depth(&self) -> Depth {
        let now = self.now();
        let open = self.lanes.values().filter(|lane| lane.is_open(now));
        let ready: Vec<JobId> = open.flat_map(|lane| lane.ready.values().copied()).collect();
        let oldest = ready.iter().map(|id| self.jobs[id].at).min();
        let all: usize = self.lanes.values().map(|lane| lane.ready.len()).sum();
        Depth {
            ready: ready.len() as u64,
            scheduled: self.scheduled.len() as u64,
            held: (all - ready.len()) as u64,
            running: self.running.len() as u64,
            oldest_ready: oldest.map(|at| now.saturating_sub(at)),
        }
    }
}
