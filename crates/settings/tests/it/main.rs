//! Settings as a program reads them. A test must not change the environment, which the whole process shares, so tests of
//! variables start this binary again in a process of its own: [`probe`].

#[cfg(test)]
mod page;
#[cfg(test)]
mod probe;
#[cfg(test)]
mod reading;
#[cfg(test)]
mod values;

use clap::Parser;
use postrider_settings as settings;

/// All groups.
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
    shutdown: settings::ShutdownArgs,
    #[command(flatten)]
    delivery: settings::DeliveryArgs,
    #[command(flatten)]
    retry: settings::RetryArgs,
    #[command(flatten)]
    worker: settings::WorkerArgs,
    #[command(flatten)]
    telemetry: settings::TelemetryArgs,
}
