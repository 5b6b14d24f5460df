//! A small file system that can be full.

use std::{
    env, fs, io,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::parent_id,
    },
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::task::spawn_blocking;

/// The size while the disk is not full. Only what is used takes memory.
const ROOMY: &str = "16g";

/// A folder for data, which is removed with this value. If this process may, a file system of its own is mounted there.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    is_small: bool,
}

impl Disk {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("postrider-chaos-disk-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mounted = if has_own_mounts() {
            mount(&["-t", "tmpfs", "-o", &format!("size={ROOMY},mode=0755"), "postrider-chaos"], &path)
        } else {
            Err("it takes root and mounts of its own, as `cargo xtask chaos` arranges".to_owned())
        };
        if let Err(reason) = &mounted {
            println!("skipped: a small file system: {reason}");
        }
        Self { path, is_small: mounted.is_ok() }
    }

    /// Whether the disk can be full.
    pub(crate) fn is_small(&self) -> bool {
        self.is_small
    }

    /// Creates a folder that this user owns.
    pub(crate) fn folder(&self, name: &str, owner: Option<u32>) -> PathBuf {
        let folder = self.path.join(name);
        let created = fs::create_dir(&folder)
            .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)))
            .and_then(|()| owner.map_or(Ok(()), |owner| chown(&folder, Some(owner), None)));
        created.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        folder
    }

    /// Leaves room for this many bytes.
    pub(crate) async fn fill(&self, room: u64) {
        // The programs may write between the two steps, and tmpfs refuses a limit below what is in use.
        for _ in 0..100 {
            let path = self.path.clone();
            let filled = spawn_blocking(move || {
                let size = used(&path).map_err(|error| error.to_string())? + room;
                mount(&["-o", &format!("remount,size={size}")], &path)
            });
            if filled.await.expect("a thread").is_ok() {
                return;
            }
        }
    }

    pub(crate) async fn free(&self) {
        let path = self.path.clone();
        let freed = spawn_blocking(move || mount(&["-o", &format!("remount,size={ROOMY}")], &path));
        freed.await.expect("a thread").unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_small {
            // Lazily: what still has a file open there is about to end.
            let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
        }
        // Best effort: nothing else uses the folder.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Whether what this process mounts is gone when it and its children have ended, however they end: its parent, which is
/// `cargo xtask chaos`, has started it with mounts of its own.
fn has_own_mounts() -> bool {
    let of = |process: u32| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    matches!((of(process::id()), of(parent_id())), (Some(own), Some(parent)) if own != parent)
}

fn mount(arguments: &[&str], path: &Path) -> Result<(), String> {
    let done = Command::new("mount").args(arguments).arg(path).output().map_err(|error| error.to_string())?;
    if done.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
}

/// The bytes in use on the file system of `path`.
fn used(path: &Path) -> io::Result<u64> {
    let shown = Command::new("df").args(["--block-size=1", "--output=used"]).arg(path).output()?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let used = shown.lines().nth(1).and_then(|line| line.trim().parse().ok());
    used.ok_or_else(|| io::Error::other(format!("df printed {shown:?}")))
}
