//! How far an attempt has got and how long each phase took, so that a timeout can say what it was waiting for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What an attempt is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Nothing yet.
    Start,
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
    /// The rest of the response.
    Body,
}

impl Phase {
    const ALL: [Self; 7] =
        [Self::Start, Self::Dns, Self::Proxy, Self::Connect, Self::Tls, Self::Headers, Self::Body];
}

/// How long the phases of an attempt took. A phase that was not entered is `None`: an attempt that reuses a connection
/// does not resolve, connect or shake hands. If a request was sent again, its phases are added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Resolving the host.
    pub resolve: Option<Duration>,
    /// Connecting to the receiver, through the egress proxy if there is one.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the end of the above until the headers of the response.
    pub first_byte: Option<Duration>,
    /// From the headers until the end of the response.
    pub body: Option<Duration>,
}

/// The phases and the deadline of one attempt, shared by the attempt and its connector.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<Marks>);

#[derive(Debug)]
struct Marks {
    started: Instant,
    deadline: Instant,
    phase: AtomicU8,
    /// When the current phase began, in microseconds since `started`.
    entered: AtomicU64,
    /// One more than the microseconds spent in each phase; 0 if it was not entered.
    spent: [AtomicU64; Phase::ALL.len()],
}

impl Progress {
    /// The progress of an attempt that begins now and ends at `deadline`.
    pub(crate) fn until(deadline: Instant) -> Self {
        Self(Arc::new(Marks {
            started: Instant::now(),
            deadline,
            phase: AtomicU8::new(Phase::Start as u8),
            entered: AtomicU64::new(0),
            spent: Default::default(),
        }))
    }

    /// Returns the deadline of the attempt.
    pub(crate) fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// Returns the deadline of a step that may take `timeout`: at the latest the attempt's own deadline.
    pub(crate) fn within(&self, timeout: Duration) -> Instant {
        self.0.deadline.min(Instant::now() + timeout)
    }

    /// Ends the current phase and begins `phase`.
    pub(crate) fn enter(&self, phase: Phase) {
        let marks = &*self.0;
        let now = u64::try_from(marks.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let before = marks.entered.swap(now, Ordering::Relaxed);
        let ended = marks.phase.swap(phase as u8, Ordering::Relaxed);
        if let Some(spent) = marks.spent.get(usize::from(ended)) {
            let total = spent.load(Ordering::Relaxed).max(1).saturating_add(now.saturating_sub(before));
            spent.store(total, Ordering::Relaxed);
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        let phase = usize::from(self.0.phase.load(Ordering::Relaxed));
        Phase::ALL.get(phase).copied().unwrap_or(Phase::Body)
    }

    /// Ends the current phase, and returns how long each took.
    pub(crate) fn end(&self) -> Timings {
        self.enter(Phase::Start);
        let spent = |phase: Phase| {
            let spent = self.0.spent.get(phase as usize)?.load(Ordering::Relaxed);
            spent.checked_sub(1).map(Duration::from_micros)
        };
        let connect = match (spent(Phase::Proxy), spent(Phase::Connect)) {
            (None, connect) => connect,
            (Some(proxy), connect) => Some(proxy + connect.unwrap_or_default()),
        };
        Timings {
            resolve: spent(Phase::Dns),
            connect,
            tls: spent(Phase::Tls),
            first_byte: spent(Phase::Headers),
            body: spent(Phase::Body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress::until(Instant::now() + Duration::from_mins(1))
    }

    #[test]
    fn clones_share_the_phase() {
        let progress = progress();
        assert_eq!(progress.phase(), Phase::Start);
        for phase in Phase::ALL {
            progress.enter(phase);
            assert_eq!(progress.clone().phase(), phase);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn phases_are_timed_and_added_up() {
        let progress = progress();
        let spend = async |phase, millis| {
            progress.enter(phase);
            tokio::time::advance(Duration::from_millis(millis)).await;
        };
        spend(Phase::Dns, 1).await;
        spend(Phase::Proxy, 2).await;
        spend(Phase::Connect, 3).await;
        spend(Phase::Headers, 4).await;
        spend(Phase::Connect, 5).await;
        spend(Phase::Headers, 0).await;
        let millis = |millis| Some(Duration::from_millis(millis));
        let timings =
            Timings { resolve: millis(1), connect: millis(10), tls: None, first_byte: millis(4), body: None };
        assert_eq!(progress.end(), timings);
    }
}
