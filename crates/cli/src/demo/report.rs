//! The result of the demo: a table, and whether every check passed.

use std::fmt;

use postrider_core::{DeliveryStatus, TenantId};
use postrider_program::StartError;
use postrider_store::deliveries::{Delivery, DeliveryFilter};
use postrider_store::subscribers::Subscriber;
use postrider_store::{PageRequest, Store};

use super::DELAYS;
use super::receivers::{Character, Log, Receiver};
use crate::say::say;

/// The deliveries of each receiver, and what it received.
#[derive(Debug)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    character: Character,
    deliveries: Vec<Delivery>,
    log: Log,
    events: usize,
}

impl Report {
    pub(crate) async fn make(
        store: &Store,
        receivers: &[(Receiver, Subscriber)],
        events: usize,
    ) -> Result<Self, StartError> {
        let mut lines = Vec::new();
        for (receiver, subscriber) in receivers {
            let filter = DeliveryFilter { subscriber: Some(subscriber.id), ..DeliveryFilter::default() };
            let page = store.deliveries(&TenantId::default(), &filter, PageRequest::default()).await?;
            lines.push(Line {
                character: receiver.character(),
                deliveries: page.items,
                log: receiver.log(),
                events,
            });
        }
        Ok(Self { lines })
    }

    /// Prints that all checks passed.
    ///
    /// # Errors
    /// Fails if the deliveries to a receiver did not end as expected, and names the receiver.
    pub(crate) fn verdict(&self) -> Result<(), StartError> {
        let wrong: Vec<_> =
            self.lines.iter().filter(|line| !line.passed()).map(|line| line.character.as_str()).collect();
        if wrong.is_empty() {
            say(format_args!(
                "All checks passed: every event reached each working receiver exactly once, and none was lost."
            ));
            return Ok(());
        }
        Err(format!("checks failed for the deliveries to: {}", wrong.join(", ")).into())
    }
}

impl Line {
    fn count(&self, status: DeliveryStatus) -> usize {
        self.deliveries.iter().filter(|delivery| delivery.status == status).count()
    }

    fn attempts(&self) -> usize {
        self.deliveries.iter().map(|delivery| delivery.attempts as usize).sum()
    }

    fn passed(&self) -> bool {
        let (end, attempts) = match self.character {
            Character::Healthy => (DeliveryStatus::Succeeded, 1),
            Character::Flaky => (DeliveryStatus::Succeeded, 3),
            Character::Dead => (DeliveryStatus::Dead, 1 + DELAYS.len()),
        };
        self.count(end) == self.events
            && self.attempts() == attempts * self.events
            && self.log.requests == self.attempts()
            && self.log.verified == self.log.requests
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["receiver", "deliveries", "succeeded", "dead", "attempts", "received", "verified", ""];
        let mut rows = vec![head.map(str::to_owned)];
        for line in &self.lines {
            rows.push([
                line.character.as_str().to_owned(),
                line.deliveries.len().to_string(),
                line.count(DeliveryStatus::Succeeded).to_string(),
                line.count(DeliveryStatus::Dead).to_string(),
                line.attempts().to_string(),
                line.log.requests.to_string(),
                line.log.verified.to_string(),
                if line.passed() { "ok" } else { "FAILED" }.to_owned(),
            ]);
        }
        for row in rows {
            let [name, numbers @ .., verdict] = row;
            write!(f, "{name:<9}")?;
            for number in numbers {
                write!(f, "{number:>12}")?;
            }
            writeln!(f, "  {verdict}")?;
        }
        Ok(())
    }
}
