//! Which API the client commands call, and with which key.

use clap::Args;

use crate::SecretText;

/// The API that a command calls.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "API")]
pub struct ClientArgs {
    /// URL of the API that the command calls
    #[arg(long, env = "POSTRIDER_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,

    /// Key with which the command calls the API
    #[arg(
        long,
        env = "POSTRIDER_KEY",
        value_name = "KEY",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub key: Option<SecretText>,
}
