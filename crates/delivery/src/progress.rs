//! How far an attempt has got, so that a timeout can say what it was waiting for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    /// The progress of the attempt for which the current task connects. The HTTP client passes its connector only a
    /// URI, so the progress travels in the task.
    pub(crate) static PROGRESS: Progress;
}

/// What an attempt is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The addresses of the host name.
    Dns,
    /// A connection to the egress proxy.
    Proxy,
    /// A connection to the receiver.
    Connect,
    /// The end of the TLS handshake.
    Tls,
    /// The headers of the response.
    Headers,
}

/// The phase and the deadline of one attempt, shared by the attempt and its connector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    phase: Arc<AtomicU8>,
    deadline: Option<Instant>,
}

impl Progress {
    /// The progress of an attempt that ends at `deadline`.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { phase: Arc::default(), deadline: Some(deadline) }
    }

    /// Returns the progress of the attempt that the current task makes, or a new one without a deadline if the task
    /// makes none.
    pub(crate) fn current() -> Self {
        PROGRESS.try_with(Self::clone).unwrap_or_default()
    }

    /// Returns the deadline of a step that may take `timeout`: at the latest the attempt's own deadline.
    pub(crate) fn within(&self, timeout: Duration) -> Instant {
        let end = Instant::now() + timeout;
        self.deadline.map_or(end, |deadline| deadline.min(end))
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Dns,
            1 => Phase::Proxy,
            2 => Phase::Connect,
            3 => Phase::Tls,
            _ => Phase::Headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_phase() {
        let progress = Progress::default();
        assert_eq!(progress.phase(), Phase::Dns);
        for phase in [Phase::Proxy, Phase::Connect, Phase::Tls, Phase::Headers, Phase::Dns] {
            progress.enter(phase);
            assert_eq!(progress.clone().phase(), phase);
        }
    }
}
