//! Faults in random order, each once before any comes again.

use std::time::Duration;

use fastrand::Rng;
use tokio_util::sync::CancellationToken;

use crate::moment::wait;

pub(crate) struct Deck<T> {
    all: Vec<T>,
    left: Vec<T>,
    /// The pause before each fault, in milliseconds.
    pause: std::ops::Range<u64>,
}

impl<T: Copy> Deck<T> {
    pub(crate) fn of(all: impl IntoIterator<Item = T>, pause: std::ops::Range<u64>) -> Self {
        Self { all: all.into_iter().collect(), left: Vec::new(), pause }
    }

    /// Waits for the time of the next fault, and draws it. `None` after `stop`, or if there are no faults.
    pub(crate) async fn draw(&mut self, rng: &mut Rng, stop: &CancellationToken) -> Option<T> {
        wait(Duration::from_millis(rng.u64(self.pause.clone())), stop).await;
        if stop.is_cancelled() {
            return None;
        }
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            rng.shuffle(&mut self.left);
        }
        self.left.pop()
    }
}
