//! Time: waiting, and converting the receivers' monotonic clock to the wall clock that logs and database use.

use std::time::{Duration, Instant};

use postrider_core::{Clock as _, SystemClock};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Milliseconds since the Unix epoch by this machine's clock, which is also the database's.
pub(crate) fn now() -> i64 {
    SystemClock.now().millis()
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

/// Waits for `duration`, or until the run's faults end.
pub(crate) async fn wait(duration: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = sleep(duration) => {}
        () = stop.cancelled() => {}
    }
}

/// Ties [`Instant`]s to the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor {
    instant: Instant,
    millis: i64,
}

impl Anchor {
    pub(crate) fn new() -> Self {
        Self { instant: Instant::now(), millis: now() }
    }

    /// The wall-clock time of an instant, in Unix milliseconds.
    pub(crate) fn millis(self, instant: Instant) -> i64 {
        self.millis + millis(instant.saturating_duration_since(self.instant))
    }
}
