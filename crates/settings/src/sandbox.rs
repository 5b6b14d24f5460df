//! Receivers for tests.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

use clap::{ArgAction, Args};

use crate::value::yes_or_no;

/// Whether there are sandboxes.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Sandbox")]
pub struct SandboxArgs {
    /// Offer sandboxes, receivers for tests that answer by a script: on or off; off unless `postrider dev` runs
    ///
    /// Set it for servers and workers alike. A sandbox takes up to 200 requests within 24 h, and keeps them.
    #[arg(
        long, env = "POSTRIDER_SANDBOX", value_name = "ON|OFF", default_missing_value = "on",
        num_args = 0..=1, require_equals = true, action = ArgAction::Set, value_parser = yes_or_no()
    )]
    pub sandbox: Option<bool>,
}

impl SandboxArgs {
    /// Returns whether there are sandboxes.
    pub fn is_on(self) -> bool {
        self.sandbox.unwrap_or(false)
    }
}
