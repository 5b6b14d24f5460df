//! SIGTERM and Ctrl-C.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use postrider_telemetry::logging;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether and when this process was asked to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    asked: Arc<OnceLock<Instant>>,
}

impl Stop {
    /// Completes once the process has been asked to stop.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// Returns the token that is cancelled when the process is asked to stop.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Returns whether the process has been asked to stop.
    pub fn is_asked(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns what is left of `limit`, counted from the signal. All of it before the signal.
    pub fn left_of(&self, limit: Duration) -> Duration {
        self.asked.get().map_or(limit, |asked| limit.saturating_sub(asked.elapsed()))
    }

    fn ask(&self) {
        self.asked.get_or_init(Instant::now);
        self.token.cancel();
    }
}

/// Listens for SIGTERM (from Kubernetes or systemd) and SIGINT (from Ctrl-C). A second signal ends the process at once,
/// with exit code 1.
///
/// # Errors
/// Fails if the handlers cannot be installed.
pub fn stop_signal() -> io::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = Stop::default();
    let asked = stop.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping; a second signal ends the program at once");
        asked.ask();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        logging::flush();
        std::process::exit(1);
    });
    Ok(stop)
}
