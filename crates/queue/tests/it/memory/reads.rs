//! What people see of the queue in memory.

use std::cmp::Reverse;
use std::time::Duration;

use postrider_queue::{
    CheckIn, LaneCursor, LaneId, LaneOrder, LanePage, LanePause, LaneQuery, LaneStatus, WorkerId,
    WorkerStatus,
};
use uuid::Uuid;

use super::Flaw;
use super::state::{Lane, State};

impl State {
    pub(super) fn check_in(&mut self, check_in: &CheckIn) {
        let now = millis(self.now());
        let CheckIn { worker, host, version, in_flight, .. } = check_in.clone();
        let started_at = self.workers.get(&worker).map_or(now, |(status, _)| status.started_at);
        let status =
            WorkerStatus { worker, host, version, started_at, seen_at: now, in_flight, silent: false };
        self.workers.insert(worker, (status, now + millis(check_in.lapse)));
    }

    pub(super) fn check_out(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }

    pub(super) fn workers(&self) -> Vec<WorkerStatus> {
        let now = millis(self.now());
        let forgotten = |seen_at: i64| seen_at < now - 60_000 && !self.has(Flaw::NeverForgetsWorkers);
        let known = self.workers.values().filter(|(status, _)| !forgotten(status.seen_at));
        known.map(|(status, lapses_at)| WorkerStatus { silent: *lapses_at < now, ..status.clone() }).collect()
    }

    pub(super) fn list_lanes(&self, query: &LaneQuery) -> LanePage {
        let all_owners = query.owner.is_none() || self.has(Flaw::ListsLanesOfAllOwners);
        let wanted = |id: LaneId| query.lane.is_none_or(|one| one == id);
        let chosen = self
            .lanes
            .iter()
            .filter(|(id, lane)| wanted(**id) && (all_owners || query.owner.as_ref() == Some(&lane.owner)));
        let mut found: Vec<_> = chosen.filter_map(|(id, lane)| self.status(*id, lane)).collect();
        found.sort_by_key(|status| match query.order {
            LaneOrder::Depth => (Reverse(status.waiting), Reverse(status.oldest)),
            LaneOrder::Age => (Reverse(0), Reverse(status.oldest)),
        });
        let before = query.after.map_or(0, |cursor| cursor.skip);
        let skip = if self.has(Flaw::RepeatsPages) { before.saturating_sub(1) } else { before };
        let until = before + u32::from(query.limit);
        let next =
            (found.len() > until as usize).then_some(LaneCursor { after: LaneId(Uuid::nil()), skip: until });
        let lanes = found.into_iter().skip(skip as usize).take(query.limit.into()).collect();
        LanePage { lanes, next }
    }

    fn status(&self, id: LaneId, lane: &Lane) -> Option<LaneStatus> {
        let now = self.now();
        let oldest = lane.ready.values().map(|job| now.saturating_sub(self.jobs[job].at)).max()?;
        let paused_for = lane.paused_until.saturating_sub(now);
        let pause = match lane.held {
            [true, _] => Some(LanePause::Held),
            [_, true] => Some(LanePause::OwnerHeld),
            _ if !paused_for.is_zero() && lane.probing => Some(LanePause::Paused(paused_for)),
            _ if !paused_for.is_zero() => Some(LanePause::AwaitsRetry(paused_for)),
            _ => lane.probing.then_some(LanePause::Probing),
        };
        Some(LaneStatus {
            lane: id,
            owner: lane.owner.clone(),
            settings: lane.settings,
            waiting: lane.ready.len() as u64,
            scheduled: self.scheduled.iter().filter(|(_, job)| self.jobs[job].new.lane == id).count() as u64,
            more: false,
            running: lane.running.into(),
            oldest,
            pause: pause.filter(|_| !self.has(Flaw::ForgetsWhyItIsClosed)),
        })
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap()
}
