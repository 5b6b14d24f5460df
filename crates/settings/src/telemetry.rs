//! Logs, traces and the telemetry address.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use postrider_telemetry::{Config, Otlp, Program};

use crate::SettingsError;

/// Logs and telemetry.
#[derive(Args, Clone, Debug)]
#[command(
    next_help_heading = "Logs and telemetry",
    after_help = "Traces are exported when OTEL_EXPORTER_OTLP_ENDPOINT is set; OpenTelemetry's other variables \
        (OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_TRACES_SAMPLER, …) apply too."
)]
pub struct TelemetryArgs {
    /// Address of /metrics, /healthz and /readyz, which need no key
    // The worker has a different default: see `entry`.
    #[arg(
        long,
        env = "POSTRIDER_TELEMETRY_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9464"
    )]
    pub telemetry_listen: SocketAddr,

    /// What to log: a level (error, warn, info, debug, trace), or levels by module: warn,postrider_worker=debug
    #[arg(long, env = "POSTRIDER_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// Format of log lines
    #[arg(long, env = "POSTRIDER_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// A JSON object per line, for machines.
    Json,
}

impl TelemetryArgs {
    /// Returns the address of `/metrics`, `/healthz` and `/readyz`.
    pub fn listen(&self) -> SocketAddr {
        self.telemetry_listen
    }

    /// Returns what [`postrider_telemetry::init`] sets up. Reads OpenTelemetry's own variables.
    ///
    /// # Errors
    /// Fails if one of those is invalid.
    pub fn config(&self, program: Program) -> Result<Config, SettingsError> {
        let otlp = Otlp::from_variables(|name| std::env::var(name).ok())?;
        let log_format = match self.log_format {
            LogFormat::Text => postrider_telemetry::LogFormat::Text,
            LogFormat::Json => postrider_telemetry::LogFormat::Json,
        };
        Ok(Config { log_filter: self.log.clone(), log_format, program, otlp })
    }
}
