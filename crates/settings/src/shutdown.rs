//! How long a program may take to stop.

use std::time::Duration;

use clap::Args;

use crate::bounds;
use crate::value::duration_in;

/// The grace period, which server and worker share.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Shutdown")]
pub struct ShutdownArgs {
    /// Time for requests in flight to finish after SIGTERM or Ctrl-C
    ///
    /// Whatever stops the program must wait longer than this. A worker gives the jobs that have not finished by then
    /// back to the queue without spending an attempt.
    // One request timeout: every attempt that has begun can finish, so a planned stop repeats none.
    #[arg(
        long, env = "POSTRIDER_SHUTDOWN_GRACE", value_name = "DURATION", default_value = "30s",
        value_parser = duration_in(bounds::SHUTDOWN_GRACE)
    )]
    pub shutdown_grace: Duration,
}
