//! Shards of the delivery counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// The shards of the delivery counts that this process adds to.
///
/// A transaction that adds to a row locks it until the commit has reached the disk. So each process has rows of its
/// own, and concurrent transactions of a process take turns on several. The shard's column is named `slot`.
#[derive(Clone, Debug)]
pub(crate) struct Shards {
    first: i16,
    turn: Arc<AtomicU16>,
}

impl Shards {
    /// Enough that two processes seldom share shards, and few enough that reading adds them up quickly.
    const PROCESSES: u8 = 64;
    const TURNS: u16 = 4;

    /// The shards that a random byte selects.
    pub(crate) fn new(random: u8) -> Self {
        // Shard 0 is that of folded rows.
        let first = 1 + i16::from(random % Self::PROCESSES) * Self::TURNS.cast_signed();
        Self { first, turn: Arc::default() }
    }

    /// The shard for the next transaction.
    pub(crate) fn next(&self) -> i16 {
        self.first + (self.turn.fetch_add(1, Ordering::Relaxed) % Self::TURNS).cast_signed()
    }
}
