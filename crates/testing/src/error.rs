//! What goes wrong in a test.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a step of a test failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program cannot be started.
    #[error(
        "cannot run {}; install `postrider`, or name it with POSTRIDER_TEST_PROGRAM", program.display()
    )]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program ended, or said something else, before it was ready.
    #[error("postrider did not become ready; its standard error ends with: {0}")]
    NotReady(String),
    /// The program says where it is in a way that this crate does not understand.
    #[error("postrider printed no address and key")]
    Greeting(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A call of the API failed, or something does not hold that was expected.
    #[error(transparent)]
    Call(#[from] postrider_client::ClientError),
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] postrider_client::ConfigError),
    /// The data has no JSON form.
    #[error("the data of the event cannot be written as JSON")]
    Data(#[source] serde_json::Error),
    /// No such request has arrived in time.
    #[error("no request with the event `{event}`{} has arrived within {within:?}; {}", answered(*.status), list(.arrived))]
    Missing {
        /// The type of the event.
        event: String,
        /// The status with which the sandbox was to answer, if any.
        status: Option<u16>,
        /// The time.
        within: Duration,
        /// The types of the events that have arrived, with the answers.
        arrived: Vec<String>,
    },
}

fn answered(status: Option<u16>) -> String {
    status.map_or_else(String::new, |status| format!(", answered with {status},"))
}

fn list(arrived: &[String]) -> String {
    if arrived.is_empty() {
        "nothing has arrived".to_owned()
    } else {
        format!("these have: {}", arrived.join(", "))
    }
}
