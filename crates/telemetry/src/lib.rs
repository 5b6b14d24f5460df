//! The names of Postrider's metrics and spans, and the setup of logs, OpenTelemetry and Prometheus.
//!
//! Libraries of the workspace use the names in [`metric`] and [`span`], bound their labels with [`label`] and carry trace
//! contexts with [`context`]. Only binaries install anything, with the feature `setup`, which is off by default so that
//! libraries stay light: `init` for logs and traces, `prometheus::install` for metrics, `listener::routes` for
//! the telemetry address. The feature `otlp-grpc` adds traces over gRPC to those over HTTP. This crate does not read the
//! environment, but the OpenTelemetry SDK reads its own `OTEL_*` variables once a trace exporter is set up (see `Otlp`).

pub mod clock;
pub mod context;
pub mod label;
#[cfg(feature = "setup")]
pub mod listener;
#[cfg(feature = "setup")]
pub mod logging;
pub mod metric;
#[cfg(feature = "setup")]
pub mod output;
#[cfg(feature = "setup")]
pub mod prometheus;
pub mod span;
#[cfg(feature = "setup")]
pub mod trace;

pub use label::BoundedLabel;
#[cfg(feature = "setup")]
pub use listener::Readiness;
#[cfg(feature = "setup")]
pub use logging::{Config, Error, Guard, LogFormat, init};
pub use metric::Program;
#[cfg(feature = "setup")]
pub use prometheus::PrometheusHandle;
#[cfg(feature = "setup")]
pub use trace::{Otlp, OtlpError, Protocol};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
