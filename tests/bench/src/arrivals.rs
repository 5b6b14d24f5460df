//! Arrival times by subscriber and event.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// The arrivals of a run: one entry for each event at each subscriber.
#[derive(Debug)]
pub(crate) struct Arrivals {
    start: Instant,
    /// Microseconds since `start`; 0 means not yet arrived.
    at: Vec<Vec<AtomicU32>>,
    arrived: AtomicU64,
    repeated: AtomicU64,
    last: AtomicU32,
}

impl Arrivals {
    pub(crate) fn new(subscribers: usize, events: usize) -> Self {
        let row = || (0..events).map(|_| AtomicU32::new(0)).collect();
        Self {
            start: Instant::now(),
            at: (0..subscribers).map(|_| row()).collect(),
            arrived: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            last: AtomicU32::new(0),
        }
    }

    /// The age of the run in microseconds.
    pub(crate) fn now(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_micros()).unwrap_or(u32::MAX).max(1)
    }

    pub(crate) fn note(&self, subscriber: usize, event: usize) {
        let Some(place) = self.at.get(subscriber).and_then(|row| row.get(event)) else { return };
        let now = self.now();
        if place.compare_exchange(0, now, Relaxed, Relaxed).is_ok() {
            self.arrived.fetch_add(1, Relaxed);
            self.last.fetch_max(now, Relaxed);
        } else {
            self.repeated.fetch_add(1, Relaxed);
        }
    }

    /// When an event arrived at a subscriber, in microseconds since the start of the run.
    pub(crate) fn at(&self, subscriber: usize, event: usize) -> Option<u32> {
        let at = self.at.get(subscriber)?.get(event)?.load(Relaxed);
        (at > 0).then_some(at)
    }

    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Relaxed)
    }

    /// The number of repeated arrivals.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Relaxed)
    }

    /// The time from a moment of the run until the last first-time arrival.
    pub(crate) fn took_since(&self, from: u32) -> Duration {
        Duration::from_micros(self.last.load(Relaxed).saturating_sub(from).into())
    }

    /// Waits until `count` deliveries have arrived; gives up after half a minute without an arrival.
    pub(crate) async fn wait_for(&self, expected: u64) {
        let mut before = (self.arrived(), Instant::now());
        while self.arrived() < expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if self.arrived() > before.0 {
                before = (self.arrived(), Instant::now());
            } else if before.1.elapsed() > Duration::from_secs(30) {
                return;
            }
        }
    }
}
