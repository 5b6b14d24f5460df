//! Named points at which a chaos test ends the process, as a crash there would.
//!
//! The variable `FAILPOINTS` says which, in the language of the crate `fail`: `answered=20*off->return`
//! is the 21st time. Without the feature `failpoints` nothing of this is in the program.

/// A crash may come here.
#[cfg(feature = "failpoints")]
pub(crate) fn point(name: &str) {
    fail::fail_point!(name, |_| std::process::abort());
}

/// A crash may come while this goes on.
#[cfg(feature = "failpoints")]
pub(crate) async fn during<T>(name: &str, work: impl Future<Output = T>) -> T {
    let crash = async {
        if fail::eval(name, |_| ()).is_none() {
            std::future::pending::<()>().await;
        }
        // Time for it to get under way.
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
