//! Profiles: the servers that a person uses, with their keys, in a file that only this person can read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use postrider_program::StartError;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::data_folder::FileError;
use crate::status::{usage, wrong};

/// The most bytes of the file.
const MAX_FILE: u64 = 1024 * 1024;

/// A server, and who calls it.
// No Debug: it holds a key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
}

impl Profile {
    /// A server that is called without a key.
    pub(crate) fn of(url: &str) -> Self {
        Self { url: url.to_owned(), key: None, tenant: None }
    }
}

/// The profiles of this person.
pub(crate) struct Profiles {
    stored: Stored,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    default: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

impl Profiles {
    /// Reads the file; there are no profiles if it does not exist.
    pub(crate) fn read() -> Result<Self, StartError> {
        let path = path();
        let stored = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::default(),
            Err(error) => return Err(wrong(FileError::of("read the profiles in", &path)(error))),
            Ok(file) => stored(file, &path)?,
        };
        Ok(Self { stored })
    }

    /// Returns the profile of this name.
    pub(crate) fn named(&self, name: &str) -> Result<&Profile, StartError> {
        self.stored.profiles.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.stored.profiles.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
            usage(format!("there is no profile {name}: {known}; `postrider login --profile {name}` makes it"))
        })
    }

    /// Returns the profile that is used unless another one is named.
    pub(crate) fn default(&self) -> Option<&Profile> {
        self.stored.profiles.get(self.stored.default.as_ref()?)
    }
}

#[cfg(feature = "client")]
impl Profiles {
    /// Returns the name of the default profile.
    pub(crate) fn default_name(&self) -> Option<&str> {
        self.stored.default.as_deref()
    }

    /// Returns all profiles by name.
    pub(crate) fn all(&self) -> &BTreeMap<String, Profile> {
        &self.stored.profiles
    }

    /// Adds or replaces a profile. The first one becomes the default.
    pub(crate) fn put(&mut self, name: &str, profile: Profile) {
        self.stored.profiles.insert(name.to_owned(), profile);
        self.stored.default.get_or_insert_with(|| name.to_owned());
    }

    /// Makes a profile the default one.
    pub(crate) fn set_default(&mut self, name: &str) -> Result<(), StartError> {
        self.named(name)?;
        self.stored.default = Some(name.to_owned());
        Ok(())
    }

    /// Removes a profile.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), StartError> {
        self.named(name)?;
        self.stored.profiles.remove(name);
        if self.stored.default.as_deref() == Some(name) {
            self.stored.default = None;
        }
        Ok(())
    }

    /// Writes the file whole or not at all, readable by its owner only.
    pub(crate) fn write(&self) -> Result<PathBuf, StartError> {
        use std::io::Write as _;

        let path = path();
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(FileError::of("create the folder", folder))?;
        let failed = |error| FileError::of("write the profiles in", &path)(error);
        let text = Zeroizing::new(toml::to_string(&self.stored)?);
        // The system makes temporary files with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(path)
    }
}

fn stored(mut file: fs::File, path: &Path) -> Result<Stored, StartError> {
    let failed = |error| wrong(FileError::of("read the profiles in", path)(error));
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(usage(format!(
            "{} holds keys and can be read by others (mode {mode:o}); run `chmod 600` on it",
            path.display()
        )));
    }
    let mut text = Zeroizing::new(String::new());
    (&mut file).take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
    // The parser's own message quotes the line, which may contain a key.
    toml::from_str(&text).map_err(|error| {
        let line = text
            .get(..error.span().map_or(0, |span| span.start))
            .map_or(1, |before| before.split('\n').count());
        usage(format!("the profiles in {} cannot be read: {}, line {line}", path.display(), error.message()))
    })
}

/// `$XDG_CONFIG_HOME/postrider/profiles.toml`, or that in `~/.config` (XDG Base Directory Specification).
fn path() -> PathBuf {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    folder.unwrap_or_default().join("postrider/profiles.toml")
}
