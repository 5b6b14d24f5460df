//! What a viewer has missed who was here before.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use postrider_core::TenantId;
use postrider_core::id::TailPlaceId;
use postrider_store::tail::{TAIL_KEPT, TailFrom, TailRow, TailWhat};
use postrider_store::{Store, StoreError};

use crate::viewers::Filter;

/// The most rows that a viewer gets of before.
const MAX_ROWS: usize = 1_000;

/// Rows from this long before the last one that the viewer has seen may have become visible after it.
const OVERLAP: Duration = Duration::from_secs(1);

/// Rows from before a viewer came.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) rows: VecDeque<TailRow>,
    /// All of them, which the reader may hand out as well.
    pub(super) ids: HashSet<TailPlaceId>,
    /// How many more there are.
    pub(super) left_out: u64,
    /// Whether there may be others that nobody kept.
    pub(super) gap: bool,
    /// Whether there were more than one call reads.
    pub(super) overload: bool,
}

impl Backlog {
    /// Reads what happened since the viewer saw `last`.
    pub(super) async fn read(
        store: &Store,
        tenant: &TenantId,
        filter: &Filter,
        last: TailPlaceId,
    ) -> Result<Self, StoreError> {
        let kept_since = store.ids().clock().now() - TAIL_KEPT;
        let from = last.made_at() - OVERLAP;
        let gap = last.made_at() < kept_since;
        let after = TailPlaceId::first_at(from.max(kept_since));
        let read = store.read_tail(TailFrom { tenant, after, events: filter.wants_events() }).await?;
        let mut backlog = Self { gap, overload: read.more, ..Self::default() };
        for row in read.rows {
            if row.id == last || !filter.wants(&row.what) {
                continue;
            }
            match row.what {
                TailWhat::LeftOut(rows) => backlog.left_out += rows,
                _ if backlog.rows.len() == MAX_ROWS => backlog.left_out += 1,
                _ => {
                    backlog.ids.insert(row.id);
                    backlog.rows.push_back(row);
                }
            }
        }
        Ok(backlog)
    }
}
