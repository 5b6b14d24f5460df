//! The commands that call the API of a server, and those that work offline with what it sends.

mod apply;
mod body;
pub(crate) mod complete;
mod confirm;
mod curl;
mod deliveries;
mod diff;
mod doctor;
mod explain;
mod listen;
mod lists;
mod login;
mod output;
mod progress;
mod replay;
mod resources;
mod send;
mod shell;
mod signature;
mod tail;
mod top;
mod trigger;

use std::io;

use postrider_program::StartError;

use self::resources::ResourceCommand;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Dispatch an event
    Send(send::Args),
    /// Dispatch an event with the data of its type's example, or of an earlier event
    Trigger(trigger::Args),
    #[command(flatten)]
    Resource(ResourceCommand),
    /// Deliver again what matches a filter
    Replay(replay::Args),
    /// Say for each subscriber why it received an event, or why not
    Explain(explain::Args),
    /// Compare two attempts: their requests, responses and timings
    Diff(diff::Args),
    /// Print a curl command that makes the request of a delivery
    Curl(curl::Args),
    /// Receive deliveries from a server at a program on this machine, through any firewall
    ///
    /// Makes a subscriber that ends with the command, or a minute after it has lost the server. Its deliveries are posted to the
    /// program, and the program's answers are recorded. It connects again by itself. Needs the scopes subscribers:write and
    /// payloads:read.
    Listen(listen::Args),
    /// Print events, attempts and deliveries as they happen
    Tail(tail::Args),
    /// Show rates, latency, the queue and failing subscribers, again and again
    Top(top::Args),
    /// Check the signature of a webhook, offline
    Verify(signature::VerifyArgs),
    /// Sign a webhook, offline
    Sign(signature::SignArgs),
    /// Bring event types, tenants, subscribers and keys into line with a file
    Apply(apply::Args),
    /// Print event types, tenants, subscribers and keys as a file for `apply`
    Export(apply::export::Args),
    /// Check the connection to a server, or everything on the way to a subscriber
    Doctor(Box<doctor::Args>),
    /// Store the URL of a server and a key in a profile
    Login(login::LoginArgs),
    /// Remove a profile
    Logout(login::LogoutArgs),
    /// List profiles, and choose the default one
    #[command(subcommand)]
    Profile(login::ProfileCommand),
    /// Print a script for a shell that completes commands, and ids and names from the server
    Completions(shell::CompletionsArgs),
    /// Print the manual page
    Man(shell::ManArgs),
}

/// Runs a command of the program `program`, whose manual one of the commands prints.
pub(crate) async fn run(command: Command, program: clap::Command) -> Result<(), StartError> {
    let ended = match command {
        Command::Send(args) => send::run(args).await,
        Command::Trigger(args) => trigger::run(args).await,
        Command::Resource(command) => command.run().await,
        Command::Replay(args) => replay::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Diff(args) => diff::run(args).await,
        Command::Curl(args) => curl::run(args).await,
        Command::Listen(args) => listen::run(args).await,
        Command::Tail(args) => tail::run(args).await,
        Command::Top(args) => top::run(args).await,
        Command::Verify(args) => signature::verify(&args),
        Command::Sign(args) => signature::sign(&args),
        Command::Apply(args) => apply::run(args).await,
        Command::Export(args) => apply::export::run(args).await,
        Command::Doctor(args) => doctor::run(*args).await,
        Command::Login(args) => login::login(args).await,
        Command::Logout(args) => login::logout(&args),
        Command::Profile(command) => login::profile(command),
        Command::Completions(args) => shell::completions(args),
        Command::Man(args) => shell::man(&args, program),
    };
    match ended {
        // The reader has seen enough, as in `postrider events list --all | head`.
        Err(error) if is_broken_pipe(&*error) => Ok(()),
        ended => ended,
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let is_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.downcast_ref::<io::Error>().is_some_and(is_pipe)
}
