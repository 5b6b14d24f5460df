//! Who this worker is, and its part among all that run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use postrider_queue::{CheckIn, Duties, WorkerId};
use tokio::time::Instant;

/// How long the duties hold that the last check-in returned, at least.
const HOLD: Duration = Duration::from_secs(5);

/// Who this worker is, and its part among all that run.
#[derive(Debug)]
pub(crate) struct Presence {
    id: WorkerId,
    host: String,
    /// What the last check-in returned, and until when it holds.
    duties: Mutex<(Duties, Instant)>,
}

impl Presence {
    pub(crate) fn new(id: WorkerId) -> Self {
        // The file is Linux's. The name is for people.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim().chars().take(255).collect();
        Self { id, host, duties: Mutex::new((Duties::default(), Instant::now())) }
    }

    pub(crate) fn id(&self) -> WorkerId {
        self.id
    }

    /// The part of this worker. One that cannot check in does everything.
    pub(crate) fn duties(&self) -> Duties {
        let (duties, until) = *self.duties.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() < until { duties } else { Duties::default() }
    }

    /// Takes note of what a check-in for so long returned.
    pub(crate) fn checked_in(&self, duties: Duties, lapse: Duration) {
        let until = Instant::now() + lapse.max(HOLD);
        *self.duties.lock().unwrap_or_else(PoisonError::into_inner) = (duties, until);
    }

    /// What this worker says about itself.
    pub(crate) fn check_in(&self, in_flight: usize, busy: bool, lapse: Duration) -> CheckIn {
        CheckIn {
            worker: self.id,
            host: self.host.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
            busy,
            lapse,
        }
    }
}
