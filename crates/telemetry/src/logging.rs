//! Logs and traces of a program: set up once, flushed at its end.
//!
//! Logs go to standard error, so that standard output is the program's own. Levels: error for what an
//! operator must act on, warn for what may become that, info for life-cycle, debug for each attempt.

use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterFn, LevelFilter, ParseError};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::context;
use crate::metric::Program;
use crate::trace::{Otlp, OtlpError};

/// What is logged when nobody says otherwise.
pub const DEFAULT_FILTER: &str = "info";

/// How long [`Guard::shutdown`] waits for the last spans to be exported.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object per line, for machines.
    Json,
}

/// What to set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is logged, in the language of [`EnvFilter`]: `info`, `warn,postrider_worker=debug`, …
    pub log_filter: String,
    /// How a log line looks.
    pub log_format: LogFormat,
    /// Which program this is: the traces' service name, unless the environment has another.
    pub program: Program,
    /// Where traces go; `None` exports none.
    pub otlp: Option<Otlp>,
}

impl Config {
    /// Text logs from info up and no traces.
    pub fn new(program: Program) -> Self {
        Self { log_filter: DEFAULT_FILTER.to_owned(), log_format: LogFormat::default(), program, otlp: None }
    }
}

/// Why logs and traces were not set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter is not understood.
    #[error(
        "the log filter `{filter}` is not understood: use for example `info` or `warn,postrider_worker=debug`"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Traces cannot be exported.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// Logs are set up already in this process.
    #[error("logging is set up already in this process")]
    Installed(#[from] TryInitError),
}

/// Keeps the exporter; [`Guard::shutdown`] at the program's end sends what it still holds.
#[must_use = "spans that are still held at the end are lost without `shutdown`"]
#[derive(Debug)]
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

/// Sets up logs, and traces if they go anywhere. Call it once, inside of the program's Tokio runtime.
///
/// # Errors
/// If the filter is not understood, the exporter cannot be built, or it was called before.
pub fn init(config: &Config) -> Result<Guard, Error> {
    let filter = EnvFilter::builder()
        .parse(&config.log_filter)
        .map_err(|source| Error::Filter { filter: config.log_filter.clone(), source })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
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

/// Postrider's own spans down to debug, its events down to info. The exporter's and the HTTP stack's
/// own spans would beget more of themselves with every export.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    let lowest = if metadata.is_span() { Level::DEBUG } else { Level::INFO };
    metadata.target().starts_with("postrider") && *metadata.level() <= lowest
}

impl Guard {
    /// Sends the spans that are still held and closes the exporter; gives up after [`FLUSH_TIMEOUT`].
    pub async fn shutdown(mut self) {
        let Some(provider) = self.provider.take() else { return };
        // It blocks until the exporter's thread answers, which needs this runtime to send.
        let closed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
        // The SDK's wait is bounded; this bounds the export that it might be in the middle of.
        match tokio::time::timeout(FLUSH_TIMEOUT * 2, closed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not exported"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans were not exported in time"),
        }
    }
}

impl Drop for Guard {
    /// For early ends only: asks for the last spans, but waits briefly.
    fn drop(&mut self) {
        if let Some(provider) = self.provider.take() {
            let _ = provider.shutdown_with_timeout(Duration::from_secs(1));
        }
    }
}
