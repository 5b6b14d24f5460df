//! How much work the expressions about one event may do together.
//!
//! The library counts nothing, but what grows with an event is ours: the turns of loops over its lists and maps, and comparisons
//! with them. Once the steps are used up, loops end and nothing is equal any more, and the result is not used.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

/// The steps of all expressions about one event. A turn of a loop takes as many as its expression has nodes, a comparison one.
pub(crate) const MOST: u32 = 2_000_000;

thread_local! {
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
}

/// The evaluation on this thread.
#[derive(Clone, Copy)]
struct Running {
    left: u32,
    /// What a turn of a loop takes.
    turn: u32,
}

/// What is left for an event.
#[derive(Debug)]
pub(crate) struct Steps(AtomicU32);

impl Default for Steps {
    fn default() -> Self {
        Self(AtomicU32::new(MOST))
    }
}

impl Steps {
    /// Evaluates an expression of so many nodes. `None` if that has used up what was left.
    pub(crate) fn within<T>(&self, nodes: u32, evaluate: impl FnOnce() -> T) -> Option<T> {
        let left = self.0.load(Ordering::Relaxed);
        if left == 0 {
            return None;
        }
        RUNNING.set(Some(Running { left, turn: nodes }));
        let value = evaluate();
        let left = RUNNING.take().map_or(0, |running| running.left);
        self.0.store(left, Ordering::Relaxed);
        (left > 0).then_some(value)
    }
}

/// Takes the steps of a turn of a loop. Returns whether there were any left.
pub(crate) fn turn() -> bool {
    take(|running| running.turn)
}

/// Takes the step of a comparison. Returns whether there was one left.
pub(crate) fn comparison() -> bool {
    take(|_| 1)
}

fn take(steps: impl FnOnce(Running) -> u32) -> bool {
    let Some(running) = RUNNING.get() else { return true };
    let left = running.left.saturating_sub(steps(running));
    RUNNING.set(Some(Running { left, ..running }));
    left > 0
}
