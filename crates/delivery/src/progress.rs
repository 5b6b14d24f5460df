//! How far an attempt has come, so that a timeout can say what it was waiting for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    /// The attempt on whose behalf the present task connects. The HTTP client hands its connector
    /// nothing but a URI, so this travels beside it.
    pub(crate) static PROGRESS: Progress;
}

/// What an attempt waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The name's addresses.
    Dns,
    /// A connection to the egress proxy.
    Proxy,
    /// A connection to the receiver.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The answer's headers.
    Headers,
}

/// The phase and the deadline of one attempt, shared between the attempt and its connector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    phase: Arc<AtomicU8>,
    deadline: Option<Instant>,
}

impl Progress {
    /// Of an attempt that ends at `deadline`.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { phase: Arc::default(), deadline: Some(deadline) }
    }

    /// That of the attempt which the present task makes; a fresh one where there is none.
    pub(crate) fn current() -> Self {
        PROGRESS.try_with(Self::clone).unwrap_or_default()
    }

    /// When what takes at most `timeout` must be done: not after the attempt's own deadline.
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
    fn every_phase_comes_back() {
        let progress = Progress::default();
        assert_eq!(progress.phase(), Phase::Dns);
        for phase in [Phase::Proxy, Phase::Connect, Phase::Tls, Phase::Headers, Phase::Dns] {
            progress.enter(phase);
            assert_eq!(progress.clone().phase(), phase);
        }
    }
}
