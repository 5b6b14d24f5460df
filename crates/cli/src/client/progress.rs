//! How far a long command has come, on standard error, where that is a terminal.

use std::io::{self, IsTerminal as _};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long a command runs before it shows its progress. Most end earlier.
const QUIET: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(200);

/// A bar that is there until this is dropped; nothing where standard error is not a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Shows how many of a number of things are done.
    pub(crate) fn new(what: &'static str) -> Self {
        Self::styled(what, "{msg} [{bar:30}] {pos}/{len}, {elapsed}")
    }

    /// Counts what is done, where nobody knows how much there is.
    pub(crate) fn counting(what: &'static str) -> Self {
        Self::styled(what, "{spinner} {pos} {msg}, {elapsed}")
    }

    fn styled(what: &'static str, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_message(what);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        if io::stderr().is_terminal() {
            let shown_later = bar.downgrade();
            thread::spawn(move || {
                thread::sleep(QUIET);
                if let Some(bar) = shown_later.upgrade().filter(|bar| !bar.is_finished()) {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(TICK);
                }
            });
        }
        Self { bar }
    }

    /// Shows that so many are done, of so many.
    pub(crate) fn set(&self, done: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(done);
    }

    /// Shows that so many more are done.
    pub(crate) fn add(&self, done: usize) {
        self.bar.inc(done as u64);
    }

    /// Prints something without the bar in its way.
    pub(crate) fn around<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
