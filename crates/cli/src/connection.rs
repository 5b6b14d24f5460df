//! What the commands that call the API share: the client, and the exit status of what went wrong.

use postrider_client::{Client, ClientError, Config, Failure};
use postrider_program::{StartError, WithStatus};
use postrider_settings::{ClientArgs, SettingsError};

/// The exit status if an argument is wrong.
const USAGE: u8 = 2;
/// The exit status if what the command names does not exist.
const NOT_FOUND: u8 = 3;
/// The exit status if the server refuses what the command asks for.
pub(crate) const REFUSED: u8 = 4;
/// The exit status if the server does not answer in time.
const TIMEOUT: u8 = 5;

/// A client of the API that the arguments name.
pub(crate) fn client(args: &ClientArgs) -> Result<Client, StartError> {
    let url = args.url.parse().map_err(|error| wrong(SettingsError::refused("POSTRIDER_URL", error)))?;
    let key = args.key.as_ref().map(|key| key.expose().trim()).filter(|key| !key.is_empty());
    Client::new(Config::new(url, key)).map_err(wrong)
}

/// A failed call, with its exit status.
pub(crate) fn failed(error: ClientError) -> StartError {
    let status = match error.failure() {
        Failure::NotFound => NOT_FOUND,
        Failure::Refused => REFUSED,
        Failure::Timeout => TIMEOUT,
        Failure::Failed => return error.into(),
    };
    WithStatus::new(status, error).into()
}

/// A wrong argument, with its exit status.
pub(crate) fn usage(message: String) -> StartError {
    wrong(message)
}

fn wrong(error: impl Into<StartError>) -> StartError {
    WithStatus::new(USAGE, error).into()
}
