//! Sandboxes over HTTP: how many calls of them run at once, and how a connection is closed.

use tokio::sync::Semaphore;

/// How many requests to sandboxes run at once, most of which wait as their scripts say, and how many clients wait for requests.
const MAX_CALLS: usize = 128;
const MAX_WAITS: usize = 64;

/// The places of those who call sandboxes, or wait for requests to them.
#[derive(Debug)]
pub(crate) struct Receivers {
    pub(crate) calls: Semaphore,
    pub(crate) waits: Semaphore,
}

impl Default for Receivers {
    fn default() -> Self {
        Self { calls: Semaphore::new(MAX_CALLS), waits: Semaphore::new(MAX_WAITS) }
    }
}

/// A mark on a response: the server closes the connection instead of sending it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CloseWithoutAnswer;
