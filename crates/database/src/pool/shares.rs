//! How many connections each purpose may have.

use crate::Purpose;

/// The number of connections in a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Not in use.
    pub idle: u32,
    /// In use.
    pub in_use: u32,
    /// The maximum.
    pub max: u32,
}

const PURPOSES: usize = 3;

/// The connections of a pool, counted.
#[derive(Debug, Default)]
pub(super) struct Shares {
    max: u32,
    idle: u32,
    in_use: [u32; PURPOSES],
    /// Purposes that have had a connection. The others have no share.
    seen: [bool; PURPOSES],
    /// Closed by this side, while the server may not have noticed.
    unnoticed: u32,
}

impl Shares {
    pub(super) fn new(max: u32) -> Self {
        Self { max, ..Self::default() }
    }

    pub(super) fn note(&mut self, purpose: Purpose) {
        self.seen[purpose.index()] = true;
    }

    pub(super) fn forget_purposes(&mut self) {
        self.seen = [false; PURPOSES];
    }

    pub(super) fn connections(&self) -> Connections {
        Connections { idle: self.idle, in_use: self.busy(), max: self.max }
    }

    /// Returns whether `purpose` may have one more connection. Each purpose has a share for itself: a quarter of all
    /// connections, or as many as each can have if there are few. Beyond its own, a purpose takes nothing from the shares
    /// of the others. While connections are scarce, there are only those that are open.
    pub(super) fn admits(&self, purpose: Purpose, is_scarce: bool) -> bool {
        let limit = if is_scarce { self.open() } else { self.max };
        let share = (self.max / 4).max(1).min(limit / self.purposes().max(1));
        let free = limit.saturating_sub(self.busy() + self.unnoticed);
        // Two purposes whose shares are not all left must not keep the rest free for each other.
        if self.in_use[purpose.index()] < share {
            return free > 0;
        }
        let others = (0..PURPOSES).filter(|&other| other != purpose.index() && self.seen[other]);
        let kept: u32 = others.map(|other| share.saturating_sub(self.in_use[other])).sum();
        free > kept
    }

    pub(super) fn may_open(&self) -> bool {
        self.open() < self.max
    }

    /// Counts a connection as in use, whether it was idle or is to be opened.
    pub(super) fn take(&mut self, purpose: Purpose, was_idle: bool) {
        self.idle -= u32::from(was_idle);
        self.in_use[purpose.index()] += 1;
    }

    pub(super) fn put_back(&mut self, purpose: Purpose, is_kept: bool, is_running: bool) {
        self.in_use[purpose.index()] -= 1;
        self.idle += u32::from(is_kept);
        self.unnoticed += u32::from(is_running);
    }

    /// The server has noticed that a connection was closed.
    pub(super) fn noticed(&mut self) {
        self.unnoticed -= 1;
    }

    /// Idle connections have been closed.
    pub(super) fn closed(&mut self, idle: usize) {
        self.idle -= u32::try_from(idle).unwrap_or(self.idle);
    }

    /// How many idle connections could be closed while one is left for each purpose.
    pub(super) fn surplus(&self) -> usize {
        (self.idle + self.busy()).saturating_sub(self.purposes()).min(self.idle) as usize
    }

    pub(super) fn give_up_one(&mut self) -> bool {
        let can = self.max > 1;
        self.max -= u32::from(can);
        can
    }

    fn purposes(&self) -> u32 {
        self.seen.iter().map(|&seen| u32::from(seen)).sum()
    }

    fn busy(&self) -> u32 {
        self.in_use.iter().sum()
    }

    fn open(&self) -> u32 {
        self.idle + self.busy() + self.unnoticed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes connections for `purpose` until there are no more.
    fn exhaust(shares: &mut Shares, purpose: Purpose) -> u32 {
        shares.note(purpose);
        let mut taken = 0;
        while shares.admits(purpose, false) && shares.may_open() {
            shares.take(purpose, false);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_single_purpose_may_have_all_connections() {
        for max in [1, 2, 16] {
            assert_eq!(exhaust(&mut Shares::new(max), Purpose::Delivery), max);
        }
    }

    #[test]
    fn every_purpose_keeps_a_share_that_the_others_cannot_take() {
        for (max, expected) in [(3, [1, 1, 1]), (4, [2, 1, 1]), (16, [8, 4, 4])] {
            let mut shares = Shares::new(max);
            for purpose in Purpose::ALL {
                shares.note(purpose);
            }
            let taken = Purpose::ALL.map(|purpose| exhaust(&mut shares, purpose));
            assert_eq!(taken, expected, "{max}");
        }
    }

    /// It must not wait for its share while the purposes that wait keep the rest free for each other.
    #[test]
    fn a_purpose_that_comes_late_takes_what_is_left() {
        let mut shares = Shares::new(16);
        shares.note(Purpose::Intake);
        shares.note(Purpose::Api);
        assert_eq!(exhaust(&mut shares, Purpose::Intake), 12);
        assert_eq!(exhaust(&mut shares, Purpose::Delivery), 4);
        assert_eq!(exhaust(&mut shares, Purpose::Api), 0);
    }

    #[test]
    fn fewer_connections_than_purposes_are_shared() {
        let mut shares = Shares::new(1);
        for purpose in Purpose::ALL {
            shares.note(purpose);
            assert!(shares.admits(purpose, false));
        }
        shares.take(Purpose::Api, false);
        assert!(!shares.admits(Purpose::Intake, false));
    }

    #[test]
    fn scarce_connections_are_shared_like_few_ones() {
        let mut shares = Shares::new(16);
        for purpose in [Purpose::Intake, Purpose::Api] {
            shares.note(purpose);
            shares.take(purpose, false);
            shares.put_back(purpose, true, false);
        }
        assert!(shares.admits(Purpose::Api, true));
        shares.take(Purpose::Api, true);
        assert!(!shares.admits(Purpose::Api, true), "the other connection is for events");
        assert!(shares.admits(Purpose::Intake, true));
    }

    #[test]
    fn one_idle_connection_is_kept_for_each_purpose() {
        let mut shares = Shares::new(16);
        for _ in 0..10 {
            shares.note(Purpose::Api);
            shares.take(Purpose::Api, false);
        }
        assert_eq!(shares.surplus(), 0);
        for _ in 0..10 {
            shares.put_back(Purpose::Api, true, false);
        }
        assert_eq!(shares.surplus(), 9);
        shares.note(Purpose::Intake);
        assert_eq!(shares.surplus(), 8);
    }
}
