//! Named points at which a chaos test ends the process, as a crash there would.
//!
//! The variable `FAILPOINTS` names the point, in the syntax of the crate `fail`: `answered=20*off->return` is the 21st
//! time. Without the feature `failpoints` the functions do nothing.

/// Ends the process here if the chaos test says so.
#[cfg(feature = "failpoints")]
pub(crate) fn point(name: &str) {
    fail::fail_point!(name, |_| std::process::abort());
}

/// Ends the process during `work` if the chaos test says so.
#[cfg(feature = "failpoints")]
pub(crate) async fn during<T>(name: &str, work: impl Future<Output = T>) -> T {
    let crash = async {
        if fail::eval(name, |_| ()).is_none() {
            std::future::pending::<()>().await;
        }
        // Lets the work get under way first.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        std::process::abort()
    };
    tokio::select! {
        done = work => done,
        () = crash => std::process::abort(),
    }
}

#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn point(_name: &str) {}

#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn during<F: Future>(_name: &str, work: F) -> F {
    work
}
