//! Watching the clock of a program that has no worker, which watches its clock itself.

use std::time::Duration;

use postrider_core::chain;
use postrider_store::Store;
use postrider_telemetry::clock::ClockMonitor;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often the clocks are compared.
const INTERVAL: Duration = Duration::from_secs(5);

/// Compares the clock of this process with the database's until `stop`: sets the gauge and logs when the clock is off.
pub fn watch_clock(store: &Store, stop: &CancellationToken) {
    let (store, stop) = (store.clone(), stop.clone());
    tokio::spawn(async move {
        let monitor = ClockMonitor::default();
        let watching = async {
            loop {
                match store.database().answered(store.clock_skew()).await {
                    Ok(skew) => {
                        monitor.observe(skew.millis, skew.uncertainty);
                    }
                    // Whatever else uses the database reports that.
                    Err(error) => tracing::debug!(error = %chain(&error), "clocks not compared"),
                }
                sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            () = watching => {}
            () = stop.cancelled() => {}
        }
    });
}
