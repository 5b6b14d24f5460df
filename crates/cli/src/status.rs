//! The exit statuses of the commands that call the API.

use postrider_program::{StartError, WithStatus};

/// The exit status of any other failure.
pub(crate) const FAILED: u8 = 1;
/// The exit status if an argument is wrong.
const USAGE: u8 = 2;
/// The exit status if what the command names does not exist.
pub(crate) const NOT_FOUND: u8 = 3;
/// The exit status if the server refuses what the command asks for.
pub(crate) const REFUSED: u8 = 4;
/// The exit status if the server does not answer in time.
pub(crate) const TIMEOUT: u8 = 5;

/// A wrong argument.
pub(crate) fn usage(message: String) -> StartError {
    wrong(message)
}

/// An error that a wrong argument or setting leads to.
pub(crate) fn wrong(error: impl Into<StartError>) -> StartError {
    WithStatus::new(USAGE, error).into()
}

/// The error of what did not happen in time.
#[cfg(feature = "client")]
pub(crate) fn late(message: String) -> StartError {
    WithStatus::new(TIMEOUT, message).into()
}

/// The error of what does not exist.
#[cfg(feature = "client")]
pub(crate) fn missing(message: String) -> StartError {
    WithStatus::new(NOT_FOUND, message).into()
}
