//! The logs and traces of a program: set up at its start, flushed at its end.
//!
//! Logs go to standard error, because standard output is for the program's results. Logging never waits for the reader of
//! standard error: see [`crate::output`]. Levels: error if an operator must act, warn for what may become that, info for
//! the life cycle, debug for each attempt.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write as _};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterFn, LevelFilter, ParseError};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::context;
use crate::metric::{self, Program};
use crate::output::Output;
use crate::trace::{Otlp, OtlpError};

/// The default log filter.
pub const DEFAULT_FILTER: &str = "info";

/// The longest time that [`Guard::shutdown`] waits for the last spans to be exported.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest time that [`flush`] waits for the reader of standard error.
pub const LAST_LINES_TIMEOUT: Duration = Duration::from_millis(500);

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// A JSON object per line, for machines.
    Json,
}

/// The configuration of logs and traces.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to log, in the syntax of [`EnvFilter`]: `info`, `warn,postrider_worker=debug`, …
    pub log_filter: String,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The program. Its name is the service name of its traces, unless the environment sets one.
    pub program: Program,
    /// Where to export traces; `None` exports none.
    pub otlp: Option<Otlp>,
}

impl Config {
    /// Text logs of level info and above, and no traces.
    pub fn new(program: Program) -> Self {
        Self { log_filter: DEFAULT_FILTER.to_owned(), log_format: LogFormat::default(), program, otlp: None }
    }
}

/// Why logs and traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter is invalid.
    #[error(
        "`{filter}` is not a log filter; expected a level such as `info`, or `warn,postrider_worker=debug`"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// The error of the parser.
        source: ParseError,
    },
    /// Traces cannot be exported.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// Standard error cannot be written by a thread of its own.
    #[error("cannot write to standard error")]
    Output(#[source] io::Error),
    /// This process has set up its logs before.
    #[error("logging has already been set up in this process")]
    Installed(#[from] TryInitError),
}

/// Owns the trace exporter. Call [`Guard::shutdown`] at the program's end to export the remaining spans.
#[must_use = "without `shutdown` the last spans may be lost"]
#[derive(Debug)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

/// Sets up logs, and traces if `config` has a destination for them. Call it once, inside the program's Tokio runtime.
///
/// # Errors
/// Fails if the filter is invalid, the exporter cannot be built, or this is not the first call.
pub fn init(config: &Config) -> Result<Guard, Error> {
    let filter = EnvFilter::builder()
        .parse(&config.log_filter)
        .map_err(|source| Error::Filter { filter: config.log_filter.clone(), source })?;
    let output = stderr().map_err(Error::Output)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(move || output.clone());
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let provider = config.otlp.as_ref().map(|otlp| otlp.provider(config.program.name())).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        let filter = FilterFn::new(is_exported).with_max_level_hint(LevelFilter::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("postrider"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter)
    });
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init()?;
    if let Some(provider) = &provider {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        opentelemetry::global::set_tracer_provider(provider.clone());
        context::exporting(true);
    }
    Ok(Guard { provider })
}

/// Returns whether to export a span or an event: Postrider's spans from debug up, and its events from info up. Each export
/// would create more spans of the exporter and its HTTP client, without end.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let lowest = if metadata.is_span() { Level::DEBUG } else { Level::INFO };
    metadata.target().starts_with("postrider") && *metadata.level() <= lowest
}

impl Guard {
    /// Exports the remaining spans and closes the exporter. Gives up after `limit` or [`FLUSH_TIMEOUT`], whichever is
    /// less, and the remaining spans are lost.
    pub async fn shutdown(mut self, limit: Duration) {
        let limit = limit.min(FLUSH_TIMEOUT);
        let Some(provider) = self.provider.take() else { return };
        // The call blocks until the exporter's thread has sent the spans, for which that thread needs this runtime.
        let closed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit));
        // The SDK bounds its own wait, but not an export that is already running.
        match tokio::time::timeout(limit, closed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "exporting the last spans failed"),
            Ok(Err(_)) | Err(_) => tracing::warn!(?limit, "exporting the last spans timed out"),
        }
    }
}

impl Drop for Guard {
    /// Flushes the last spans when the program ends early, but waits for one second only.
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take() {
            let _ = provider.shutdown_with_timeout(Duration::from_secs(1));
        }
    }
}

/// Returns the output that everything on standard error goes through, so that lines stay whole and in order.
fn stderr() -> io::Result<&'static Output> {
    static STDERR: OnceLock<Output> = OnceLock::new();
    if let Some(output) = STDERR.get() {
        return Ok(output);
    }
    let dropped = |lines| metrics::counter!(metric::LOG_LINES_DROPPED).increment(lines);
    let reported = |lines| tracing::warn!(lines, "log lines dropped; nobody read standard error in time");
    let output = Output::stderr(dropped, reported)?;
    Ok(STDERR.get_or_init(|| output))
}

/// Prints a line on standard error, after the log lines so far. Like them it is dropped if nobody reads.
pub fn print(line: &str) {
    if let Ok(output) = stderr() {
        let _ = output.clone().write(format!("{line}\n").as_bytes());
    }
}

/// Waits until the last log lines have been written, or until [`LAST_LINES_TIMEOUT`] has passed because nobody reads them.
/// Blocks; call it last.
pub fn flush() {
    if let Ok(output) = stderr() {
        output.flush_within(LAST_LINES_TIMEOUT);
    }
}

/// Logs panics instead of printing them, because printing waits for the reader of standard error. For programs.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let thread = thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        let error = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(thread, error, %backtrace, "panicked at {place}");
        } else {
            tracing::error!(thread, error, "panicked at {place}");
        }
    }));
}
