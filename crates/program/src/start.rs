//! From the command line to the exit status.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use postrider_settings::Settings;
use postrider_telemetry::Program;

/// What keeps a program from working. It is told on standard error, with all its causes.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// The transforms of the settings file, as they stand there.
pub type Transforms = Option<toml::Value>;

/// Reads the settings, runs `body`, and turns what comes of it into an exit status: 0 if it ended
/// well, 1 if it could not work, 2 if the command line is wrong.
pub fn main<A, F, Fut>(program: Program, body: F) -> ExitCode
where
    A: Parser,
    F: FnOnce(A, Transforms) -> Fut,
    Fut: Future<Output = Result<(), StartError>>,
{
    let Settings { args, transforms, .. } = match postrider_settings::parse::<A>(program, std::env::args_os())
    {
        Ok(settings) => settings,
        Err(error) => {
            // To standard output for `--help`; if that is closed there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(body(args, transforms)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        let source_text = source.to_string();
        // Many errors repeat their cause in their own words.
        if !text.contains(&source_text) {
            let _ = write!(text, "\n  because: {source_text}");
        }
        cause = source.source();
    }
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}
