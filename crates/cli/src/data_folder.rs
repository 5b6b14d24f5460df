//! The folder of a database and its keys: private, and used by one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The database, and the files that SQLite keeps beside it.
const DATABASE: [&str; 3] = ["postrider.db", "postrider.db-wal", "postrider.db-shm"];

/// A folder that no other process uses, until dropped.
#[derive(Debug)]
pub(crate) struct DataFolder {
    _lock: File,
}

/// A file or folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The system refused something.
    #[error("cannot {action} {}", path.display())]
    Refused {
        /// What was refused.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has locked the folder.
    #[error("another `postrider` uses the folder {}; stop it, or give this one another folder with --data", .0.display())]
    InUse(PathBuf),
}

impl FileError {
    /// Makes the error of an action on a path.
    pub(crate) fn of(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Refused { action, path: path.to_owned(), source }
    }
}

impl DataFolder {
    /// Creates the folder and its database file as needed, readable by their owner only, and locks the folder.
    ///
    /// # Errors
    /// Fails if the folder cannot be used, or another process uses it.
    pub(crate) fn open(folder: &Path) -> Result<Self, FileError> {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent).map_err(FileError::of("create the folder", parent))?;
        }
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(FileError::of("create the data folder", folder)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let name = folder.join("postrider.lock");
        let lock = private().open(&name).map_err(FileError::of("open the lock file", &name))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => FileError::InUse(folder.to_owned()),
            TryLockError::Error(source) => FileError::of("lock", &name)(source),
        })?;
        let [database, ..] = DATABASE.map(|name| folder.join(name));
        if database.exists() {
            // It is surely ours. Earlier versions made it as the umask allowed.
            restrict(folder, 0o700)?;
        }
        // SQLite gives the files beside it the same permissions.
        private().open(&database).map_err(FileError::of("create the database file", &database))?;
        for file in DATABASE.map(|name| folder.join(name)).iter().filter(|file| file.exists()) {
            restrict(file, 0o600)?;
        }
        Ok(Self { _lock: lock })
    }
}

fn restrict(path: &Path, mode: u32) -> Result<(), FileError> {
    let restricted = fs::set_permissions(path, Permissions::from_mode(mode));
    restricted.map_err(FileError::of("change the permissions of", path))
}

/// Opens a file as it is, or creates it for its owner only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}
