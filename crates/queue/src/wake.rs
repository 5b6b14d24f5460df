//! Wake-ups: hints that jobs may be ready.

use tokio::sync::watch;

/// Receives hints that jobs may be ready.
///
/// Call [`Wakeups::mark_seen`], then claim, then wait on [`Wakeups::woken`]: a hint that comes in between is not missed.
#[derive(Clone, Debug)]
pub struct Wakeups(watch::Receiver<u64>);

impl Wakeups {
    /// Marks all hints so far as seen.
    pub fn mark_seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for a hint that is not marked as seen. Never returns after the queue is dropped.
    pub async fn woken(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Sends hints to [`Wakeups`]; for implementations of [`JobQueue`](crate::JobQueue).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let bell = postrider_queue::Bell::default();
/// let mut wakeups = bell.listen();
/// bell.ring();
/// wakeups.woken().await;
/// # });
/// ```
#[derive(Debug)]
pub struct Bell(watch::Sender<u64>);

impl Bell {
    /// A bell without listeners.
    pub fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Sends a hint to all listeners. Never waits.
    pub fn ring(&self) {
        self.0.send_modify(|rung| *rung = rung.wrapping_add(1));
    }

    /// A listener for the hints from now on.
    pub fn listen(&self) -> Wakeups {
        Wakeups(self.0.subscribe())
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
