//! `postrider completions` and `postrider man`.

use std::path::PathBuf;

use clap_complete::Shell;
use clap_complete::env::Shells;
use clap_mangen::Man;
use postrider_program::StartError;

use crate::client::complete::VARIABLE;
use crate::client::output::{Format, OutputArgs, Printer, eprint_line};

/// The name under which the shell finds this program.
const PROGRAM: &str = "postrider";

#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = "Example: postrider completions bash > /etc/bash_completion.d/postrider")]
pub(crate) struct CompletionsArgs {
    /// Shell that reads the script
    shell: Shell,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider man | man -l -")]
pub(crate) struct ManArgs {
    /// Write a page for each command into this folder, instead of printing the first one
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub(crate) fn completions(args: CompletionsArgs) -> Result<(), StartError> {
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell.to_string()).ok_or("there is no script for this shell")?;
    let mut script = Vec::new();
    // By its name, so that the script outlives an upgrade to another folder.
    shell.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    print(&script)
}

pub(crate) fn man(args: &ManArgs, program: clap::Command) -> Result<(), StartError> {
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        Man::new(program).render(&mut page)?;
        return print(&page);
    };
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(program, folder)?;
    eprint_line(format_args!("wrote the pages to {}", folder.display()));
    Ok(())
}

fn print(text: &[u8]) -> Result<(), StartError> {
    let output = OutputArgs { output: Format::Table };
    Ok(Printer::new(output, &[]).text(text)?)
}
