//! A disk that fails on command, under one program.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::Program;

/// What the disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// It works.
    None,
    /// One of so many writes and syncs fails with `ENOSPC`.
    Full(i32),
    /// One of so many writes and syncs fails with `EIO`.
    Broken(i32),
}

/// Fails the writes and syncs of a program in one folder, by a library that is preloaded into the program. Linux only.
#[derive(Debug)]
pub struct FaultyDisk {
    folder: PathBuf,
    own: TempDir,
}

impl FaultyDisk {
    /// Prepares faults for the files below `folder`.
    ///
    /// # Errors
    /// Fails if this is not Linux or the library cannot be compiled; the error says which.
    pub fn new(folder: &Path) -> io::Result<Self> {
        if !cfg!(target_os = "linux") {
            return Err(io::Error::other("faults of a disk need Linux"));
        }
        let own = tempfile::Builder::new().prefix("postrider-faulty-").tempdir()?;
        let this = Self { folder: folder.canonicalize()?, own };
        this.set(DiskFault::None)?;
        let source = this.own.path().join("faulty.c");
        fs::write(&source, include_str!("faulty.c"))?;
        let mut cc = Command::new("cc");
        let made =
            cc.args(["-shared", "-fPIC", "-O1", "-w", "-o"]).arg(this.library()).arg(source).arg("-ldl");
        let made = made.output().map_err(|error| io::Error::other(format!("cannot run cc: {error}")))?;
        if !made.status.success() {
            return Err(io::Error::other(format!("cc failed: {}", String::from_utf8_lossy(&made.stderr))));
        }
        Ok(this)
    }

    /// The program with this disk under it.
    pub fn under(&self, program: Program) -> Program {
        program
            .env("LD_PRELOAD", self.library())
            .env("POSTRIDER_FAULTY_FOLDER", &self.folder)
            .env("POSTRIDER_FAULTY_CONTROL", self.control())
    }

    /// Changes what the disk does, at once.
    ///
    /// # Errors
    /// Fails if the file that controls the faults cannot be written.
    pub fn set(&self, fault: DiskFault) -> io::Result<()> {
        let (errno, every) = match fault {
            DiskFault::None => (0_i32, 1_i32),
            DiskFault::Full(every) => (28, every),
            DiskFault::Broken(every) => (5, every),
        };
        let words = [every.to_ne_bytes(), errno.to_ne_bytes()];
        // In place, as running programs have mapped the file.
        let file = fs::File::options().create(true).truncate(false).write(true).open(self.control())?;
        std::os::unix::fs::FileExt::write_all_at(&file, &words[0], 4)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &words[1], 0)
    }

    fn library(&self) -> PathBuf {
        self.own.path().join("faulty.so")
    }

    fn control(&self) -> PathBuf {
        self.own.path().join("control")
    }
}
