//! The folder of an archive: its files, and who may write to it.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

/// The file in an archive's folder that is locked by the run that writes to it. It stays there.
const LOCK: &str = ".postrider-archive.lock";

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// The folder is not there.
    #[error("--archive {}: the folder does not exist; make it, or mount it", .0.display())]
    NoFolder(PathBuf),
    /// Another run writes to the folder.
    #[error("--archive {}: another run is archiving into this folder; wait until it has ended", .0.display())]
    Locked(PathBuf),
    /// A file or the folder could not be used.
    #[error("cannot {doing} {}: nothing more is removed", .path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    move |source| ArchiveError::File { doing, path: path.to_owned(), source }
}

/// The folder of an archive, which no other run writes to.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Locked until it is closed, at the latest when the process ends.
    _lock: File,
}

impl Folder {
    /// Takes the folder for this run.
    pub(super) fn take(path: &Path) -> Result<Self, ArchiveError> {
        // A folder that is made here may be the place where a disk should be.
        if !path.is_dir() {
            return Err(ArchiveError::NoFolder(path.to_owned()));
        }
        let file = path.join(LOCK);
        let mut options = File::options();
        let lock = options.write(true).create(true).truncate(false).open(&file);
        let lock = lock.map_err(failed("write", &file))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(ArchiveError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed("lock", &file)(error)),
        }
    }

    /// Returns the complete files of a day, oldest first.
    pub(super) fn files_of(&self, day: &str) -> Vec<PathBuf> {
        (1..=u32::MAX).map(|number| self.file(day, number)).take_while(|path| path.exists()).collect()
    }

    /// Begins a new file of a day. What a run that has ended early has left of one is overwritten.
    pub(super) fn begin(&self, day: &str) -> Result<NewFile<'_>, ArchiveError> {
        let temporary = self.path.join(format!(".postrider-{day}.unfinished"));
        let file = File::create(&temporary).map_err(failed("write", &temporary))?;
        let encoder = GzEncoder::new(BufWriter::new(file), Compression::default());
        Ok(NewFile { folder: self, day: day.to_owned(), temporary, encoder })
    }

    fn file(&self, day: &str, number: u32) -> PathBuf {
        let name = if number == 1 { day.to_owned() } else { format!("{day}.{number}") };
        self.path.join(format!("postrider-{name}.jsonl.gz"))
    }

    /// Makes what names the folder has survive a power cut.
    fn sync(&self) -> Result<(), ArchiveError> {
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(failed("sync", &self.path))
    }
}

/// A file of a day that is being written, under a name that no reader takes for a complete one.
pub(super) struct NewFile<'a> {
    folder: &'a Folder,
    day: String,
    temporary: PathBuf,
    encoder: GzEncoder<BufWriter<File>>,
}

/// A file of a day that is complete and on the disk, under its temporary name.
pub(super) struct WrittenFile<'a> {
    folder: &'a Folder,
    day: String,
    temporary: PathBuf,
}

impl<'a> NewFile<'a> {
    /// Appends lines.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), ArchiveError> {
        self.encoder.write_all(lines).map_err(failed("write", &self.temporary))
    }

    /// Writes everything to the disk.
    pub(super) fn finish(self) -> Result<WrittenFile<'a>, ArchiveError> {
        let Self { folder, day, temporary, encoder } = self;
        let written = encoder.finish().and_then(|buffer| buffer.into_inner().map_err(Into::into));
        written.and_then(|file| file.sync_all()).map_err(failed("write", &temporary))?;
        Ok(WrittenFile { folder, day, temporary })
    }

    /// Removes what was written.
    pub(super) fn discard(self) {
        let _ = fs::remove_file(self.temporary);
    }
}

impl WrittenFile<'_> {
    /// Gives the file the first name of its day that no file has. Returns its path.
    pub(super) fn keep(self) -> Result<PathBuf, ArchiveError> {
        let number = u32::try_from(self.folder.files_of(&self.day).len()).unwrap_or(u32::MAX);
        let path = self.folder.file(&self.day, number.saturating_add(1));
        // Only one run at a time gives names.
        fs::rename(&self.temporary, &path).map_err(failed("rename", &self.temporary))?;
        self.folder.sync()?;
        Ok(path)
    }

    /// Removes the file.
    pub(super) fn discard(self) {
        let _ = fs::remove_file(self.temporary);
    }
}

/// Reads a complete file from its beginning, to find lines in it that are asked for in its order.
#[derive(Debug)]
pub(super) struct Lines {
    reader: BufReader<MultiGzDecoder<BufReader<File>>>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, ArchiveError> {
        let file = File::open(path).map_err(failed("read", path))?;
        let reader = BufReader::new(MultiGzDecoder::new(BufReader::new(file)));
        Ok(Self { reader, line: Vec::new() })
    }

    /// Skips to these lines. Returns whether the rest of the file has them, in this order; not if it is damaged.
    pub(super) fn skip_to(&mut self, lines: &[u8]) -> bool {
        lines.split_inclusive(|&byte| byte == b'\n').all(|wanted| self.skip_to_line(wanted))
    }

    fn skip_to_line(&mut self, wanted: &[u8]) -> bool {
        loop {
            self.line.clear();
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(0) | Err(_) => return false,
                Ok(_) if self.line == wanted => return true,
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

    use super::*;

    fn write(folder: &Folder, day: &str, lines: &[u8]) -> PathBuf {
        let mut file = folder.begin(day).unwrap();
        file.append(lines).unwrap();
        file.finish().unwrap().keep().unwrap()
    }

    #[test]
    fn a_complete_file_is_never_overwritten() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::take(place.path()).unwrap();
        let first = write(&folder, "20261127", b"one\n");
        let second = write(&folder, "20261127", b"two\n");
        assert_eq!(folder.files_of("20261127"), [first.clone(), second]);
        assert!(Lines::open(&first).unwrap().skip_to(b"one\n"));
        assert!(folder.files_of("20261126").is_empty());
        folder.begin("20261127").unwrap().discard();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3, "two files and the lock");
    }

    #[test]
    fn lines_are_found_in_their_order_only() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::take(place.path()).unwrap();
        let path = write(&folder, "20261127", b"a\nb\nc\nd\n");
        let has = |lines: &[u8]| Lines::open(&path).unwrap().skip_to(lines);
        assert!(has(b"") && has(b"a\nd\n") && has(b"b\n") && has(b"a\nb\nc\nd\n"));
        assert!(!has(b"b\na\n") && !has(b"a\na\n") && !has(b"e\n"));
        // A file that was cut off, such as by a bad copy, has what can be read of it at most.
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..12]).unwrap();
        assert!(!has(b"a\nd\n"));
    }

    #[test]
    fn one_run_at_a_time_writes_to_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::take(place.path()).unwrap();
        assert!(matches!(Folder::take(place.path()), Err(ArchiveError::Locked(_))));
        drop(folder);
        Folder::take(place.path()).unwrap();
        let missing = place.path().join("missing");
        assert!(matches!(Folder::take(&missing), Err(ArchiveError::NoFolder(_))));
        assert!(!missing.exists());
    }
}
