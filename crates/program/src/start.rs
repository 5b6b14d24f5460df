//! From the command line to the exit status.

use std::fmt;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser;
use postrider_core::{ShownSetting, chain};
use postrider_settings::Settings;
use postrider_telemetry::{Program, logging};

/// Why a program cannot work. [`main`] prints it on standard error, with all its causes.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// An error with the exit status that it leads to.
#[derive(Debug)]
pub struct WithStatus {
    status: u8,
    error: StartError,
}

impl WithStatus {
    /// Makes the program end with this status, and print the error as any other.
    pub fn new(status: u8, error: impl Into<StartError>) -> Self {
        Self { status, error: error.into() }
    }
}

impl fmt::Display for WithStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for WithStatus {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// What a program is given beside its arguments.
#[derive(Debug)]
pub struct Given {
    /// The transforms of the settings file, unchanged.
    pub transforms: Option<toml::Value>,
    /// All settings, with secrets masked.
    pub settings: Vec<ShownSetting>,
}

/// Reads the settings, runs `body`, and returns the exit status: 0 on success, 1 if `body` fails, 2 if a setting is
/// invalid, or that of [`WithStatus`].
pub fn main<A, F, Fut>(program: Program, body: F) -> ExitCode
where
    A: Parser,
    F: FnOnce(A, Given) -> Fut,
    Fut: Future<Output = Result<(), StartError>>,
{
    let Settings { args, transforms, shown, .. } =
        match postrider_settings::parse::<A>(program, std::env::args_os()) {
            Ok(settings) => settings,
            Err(error) => {
                let status = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
                if error.use_stderr() {
                    let styled = error.render();
                    let is_terminal = std::io::stderr().is_terminal();
                    let text = if is_terminal { styled.ansi().to_string() } else { styled.to_string() };
                    return failed(text.trim_end(), status);
                }
                // Help goes to standard output, which may be closed; then there is no one to show it to.
                let _ = error.print();
                return status;
            }
        };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("error: {}", chain(&error)), ExitCode::FAILURE),
    };
    let ended = runtime.block_on(body(args, Given { transforms, settings: shown }));
    // Does not wait for blocking calls, such as an export to a collector that does not answer.
    runtime.shutdown_background();
    match ended {
        Ok(()) => {
            logging::flush();
            ExitCode::SUCCESS
        }
        Err(error) => {
            let own = error.downcast_ref::<WithStatus>().map(|error| ExitCode::from(error.status));
            failed(&format!("error: {}", chain(&*error)), own.unwrap_or(ExitCode::FAILURE))
        }
    }
}

/// Prints why the program cannot work, even if nobody reads it: the program must end all the same.
fn failed(message: &str, status: ExitCode) -> ExitCode {
    logging::print(message);
    logging::flush();
    status
}
