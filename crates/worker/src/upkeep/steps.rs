//! Work in small steps, with rests that leave the database to other work for half of the time at least.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The steps of one run of a task.
pub(super) struct Steps {
    least_rest: Duration,
    /// No step begins after this. The next run continues.
    until: Option<Instant>,
    began: Option<Instant>,
}

impl Steps {
    /// Steps for a second.
    pub(super) fn for_a_second() -> Self {
        Self { least_rest: Duration::ZERO, until: Some(Instant::now() + Duration::from_secs(1)), began: None }
    }

    /// Steps until nothing is left, with rests of this length at least.
    pub(super) fn with_rests(least_rest: Duration) -> Self {
        Self { least_rest, until: None, began: None }
    }

    /// Rests for as long as the last step took. Returns whether there is time for another one.
    pub(super) async fn next(&mut self) -> bool {
        if let Some(began) = self.began {
            sleep(began.elapsed().max(self.least_rest)).await;
        }
        let now = Instant::now();
        self.began = Some(now);
        self.until.is_none_or(|until| now < until)
    }
}
