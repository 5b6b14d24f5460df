//! A small file system that a test can fill.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
};

use tempfile::TempDir;

/// A file system in memory, unmounted when this is dropped.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts a file system of `bytes`. `None`, after printing a line that begins with `skipped:`, if this process may not
    /// mount one: only root may.
    #[allow(clippy::print_stdout, reason = "a skipped test says so")]
    pub fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0777"), "tmpfs"])
            .arg(folder.path())
            .output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(folder)),
            refused => {
                println!("skipped: a small file system cannot be mounted: {refused:?}");
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Changes its size.
    pub fn resize(&self, bytes: u64) {
        let remount = Command::new("mount")
            .args(["-o", &format!("remount,size={bytes}")])
            .arg(self.path())
            .status()
            .expect("mount runs");
        assert!(remount.success(), "{}: {remount}", self.path().display());
    }

    /// Fills it, with a file that [`SmallDisk::make_room`] removes.
    pub fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).expect("a file");
        for size in [1 << 20, 1 << 12, 1] {
            while filler.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Makes room again.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("the filler is removed");
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a program that the test has not stopped may still have open files there.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
