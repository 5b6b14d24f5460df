//! `postrider dev`: the API and a worker in one process, over SQLite, for development.

mod greeting;

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use postrider_core::{Keyring, Random as _, SystemRandom};
use postrider_program::{Given, StartError};
use postrider_settings::SecretKeyArgs;

use crate::data_folder::{DataFolder, FileError};
use crate::embedded;
use crate::whole::{Whole, WholeArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder for the database and the keys; created if it does not exist
    #[arg(long, env = "POSTRIDER_DATA", value_name = "FOLDER", default_value = "postrider-data")]
    data: PathBuf,
    /// Keep nothing: a new database in a temporary folder, new keys, and free ports, for tests
    ///
    /// The first line on standard output is a JSON object with `url`, `key` and `console`, printed once the API listens.
    /// Logs go to standard error. The folder is removed at the end. Addresses other than the defaults are used as given.
    #[arg(long, conflicts_with = "data")]
    ephemeral: bool,
    #[command(flatten)]
    secret_key: SecretKeyArgs,
    #[command(flatten)]
    whole: WholeArgs,
}

pub(crate) async fn run(mut args: Args, given: Given) -> Result<(), StartError> {
    refuse_settings_without_effect()?;
    let temporary = args.ephemeral.then(|| tempfile::Builder::new().prefix("postrider-").tempdir());
    let temporary = temporary.transpose()?;
    if let Some(folder) = &temporary {
        folder.path().clone_into(&mut args.data);
        let whole = &mut args.whole;
        for (address, default) in [
            (&mut whole.server.listen, DEFAULT_LISTEN),
            (&mut whole.telemetry.telemetry_listen, DEFAULT_TELEMETRY_LISTEN),
        ] {
            if address.to_string() == default {
                *address = SocketAddr::new(address.ip(), 0);
            }
        }
    }
    // Held until the program ends.
    let _folder = DataFolder::open(&args.data)?;
    let admin_key = match &args.whole.server.admin_key {
        Some(key) => key.expose().trim().to_owned(),
        None => key_in(&args.data.join("admin.key"), new_admin_key)?,
    };
    args.whole.server.admin_key = Some(admin_key.clone().into());
    if args.secret_key.secret_key.is_none() {
        let key = key_in(&args.data.join("secret.key"), || Keyring::generate_key(&SystemRandom).to_string())?;
        args.secret_key.secret_key = Some(key.into());
    }
    let keyring = args.secret_key.config()?;
    // Receivers under development are on this machine.
    args.whole.delivery.allow_nets.extend(["127.0.0.0/8".parse::<ipnet::IpNet>()?, "::1/128".parse()?]);

    args.whole.sandbox.sandbox.get_or_insert(true);
    // SQLite has one connection.
    let whole = Whole::configure(args.whole, given, 1)?;
    let store = embedded::open(&args.data, keyring).await?;
    // The new one, if it replaces an old one.
    let shown = admin_key.rsplit(',').next().unwrap_or_default().trim();
    let greet = |address: SocketAddr, console: Option<SocketAddr>| {
        let url = format!("http://{address}");
        let console = console.map(|address| format!("http://{address}/console"));
        if args.ephemeral {
            greeting::for_programs(&url, shown, console.as_deref());
        } else {
            greeting::print(&url, shown, console.as_deref(), &args.data);
        }
    };
    whole.run(store, greet).await?;
    if let Some(folder) = temporary {
        folder.close()?;
    }
    Ok(())
}

const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
const DEFAULT_TELEMETRY_LISTEN: &str = "127.0.0.1:9464";

/// Returns the key in `file`. If the file does not exist, creates it with a new key, readable by its owner only.
fn key_in(file: &Path, make: impl FnOnce() -> String) -> Result<String, FileError> {
    let failed = |action| FileError::of(action, file);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut new) => {
            let key = make();
            new.write_all(key.as_bytes()).map_err(failed("write a key to"))?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Ok(fs::read_to_string(file).map_err(failed("read a key from"))?.trim().to_owned())
        }
        Err(error) => Err(failed("create a key in")(error)),
    }
}

/// Settings of a database and a queue, of which `dev` has its own.
const WITHOUT_EFFECT: [&str; 7] = [
    "POSTRIDER_DATABASE_URL",
    "POSTRIDER_DATABASE_CONNECTIONS",
    "POSTRIDER_DATABASE_POOLER",
    "POSTRIDER_DATABASE_LISTEN_URL",
    "POSTRIDER_PARTITION",
    "POSTRIDER_QUEUE_URL",
    "POSTRIDER_QUEUE_DOWN",
];

/// A setting has no effect in `postrider dev`.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} has no effect in `postrider dev`, which has a database and a queue of its own; unset it, or run `postrider serve`, or \
    postrider-server and postrider-worker"
)]
struct WithoutEffect(&'static str);

fn refuse_settings_without_effect() -> Result<(), WithoutEffect> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    WITHOUT_EFFECT.into_iter().find(is_set).map_or(Ok(()), |name| Err(WithoutEffect(name)))
}

fn new_admin_key() -> String {
    let mut random = [0; 24];
    SystemRandom.fill(&mut random);
    random.iter().fold("dev_".to_owned(), |key, byte| format!("{key}{byte:02x}"))
}
