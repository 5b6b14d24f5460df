//! Settings as a program reads them. The environment belongs to the whole process and a test may not
//! change it, so what depends on it runs in a process of its own: this binary again, as [`probe`].

#[cfg(test)]
mod probe;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod values;

use clap::Parser;
use postrider_settings as settings;

/// Every group there is.
#[derive(Debug, Parser)]
#[command(version)]
struct All {
    #[command(flatten)]
    server: settings::ServerArgs,
    #[command(flatten)]
    shed: settings::ShedArgs,
    #[command(flatten)]
    database: settings::DatabaseArgs,
    #[command(flatten)]
    secret_key: settings::SecretKeyArgs,
    #[command(flatten)]
    dispatch: settings::DispatchArgs,
    #[command(flatten)]
    delivery: settings::DeliveryArgs,
    #[command(flatten)]
    retry: settings::RetryArgs,
    #[command(flatten)]
    worker: settings::WorkerArgs,
    #[command(flatten)]
    telemetry: settings::TelemetryArgs,
}
