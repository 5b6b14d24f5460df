//! Looking on while it goes: whether lanes count right, how much memory is used.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    incident::{Chronicle, Who},
    member::Address,
};

const INTERVAL: Duration = Duration::from_millis(100);
/// Memory is read once in this many looks.
const MEMORY_EVERY: u32 = 10;

/// In any one moment a lane counts as running what is running: both are written by one statement.
const LOOK: &str = "SELECT
    (SELECT count(*) FROM lanes WHERE lanes.running <>
        (SELECT count(*) FROM jobs WHERE jobs.lane = lanes.id AND jobs.state = 3)) AS wrong,
    (SELECT count(*) FROM lanes WHERE ordered AND running > 1) AS disordered";

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Of each process, by member and instance: resident memory in KiB, once a second.
    memory: Mutex<BTreeMap<(Who, usize), Vec<u64>>>,
}

impl Watch {
    /// Looks on until `stop`.
    pub(crate) async fn look(
        self: Arc<Self>,
        database: DatabaseConnection,
        members: Vec<(Who, Address)>,
        chronicle: Arc<Chronicle>,
        stop: CancellationToken,
    ) {
        let mut looks = 0_u32;
        while !stop.is_cancelled() {
            self.look_at_lanes(&database, &chronicle).await;
            if looks.is_multiple_of(MEMORY_EVERY) {
                self.look_at_memory(&members);
            }
            looks += 1;
            sleep(INTERVAL).await;
        }
    }

    async fn look_at_lanes(&self, database: &DatabaseConnection, chronicle: &Chronicle) {
        // Away every now and then, by design.
        let Ok(rows) =
            database.query_all_raw(sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, LOOK)).await
        else {
            return;
        };
        let Some(row) = rows.first() else { return };
        let number = |name: &str| row.try_get::<i64>("", name).expect("a count");
        for (name, what) in [
            ("wrong", "lanes count other jobs as running than are"),
            ("disordered", "ordered lanes run two jobs at once"),
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

/// `VmRSS` of `/proc/<process>/status`, in KiB; none where there is no such file.
fn resident_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
