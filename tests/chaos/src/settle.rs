//! After the faults: waiting until everything is delivered, and checking that every program still works.

use std::time::Duration;

use postrider_testkit::Receiver;
use tokio::time::{Instant, sleep};

use crate::{audience::PROBE, ledger::Ledger, members::Members, operator::Operator, records::Records};

/// How long everything may take to be delivered once the faults are over. Some subscribers take two deliveries at a
/// time, and their backlog grows with the length of the run.
pub(crate) fn settling_time(seconds: u64) -> Duration {
    Duration::from_secs(90 + seconds / 2)
}

/// How long the probes may take to be delivered.
pub(crate) const PROBE_TIME: Duration = Duration::from_secs(90);
/// How long a server may keep rejecting events once the faults are over.
const RECOVERY_TIME: Duration = Duration::from_secs(10);

/// Waits until no job and no pending delivery is left. Returns whether that happened in time.
pub(crate) async fn settle(records: &Records, within: Duration) -> bool {
    const LEFT: &str = "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM scheduled_jobs) \
            + (SELECT count(*) FROM outbox) + (SELECT count(*) FROM deliveries WHERE status = 0) + (SELECT count(*) FROM fan_outs)";
    let start = Instant::now();
    while start.elapsed() < within {
        if records.count(LEFT).await == 0 {
            return true;
        }
        sleep(Duration::from_millis(100)).await;
    }
    false
}

/// Waits until all that was counted is in the rows that the checks read.
pub(crate) async fn settle_statistics(records: &Records, within: Duration) {
    let start = Instant::now();
    while start.elapsed() < within && records.count("SELECT count(*) FROM rollup_deltas").await > 0 {
        sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until nothing is left to deliver, including what the operator cancelled and then retries.
pub(crate) async fn settle_all(records: &Records, operator: &Operator, within: Duration) -> bool {
    const CANCELLED: &str = "SELECT count(*) FROM deliveries WHERE status = 3";
    let start = Instant::now();
    while start.elapsed() < within {
        operator.make_up().await;
        if settle(records, within).await && records.count(CANCELLED).await == 0 {
            return true;
        }
    }
    false
}

/// Checks that each server accepts an event, and that each worker delivers one while the others are stopped.
pub(crate) async fn probe(
    records: &Records,
    ledger: &Ledger,
    receiver: &Receiver,
    members: &mut Members,
) -> Vec<String> {
    let Members { servers, workers } = members;
    let mut wrong = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        if !delivered(ledger, receiver, index).await {
            wrong.push(format!("{} does not work at the end", server.who));
        }
    }
    for lone in 0..workers.len() {
        // Let every worker finish what it has begun before any is stopped.
        for worker in workers.iter_mut() {
            worker.signal("CONT").await;
        }
        settle(records, PROBE_TIME).await;
        for (index, worker) in workers.iter_mut().enumerate() {
            worker.signal(if index == lone { "CONT" } else { "STOP" }).await;
        }
        if !delivered(ledger, receiver, 0).await {
            wrong.push(format!("{} does not work at the end", workers[lone].who));
        }
    }
    for worker in workers {
        worker.signal("CONT").await;
    }
    wrong
}

/// Whether a server accepts an event that is then delivered within a few seconds.
async fn delivered(ledger: &Ledger, receiver: &Receiver, server: usize) -> bool {
    let before = receiver.requests_to("/probe").len();
    let start = Instant::now();
    // The server may still discover, one by one, connections that the last fault broke.
    while ledger.publish_one(PROBE, server).await.is_none() {
        if start.elapsed() > RECOVERY_TIME {
            return false;
        }
        sleep(Duration::from_millis(100)).await;
    }
    // Less than a lease, so that the stopped workers do not lose theirs.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        if receiver.requests_to("/probe").len() > before {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}
