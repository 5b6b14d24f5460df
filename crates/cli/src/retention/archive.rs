//! Copying old days to files, and removing them.
//!
//! A day is removed only while a complete file has each of its lines as they are now:
//!
//! 1. If a file of the day has them all, such as from a run that ended before it removed the day, it is used.
//! 2. Otherwise all lines are written to a new file, which is synced and then renamed.
//! 3. The removal itself compares once more (`postrider_store::archive`). A day that has changed stays for the next run,
//!    which begins again at 1.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postrider_core::Timestamp;
use postrider_database::Dialect;
use postrider_program::StartError;
use postrider_store::archive::{OldDay, Removal, Row, Rows};
use postrider_store::retention::Retention;
use postrider_store::{Store, StoreError};

use super::folder::{ArchiveError, Folder, Lines};
use super::lines;
use crate::say::say;

/// How often a day is tried whose tables others hold, and the pause in between: for half a minute in all.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// How often the progress is printed.
const PROGRESS: Duration = Duration::from_secs(10);

/// Why a day that should go is still there, or went without a copy.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// A row of it was written while it was being copied.
    Changed,
    /// Others held its tables for too long.
    Busy,
    /// Another process removed it while it was being copied.
    Lost,
}

/// Copies and removes all old days. Returns how many should have gone and did not, or went without a complete copy.
pub(super) async fn run(store: &Store, retention: Retention, path: &Path) -> Result<u32, StartError> {
    let folder = Folder::take(path)?;
    let mut left = 0;
    let mut from = Timestamp::from_millis(0);
    while let Some(day) = store.next_old_day(retention, from).await? {
        from = day.ends_at;
        if let Err(why) = day_of(store, &folder, &day).await? {
            let name = &day.name;
            match why {
                Left::Changed => say(format_args!(
                    "{name}: changed while it was being archived; it stays until the next run"
                )),
                Left::Busy => say(format_args!(
                    "{name}: others use its tables, such as a dump; it stays until the next run"
                )),
                Left::Lost => say(format_args!(
                    "{name}: ANOTHER PROCESS REMOVED IT while it was being archived: \
                    set POSTRIDER_RETAIN_HISTORY=forever for all workers"
                )),
            }
            left += 1;
        }
    }
    Ok(left)
}

async fn day_of(store: &Store, folder: &Folder, day: &OldDay) -> Result<Result<(), Left>, StartError> {
    match one_day(store, folder, day).await {
        Err(error) if error.downcast_ref().is_some_and(is_missing) => Ok(Err(Left::Lost)),
        other => other,
    }
}

/// Whether PostgreSQL did not have the tables of the day any more.
fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::Database(error) if error.is_missing_table())
}

