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
        (OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_TRACES_SAMPLER, …) count too."
)]
pub struct TelemetryArgs {
    /// The address of /metrics, /healthz and /readyz
    // The worker's default is another: see `entry`.
    #[arg(
        long,
        env = "POSTRIDER_TELEMETRY_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9464"
    )]
    pub telemetry_listen: SocketAddr,

    /// What is logged: a level, or levels by module such as warn,postrider_worker=debug
    #[arg(long, env = "POSTRIDER_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// How a log line looks
    #[arg(long, env = "POSTRIDER_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object per line.
    Json,
}

impl TelemetryArgs {
    /// The address of `/metrics`, `/healthz` and `/readyz`.
    pub fn listen(&self) -> SocketAddr {
        self.telemetry_listen
    }

    /// What [`postrider_telemetry::init`] sets up; reads OpenTelemetry's own variables.
    ///
    /// # Errors
    /// If one of those makes no sense.
    pub fn config(&self, program: Program) -> Result<Config, SettingsError> {
        let otlp = Otlp::from_variables(|name| std::env::var(name).ok())
            .map_err(|error| SettingsError::refused("OpenTelemetry", error))?;
        let log_format = match self.log_format {
            LogFormat::Text => postrider_telemetry::LogFormat::Text,
            LogFormat::Json => postrider_telemetry::LogFormat::Json,
        };
        Ok(Config { log_filter: self.log.clone(), log_format, program, otlp })
    }
}
