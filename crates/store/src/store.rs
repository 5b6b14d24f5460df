//! The handle on the store.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use postrider_core::{IdGenerator, Keyring};
use postrider_database::Database;
use postrider_queue::TransactionalQueue;

use crate::auditor::Auditor;
use crate::loading::columns::ClaimedJoin;
use crate::partitions::Known;
use crate::watched::Watched;

/// The repositories of one database, with the queue in the same database. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) queue: Arc<dyn TransactionalQueue>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) ids: IdGenerator,
    /// The partitions that this process knows.
    pub(crate) partitions: Arc<Known>,
    /// On SQLite, the place of the event after which removing old ones goes on.
    pub(crate) swept: Arc<AtomicI64>,
    /// What claims read beside their jobs.
    pub(crate) claimed: Arc<ClaimedJoin>,
    /// The span of time of the partitions that this process makes.
    pub(crate) partition_width: Duration,
    /// The tenants whose deliveries somebody follows.
    pub(crate) watched: Arc<Watched>,
    /// Who makes changes, if they are written to the audit trail.
    pub(crate) auditor: Option<Arc<Auditor>>,
}

impl Store {
    /// The span of time of a partition, unless [`Store::with_partitions_of`] sets another.
    pub const PARTITION: Duration = Duration::from_hours(24);

    /// A store on `database`, which must have the schema of `postrider-migrations`, and on the queue in the same
    /// database. `keyring` encrypts the subscribers' secrets.
    pub fn new(
        database: Database,
        queue: Arc<dyn TransactionalQueue>,
        keyring: Keyring,
        ids: IdGenerator,
    ) -> Self {
        Self {
            database,
            queue,
            keyring: Arc::new(keyring),
            ids,
            partitions: Arc::default(),
            swept: Arc::default(),
            claimed: Arc::default(),
            partition_width: Self::PARTITION,
            watched: Arc::default(),
            auditor: None,
        }
    }

    /// The same store, which makes partitions of this span of time. It must be at least a second. Partitions that exist
    /// stay as they are.
    #[must_use]
    pub fn with_partitions_of(self, span: Duration) -> Self {
        Self { partition_width: span.max(Duration::from_secs(1)), ..self }
    }

    /// The same store over another handle of its database, such as one for another purpose. The queue keeps its own.
    #[must_use]
    pub fn over(self, database: Database) -> Self {
        Self { database, ..self }
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The queue.
    pub fn queue(&self) -> &Arc<dyn TransactionalQueue> {
        &self.queue
    }

    /// The generator of ids, with its clock and its source of random numbers.
    pub fn ids(&self) -> &IdGenerator {
        &self.ids
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("database", &self.database).finish_non_exhaustive()
    }
}
