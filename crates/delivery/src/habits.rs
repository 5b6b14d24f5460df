//! What receivers have shown of themselves, so that the next connection suits them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::origin::Origin;

/// The habits of the receivers that have some. Most have none.
#[derive(Debug, Default)]
pub(crate) struct Habits {
    known: HashMap<Origin, Habit>,
    /// In the order in which they were learnt.
    order: VecDeque<Origin>,
}

#[derive(Debug, Default)]
struct Habit {
    /// The receiver requires HTTP/1.1 until then.
    http1_until: Option<Instant>,
    /// The number of requests that a connection serves before the receiver ends it.
    requests: Option<usize>,
    /// How many connections have served that number since it was learnt.
    filled: u32,
}

/// The number of receivers to remember. A forgotten one is learnt again with its next connection.
const MAX_KNOWN: usize = 4096;
/// How long to use HTTP/1.1 for a receiver that requires it.
const HTTP1_FOR: Duration = Duration::from_hours(24);
/// A receiver may have ended a connection for another reason than the number of its requests, as when it restarted. So
/// the number is doubled whenever this many connections have served it.
const FILLED_BEFORE_GROWTH: u32 = 16;
/// A number of requests from which a connection is not limited.
const UNLIMITED: usize = 10_000;

impl Habits {
    pub(crate) fn requires_http1(&self, origin: &Origin) -> bool {
        let until = self.known.get(origin).and_then(|habit| habit.http1_until);
        until.is_some_and(|until| until > Instant::now())
    }

    /// Returns how many requests a connection serves.
    pub(crate) fn requests(&self, origin: &Origin) -> usize {
        self.known.get(origin).and_then(|habit| habit.requests).unwrap_or(usize::MAX)
    }

    /// The receiver requires HTTP/1.1.
    pub(crate) fn learn_http1(&mut self, origin: &Origin) {
        self.entry(origin).http1_until = Some(Instant::now() + HTTP1_FOR);
    }

    /// The receiver processed only `requests` requests of a connection.
    pub(crate) fn learn_requests(&mut self, origin: &Origin, requests: usize) {
        let habit = self.entry(origin);
        if habit.requests.is_none_or(|before| requests < before) {
            habit.requests = Some(requests.max(1));
        }
        habit.filled = 0;
    }

    /// A connection has got as many requests as it serves.
    pub(crate) fn filled(&mut self, origin: &Origin) {
        let Some(habit) = self.known.get_mut(origin) else { return };
        habit.filled += 1;
        if habit.filled >= FILLED_BEFORE_GROWTH {
            habit.filled = 0;
            habit.requests = habit.requests.map(|requests| requests * 2).filter(|more| *more < UNLIMITED);
        }
    }

    fn entry(&mut self, origin: &Origin) -> &mut Habit {
        if !self.known.contains_key(origin) {
            if self.order.len() >= MAX_KNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.order.push_back(origin.clone());
        }
        self.known.entry(origin.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(port: usize) -> Origin {
        Origin { https: true, host: format!("r{port}.test").into(), port: 443, client_tls: None, proxy: None }
    }

    #[tokio::test(start_paused = true)]
    async fn http1_is_remembered_for_a_day() {
        let mut habits = Habits::default();
        assert!(!habits.requires_http1(&origin(1)));
        habits.learn_http1(&origin(1));
        assert!(habits.requires_http1(&origin(1)) && !habits.requires_http1(&origin(2)));
        tokio::time::advance(HTTP1_FOR).await;
        assert!(!habits.requires_http1(&origin(1)));
    }

    #[test]
    fn the_least_number_of_requests_is_remembered_and_grows_again() {
        let mut habits = Habits::default();
        assert_eq!(habits.requests(&origin(1)), usize::MAX);
        for requests in [9, 5, 7] {
            habits.learn_requests(&origin(1), requests);
        }
        assert_eq!(habits.requests(&origin(1)), 5);
        for _ in 0..FILLED_BEFORE_GROWTH {
            habits.filled(&origin(1));
        }
        assert_eq!(habits.requests(&origin(1)), 10);
        for _ in 0..20 * FILLED_BEFORE_GROWTH {
            habits.filled(&origin(1));
        }
        assert_eq!(habits.requests(&origin(1)), usize::MAX);
        habits.learn_requests(&origin(1), 0);
        assert_eq!(habits.requests(&origin(1)), 1);
    }

    #[test]
    fn the_number_of_receivers_is_bounded() {
        let mut habits = Habits::default();
        for port in 0..MAX_KNOWN + 10 {
            habits.learn_requests(&origin(port), 1);
        }
        assert_eq!((habits.known.len(), habits.order.len()), (MAX_KNOWN, MAX_KNOWN));
        assert_eq!(habits.requests(&origin(9)), usize::MAX);
        assert_eq!(habits.requests(&origin(10)), 1);
    }
}
