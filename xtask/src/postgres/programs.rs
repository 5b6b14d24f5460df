use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{account::is_root, fetched};
use crate::{
    Error,
    cargo::{output_of, run},
};

const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];
const OLDEST: u32 = 15;
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";

/// Stops Debian's package from creating and starting a server of its own.
const NO_CLUSTER_FOLDER: &str = "/etc/postgresql-common/createcluster.d";
const NO_CLUSTER_FILE: &str = "/etc/postgresql-common/createcluster.d/zz-postrider.conf";

/// The folder that holds PostgreSQL's programs.
#[derive(Debug)]
pub(super) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Programs of this major version: Debian's, or else fetched ones.
    pub(super) fn of_version(major: u32) -> Result<Self, Error> {
        if major < OLDEST {
            return Err(Error::NoPostgres(format!(
                "Postrider needs PostgreSQL {OLDEST} or newer, not {major}"
            )));
        }
        let debian = Path::new(DEBIAN_FOLDER).join(major.to_string()).join("bin");
        let folder = if has_all(&debian) { debian } else { fetched::programs(major)? };
        Ok(Self { folder })
    }

    pub(super) fn find_or_install() -> Result<Self, Error> {
        match Self::find() {
            Ok(found) => Ok(found),
            Err(Missing::TooOld(version)) => Err(Error::NoPostgres(format!(
                "the PostgreSQL found is version {version}; Postrider needs {OLDEST} or newer: install one, \
                 or put its programs first on PATH, or set {} to a running server",
                super::URL_VARIABLE
            ))),
            Err(Missing::Absent) if is_root()? && on_path("apt-get") => {
                install()?;
                Self::find().map_err(|_| {
                    Error::NoPostgres(format!(
                        "`apt-get install postgresql` installed no PostgreSQL of version {OLDEST} or newer; \
                         install one by hand, or set {} to a running server",
                        super::URL_VARIABLE
                    ))
                })
            }
            Err(Missing::Absent) => Err(Error::NoPostgres(format!(
                "no PostgreSQL found on PATH or under {DEBIAN_FOLDER}: install version {OLDEST} or newer \
                 (Debian and Ubuntu: the package `postgresql`), or set {} to a running server",
                super::URL_VARIABLE
            ))),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn find() -> Result<Self, Missing> {
        let path = env::var_os("PATH").unwrap_or_default();
        let debian = fs::read_dir(DEBIAN_FOLDER).into_iter().flatten().flatten();
        let mut debian: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
        // The newest first. The folders' names are major versions.
        debian.sort_by_key(|folder| std::cmp::Reverse(folder.parent().and_then(major_of_folder)));

        let mut too_old = None;
        for folder in env::split_paths(&path).chain(debian) {
            if !has_all(&folder) {
                continue;
            }
            match major_of_program(&folder.join("postgres")) {
                Some(major) if major >= OLDEST => return Ok(Self { folder }),
                Some(major) => too_old = too_old.max(Some(major)),
                None => {}
            }
        }
        Err(too_old.map_or(Missing::Absent, Missing::TooOld))
    }
}

fn has_all(folder: &Path) -> bool {
    NEEDED.iter().all(|program| folder.join(program).is_file())
}

enum Missing {
    Absent,
    TooOld(u32),
}

fn major_of_folder(folder: &Path) -> Option<u32> {
    folder.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

fn major_of_program(postgres: &Path) -> Option<u32> {
    major(&output_of(Command::new(postgres).arg("--version")).ok()?)
}

/// Reads the major version from `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` or `… 19beta1`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_once(") ")?.1;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH")
        .is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn install() -> Result<(), Error> {
    eprintln!("xtask: found no PostgreSQL; installing it with apt-get");
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["--quiet", "--yes", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        run(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt_get(&["update"])?;

    let made_folder = !Path::new("/etc/postgresql-common").exists();
    fs::create_dir_all(NO_CLUSTER_FOLDER).map_err(Error::file(NO_CLUSTER_FOLDER))?;
    fs::write(NO_CLUSTER_FILE, "create_main_cluster = false\n").map_err(Error::file(NO_CLUSTER_FILE))?;
    let installed = apt_get(&["install", "--no-install-recommends", "postgresql"]);
    // A later installation creates its cluster as usual.
    let removed = fs::remove_file(NO_CLUSTER_FILE).map_err(Error::file(NO_CLUSTER_FILE));
    if made_folder && installed.is_err() {
        // Best effort: an empty folder does no harm.
        let _ = fs::remove_dir(NO_CLUSTER_FOLDER);
        let _ = fs::remove_dir("/etc/postgresql-common");
    }
    installed.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_the_output_of_postgres() {
        assert_eq!(major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major("postgres (PostgreSQL) 18\n"), Some(18));
        assert_eq!(major("postgres"), None);
    }

    #[test]
    fn folders_are_ordered_as_numbers() {
        assert!(major_of_folder(Path::new("/usr/lib/postgresql/9.6")) < major_of_folder(Path::new("/x/15")));
        assert_eq!(major_of_folder(Path::new("/usr/lib/postgresql/common")), None);
    }
}
