//! Sharing a bounded number of bytes among things of different sizes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Decides who may hold how many bytes at once.
///
/// - No more than the limit is held, except that something larger than the limit may hold its bytes alone.
/// - What does not fit waits. Smaller things that do fit pass it, so that nothing small waits for something large.
/// - Once the one that has waited longest has waited for the longest bypass, nothing passes it, so that it gets its
///   turn as well.
///
/// It is a rule without locks or timers: the owner calls it under its own lock, and wakes the tickets that
/// [`ByteBudget::admit`] returns.
///
/// ```
/// use postrider_core::budget::ByteBudget;
/// use std::time::{Duration, Instant};
///
/// let now = Instant::now();
/// let mut budget = ByteBudget::new(100, Duration::from_secs(1));
/// assert!(budget.take(80, now));
/// assert!(!budget.take(50, now));
/// budget.wait("large", 50, now);
/// assert!(budget.take(20, now), "smaller things pass");
/// budget.give_back(80);
/// assert_eq!(budget.admit(now), ["large"]);
/// assert_eq!(budget.used(), 70);
/// ```
#[derive(Debug)]
pub struct ByteBudget<T> {
    limit: usize,
    max_bypass: Duration,
    used: usize,
    /// In the order of their arrival.
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: T,
    bytes: usize,
    since: Instant,
}

impl<T> ByteBudget<T> {
    /// A budget of `limit` bytes, whose longest waiting ticket is passed by others for at most `max_bypass`.
    pub const fn new(limit: usize, max_bypass: Duration) -> Self {
        Self { limit, max_bypass, used: 0, waiting: VecDeque::new() }
    }

    /// Takes bytes, if there is room and nothing has waited too long. Returns whether it did.
    pub fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let may_pass = self.waiting.front().is_none_or(|first| !self.is_overdue(first, now));
        let takes = may_pass && self.fits(bytes);
        if takes {
            self.used = self.used.saturating_add(bytes);
        }
        takes
    }

    /// Adds a ticket that waits for bytes.
    pub fn wait(&mut self, ticket: T, bytes: usize, now: Instant) {
        self.waiting.push_back(Waiting { ticket, bytes, since: now });
    }

    /// Gives bytes back. Call [`ByteBudget::admit`] afterwards.
    pub const fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    /// Takes the bytes of all waiting tickets that fit now, and returns these tickets, oldest first.
    pub fn admit(&mut self, now: Instant) -> Vec<T> {
        let mut admitted = Vec::new();
        let mut place = 0;
        while let Some(next) = self.waiting.get(place) {
            if self.fits(next.bytes) {
                if let Some(next) = self.waiting.remove(place) {
                    self.used = self.used.saturating_add(next.bytes);
                    admitted.push(next.ticket);
                }
            } else if place == 0 && self.is_overdue(next, now) {
                break;
            } else {
                place += 1;
            }
        }
        admitted
    }

    /// Keeps only the waiting tickets for which `keep` returns true. Call [`ByteBudget::admit`] afterwards.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.waiting.retain(|waiting| keep(&waiting.ticket));
    }

    /// The bytes that are held.
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Something always fits when nothing is held, however large it is.
    const fn fits(&self, bytes: usize) -> bool {
        self.used == 0 || self.used.saturating_add(bytes) <= self.limit
    }

    fn is_overdue(&self, waiting: &Waiting<T>, now: Instant) -> bool {
        now.saturating_duration_since(waiting.since) >= self.max_bypass
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX_BYPASS: Duration = Duration::from_secs(10);

    #[test]
    fn what_exceeds_the_limit_runs_alone() {
        let now = Instant::now();
        let mut budget = ByteBudget::new(100, MAX_BYPASS);
        assert!(budget.take(60, now));
        assert!(!budget.take(500, now));
        budget.wait("huge", 500, now);
        assert!(budget.admit(now).is_empty());
        budget.give_back(60);
        assert_eq!(budget.admit(now), ["huge"]);
        assert!(!budget.take(1, now), "it is alone");
        budget.give_back(500);
        assert_eq!((budget.used(), budget.take(1, now)), (0, true));
    }

    #[test]
    fn nothing_passes_a_ticket_that_has_waited_too_long() {
        let now = Instant::now();
        let late = now + MAX_BYPASS;
        let mut budget = ByteBudget::new(100, MAX_BYPASS);
        assert!(budget.take(60, now));
        budget.wait("large", 90, now);
        budget.wait("small", 10, now);
        assert_eq!(budget.admit(now), ["small"], "the smaller one passes");
        budget.wait("other", 10, late);
        assert!(budget.admit(late).is_empty());
        assert!(!budget.take(10, late));
        budget.give_back(60);
        assert_eq!(budget.admit(late), ["large"], "used: 10 + 90");
        budget.give_back(10);
        assert_eq!(budget.admit(late), ["other"]);
    }

    #[test]
    fn a_ticket_that_left_holds_up_nothing() {
        let now = Instant::now();
        let mut budget = ByteBudget::new(100, MAX_BYPASS);
        assert!(budget.take(60, now));
        budget.wait("gone", 90, now);
        budget.wait("next", 40, now + MAX_BYPASS);
        budget.retain(|ticket| *ticket != "gone");
        assert_eq!(budget.admit(now + MAX_BYPASS), ["next"]);
    }

    proptest! {
        /// Whatever arrives in whatever order: the limit holds, and everything gets its turn.
        #[test]
        fn everything_is_admitted_within_the_limit(
            sizes in proptest::collection::vec(1_usize..150, 1..60), seconds in 0_u64..30,
        ) {
            let start = Instant::now();
            let mut budget = ByteBudget::new(100, MAX_BYPASS);
            let mut held = VecDeque::new();
            for (number, &bytes) in sizes.iter().enumerate() {
                let now = start + Duration::from_secs(seconds * number as u64);
                if budget.take(bytes, now) { held.push_back(bytes) } else { budget.wait(bytes, bytes, now) }
                prop_assert!(budget.used() <= 100 || held.len() == 1);
            }
            let end = start + Duration::from_hours(1);
            let mut done = 0;
            while let Some(bytes) = held.pop_front() {
                budget.give_back(bytes);
                done += 1;
                held.extend(budget.admit(end));
                prop_assert_eq!(budget.used(), held.iter().sum::<usize>());
                prop_assert!(budget.used() <= 100 || held.len() == 1);
            }
            prop_assert_eq!(done, sizes.len());
        }
    }
}