async fn one_day(store: &Store, folder: &Folder, day: &OldDay) -> Result<Result<(), Left>, StartError> {
    let name = &day.name;
    if let Some(stays) = store.why_day_stays(day).await? {
        say(format_args!("{name}: stays: {}", stays.as_str()));
        return Ok(Ok(()));
    }
    let removal = match store.database().dialect() {
        Dialect::Postgres => {
            let mark = store.mark().await?;
            if copy(store, folder, day, async || store.day_has_changed(day, mark).await).await?.is_none() {
                return Ok(Err(Left::Changed));
            }
            let mut removal = store.drop_day(day, mark).await?;
            for _ in 1..TRIES {
                if removal != Removal::Busy {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
                removal = store.drop_day(day, mark).await?;
            }
            removal
        }
        // What changes from here on is noticed when it is compared with the copy.
        Dialect::Sqlite => match copy(store, folder, day, async || Ok(false)).await? {
            Some(Copy::In(path)) => {
                let mut readers = Readers::open(&path)?;
                store.delete_day(day, &mut |row| readers.have(row)).await?
            }
            Some(Copy::Empty) => Removal::Removed,
            None => Removal::Changed,
        },
    };
    match removal {
        Removal::Removed => say(format_args!("{name}: removed")),
        Removal::Stays(stays) => say(format_args!("{name}: stays: {}", stays.as_str())),
        Removal::Gone => say(format_args!("{name}: another process removed it after it was archived")),
        Removal::Changed => return Ok(Err(Left::Changed)),
        Removal::Busy => return Ok(Err(Left::Busy)),
    }
    Ok(Ok(()))
}

/// Where the copy of a day is.
enum Copy {
    /// It has no rows.
    Empty,
    /// In this file.
    In(PathBuf),
}

/// Finds or makes a copy of a day; `None` if the day has changed while it was being made.
async fn copy(
    store: &Store,
    folder: &Folder,
    day: &OldDay,
    has_changed: impl AsyncFn() -> Result<bool, StoreError>,
) -> Result<Option<Copy>, StartError> {
    let name = &day.name;
    for path in folder.files_of(name).into_iter().rev() {
        if has_all(store, day, &path).await? {
            say(format_args!("{name}: is in {} already", path.display()));
            return Ok(Some(Copy::In(path)));
        }
    }
    let mut file = folder.begin(name)?;
    let written = match write(store, day, |lines| file.append(lines)).await {
        Ok(written) => written,
        Err(error) => {
            file.discard();
            return Err(error);
        }
    };
    if written == 0 {
        file.discard();
        say(format_args!("{name}: is empty"));
        return Ok(Some(Copy::Empty));
    }
    let file = file.finish()?;
    match has_changed().await {
        Ok(false) => {}
        Err(error) if is_missing(&error) => {
            // Nobody has more of the day than this.
            let path = file.keep()?;
            say(format_args!("{name}: wrote {written} lines to {}", path.display()));
            return Err(error.into());
        }
        changed => {
            file.discard();
            return changed.map(|_| None).map_err(Into::into);
        }
    }
    let path = file.keep()?;
    let bytes = std::fs::metadata(&path).map_or(0, |file| file.len());
    say(format_args!("{name}: wrote {written} lines to {}, {bytes} bytes", path.display()));
    Ok(Some(Copy::In(path)))
}

/// Writes the lines of a day. Returns how many.
async fn write(
    store: &Store,
    day: &OldDay,
    mut append: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
) -> Result<u64, StartError> {
    let mut rows = store.rows_of(day);
    let mut progress = Progress::new(day);
    let mut buffer = Vec::new();
    loop {
        let page = next(&mut rows).await?;
        if page.is_empty() {
            return Ok(progress.lines);
        }
        for row in &page {
            buffer.clear();
            let lines = lines::write(row, &mut buffer)?;
            append(&buffer)?;
            progress.add(lines);
        }
    }
}

/// Returns whether a file has all lines of a day.
async fn has_all(store: &Store, day: &OldDay, path: &Path) -> Result<bool, StartError> {
    let mut rows = store.rows_of(day);
    let mut copy = Lines::open(path)?;
    let mut buffer = Vec::new();
    loop {
        let page = next(&mut rows).await?;
        if page.is_empty() {
            return Ok(true);
        }
        for row in &page {
            buffer.clear();
            lines::write(row, &mut buffer)?;
            if !copy.skip_to(&buffer) {
                return Ok(false);
            }
        }
    }
}

/// Reads a page, again if the database was away for a moment.
async fn next(rows: &mut Rows<'_>) -> Result<Vec<Row>, StoreError> {
    for _ in 1..TRIES {
        match rows.next().await {
            Err(error) if error.is_unavailable() => tokio::time::sleep(PAUSE).await,
            other => return other,
        }
    }
    rows.next().await
}

/// A file, read once for each table, because a batch of each is compared in turn.
struct Readers {
    events: Lines,
    deliveries: Lines,
    attempts: Lines,
    buffer: Vec<u8>,
}

impl Readers {
    fn open(path: &Path) -> Result<Self, ArchiveError> {
        let open = || Lines::open(path);
        Ok(Self { events: open()?, deliveries: open()?, attempts: open()?, buffer: Vec::new() })
    }

    fn have(&mut self, row: &Row) -> bool {
        self.buffer.clear();
        let lines = match row {
            Row::Event { .. } => &mut self.events,
            Row::Delivery { .. } => &mut self.deliveries,
            Row::Attempt { .. } => &mut self.attempts,
        };
        lines::write(row, &mut self.buffer).is_ok() && lines.skip_to(&self.buffer)
    }
}

/// Prints from time to time how far the copying is.
struct Progress<'a> {
    day: &'a OldDay,
    lines: u64,
    said: Instant,
}

impl<'a> Progress<'a> {
    fn new(day: &'a OldDay) -> Self {
        Self { day, lines: 0, said: Instant::now() }
    }

    fn add(&mut self, lines: u64) {
        self.lines += lines;
        if self.said.elapsed() >= PROGRESS {
            self.said = Instant::now();
            say(format_args!("{}: {} lines so far", self.day.name, self.lines));
        }
    }
}
