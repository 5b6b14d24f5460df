//! Hints that there may be something to claim.

use tokio::sync::watch;

/// Hints that there may be something to claim.
///
/// Register before looking: call [`Wakeups::mark_seen`], then claim, then wait on
/// [`Wakeups::woken`]. A hint that comes in between is not missed.
#[derive(Clone, Debug)]
pub struct Wakeups(watch::Receiver<u64>);

impl Wakeups {
    /// Takes note of all hints so far.
    pub fn mark_seen(&mut self) {
        self.0.mark_unchanged();
    }

    /// Waits for a hint that was not taken note of. Never returns once the queue is gone.
    pub async fn woken(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The other end of [`Wakeups`]: what an implementation of [`JobQueue`](crate::JobQueue) rings.
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
    /// A bell that nobody listens to yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Hints all who listen. Never waits.
    pub fn ring(&self) {
        self.0.send_modify(|rung| *rung = rung.wrapping_add(1));
    }

    /// Hears what is rung from now on.
    pub fn listen(&self) -> Wakeups {
        Wakeups(self.0.subscribe())
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
