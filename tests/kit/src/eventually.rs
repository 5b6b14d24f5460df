//! Waiting for a condition with a deadline, instead of sleeping for a guessed time.

use std::{panic::Location, time::Duration};

use tokio::time::{Instant, sleep};

const INTERVAL: Duration = Duration::from_millis(10);

/// Polls a condition until it returns a value. Panics with the caller's location if there is none by the deadline.
/// Polls at least once, and once more at the deadline.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::time::Duration;
///
/// let mut tries = 0;
/// let value = postrider_testkit::eventually(Duration::from_secs(5), || {
///     tries += 1;
///     let tries = tries;
///     async move { (tries == 3).then_some("done") }
/// })
/// .await;
/// assert_eq!(value, "done");
/// # });
/// ```
#[track_caller]
pub fn eventually<T, C, F>(deadline: Duration, mut condition: C) -> impl Future<Output = T>
where
    C: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let caller = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        loop {
            let is_last = Instant::now() >= end;
            if let Some(value) = condition().await {
                return value;
            }
            assert!(!is_last, "the condition at {caller} did not hold within {deadline:?}");
            sleep(INTERVAL).await;
        }
    }
}
