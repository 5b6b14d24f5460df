//! Attempts are counted correctly, never exceed the maximum, and never come early.

use uuid::Uuid;

use crate::{
    cluster::SCHEDULE,
    facts::{Attempt, Delivery, Facts},
};

/// Both times come from this machine's clock, but each is rounded to a millisecond.
const ROUNDING: i64 = 2;

pub(super) fn check(facts: &Facts) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, delivery) in &facts.deliveries {
        let attempts = facts.attempts_of(*id);
        if let Some(problem) = counted(delivery, attempts, facts.max_attempts(delivery))
            .or_else(|| scheduled(delivery, attempts))
        {
            wrong.push(format!("delivery {id}: {problem}: {delivery:?} {attempts:?}"));
        }
    }
    let without = |delivery: &&Uuid| !facts.deliveries.contains_key(*delivery);
    wrong
        .extend(facts.attempts.keys().filter(without).map(|id| format!("attempts without a delivery: {id}")));
    wrong
}

fn counted(delivery: &Delivery, attempts: &[Attempt], most: i32) -> Option<String> {
    let count = i32::try_from(attempts.len()).unwrap_or(i32::MAX);
    if count - delivery.round_start > most {
        return Some(format!("it has {count} attempts, but a round may have at most {most}"));
    }
    if count != delivery.attempts {
        return Some(format!("it counts {} attempts, but has {count}", delivery.attempts));
    }
    let numbered = attempts.iter().zip(1..).all(|(attempt, number)| attempt.number == number);
    (!numbered).then(|| "its attempts are not numbered consecutively from 1".to_owned())
}

fn scheduled(delivery: &Delivery, attempts: &[Attempt]) -> Option<String> {
    if attempts.first().is_some_and(|first| first.started_at + ROUNDING < delivery.created_at) {
        return Some("its first attempt is older than the delivery".to_owned());
    }
    // A new round begins at once, and only the start of the last one is stored.
    if delivery.round_start > 0 {
        return None;
    }
    let last = SCHEDULE.len() - 1;
    attempts.windows(2).enumerate().find_map(|(failed, pair)| {
        let due = pair[0].ended_at + SCHEDULE[failed.min(last)];
        let early = due - pair[1].started_at;
        (early > ROUNDING).then(|| format!("attempt {} was {early} ms early", pair[1].number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::SUCCEEDED;

    fn delivery(attempts: i32) -> Delivery {
        let (event, subscriber) = (Uuid::nil(), Uuid::nil());
        Delivery {
            event,
            subscriber,
            status: SUCCEEDED,
            attempts,
            round_start: 0,
            dead_reason: None,
            created_at: 1000,
        }
    }

    fn attempt(number: i32, started_at: i64) -> Attempt {
        Attempt { number, started_at, ended_at: started_at + 10, status: Some(500), resent: false }
    }

    #[test]
    fn attempts_in_order_and_on_time_are_right() {
        let attempts = [attempt(1, 1000), attempt(2, 1310), attempt(3, 1920)];
        assert_eq!(counted(&delivery(3), &attempts, 6), None);
        assert_eq!(scheduled(&delivery(3), &attempts), None);
    }

    #[test]
    fn wrong_counts_and_early_attempts_are_found() {
        assert!(counted(&delivery(1), &[attempt(1, 1000), attempt(1, 2000)], 6).is_some());
        assert!(counted(&delivery(2), &[attempt(1, 1000), attempt(1, 2000)], 6).is_some());
        let seven: Vec<_> = (1..=7).map(|number| attempt(number, 1000)).collect();
        assert!(counted(&delivery(7), &seven, 6).is_some());
        assert!(scheduled(&delivery(1), &[attempt(1, 990)]).is_some());
        assert!(scheduled(&delivery(2), &[attempt(1, 1000), attempt(2, 1300)]).is_some());
    }
}
