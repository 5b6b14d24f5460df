//! What a command has to say, on standard output.
//!
//! Standard output may be closed (`postrider demo | head -1`) or a pipe that nobody reads. Neither may stop deliveries.

use std::fmt;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use postrider_telemetry::output::Output;

/// How long the program's end waits for the reader.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(2);

/// `None` if standard output is closed.
fn stdout() -> Option<&'static Output> {
    static STDOUT: OnceLock<Option<Output>> = OnceLock::new();
    STDOUT.get_or_init(|| Output::stdout().ok()).as_ref()
}

/// Prints a line, or several.
pub(crate) fn say(lines: fmt::Arguments<'_>) {
    if let Some(output) = stdout() {
        let _ = output.clone().write_all(format!("{lines}\n").as_bytes());
    }
}

/// Waits for the reader of the last lines, but not for ever.
pub(crate) fn flush() {
    if let Some(output) = stdout() {
        output.flush_within(LAST_LINES_TIMEOUT);
    }
}
