//! The one handle on the store.

use std::sync::Arc;

use postrider_core::{IdGenerator, Keyring, Random as _};
use postrider_database::Database;
use postrider_queue::TransactionalQueue;

/// The repositories over one database, with the queue that lives beside them. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) queue: Arc<dyn TransactionalQueue>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) ids: IdGenerator,
    /// Which rows of the roll-ups this process adds to.
    pub(crate) slot: i16,
}

impl Store {
    /// A store over `database`, which must have the schema of `postrider-migrations`, and over the
    /// queue in the same database. `keyring` seals subscribers' secrets.
    pub fn new(
        database: Database,
        queue: Arc<dyn TransactionalQueue>,
        keyring: Keyring,
        ids: IdGenerator,
    ) -> Self {
        let mut slot = [0];
        ids.random().fill(&mut slot);
        // Spread over 64 rows: enough that processes seldom meet, few enough to add up quickly.
        Self { database, queue, keyring: Arc::new(keyring), ids, slot: i16::from(slot[0] % 64) }
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<dyn TransactionalQueue> {
        &self.queue
    }

    /// What makes ids here.
    pub fn ids(&self) -> &IdGenerator {
        &self.ids
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("database", &self.database).finish_non_exhaustive()
    }
}
