//! Keeping partitions in a program that has no worker, which keeps them itself.

use std::time::Duration;

use postrider_core::{Timestamp, chain};
use postrider_database::comes_from_trouble;
use postrider_store::Store;
use postrider_telemetry::metric;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often the partitions are looked at.
const INTERVAL: Duration = Duration::from_mins(1);

const START: Duration = Duration::from_millis(300);

/// Makes partitions a week ahead and sets the gauges, from now on until `stop`.
pub fn keep_partitions(store: &Store, stop: &CancellationToken) {
    let (store, stop) = (store.clone(), stop.clone());
    tokio::spawn(async move {
        let keeping = async {
            // Not together with the first comparison of clocks, or both would open a connection.
            sleep(START).await;
            loop {
                match store.database().answered(store.keep_partitions()).await {
                    Ok(Some(kept)) => {
                        let [oldest, payloads] = [kept.oldest, kept.oldest_payloads]
                            .map(|moment| moment.since(Timestamp::from_millis(0)));
                        metric::partitions(kept.ahead, oldest, payloads);
                    }
                    Ok(None) => {}
                    Err(error) if error.is_unavailable() || comes_from_trouble(&error) => {
                        tracing::debug!(error = %chain(&error), "partitions not looked at");
                    }
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "partitions not made; trying again in a minute");
                    }
                }
                sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            () = keeping => {}
            () = stop.cancelled() => {}
        }
    });
}
