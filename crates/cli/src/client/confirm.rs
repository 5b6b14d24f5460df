//! Asking before something that cannot be undone.

use std::io::{self, IsTerminal as _};

use postrider_program::StartError;

use crate::client::output::eprint_line;
use crate::status::usage;

/// Asks whether to go on, unless `yes`. Only a person at a terminal can be asked.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), StartError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(usage(format!("{question} Add --yes to go on without being asked")));
    }
    eprint_line(format_args!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err("nothing was changed".into()) }
}
