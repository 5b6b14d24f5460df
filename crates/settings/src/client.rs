//! Which API the client commands call, with which key, and for which tenant.

#![allow(clippy::doc_markdown, reason = "`--help` shows these comments as they are written")]

use clap::Args;

use crate::SecretText;

/// The API that a command calls.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "API")]
pub struct ClientArgs {
    /// URL of the API; otherwise that of the profile, or http://127.0.0.1:8080 if there is none
    #[arg(long, env = "POSTRIDER_URL", value_name = "URL")]
    pub url: Option<String>,

    /// Key with which the command calls the API; otherwise that of the profile
    #[arg(
        long,
        env = "POSTRIDER_KEY",
        value_name = "KEY",
        hide_env_values = true,
        hide_default_value = true
    )]
    pub key: Option<SecretText>,

    /// Tenant for which the key of an operator acts; otherwise that of the profile
    #[arg(long, env = "POSTRIDER_TENANT", value_name = "TENANT")]
    pub tenant: Option<String>,

    /// Profile of `postrider login`; otherwise the default one, unless a URL is given
    #[arg(long, env = "POSTRIDER_PROFILE", value_name = "PROFILE")]
    pub profile: Option<String>,
}
