//! What the commands that call the API share: the client, and what a failed call leads to.

use postrider_client::{Client, ClientError, Config, Failure};
use postrider_program::{StartError, WithStatus};
use postrider_settings::{ClientArgs, SettingsError};
use zeroize::Zeroizing;

use crate::profiles::{Profile, Profiles};
use crate::status::{FAILED, NOT_FOUND, REFUSED, TIMEOUT, wrong};

const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// A client of the API that the arguments name.
pub(crate) fn client(args: &ClientArgs) -> Result<Client, StartError> {
    let Profile { url, key, tenant } = given(args)?;
    let url = url.parse().map_err(|error| wrong(SettingsError::refused("POSTRIDER_URL", error)))?;
    let config = Config { tenant, ..Config::new(url, key.as_ref().map(|key| key.as_str())) };
    Client::new(config).map_err(wrong)
}

/// Returns what the arguments say, and what they leave to the profile.
pub(crate) fn given(args: &ClientArgs) -> Result<Profile, StartError> {
    let named = args.profile.as_deref().map(str::trim).filter(|name| !name.is_empty());
    // The key of a default profile is for its own server: another URL must not get it.
    let profile = match (named, &args.url) {
        (Some(name), _) => Profiles::read()?.named(name)?.clone(),
        (None, Some(_)) => Profile::of(DEFAULT_URL),
        (None, None) => Profiles::read()?.default().cloned().unwrap_or_else(|| Profile::of(DEFAULT_URL)),
    };
    let key = args.key.as_ref().map(|key| key.expose().trim()).filter(|key| !key.is_empty());
    Ok(Profile {
        url: args.url.clone().unwrap_or(profile.url),
        key: key.map(|key| Zeroizing::new(key.to_owned())).or(profile.key),
        tenant: args.tenant.clone().or(profile.tenant),
    })
}

/// A failed call, with its exit status.
pub(crate) fn failed(error: ClientError) -> StartError {
    let (status, advice) = match (error.failure(), &error) {
        (Failure::Refused, ClientError::Refused(problem)) if problem.status == 401 => {
            (REFUSED, Some("run `postrider login`, or set POSTRIDER_KEY"))
        }
        (Failure::NotFound, _) => (NOT_FOUND, None),
        (Failure::Refused, _) => (REFUSED, None),
        (Failure::Timeout, _) => (TIMEOUT, None),
        (Failure::Failed, ClientError::Unreachable { .. }) => {
            (FAILED, Some("is `postrider serve` or `postrider dev` running, and --url or the profile right?"))
        }
        (Failure::Failed, _) => (FAILED, None),
    };
    match advice {
        Some(advice) => WithStatus::new(status, Advised { error, advice }).into(),
        None => WithStatus::new(status, error).into(),
    }
}

/// A failed call, and what to do next.
#[derive(Debug)]
struct Advised {
    error: ClientError,
    advice: &'static str,
}

impl std::fmt::Display for Advised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.error, self.advice)
    }
}

impl std::error::Error for Advised {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}
