//! A SQLite file in a folder of its own, and the faults that its disk and other processes inflict on the program.

use std::{path::PathBuf, sync::Arc, time::Duration};

use fastrand::Rng;
use postrider_testkit::{
    Program,
    faulty::{DiskFault, FaultyDisk},
};
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use tokio_util::sync::CancellationToken;

use crate::{
    deck::Deck,
    disk::Disk,
    incident::{Chronicle, Fault},
    moment::{self, wait},
    postgres::TABLES,
    records::{Records, connect_to_file},
};

/// A fault of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// The file system is full.
    Full,
    /// Some writes fail as on a full disk.
    NoSpace,
    Broken,
    Locked,
    Column,
}

const DEEDS: [Deed; 5] = [Deed::Full, Deed::NoSpace, Deed::Broken, Deed::Locked, Deed::Column];

impl Deed {
    fn fault(self) -> Fault {
        match self {
            Self::Full | Self::NoSpace => Fault::Full,
            Self::Broken => Fault::Broken,
            Self::Locked => Fault::Locked,
            Self::Column => Fault::Column,
        }
    }
}

/// The data folder of `postrider dev`.
#[derive(Clone, Debug)]
pub(crate) struct DataFolder {
    disk: Arc<Disk>,
    /// `None` if this machine cannot have one.
    faulty: Option<Arc<FaultyDisk>>,
    path: PathBuf,
}

impl DataFolder {
    pub(crate) fn new() -> Self {
        let disk = Disk::new();
        let path = disk.folder("data", None);
        let faulty = FaultyDisk::new(&path);
        if let Err(reason) = &faulty {
            println!("skipped: writes and syncs that fail: {reason}");
        }
        Self { disk: Arc::new(disk), faulty: faulty.ok().map(Arc::new), path }
    }

    /// The program with faults under it.
    pub(crate) fn under(&self, program: Program) -> Program {
        match &self.faulty {
            Some(faulty) => faulty.under(program),
            None => program,
        }
    }

    fn can(&self, deed: Deed) -> bool {
        match deed {
            Deed::Full => self.disk.is_small(),
            Deed::NoSpace | Deed::Broken => self.faulty.is_some(),
            Deed::Locked | Deed::Column => true,
        }
    }

    fn set(&self, fault: DiskFault) {
        if let Some(faulty) = &self.faulty {
            faulty.set(fault).unwrap_or_else(|error| panic!("the faulty disk: {error}"));
        }
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(crate) fn records(&self) -> Records {
        Records::of_file(&self.path.join("postrider.db"))
    }

    /// A connection that can write, for what other processes do with the file.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        let url = format!("sqlite://{}?mode=rw", self.path.join("postrider.db").display());
        connect_to_file(&url).await.expect("the database")
    }

    /// Inflicts one fault after the other until `stop`, and leaves the file in order. Each fault comes once before any
    /// comes again.
    pub(crate) async fn torment(self, mut rng: Rng, chronicle: Arc<Chronicle>, stop: CancellationToken) {
        let mut deck = Deck::of(DEEDS.into_iter().filter(|deed| self.can(*deed)), 1000..4000);
        let mut has_columns = false;
        while let Some(deed) = deck.draw(&mut rng, &stop).await {
            let from = moment::now();
            let lasts = Duration::from_millis(rng.u64(500..5000));
            match deed {
                Deed::Full => {
                    self.disk.fill(rng.u64(..50) * 4096).await;
                    wait(lasts, &stop).await;
                    self.disk.free().await;
                }
                Deed::NoSpace | Deed::Broken => {
                    // All of them fail, or so few that one transaction meets both kinds.
                    let every = if rng.bool() { 1 } else { rng.i32(2..12) };
                    self.set(match deed {
                        Deed::NoSpace => DiskFault::Full(every),
                        _ => DiskFault::Broken(every),
                    });
                    wait(lasts, &stop).await;
                    self.set(DiskFault::None);
                }
                Deed::Locked => {
                    // Some hold the lock for longer than the program waits for it.
                    let lasts = if rng.u32(..5) == 0 { Duration::from_secs(12) } else { lasts };
                    self.lock(lasts, &stop).await;
                }
                Deed::Column => {
                    self.change_columns(has_columns).await;
                    has_columns = !has_columns;
                }
            }
            chronicle.note(deed.fault(), None, from);
        }
    }

    async fn lock(&self, lasts: Duration, stop: &CancellationToken) {
        let other = self.connect().await;
        if other.execute_unprepared("BEGIN IMMEDIATE").await.is_ok() {
            wait(lasts, stop).await;
            let _ = other.execute_unprepared("ROLLBACK").await;
        }
        let _ = other.close().await;
    }

    /// Adds a column to each table, as a migration does, or removes it.
    async fn change_columns(&self, remove: bool) {
        let other = self.connect().await;
        for table in TABLES {
            let change = if remove { "DROP COLUMN chaos_column" } else { "ADD COLUMN chaos_column bigint" };
            // A column that could not be added cannot be removed.
            let _ = other.execute_unprepared(&format!("ALTER TABLE {table} {change}")).await;
        }
        let _ = other.close().await;
    }
}
