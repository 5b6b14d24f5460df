//! The one task that reads the database for all viewers of this server, while there are any.
//!
//! Ids begin with the time at which they were made, and rows become visible when their transaction commits. So each read
//! begins some time before the last one, and leaves out what was seen. It usually begins a moment before, which costs little,
//! and now and then several seconds before, which finds what took long to commit.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postrider_core::id::TailPlaceId;
use postrider_core::{TenantId, Timestamp, chain};
use postrider_database::comes_from_trouble;
use postrider_store::StoreError;
use postrider_store::tail::{TAIL_KEPT, TailFrom, TailRow, TailWhat};
use tokio::time::{Instant, sleep};

use super::item;
use crate::viewers::{Shared, Viewer};

/// How long to wait between two reads.
const PAUSE: Duration = Duration::from_millis(250);

/// By how much a read overlaps the ones before: usually, and each so many reads.
const OVERLAP: Duration = Duration::from_millis(1500);
const LONG_OVERLAP: Duration = Duration::from_secs(6);
const LONG_EACH: u32 = 6;

/// How often to note that somebody follows.
const WATCH_EACH: Duration = Duration::from_mins(1);

/// How far the reader has come with a tenant.
struct Place {
    /// When it was last read.
    read_at: Timestamp,
    /// Rows of before are of no interest.
    since: TailPlaceId,
    seen: BTreeSet<TailPlaceId>,
}

/// Reads until nobody follows any more.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut places: HashMap<TenantId, Place> = HashMap::new();
    let mut watched: Option<Instant> = None;
    let mut number = 0_u32;
    loop {
        let Some(viewers) = shared.by_tenant() else { return };
        number = number.wrapping_add(1);
        places.retain(|tenant, _| viewers.contains_key(tenant));
        if watched.is_none_or(|at| at.elapsed() >= WATCH_EACH) {
            let tenants: Vec<_> = viewers.keys().cloned().collect();
            // If it fails, the next read fails as well, and says so.
            if shared.store.watch_tail(&tenants).await.is_ok() {
                watched = Some(Instant::now());
            }
        }
        for (tenant, viewers) in &viewers {
            let place = places.entry(tenant.clone()).or_insert_with(|| Place::new(viewers, &shared));
            let is_long = number.is_multiple_of(LONG_EACH);
            match shared.store.database().answered(place.read(&shared, tenant, viewers, is_long)).await {
                Ok(()) => {}
                Err(error) if comes_from_trouble(&error) => {}
                Err(error) => {
                    tracing::debug!(%tenant, error = %chain(&error), "the live tail was not read; it will be repeated");
                }
            }
        }
        sleep(PAUSE).await;
    }
}

impl Place {
    fn new(viewers: &[Arc<Viewer>], shared: &Shared) -> Self {
        let first = viewers.iter().map(|viewer| viewer.joined_at).min();
        let first = first.unwrap_or_else(|| shared.store.ids().clock().now());
        // Clocks may differ by as much.
        Self { read_at: first, since: TailPlaceId::first_at(first - PAUSE), seen: BTreeSet::new() }
    }

    async fn read(
        &mut self,
        shared: &Shared,
        tenant: &TenantId,
        viewers: &[Arc<Viewer>],
        is_long: bool,
    ) -> Result<(), StoreError> {
        let now = shared.store.ids().clock().now();
        if now - TAIL_KEPT > self.read_at {
            for viewer in viewers {
                viewer.missing.gap.store(true, Ordering::Relaxed);
            }
            self.read_at = now;
        }
        let overlap = if is_long { LONG_OVERLAP } else { OVERLAP };
        let after = TailPlaceId::first_at(self.read_at - overlap);
        let events = viewers.iter().any(|viewer| viewer.filter.wants_events());
        let read = shared.store.read_tail(TailFrom { tenant, after, events }).await?;
        if read.more {
            for viewer in viewers {
                viewer.missing.overload.store(true, Ordering::Relaxed);
            }
        }
        for row in &read.rows {
            if !self.seen.contains(&row.id) {
                if row.id >= self.since {
                    hand_out(shared, tenant, viewers, row).await?;
                }
                self.seen.insert(row.id);
            }
        }
        self.read_at = now;
        let old = TailPlaceId::first_at(now - LONG_OVERLAP - OVERLAP);
        self.seen = self.seen.split_off(&old);
        Ok(())
    }
}

/// Sends a row to those who want it.
async fn hand_out(
    shared: &Shared,
    tenant: &TenantId,
    viewers: &[Arc<Viewer>],
    row: &TailRow,
) -> Result<(), StoreError> {
    let wanting = viewers.iter().filter(|viewer| viewer.filter.wants(&row.what));
    if let TailWhat::LeftOut(rows) = row.what {
        for viewer in wanting {
            viewer.leave_out(rows);
        }
        return Ok(());
    }
    let (admitted, others): (Vec<_>, Vec<_>) = wanting.partition(|viewer| viewer.admit());
    for viewer in others {
        viewer.leave_out(1);
    }
    if admitted.is_empty() {
        return Ok(());
    }
    // What belongs to it is read only if somebody gets it.
    if let Some(item) = item::read(&shared.store, tenant, row).await? {
        let item = Arc::new(item);
        for viewer in admitted {
            viewer.send(&item);
        }
    }
    Ok(())
}
