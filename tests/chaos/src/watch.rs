//! Samples during the run: whether lanes count correctly, and how much memory the programs use.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    incident::{Chronicle, Who},
    member::Address,
    records::Records,
};

const INTERVAL: Duration = Duration::from_millis(100);
/// Memory is sampled once in this many samples.
const MEMORY_EVERY: u32 = 10;

/// A lane's count of running jobs is right at every moment, since one statement writes both.
const LOOK: &str = "SELECT
    (SELECT count(*) FROM lanes WHERE lanes.running <>
        (SELECT count(*) FROM jobs WHERE jobs.lane = lanes.id AND jobs.lease_token IS NOT NULL)) AS wrong,
    (SELECT count(*) FROM lanes WHERE ordered AND running > 1) AS disordered";

/// The samples.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Resident memory in KiB, once per second, by member and process.
    memory: Mutex<BTreeMap<(Who, usize), Vec<u64>>>,
}

impl Watch {
    /// Samples until `stop`.
    pub(crate) async fn look(
        self: Arc<Self>,
        records: Records,
        members: Vec<(Who, Address)>,
        chronicle: Arc<Chronicle>,
        stop: CancellationToken,
    ) {
        let mut looks = 0_u32;
        while !stop.is_cancelled() {
            self.look_at_lanes(&records, &chronicle).await;
            if looks.is_multiple_of(MEMORY_EVERY) {
                self.look_at_memory(&members);
            }
            looks += 1;
            sleep(INTERVAL).await;
        }
    }

    async fn look_at_lanes(&self, records: &Records, chronicle: &Chronicle) {
        // The database is unavailable from time to time; that is the test.
        let Ok(rows) = records.try_rows(LOOK).await else { return };
        let Some(row) = rows.first() else { return };
        let number = |name: &str| row.try_get::<i64>("", name).expect("a count");
        for (name, what) in [
            ("wrong", "lanes have a wrong count of running jobs"),
            ("disordered", "ordered lanes have two jobs running"),
        ] {
            if number(name) != 0 {
                chronicle.violation(format!("{} {what}", number(name)));
            }
        }
    }

    fn look_at_memory(&self, members: &[(Who, Address)]) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for (who, address) in members {
            let live = address.live();
            if let Some(resident) = live.process.and_then(resident_kib) {
                memory.entry((*who, live.instance)).or_default().push(resident);
            }
        }
    }

    pub(crate) fn memory(&self) -> BTreeMap<(Who, usize), Vec<u64>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// `VmRSS` of `/proc/<process>/status`, in KiB; `None` on systems without that file.
fn resident_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
