//! `postrider login`, `logout` and `profile`.

use std::io::{self, IsTerminal as _, Read as _};

use postrider_client::{Client, ClientError, Config};
use postrider_program::StartError;
use postrider_settings::{ClientArgs, SettingsError};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::client::output::{Column, OutputArgs, Printer, eprint_line};
use crate::connection::failed;
use crate::profiles::{Profile, Profiles};
use crate::status::{usage, wrong};

/// The name of the profile if none is given.
const DEFAULT: &str = "default";
/// The most bytes of a key on standard input.
const MAX_KEY: u64 = 4096;

const COLUMNS: &[Column] = &[
    Column { name: "name", path: "/name" },
    Column { name: "url", path: "/url" },
    Column { name: "key", path: "/key" },
    Column { name: "tenant", path: "/tenant" },
    Column { name: "default", path: "/default" },
];

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider login --profile prod --url https://hooks.example.com < key.txt")]
pub(crate) struct LoginArgs {
    /// Store the profile without asking the server whether the key is valid
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    api: ClientArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider logout prod")]
pub(crate) struct LogoutArgs {
    /// Name of the profile
    #[arg(value_name = "PROFILE", default_value = DEFAULT)]
    name: String,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProfileCommand {
    /// List profiles, without their keys
    List(ListArgs),
    /// Use this profile unless another one is named
    Use(UseArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider profile list")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider profile use prod")]
pub(crate) struct UseArgs {
    /// Name of the profile
    #[arg(value_name = "PROFILE")]
    name: String,
}

pub(crate) async fn login(args: LoginArgs) -> Result<(), StartError> {
    let name = args.api.profile.as_deref().unwrap_or(DEFAULT).trim();
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(usage(format!("--profile {name}: a name has letters, digits, `-`, `_` and `.`")));
    }
    let mut profiles = Profiles::read()?;
    let url = args.api.url.clone().or_else(|| profiles.named(name).ok().map(|profile| profile.url.clone()));
    let url =
        url.ok_or_else(|| usage("give the server with --url, such as https://hooks.example.com".to_owned()))?;
    let key = match &args.api.key {
        Some(key) => Zeroizing::new(key.expose().trim().to_owned()),
        None => read_key()?,
    };
    let profile = Profile { url, key: Some(key).filter(|key| !key.is_empty()), tenant: args.api.tenant };
    if profile.key.is_none() {
        return Err(usage("give the key on standard input, or in POSTRIDER_KEY".to_owned()));
    }
    let parsed =
        profile.url.parse().map_err(|error| wrong(SettingsError::refused("POSTRIDER_URL", error)))?;
    let config = Config {
        tenant: profile.tenant.clone(),
        ..Config::new(parsed, profile.key.as_ref().map(|key| key.as_str()))
    };
    let client = Client::new(config).map_err(wrong)?;
    if !args.offline {
        check(&client).await?;
    }
    profiles.put(name, profile);
    let path = profiles.write()?;
    eprint_line(format_args!("stored the profile {name} in {}", path.display()));
    Ok(())
}

/// Fails unless the server knows the key, whatever it may do.
async fn check(client: &Client) -> Result<(), StartError> {
    match client.get::<Box<RawValue>>("/v1/events?limit=1").await {
        Err(ClientError::Refused(problem)) if problem.status == 403 => {
            eprint_line(format_args!("the key is valid, but: {}", problem.detail));
            Ok(())
        }
        Err(error) => Err(failed(error)),
        Ok(_) => Ok(()),
    }
}

fn read_key() -> Result<Zeroizing<String>, StartError> {
    let mut key = Zeroizing::new(String::new());
    let stdin = io::stdin();
    if stdin.is_terminal() {
        eprint_line("Paste the key, which is shown as you paste it, and press Enter:");
        stdin.read_line(&mut key)?;
    } else {
        stdin.lock().take(MAX_KEY).read_to_string(&mut key)?;
    }
    Ok(Zeroizing::new(key.trim().to_owned()))
}

pub(crate) fn logout(args: &LogoutArgs) -> Result<(), StartError> {
    let mut profiles = Profiles::read()?;
    profiles.remove(&args.name)?;
    profiles.write()?;
    eprint_line(format_args!("removed the profile {}; its key stays valid until it is revoked", args.name));
    Ok(())
}

pub(crate) fn profile(command: ProfileCommand) -> Result<(), StartError> {
    let mut profiles = Profiles::read()?;
    match command {
        ProfileCommand::List(ListArgs { output }) => {
            let shown =
                profiles.all().iter().map(|(name, profile)| to_raw_value(&view(name, profile, &profiles)));
            let mut printer = Printer::new(output, COLUMNS);
            printer.page(&shown.collect::<Result<Vec<_>, _>>()?)?;
            Ok(printer.end()?)
        }
        ProfileCommand::Use(UseArgs { name }) => {
            profiles.set_default(&name)?;
            profiles.write()?;
            eprint_line(format_args!("{name} is the default profile"));
            Ok(())
        }
    }
}

/// Returns a profile with the id of its key, if it has one.
fn view(name: &str, profile: &Profile, profiles: &Profiles) -> Value {
    let id = |key: &str| match key.split('_').collect::<Vec<_>>()[..] {
        [kind @ ("prk" | "pro"), id, _] => Some(format!("{kind}_{id}_…")),
        _ => None,
    };
    let key = profile.key.as_ref().and_then(|key| id(key));
    json!({
        "name": name,
        "url": profile.url,
        "key": key.unwrap_or_else(|| "…".to_owned()),
        "tenant": profile.tenant,
        "default": profiles.default_name() == Some(name),
    })
}
